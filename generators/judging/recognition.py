"""How good samples of digits are, by the classifier's word: recognised, and of all ten kinds."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from genslim.inputs import Inputs
from genslim.signature import Signature

CONFIDENT = 0.9
"""A sample is recognised when the classifier gives its digit at least this probability."""


@torch.no_grad()
def recognise(classifier: nn.Module, images: Tensor) -> dict[str, float]:
    """Judge digit images.

    Args:
        classifier: maps ``(N, 1, 32, 32)`` in [-1, 1] to logits ``(N, 10)``.
        images: ``(N, 1, 32, 32)`` in [-1, 1].

    Returns:
        ``recognised``: the share classified with at least 0.9 confidence; ``least_digit``: the
        share of the rarest digit; ``mean_confidence``.
    """
    probabilities = torch.cat([classifier(part).softmax(1) for part in images.split(250)])
    confidence, digit = probabilities.max(1)
    shares = torch.bincount(digit, minlength=10) / len(images)
    return {
        "recognised": (confidence >= CONFIDENT).double().mean().item(),
        "least_digit": shares.min().item(),
        "mean_confidence": confidence.double().mean().item(),
    }


@torch.no_grad()
def recognise_samples(
    classifier: nn.Module,
    generator: nn.Module,
    signature: Signature,
    *,
    count: int = 2000,
    seed: int = 1,
) -> dict[str, float]:
    """:func:`recognise` on ``count`` samples of a generator, drawn as its signature says."""
    (z,) = Inputs(signature, "quality", seed).draw(count).values()
    device = next(generator.parameters()).device
    images = torch.cat([generator(part.to(device)).cpu() for part in z.split(250)])
    return recognise(classifier, as_the_classifier_reads(images, signature.images.value_range))


def as_the_classifier_reads(images: Tensor, value_range: tuple[float, float]) -> Tensor:
    """Digits ``(N, 1, 28 or 32, ...)`` of a value range as ``(N, 1, 32, 32)`` in [-1, 1]."""
    low, high = value_range
    margin = (32 - images.shape[-1]) // 2
    return pad((images - low) / (high - low) * 2 - 1, (margin,) * 4, value=-1.0)
