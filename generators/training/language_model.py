"""What the transformer of text to image is taught: to write codes one by one, and to fill them in.

Half of the examples are read as a language model reads, each code to be foretold from those before
it; in the other half some are masked, and all others are looked at (MaskGIT, Chang et al. 2022,
arXiv 2202.04200, section 3.1). So one network decodes in both ways.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from generators.networks.text_transformer import BYTES, looking_back, looking_everywhere


@dataclass(frozen=True)
class Lesson:
    """What the transformer reads, and where it should write."""

    tokens: Tensor
    """``(N, 32 + 49)``, int64: prompts, then codes after :data:`BYTES`, the start or the mask."""
    allowed: Tensor
    """What each may look at, ``(N, 1, 81, 81)``, bool."""
    asked: Tensor
    """The places ``(N, 49)``, bool, whose codes are to be foretold."""


def lesson(prompts: Tensor, codes: Tensor, count: int, random: torch.Generator) -> Lesson:
    """Teach half of the examples, the first, one by one, and the rest masked.

    Args:
        prompts: bytes ``(N, 32)``, int64.
        codes: of the images, ``(N, 49)``, int64, on the same device.
        count: how many codes there are; the mask and the start follow them.
        random: on the CPU; draws what is masked.
    """
    half, places = len(codes) // 2, codes.shape[1]
    start = codes.new_full((half, 1), count + 1)
    one_by_one = torch.cat([start, codes[:half, :-1]], 1)
    masks = hidden(len(codes) - half, places, random).to(codes.device)
    masked = codes[half:].masked_fill(masks, count)
    tokens = torch.cat([prompts, torch.cat([one_by_one, masked]) + BYTES], 1)
    back = looking_back(tokens.shape[1], device=tokens.device)[None, None]
    allowed = torch.cat([back.expand(half, -1, -1, -1), looking_everywhere(tokens[half:])])
    return Lesson(tokens, allowed, torch.cat([masks.new_ones(half, places), masks]))


def hidden(count: int, places: int, random: torch.Generator) -> Tensor:
    """Which places to mask, ``(count, places)``, bool: one at least in each row.

    The share of a row follows the cosine that decoding follows, at a time drawn at random, so that
    each of its steps is trained alike.
    """
    times = torch.rand(count, 1, generator=random)
    numbers = (times * (math.pi / 2)).cos().mul(places).round().clamp_min(1)
    orders = torch.rand(count, places, generator=random).argsort(1)
    return orders < numbers
