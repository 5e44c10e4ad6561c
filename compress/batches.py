"""Batches of inputs: how many a purpose takes, and running a generator on them a part at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from genslim.signature import Signature

Batch = dict[str, Tensor]


def usual_batch(signature: Signature) -> int:
    """Inputs a step: an image holds many positions to learn from, a latent makes one picture."""
    return 4 if signature.takes_images else 32


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
