"""Whether the digit that a prompt asks for is the digit that is drawn, by the classifier's word."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from generators.judging.recognition import CONFIDENT
from generators.text.prompts import balanced

Draw = Callable[[list[str]], Tensor]
"""Prompts to pictures ``(N, 1, 32, 32)`` in [-1, 1]."""


@torch.no_grad()
def judge_asked(
    classifier: nn.Module, draw: Draw, *, count: int = 2000, kind: str = "usual", batch: int = 500
) -> dict[str, float]:
    """Draw for prompts over all ten digits alike, and look at the pictures.

    Args:
        classifier: maps ``(N, 1, 32, 32)`` in [-1, 1] to logits ``(N, 10)``.
        draw: what is judged.
        count: how many pictures.
        kind: of prompts, ``usual`` or ``held apart``: wordings that training never saw.
        batch: prompts at a time.

    Returns:
        ``asked``: the share recognised as the digit that was asked for; ``recognised``: the share
        of a confidence of 0.9 or more, whatever the digit; ``least_digit``: the share of the
        rarest.
    """
    wanted, digits = balanced(count, kind)
    parts = [draw(wanted[start : start + batch]) for start in range(0, count, batch)]
    shares = torch.cat([classifier(part).softmax(1) for part in parts])
    confidence, digit = shares.max(1)
    return {
        "asked": (digit == digits).double().mean().item(),
        "recognised": (confidence >= CONFIDENT).double().mean().item(),
        "least_digit": (torch.bincount(digit, minlength=10) / count).min().item(),
    }
