"""How each reference network is trained: its networks put together with an objective."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from generators import dcgan
from generators.adversarial import Adversarial
from generators.classification import Classification
from generators.digit_classifier import DigitClassifier
from generators.mnist import Digits
from generators.objective import Objective
from generators.recognition import recognise_samples
from generators.shipped import load_shipped


def dcgan_mnist(test: Digits, seed: int) -> Objective:
    """DCGAN, judged by the shipped digit classifier."""
    torch.manual_seed(seed)
    return Adversarial(
        dcgan.Generator(),
        dcgan.Discriminator(),
        latent=dcgan.LATENT,
        class_of=dcgan.class_of,
        judge=partial(judge_digits, load_shipped("digit-classifier")),
        seed=seed,
    )


def judge_digits(classifier: nn.Module, generator: nn.Module) -> dict[str, float]:
    """Samples drawn as the signature says, and with the full variance that training draws."""
    figures = recognise_samples(classifier, generator, dcgan.signature())
    full = recognise_samples(classifier, generator, dcgan.signature(truncation=1.0))
    return {**figures, **{f"{name}_at_full_variance": value for name, value in full.items()}}


def digit_classifier(test: Digits, seed: int) -> Objective:
    """The classifier, judged on MNIST's test split."""
    torch.manual_seed(seed)
    return Classification(DigitClassifier(), test, seed=seed)
