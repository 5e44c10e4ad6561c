"""Self-similarity: how well the patches of an image recur elsewhere in the same image.

Natural images repeat themselves at the scale of small patches (Glasner, Bagon and Irani 2009, ICCV;
Zontak and Irani 2011, CVPR; Shechtman and Irani 2007, CVPR, for the descriptor). Here it is the
mean, over the textured patches of an image, of each patch's greatest normalised correlation with a
patch that does not overlap it. A generator that begins to draw tiles, stripes or one stroke again
and again moves it up, one that begins to draw noise moves it down: read it beside the original's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

PATCH = 8
"""Side of a patch in pixels."""
STEP = 4
"""Distance of the patches that are looked at."""
FLAT = 0.01
"""Patches whose standard deviation is below this share of the value range have no texture."""
WINDOW = 128
"""Of larger images the centre is looked at: 961 patches, and as many squared correlations."""


def self_similarity(images: Tensor, *, data_range: float) -> float | None:
    """Mean recurrence of patches over all images.

    Args:
        images: ``(N, C, H, W)``, float32, finite; channels are averaged.
        data_range: width of the value range.

    Returns:
        A figure in [-1, 1]; 1: every patch is found again. None where no image has two textured
        patches that do not overlap.
    """
    found = [recurrence(image, data_range) for image in images.float().mean(1)]
    known = [value for value in found if value is not None]
    return sum(known) / len(known) if known else None


def recurrence(image: Tensor, data_range: float) -> float | None:
    """The figure of one image ``(H, W)``."""
    import torch
    from torch.nn.functional import unfold

    height, width = image.shape
    tall, wide = min(height, WINDOW), min(width, WINDOW)
    if min(tall, wide) < PATCH:
        return None
    top, left = (height - tall) // 2, (width - wide) // 2
    window = image[top : top + tall, left : left + wide]
    patches = unfold(window[None, None], PATCH, stride=STEP)[0].T  # (patches, 64)
    places = torch.cartesian_prod(
        torch.arange(0, tall - PATCH + 1, STEP), torch.arange(0, wide - PATCH + 1, STEP)
    )
    textured = patches.std(1, correction=0) >= FLAT * data_range
    patches, places = patches[textured], places[textured]
    if len(patches) < 2:
        return None
    patches = patches - patches.mean(1, keepdim=True)
    patches = patches / patches.norm(dim=1, keepdim=True)
    apart = (places[:, None] - places[None]).abs().amax(2) >= PATCH
    best = (patches @ patches.T).masked_fill(~apart, -2).amax(1)
    best = best[apart.any(1)]
    return float(best.mean().clamp(-1, 1)) if len(best) else None
