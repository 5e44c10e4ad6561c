"""How each reference network is trained: its networks put together with an objective."""

from __future__ import annotations

from functools import partial

import torch

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
        judge=partial(
            recognise_samples, load_shipped("digit-classifier"), signature=dcgan.signature()
        ),
        seed=seed,
    )


def digit_classifier(test: Digits, seed: int) -> Objective:
    """The classifier, judged on MNIST's test split."""
    torch.manual_seed(seed)
    return Classification(DigitClassifier(), test, seed=seed)
