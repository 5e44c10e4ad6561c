"""MNIST from its four IDX files, gzipped or not (LeCun, Cortes, Burges 1998).

Nothing is downloaded: the folder is the user's to name, or one where torchvision's examples put
theirs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from genslim.errors import UserError
from genslim.idx import IMAGES, LABELS, read_idx

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


USUAL_PLACES = (Path("data"), Path.home() / "data")
SIDE = 28


@dataclass(frozen=True)
class Digits:
    """Images ``(N, 1, side, side)``, float32 in [-1, 1], and labels ``(N,)``, int64 in 0..9."""

    images: Tensor
    labels: Tensor
    sha256: str
    """Of the raw pixels and labels, so that a recipe can say what it was trained on."""

    @property
    def facts(self) -> dict[str, str]:
        """What a recipe says of the data."""
        return {"name": "MNIST (LeCun, Cortes, Burges 1998)", "sha256": self.sha256}

    def __len__(self) -> int:
        """How many images there are."""
        return len(self.images)

    def batches(self, size: int, random: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """All of them in a new order, in batches of ``size``; a shorter rest is left out."""
        order = torch.randperm(len(self), generator=random)
        for index in order[: len(self) // size * size].split(size):
            images = self.images[index].contiguous(memory_format=torch.channels_last)
            yield images, self.labels[index]


def load(folder: Path | None, split: str, side: int = 32) -> Digits:
    """Read one split (``train`` or ``test``) and pad its 28x28 images with black.

    Args:
        folder: with the four files; None looks in the usual places.
        split: which images.
        side: of the padded images, 28 or more.

    Raises:
        UserError: a file is missing or is not the IDX file it should be.
    """
    folders = USUAL_PLACES if folder is None else (folder,)
    image_file, label_file = (find(folders, name) for name in FILES[split])
    pixels = read_idx(image_file, magic=IMAGES)
    labels = read_idx(label_file, magic=LABELS)
    if len(pixels) != len(labels):
        raise UserError(
            f"{image_file} has {len(pixels)} images and {label_file.name} {len(labels)} labels",
            hint="take both files from the same copy of MNIST",
        )
    digest = hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest()
    images = torch.from_numpy(pixels.copy())[:, None].float().div(127.5).sub(1)
    margin = (side - SIDE) // 2
    return Digits(
        pad(images, (margin,) * 4, value=-1.0), torch.from_numpy(labels.astype(np.int64)), digest
    )


def find(folders: Sequence[Path], name: str) -> Path:
    """``name`` or ``name.gz`` in a folder, or in its ``MNIST/raw``, as torchvision keeps it."""
    for folder in folders:
        for place in (folder, folder / "MNIST" / "raw", folder / "raw"):
            for candidate in (place / name, place / f"{name}.gz"):
                if candidate.is_file():
                    return candidate
    raise UserError(
        f"no {name}[.gz] in {' or '.join(map(str, folders))}",
        hint="name a folder with the four IDX files of MNIST: --data DIR; "
        "torchvision.datasets.MNIST(DIR, download=True) makes one",
    )
