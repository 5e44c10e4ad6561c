"""Which inputs are shown to people, and their images as bytes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.quality import Quality

MOST = 16
"""Inputs shown at most."""
WORST = 4
"""How many of them are the worst of the last artifact."""
PIXELS = 2_000_000
"""Fewer large images are kept: about this many pixels an artifact, but at least 4 images."""
Bytes = NDArray[np.uint8]


def choose(quality: Quality, pixels: int) -> list[int]:
    """Which inputs are shown: the first few, and the worst of the artifact judged by ``quality``.

    Args:
        quality: of the last artifact, input by input.
        pixels: of one image.

    Returns:
        Ascending numbers of inputs.
    """
    count = len(quality.mse)
    many = min(count, MOST, max(4, PIXELS // pixels))
    chosen = set(quality.worst(max(1, many * WORST // MOST)))
    chosen |= set([i for i in range(count) if i not in chosen][: many - len(chosen)])
    return sorted(chosen)


def displayed(images: NDArray[np.float32], value_range: tuple[float, float]) -> Bytes:
    """``(N, C, H, W)`` in the value range as ``(N, H, W, 1 or 3)`` bytes; NaN becomes black."""
    low, high = value_range
    scaled = np.nan_to_num((images - low) / (high - low), nan=0.0, posinf=1.0, neginf=0.0)
    planes: Bytes = np.round(scaled.clip(0, 1) * 255).astype(np.uint8).transpose(0, 2, 3, 1)
    colours = 3 if planes.shape[3] >= 3 else 1
    return planes[..., :colours]
