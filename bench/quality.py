"""Quality of one artifact's images, image by image, and what is quoted of it.

An image with NaN or infinity has no quality. Nothing is quoted of a set that holds one: leaving
it out of a mean would hide the failure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Figures = tuple[float | None, ...]


@dataclass(frozen=True)
class Quality:
    """Figures of each image against its reference; None where the image is not finite.

    SSIM is None as well where images are smaller than its window of 11x11.
    """

    ssim: Figures
    psnr_db: Figures
    """Equal images read 100 dB."""
    mse: Figures
    """In squared units of the value range."""
    data_range: float
    """Width of the images' value range."""

    @property
    def broken(self) -> int:
        """How many images hold NaN or infinity."""
        return sum(value is None for value in self.mse)

    @property
    def ssim_mean(self) -> float | None:
        """Mean SSIM; None where an image has none."""
        return mean(self.ssim)

    @property
    def ssim_p5(self) -> float | None:
        """The SSIM that 95 % of the images exceed."""
        return percentile(self.ssim, 5)

    @property
    def ssim_worst(self) -> float | None:
        """The least SSIM."""
        return percentile(self.ssim, 0)

    @property
    def psnr_db_mean(self) -> float | None:
        """Mean PSNR in dB."""
        return mean(self.psnr_db)

    @property
    def mse_mean(self) -> float | None:
        """Mean squared error over all images."""
        return mean(self.mse)

    def worst(self, count: int) -> list[int]:
        """The ``count`` images of least SSIM (or most error), the worst first; broken ones lead."""
        if self.ssim_mean is None and self.broken == 0:
            keys = [-value for value in self.mse if value is not None]
        else:
            keys = [-math.inf if value is None else value for value in self.ssim]
        return sorted(range(len(keys)), key=lambda i: (keys[i], i))[:count]

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Quality:
        """Rebuild from plain JSON data."""
        return cls(
            tuple(data["ssim"]), tuple(data["psnr_db"]), tuple(data["mse"]), data["data_range"]
        )


def mean(values: Figures) -> float | None:
    """The mean; None where a value is missing."""
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def percentile(values: Figures, percent: float) -> float | None:
    """A percentile by linear interpolation; None where a value is missing."""
    ordered = sorted(v for v in values if v is not None)
    if not ordered or len(ordered) != len(values):
        return None
    place = (len(ordered) - 1) * percent / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def judge(
    images: NDArray[np.float32], reference: NDArray[np.float32], *, data_range: float
) -> Quality:
    """Compare images with their references.

    Args:
        images: ``(N, C, H, W)``; may hold NaN.
        reference: the same shape, finite.
        data_range: width of the value range.
    """
    import numpy as np
    import torch

    from genslim.metrics import SSIM_WINDOW, compare, mse, psnr

    sound = np.isfinite(images).reshape(len(images), -1).all(1)
    nothing: list[float | None] = [None] * len(images)
    ssim, psnr_db, error = nothing.copy(), nothing.copy(), nothing.copy()
    if sound.any():
        ours, theirs = torch.from_numpy(images[sound]), torch.from_numpy(reference[sound])
        places = np.flatnonzero(sound).tolist()
        if min(images.shape[2:]) >= SSIM_WINDOW:
            found = compare(ours, theirs, data_range=data_range)
            fill(ssim, places, found.ssim)
            fill(psnr_db, places, found.psnr_db)
            fill(error, places, found.mse)
        else:
            fill(psnr_db, places, psnr(ours, theirs, data_range=data_range).tolist())
            fill(error, places, mse(ours, theirs).tolist())
    return Quality(tuple(ssim), tuple(psnr_db), tuple(error), data_range)


def fill(values: list[float | None], places: list[int], found: list[float]) -> None:
    """Put each figure in its place; one that overflowed counts as broken."""
    for place, value in zip(places, found, strict=True):
        values[place] = value if math.isfinite(value) else None
