"""Batches of inputs: how many a purpose takes, and running a generator on them a part at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from genslim.signature import Signature

Batch = dict[str, Tensor]


def usual_batch(signature: Signature) -> int:
    """Inputs a step: an image holds many positions to learn from, a latent makes one picture.

    In as many seconds, steps of one crop teach Real-ESRGAN more than a quarter as many of four.
    """
    return 1 if signature.takes_images else 32


def usual_rate(signature: Signature) -> float:
    """Adam's learning rate, for a network fitted in closed form and :func:`usual_batch`.

    With one crop a step, animevideov3 read a better SSIM than with 4e-4, which was better than
    7e-4. A network that lost little wants less: x4plus-anime without a block, in 200 steps, won
    nothing back with it, 0.028 of SSIM with 5e-5 and 0.054 with 2e-5.
    """
    return 1.5e-4 if signature.takes_images else 7e-4


def usual_structure(signature: Signature) -> float:
    """What a loss of SSIM weighs beside the mean absolute error, both as parts of the range.

    After 200 steps x4plus-anime without a block had won back 0.0084 of SSIM with it, and nothing
    with a fifth or with four times as much; the shipped DCGAN reads a little less with any.
    """
    return 1.0 if signature.takes_images else 0.0


def usual_validation(signature: Signature) -> int:
    """Inputs that progress is shown on; disjoint from those learned from."""
    return 8 if signature.takes_images else 64


def usual_calibration(signature: Signature) -> int:
    """Inputs that activations are looked at on: crops of images hold many positions each."""
    return 16 if signature.takes_images else 512


@torch.no_grad()
def in_batches(draw: Callable[[Batch], Tensor], inputs: Batch, size: int = 32) -> Tensor:
    """``draw`` on ``inputs``, ``size`` at a time, put together."""
    count = len(next(iter(inputs.values())))
    parts = [
        draw({name: tensor[start : start + size] for name, tensor in inputs.items()})
        for start in range(0, count, size)
    ]
    return torch.cat(parts)
