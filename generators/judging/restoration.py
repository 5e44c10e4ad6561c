"""How well a network restores what was degraded, beside what one would do without it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Protocol

import torch
from torch import Tensor, nn

from genslim.metrics import SSIM_WINDOW, ssim


class Pairs(Protocol):
    """Degraded images and what they were: see :class:`generators.training.degradation.Pairs`."""

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """What the network is given."""

    @property
    def clean(self) -> Tensor:
        """What it should make of them, ``(N, C, H, W)`` in [0, 1]."""

    @property
    def where(self) -> Tensor:
        """Where the two are compared: 1 or 0, broadcast to ``clean``."""


@torch.no_grad()
def judge_restored(
    network: nn.Module,
    batches: Iterable[Pairs],
    baseline: Callable[[tuple[Tensor, ...]], Tensor],
) -> dict[str, float]:
    """Compare what a network makes of degraded images with what they were.

    PSNR is of the mean squared error over all pixels that are compared, of all images together:
    where a crop of flat black would read 100 dB, a mean of the images' PSNRs says how many of them
    there are. SSIM is of whole images.

    Args:
        network: in evaluation mode.
        batches: what it is given, and what it should make of it.
        baseline: what one would make of it without a network.

    Returns:
        ``psnr_db``, ``baseline_psnr_db``, ``psnr_gain_db``, ``ssim``, ``baseline_ssim``.
    """
    errors = {"": 0.0, "baseline_": 0.0}
    similar = {"": 0.0, "baseline_": 0.0}
    pixels, images = 0.0, 0
    for pairs in batches:
        made = {"": network(*pairs.inputs), "baseline_": baseline(pairs.inputs)}
        where = pairs.where.expand_as(pairs.clean)
        pixels += float(where.sum())
        images += len(pairs.clean)
        for name, restored in made.items():
            errors[name] += float(((restored - pairs.clean) * where).square().sum())
            if min(restored.shape[2:]) >= SSIM_WINDOW:
                similar[name] += float(ssim(restored, pairs.clean, data_range=1.0).sum())
    figures = {f"{name}psnr_db": psnr_of(error / pixels) for name, error in errors.items()}
    return {
        **figures,
        "psnr_gain_db": figures["psnr_db"] - figures["baseline_psnr_db"],
        **{f"{name}ssim": total / images for name, total in similar.items()},
    }


def psnr_of(mean_squared_error: float) -> float:
    """PSNR in dB for a range of 1; 100 for no error at all."""
    return -10 * math.log10(max(mean_squared_error, 1e-10))
