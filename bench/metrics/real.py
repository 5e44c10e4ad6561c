"""Real images to compare with: a folder of pictures, or an IDX file such as MNIST's.

They are brought to the generator's size and value range. At most :data:`MOST` are read, chosen by
chance with a fixed seed, so that every measurement reads the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from genslim.errors import UserError
from genslim.inputs import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST = 2048
IDX = "idx3-ubyte"


@dataclass(frozen=True)
class RealImages:
    """Where real images lie: pictures, or one IDX file."""

    place: Path
    pictures: tuple[Path, ...]
    """Empty where ``place`` is an IDX file."""

    @classmethod
    def find(cls, text: str | Path) -> RealImages:
        """Look for images without reading them.

        A folder is searched with its subfolders. Where it holds several IDX files of images, the
        test set (``t10k``) comes first: no generator was trained on it.

        Raises:
            UserError: there are none.
        """
        place = Path(text)
        if place.is_file():
            return cls(place, ())
        if not place.is_dir():
            raise UserError(
                f"no real images {place}", hint="name a folder of images, or an IDX file: --real"
            )
        files = sorted(p for p in place.rglob("*") if p.is_file())
        packed = [p for p in files if IDX in p.name]
        if packed:
            return cls(min(packed, key=lambda p: (not p.name.startswith("t10k"), p.name)), ())
        pictures = tuple(p for p in files if p.suffix.lower() in IMAGE_SUFFIXES)
        if len(pictures) < 2:
            raise UserError(
                f"{place} holds {len(pictures)} images and no IDX file",
                hint="name a folder of at least two images with --real",
            )
        return cls(place, pictures)

    def read(
        self, shape: tuple[int, int, int], value_range: tuple[float, float]
    ) -> NDArray[np.float32]:
        """Read the images as the generator would draw them.

        Pictures are cut to the generator's proportions about their centre and resized (bicubic,
        with antialiasing). Those of an IDX file that are smaller are centred on the least value
        instead, as digits are when a generator is trained on them.

        Args:
            shape: ``(C, H, W)`` of the generator's images; C is 1, 3, or 4 (of which 3 are used).
            value_range: the least and the greatest value of a pixel.

        Returns:
            ``(N, C, H, W)`` in the value range, C being 1 or 3; N at least 2 and at most 2048.

        Raises:
            UserError: fewer than two can be read.
        """
        channels, height, width = shape
        found = self.from_pictures(3 if channels >= 3 else 1, height, width)
        if len(found) < 2:
            raise UserError(
                f"only {len(found)} real images of {self.place} can be read",
                hint="name a folder of at least two images with --real",
            )
        low, high = value_range
        planes = np.stack(found).transpose(0, 3, 1, 2).astype(np.float32) / 255
        scaled: NDArray[np.float32] = (low + (high - low) * planes).astype(np.float32)
        return scaled

    def from_pictures(self, channels: int, height: int, width: int) -> list[NDArray[np.uint8]]:
        """The images as bytes ``(H, W, C)``; pictures that can't be read are left out."""
        from PIL import Image, ImageOps, UnidentifiedImageError

        mode, size = ("RGB" if channels == 3 else "L"), (width, height)
        found: list[NDArray[np.uint8]] = []
        for item in self.chosen():
            try:
                with Image.open(item) if isinstance(item, Path) else Image.fromarray(item) as raw:
                    image = raw.convert(mode)
            except (OSError, UnidentifiedImageError):
                continue
            if not self.pictures and image.width <= width and image.height <= height:
                canvas = Image.new(mode, size)
                canvas.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
                image = canvas
            else:
                image = ImageOps.fit(image, size, Image.Resampling.BICUBIC)
            found.append(np.asarray(image).reshape(height, width, channels))
        return found

    def chosen(self) -> list[Path] | list[NDArray[np.uint8]]:
        """At most :data:`MOST` files, or arrays ``(H, W)``."""
        from genslim.idx import IMAGES, read_idx

        if self.pictures:
            return [self.pictures[i] for i in draw(len(self.pictures))]
        planes = read_idx(self.place, IMAGES)
        return [planes[i] for i in draw(len(planes))]


def draw(count: int) -> list[int]:
    """At most :data:`MOST` of ``count`` places, by chance and always the same."""
    order: list[int] = np.random.default_rng(0).permutation(count)[:MOST].tolist()
    return order
