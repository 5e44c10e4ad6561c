"""Digits that a shipped generator draws: images for what restores digits, without data on disk."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from generators.networks import dcgan
from genslim.signature import Prior


@torch.no_grad()
def sampled_digits(count: int, random: torch.Generator) -> Tensor:
    """Samples of ``dcgan-mnist``: the entry point ``digits`` in ``genslim.samplers``.

    Args:
        count: how many.
        random: where latents are drawn from, with the truncation of the generator's signature.

    Returns:
        ``(count, 1, 32, 32)``, float32 in [0, 1].

    Raises:
        UserError: the generator's weights are not there.
    """
    (spec,) = dcgan.signature().inputs
    assert isinstance(spec.draw, Prior)
    latents = torch.randn(spec.concrete(count), generator=random) * spec.draw.scale
    images = torch.cat([generator()(part) for part in latents.split(256)])
    return images.add(1).div(2).clamp(0, 1)


@cache
def generator() -> nn.Module:
    """``dcgan-mnist`` with its shipped weights."""
    from generators.catalogue import entry

    return entry("dcgan-mnist").load()
