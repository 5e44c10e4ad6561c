"""Photographs to train on: a folder of the user's, or those that installed packages ship.

Nothing is downloaded. Files are split as :func:`genslim.inputs.read_folder` splits them, so that
what a folder holds apart for measuring quality is not trained on either.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genslim.errors import UserError
from genslim.inputs import IMAGE_SUFFIXES, how_many_apart, in_order
from genslim.variation import Variation

PACKAGES = {
    "skimage": "data",
    "sklearn": "datasets/images",
    "matplotlib": "mpl-data/sample_data",
}
"""Where in a package its images lie."""
LEFT_OUT = {"motorcycle_right.png", "chessboard_GRAY.png", "microaneurysms.png"}
"""The same as another, or too small for the crops."""
DRAWINGS = {
    "Minduka_Present_Blue_Pack.png",
    "chessboard_RGB.png",
    "color.png",
    "horse.png",
    "logo.png",
    "logo2.png",
    "page.png",
    "phantom.png",
}
"""Images of the packages that are no photographs."""

SUFFIXES = {".png", ".jpg"}
"""Of the packages' images; their TIFF files are stacks of microscopy."""
LONGEST_SIDE = 1024
"""Larger photographs are shrunk to it when read, which also takes away their noise and JPEG blocks.
"""
MOST_BYTES = 2**30
"""Pixels held in memory, as float32: a hundred large photographs. Of more files, each epoch reads
as many as fit, others each time."""

PER_EPOCH, TO_JUDGE_BY = 4096, 240
"""Crops an epoch, of the photographs to train on and of those held apart."""


@dataclass(frozen=True)
class Photo:
    """A file, and which of the data set's classes it belongs to."""

    path: Path
    label: int = 0


