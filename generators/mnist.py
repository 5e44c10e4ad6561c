"""MNIST from its four IDX files, gzipped or not (LeCun, Cortes, Burges 1998).

Nothing is downloaded: the folder is the user's to name.
"""

from __future__ import annotations

import hashlib
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


@dataclass(frozen=True)
class Digits:
    """Images ``(N, 1, 32, 32)``, float32 in [-1, 1], and labels ``(N,)``, int64 in 0..9."""

    images: Tensor
    labels: Tensor
    sha256: str
    """Of the raw pixels and labels, so that a recipe can say what it was trained on."""


def load(folder: Path, split: str) -> Digits:
    """Read one split (``train`` or ``test``) and pad its 28x28 images to 32x32 with black.

    Raises:
        UserError: a file is missing or is not the IDX file it should be.
    """
    image_file, label_file = (find(folder, name) for name in FILES[split])
    pixels = read_idx(image_file, magic=IMAGES)
    labels = read_idx(label_file, magic=LABELS)
    if len(pixels) != len(labels):
        raise UserError(
            f"{image_file} has {len(pixels)} images and {label_file.name} {len(labels)} labels",
            hint="take both files from the same copy of MNIST",
        )
    digest = hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest()
    images = torch.from_numpy(pixels.copy())[:, None].float().div(127.5).sub(1)
    return Digits(
        pad(images, (2, 2, 2, 2), value=-1.0), torch.from_numpy(labels.astype(np.int64)), digest
    )


def find(folder: Path, name: str) -> Path:
    """``name`` or ``name.gz`` in ``folder``, or in its ``MNIST/raw``, as torchvision keeps it."""
    for place in (folder, folder / "MNIST" / "raw", folder / "raw"):
        for candidate in (place / name, place / f"{name}.gz"):
            if candidate.is_file():
                return candidate
    raise UserError(
        f"no {name}[.gz] in {folder}",
        hint="name a folder with the four IDX files of MNIST: --data DIR",
    )
