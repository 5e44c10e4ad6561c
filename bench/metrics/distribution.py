"""How the images of a generator are distributed, beside the original's and beside real ones.

FID (Heusel et al. 2017, NeurIPS) and KID (Bińkowski et al. 2018, ICLR) are torchmetrics', which
imports torchvision where there is one.
Precision and recall (Kynkäänniemi et al. 2019, NeurIPS), density and coverage (Naeem et al. 2020,
ICML) count neighbours in a space of features, here with k = 5 on equally many images of both sides.

The **reference** is real images where some are named, else what the original makes of the same
inputs. A generator whose modes have collapsed still draws good images, each near a reference, and
leaves most references without one: coverage and diversity fall where SSIM may not say why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from genslim.torchvision_guard import ensure_torchvision_imports

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from bench.metrics.features import Extractor

NEIGHBOURS = 5
MOST_COMPARED = 2048
"""Images that are compared pair by pair, at most."""
KID_SUBSETS, KID_SUBSET = 10, 1000
"""KID is the mean over this many subsets of this many images, or as many as there are."""
LEAST_DIVERSITY = 0.9
"""Diversity below this share of the original's is called a collapse."""
LEAST_COVERAGE = 0.8
"""Coverage below this share of the original's is called a collapse."""


@dataclass(frozen=True)
class Distribution:
    """What is said of a set of images; None: too few images, or nothing to compare by."""

    count: int
    """Images."""
    diversity: float | None
    """Mean RMSE between two images, as a share of the value range."""
    self_similarity: float | None
    """Mean recurrence of patches within an image, in [-1, 1]."""
    reference: Literal["original", "real"]
    """What the figures below compare with."""
    reference_count: int
    """Images of the reference that FID and KID compare with; the others take ``count`` of them."""
    features: str
    """What distances are taken between: ``pixels``, or an extractor's name."""
    feature_diversity: float | None = None
    """Mean distance of two images in the features of an extractor."""
    fid: float | None = None
    """The fewer the images, the greater its bias: to be read beside the original's row alone."""
    kid: float | None = None
    """Unbiased; may be slightly negative."""
    precision: float | None = None
    """Share of the images that lie among the reference's."""
    recall: float | None = None
    """Share of the reference's that lie among the images."""
    density: float | None = None
    """As precision, counting how many of the reference's are near; may exceed 1."""
    coverage: float | None = None
    """Share of the reference's with an image near."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Distribution:
        """Rebuild from plain JSON data."""
        return cls(**data)


class Yardstick:
    """What every artifact of a measurement is compared with, prepared once.

    Args:
        original: what the original makes, ``(N, C, H, W)``, finite.
        value_range: the least and the greatest value of a pixel.
        extractor: the features to compare by; None: pixels, and neither FID nor KID.
        real: real images ``(M, C, H, W)`` in the same value range; None: the original's are the
            reference.
    """

    def __init__(
        self,
        original: NDArray[np.float32],
        value_range: tuple[float, float],
        extractor: Extractor | None = None,
        real: NDArray[np.float32] | None = None,
    ) -> None:
        self.images = original if real is None else real
        self.reference: Literal["original", "real"] = "original" if real is None else "real"
        self.value_range = value_range
        self.extractor = extractor

    @cached_property
    def points(self) -> Tensor:
        """Features of the reference, ``(M, D)``."""
        return self.features_of(self.images)

    def features_of(self, images: NDArray[np.float32]) -> Tensor:
        """Features of images, ``(N, D)``."""
        from bench.metrics.features import pixels

        take = self.extractor or pixels
        return take(images, self.value_range)

    def read(self, images: NDArray[np.float32]) -> Distribution | None:
        """The distribution of images ``(N, C, H, W)``; None where one is not finite."""
        import numpy as np
        import torch

        from bench.metrics.diversity import mean_distance, pixel_diversity
        from bench.metrics.features import PIXELS, pixels
        from bench.metrics.self_similarity import self_similarity

        if not np.isfinite(images).all():
            return None
        few = images[:MOST_COMPARED]
        low, high = self.value_range
        points = self.features_of(images)
        frechet = kernel = None
        if self.extractor is not None:
            frechet, kernel = fid(self.points, points), kid(self.points, points)
        return Distribution(
            count=len(images),
            diversity=pixel_diversity(pixels(few, self.value_range)),
            self_similarity=self_similarity(torch.from_numpy(few), data_range=high - low),
            reference=self.reference,
            reference_count=len(self.points),
            features=self.extractor.name if self.extractor else PIXELS,
            feature_diversity=mean_distance(points[:MOST_COMPARED]) if self.extractor else None,
            fid=frechet,
            kid=kernel,
            **neighbourhoods(self.points, points),
        )


def fid(reference: Tensor, points: Tensor) -> float | None:
    """Fréchet distance of the normal distributions that fit two sets of features best.

    Args:
        reference: ``(M, D)``.
        points: ``(N, D)``.

    Returns:
        The squared distance, not negative; None for fewer than two images.
    """
    if min(len(reference), len(points)) < 2:
        return None
    ensure_torchvision_imports()
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(feature=as_they_are(points.shape[1]), normalize=True)
    metric.update(reference.double(), real=True)
    metric.update(points.double(), real=False)
    return max(0.0, float(metric.compute()))


def kid(reference: Tensor, points: Tensor) -> float | None:
    """Kernel distance: the unbiased squared MMD with the kernel ``(x · y / D + 1)³``.

    Args:
        reference: ``(M, D)``.
        points: ``(N, D)``.

    Returns:
        The mean over :data:`KID_SUBSETS` subsets; None for fewer than two images.
    """
    import warnings

    import torch

    smaller = min(len(reference), len(points))
    if smaller < 2:
        return None
    ensure_torchvision_imports()
    from torchmetrics.image.kid import KernelInceptionDistance

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it keeps the features, and they are few
        metric = KernelInceptionDistance(
            feature=as_they_are(points.shape[1]),
            subsets=KID_SUBSETS,
            subset_size=min(KID_SUBSET, smaller),
            normalize=True,
        )
    metric.update(reference.double(), real=True)
    metric.update(points.double(), real=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return float(metric.compute()[0])


def as_they_are(width: int) -> Any:
    """A network that gives back its input, features of ``width`` that are already taken."""
    from torch import nn

    identity = nn.Identity()
    identity.num_features = width  # type: ignore[assignment]
    return identity


def neighbourhoods(reference: Tensor, points: Tensor, k: int = NEIGHBOURS) -> dict[str, float]:
    """Precision, recall, density and coverage.

    The ball about each point reaches to its k-th nearest neighbour of its own set. Both sets are
    cut to the smaller's length, and to :data:`MOST_COMPARED`.

    Args:
        reference: ``(M, D)``.
        points: ``(N, D)``.
        k: which neighbour.

    Returns:
        The four by name; empty where a set has no k-th neighbour.
    """
    import torch

    count = min(len(reference), len(points), MOST_COMPARED)
    if count <= k:
        return {}
    theirs, ours = reference[:count].double(), points[:count].double()

    def distances(a: Tensor, b: Tensor) -> Tensor:
        # Not by matrix products: equal points must be at a distance of 0.
        return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")

    # The nearest of its own set is the point itself.
    reach_theirs = distances(theirs, theirs).kthvalue(k + 1).values
    reach_ours = distances(ours, ours).kthvalue(k + 1).values
    between = distances(theirs, ours)
    near = between <= reach_theirs[:, None]  # row: a reference, column: an image
    return {
        "precision": float(near.any(0).double().mean()),
        "recall": float((between <= reach_ours[None]).any(1).double().mean()),
        "density": float(near.double().sum(0).mean() / k),
        "coverage": float(near.any(1).double().mean()),
    }


def collapse(found: Distribution, original: Distribution) -> str | None:
    """Why the modes of an artifact seem to have collapsed, beside those of the original.

    Diversity is taken in the features of the extractor where there is one, as well as in pixels.
    """
    checks = (
        ("diversity", found.diversity, original.diversity, LEAST_DIVERSITY),
        ("feature diversity", found.feature_diversity, original.feature_diversity, LEAST_DIVERSITY),
        (
            f"coverage of the {found.reference} images",
            found.coverage,
            original.coverage,
            LEAST_COVERAGE,
        ),
    )
    reasons = [
        f"{name} {now:.3g} where the original has {was:.3g}"
        for name, now, was, least in checks
        if now is not None and was is not None and now < least * was
    ]
    return ", ".join(reasons) or None
