"""Quality of one artifact's images, image by image, and what is quoted of it.

An image with NaN or infinity has no quality. Nothing is quoted of a set that holds one: leaving
it out of a mean would hide the failure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from bench.metrics.perceptual import Lpips

Figures = tuple[float | None, ...]
Metric = Literal["ssim", "ms_ssim", "lpips", "psnr_db", "mse"]
PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
BATCH = 64
"""Images that are compared at a time."""
LESS_IS_BETTER: frozenset[Metric] = frozenset({"lpips", "mse"})


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
    ms_ssim: Figures | None = None
    """None where images are smaller than its five scales need, 176 pixels a side."""
    lpips: Figures | None = None
    """None where no weights were named, or images are smaller than 32 pixels a side."""
    defects: tuple[tuple[str, ...], ...] = ()
    """What is wrong with each image, see :mod:`bench.metrics.defects`; empty in old records."""

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

    @property
    def ms_ssim_mean(self) -> float | None:
        """Mean MS-SSIM; None where an image has none."""
        return mean(self.ms_ssim or ())

    @property
    def lpips_mean(self) -> float | None:
        """Mean LPIPS; None where an image has none."""
        return mean(self.lpips or ())

    @property
    def lpips_p95(self) -> float | None:
        """The LPIPS that 95 % of the images stay below."""
        return percentile(self.lpips or (), 95)

    def percentiles(self, metric: Metric) -> dict[int, float] | None:
        """The :data:`PERCENTILES` of a metric over the images; None where an image has none."""
        values: Figures = getattr(self, metric) or ()
        found = {percent: percentile(values, percent) for percent in PERCENTILES}
        known = {percent: value for percent, value in found.items() if value is not None}
        return known if len(known) == len(found) else None

    @property
    def defect_counts(self) -> dict[str, int]:
        """How many images have each defect, in the order of their names' list; none is left out."""
        from bench.metrics.defects import NAMES

        counts = {name: sum(name in of for of in self.defects) for name in NAMES}
        return {name: count for name, count in counts.items() if count}

    def worst(self, count: int, metric: Metric | None = None) -> list[int]:
        """The ``count`` worst images, the worst first; broken ones lead.

        Args:
            count: how many.
            metric: what to go by; None: least SSIM, or most error where images have no SSIM.
        """
        if metric is None:
            metric = "mse" if self.ssim_mean is None and self.broken == 0 else "ssim"
        sign = -1 if metric in LESS_IS_BETTER else 1
        values: Figures = getattr(self, metric) or (None,) * len(self.mse)
        keys = [-math.inf if value is None else sign * value for value in values]
        return sorted(range(len(keys)), key=lambda i: (keys[i], i))[:count]

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Quality:
        """Rebuild from plain JSON data."""
        multiscale, perceptual = data.get("ms_ssim"), data.get("lpips")
        return cls(
            tuple(data["ssim"]),
            tuple(data["psnr_db"]),
            tuple(data["mse"]),
            data["data_range"],
            None if multiscale is None else tuple(multiscale),
            None if perceptual is None else tuple(perceptual),
            tuple(tuple(names) for names in data.get("defects", ())),
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
    images: NDArray[np.float32],
    reference: NDArray[np.float32],
    *,
    value_range: tuple[float, float],
    lpips: Lpips | None = None,
) -> Quality:
    """Compare images with their references.

    Args:
        images: ``(N, C, H, W)``; may hold NaN.
        reference: the same shape, finite.
        value_range: the least and the greatest value of a pixel, stated and never taken from data.
        lpips: the distance of Zhang et al. 2018 with its weights; None: it is left out.
    """
    import numpy as np
    import torch

    from bench.metrics import perceptual, similarity
    from bench.metrics.defects import defects
    from genslim.metrics import SSIM_WINDOW, mse, psnr, ssim

    data_range = value_range[1] - value_range[0]
    sound = np.isfinite(images).reshape(len(images), -1).all(1)
    ours, theirs = torch.from_numpy(images[sound]), torch.from_numpy(reference[sound])
    places = np.flatnonzero(sound).tolist()
    side = min(images.shape[2:])

    def figures(take: Callable[[Tensor, Tensor], Tensor], least_side: int = 1) -> Figures:
        """A metric of each sound image, ``batch`` at a time, in its place."""
        values: list[float | None] = [None] * len(images)
        if side >= least_side and places:
            pairs = zip(ours.split(BATCH), theirs.split(BATCH), strict=True)
            fill(values, places, [v for a, b in pairs for v in take(a, b).tolist()])
        return tuple(values)

    return Quality(
        ssim=figures(partial(ssim, data_range=data_range), SSIM_WINDOW),
        psnr_db=figures(partial(psnr, data_range=data_range)),
        mse=figures(mse),
        data_range=data_range,
        ms_ssim=figures(partial(similarity.ms_ssim, data_range=data_range))
        if side >= similarity.LEAST_SIDE
        else None,
        lpips=figures(partial(lpips, value_range=value_range))
        if lpips is not None and side >= perceptual.LEAST_SIDE
        else None,
        defects=defects(images, reference, value_range=value_range),
    )


def fill(values: list[float | None], places: list[int], found: list[float]) -> None:
    """Put each figure in its place; one that overflowed counts as broken."""
    for place, value in zip(places, found, strict=True):
        values[place] = value if math.isfinite(value) else None