@dataclass(frozen=True)
class Photos:
    """Random crops ``(3, side, side)``, float32 in [0, 1], of photographs that take turns.

    Grey files are given three equal channels.
    """

    photos: tuple[Photo, ...]
    side: int
    count: int
    """Crops an epoch."""
    varied: bool
    """Whether crops are mirrored, turned, shrunk by up to 4 and given other colours, as in
    training; else they are cut out as they are, as in judging."""
    name: str = "photographs"
    most_bytes: int = MOST_BYTES
    _held: dict[int, Tensor] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def facts(self) -> dict[str, str]:
        """``name``, and the ``sha256`` of the files' contents, in the order of their names."""
        digest = hashlib.sha256()
        for photo in self.photos:
            with photo.path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return {"name": self.name, "sha256": digest.hexdigest()}

    def __len__(self) -> int:
        """Crops an epoch."""
        return self.count

    def batches(self, size: int, random: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch: ``(size, 3, side, side)`` and labels ``(size,)``; each photograph in turn."""
        variation = Variation(random)
        held = self._read(random)
        waiting: list[int] = []
        for _ in range(self.count // size):
            crops, labels = [], []
            for _ in range(size):
                if not waiting:
                    waiting = torch.randperm(len(held), generator=random).tolist()
                pixels, label = held[waiting.pop()]
                crops.append(self._crop(pixels, variation))
                labels.append(label)
            images = torch.stack(crops).contiguous(memory_format=torch.channels_last)
            yield images, torch.tensor(labels)

    def _crop(self, pixels: Tensor, variation: Variation) -> Tensor:
        """A crop ``(3, side, side)`` of a photograph."""
        if self.varied:
            return variation.varied_crop(pixels, self.side, self.side, degraded=False)
        return variation.crop(pixels, self.side, self.side)

    def _read(self, random: torch.Generator) -> list[tuple[Tensor, int]]:
        """The pixels ``(3, H, W)`` and labels of this epoch's photographs: all, if they fit."""
        before, total = dict(self._held), 0
        self._held.clear()
        for index in torch.randperm(len(self.photos), generator=random).tolist():
            pixels = before.pop(index, None)
            if pixels is None:
                pixels = read_pixels(self.photos[index].path, self.side)
            total += pixels.nbytes
            if self._held and total > self.most_bytes:
                break
            self._held[index] = pixels
        return [(pixels, self.photos[index].label) for index, pixels in self._held.items()]


def load(folder: Path | None, side: int = 96) -> tuple[Photos, Photos]:
    """The photographs to train on, and those held apart to judge by.

    A quarter of the files, 32 at most, is held apart; which ones depends on their names alone.

    Args:
        folder: image files; or, as in torchvision's ImageFolder, subfolders of them, each a class,
            numbered from 0 in the order of their names. None: what installed packages ship.
        side: of the crops, pixels; photographs with a shorter side are left out.

    Raises:
        UserError: there are fewer than two usable photographs, or the folder does not exist.
    """
    found = shipped_photos() if folder is None else photos_in(folder)
    usable = [photo for photo in found if shortest_side(photo.path) >= side]
    if len(usable) < 2:
        raise UserError(
            f"{folder or 'what packages ship'} holds {len(usable)} usable photographs "
            f"({len(found)} files look like images)",
            hint=f"two or more of at least {side} pixels a side are needed: --data DIR",
        )
    name = f"photographs of {'a folder' if folder else 'scikit-image, scikit-learn, matplotlib'}"
    apart = how_many_apart(len(usable))
    return (
        Photos(tuple(usable[apart:]), side, PER_EPOCH, varied=True, name=name),
        Photos(tuple(usable[:apart]), side, TO_JUDGE_BY, varied=False, name=name),
    )


def photos_in(folder: Path) -> list[Photo]:
    """Every image file of a folder or else of its subfolders, in the order that splits them.

    Raises:
        UserError: there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"no folder {folder}", hint="name a folder of photographs: --data DIR")
    files = image_files(folder)
    if files:
        return [Photo(path) for path in in_order(files)]
    classes = [place for place in sorted(folder.iterdir()) if place.is_dir()]
    label = {path: index for index, place in enumerate(classes) for path in image_files(place)}
    return [Photo(path, label[path]) for path in in_order(label)]


def shipped_photos() -> list[Photo]:
    """The photographs that installed packages ship, in the order that splits them.

    Raises:
        UserError: no such package is installed.
    """
    files = [path for path in shipped_images() if path.name not in DRAWINGS]
    if not files:
        raise UserError(
            "no folder of photographs was named, and no package that ships some is installed",
            hint="name a folder, for instance of DIV2K, BSDS500 or your own photographs: "
            "--data DIR; or pip install scikit-image scikit-learn",
        )
    return [Photo(path) for path in in_order(files)]


def shipped_images() -> list[Path]:
    """The images, photographs or not, that those of :data:`PACKAGES` ship which are installed."""
    found: list[Path] = []
    for package, inside in PACKAGES.items():
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            place = Path(spec.origin).parent / inside
            found += [
                path
                for path in image_files(place)
                if path.suffix in SUFFIXES and path.name not in LEFT_OUT
            ]
    return found


def image_files(folder: Path) -> Sequence[Path]:
    """The image files of ``folder``, sorted; none where there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)


def shortest_side(path: Path) -> int:
    """Of an image file, pixels, after shrinking to :data:`LONGEST_SIDE`; 0 if it is unreadable."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:  # reads the head of the file alone
            short, long = sorted(image.size)
    except (OSError, UnidentifiedImageError):
        return 0
    return round(short * min(1, LONGEST_SIDE / long))


def read_pixels(path: Path, least_side: int) -> Tensor:
    """An image file as RGB ``(3, H, W)``, float32 in [0, 1], no side over :data:`LONGEST_SIDE`.

    Raises:
        UserError: the file can't be read to its end.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            picture = image.convert("RGB")
    except OSError as error:
        raise UserError(
            f"{path} can't be read: {error}", hint="mend it or take it out of the folder"
        ) from error
    if max(picture.size) > LONGEST_SIDE:
        picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS, reducing_gap=3)
    if min(picture.size) < least_side:
        picture = picture.resize([max(least_side, length) for length in picture.size])
    return torch.from_numpy(np.asarray(picture).transpose(2, 0, 1).astype(np.float32) / 255)
