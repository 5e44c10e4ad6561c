"""Diversity: how unlike the images of a generator are, pair by pair.

The mean distance of all pairs. It needs no reference, and falls where a generator begins to draw
the same few images whatever it is given (mode collapse).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def mean_distance(points: Tensor) -> float | None:
    """Mean Euclidean distance between two of ``points``, ``(N, D)``; None for fewer than two."""
    import torch

    return float(torch.pdist(points.double()).mean()) if len(points) > 1 else None


def pixel_diversity(pixels: Tensor) -> float | None:
    """Mean RMSE between two images.

    Args:
        pixels: ``(N, D)`` as shares of the value range.

    Returns:
        A share of the value range, in [0, 1]; None for fewer than two images.
    """
    found = mean_distance(pixels)
    return None if found is None else float(found / pixels.shape[1] ** 0.5)
