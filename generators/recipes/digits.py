"""How each reference network is trained: its networks put together with an objective.

A recipe takes the data held apart and a seed. What can be set beside (``--option loss=hinge``) are
its keyword arguments, with the values that the shipped weights were made with.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType

import torch
from torch import nn

from generators.catalogue import entry
from generators.data.mnist import Digits
from generators.judging.recognition import recognise_samples
from generators.networks import dcgan, dcgan_skip, gan, vae
from generators.networks.classes import LATENT, class_of
from generators.networks.digit_classifier import DigitClassifier
from generators.networks.steadying import spectrally_normed
from generators.training.adversarial import Adversarial, Loss
from generators.training.classification import Classification
from generators.training.objective import Judge, Objective
from generators.training.variational import Variational
from genslim.signature import Signature


def gan_mnist(
    test: Digits,
    seed: int,
    *,
    loss: Loss = "non-saturating",
    spectral_norm: bool = False,
    discriminators: int = 1,
    augment: int = 0,
    dropout: float = 0.3,
) -> Objective:
    """The plain GAN, judged by the shipped digit classifier."""
    return adversarial(
        gan,
        partial(gan.Discriminator, dropout=dropout),
        seed,
        loss=loss,
        spectral_norm=spectral_norm,
        discriminators=discriminators,
        augment=augment,
    )


def dcgan_mnist(
    test: Digits,
    seed: int,
    *,
    loss: Loss = "non-saturating",
    spectral_norm: bool = False,
    discriminators: int = 1,
    augment: int = 0,
) -> Objective:
    """DCGAN, judged by the shipped digit classifier."""
    return adversarial(
        dcgan,
        dcgan.Discriminator,
        seed,
        loss=loss,
        spectral_norm=spectral_norm,
        discriminators=discriminators,
        augment=augment,
    )


def dcgan_skip_mnist(
    test: Digits,
    seed: int,
    *,
    loss: Loss = "hinge",
    spectral_norm: bool = True,
    discriminators: int = 1,
    augment: int = 0,
) -> Objective:
    """DCGAN with skip connections, judged by the shipped digit classifier."""
    return adversarial(
        dcgan_skip,
        dcgan_skip.Discriminator,
        seed,
        loss=loss,
        spectral_norm=spectral_norm,
        discriminators=discriminators,
        augment=augment,
    )


def vae_mnist(
    test: Digits, seed: int, *, kl_warm_up: float = 0.1, kl_weight: float = 2.0
) -> Objective:
    """Variational autoencoder, judged by the shipped digit classifier."""
    torch.manual_seed(seed)
    return Variational(
        vae.Encoder(),
        vae.Decoder(),
        judge=judge_of_digits(vae.signature(), vae.signature(truncation=1.0)),
        seed=seed,
        kl_warm_up=kl_warm_up,
        kl_weight=kl_weight,
    )


def digit_classifier(test: Digits, seed: int) -> Objective:
    """The classifier, judged on MNIST's test split."""
    torch.manual_seed(seed)
    return Classification(DigitClassifier(), test, seed=seed)


def adversarial(
    networks: ModuleType,
    discriminator: Callable[[], nn.Module],
    seed: int,
    *,
    loss: Loss,
    spectral_norm: bool,
    discriminators: int,
    augment: int,
) -> Objective:
    """The generator of a module in :mod:`generators.networks` against so many discriminators."""
    torch.manual_seed(seed)
    return Adversarial(
        networks.Generator(),
        [remedied(discriminator(), spectral_norm) for _ in range(discriminators)],
        latent=LATENT,
        class_of=class_of,
        judge=judge_of_digits(networks.signature(), networks.signature(truncation=1.0)),
        seed=seed,
        loss=loss,
        augment=augment,
    )


def remedied(discriminator: nn.Module, spectral_norm: bool) -> nn.Module:
    """The discriminator, its spectral norm held at 1 where asked for."""
    return spectrally_normed(discriminator) if spectral_norm else discriminator


def judge_of_digits(usual: Signature, full: Signature) -> Judge:
    """A judge of samples drawn as the signature says, and with the variance that training draws."""
    classifier = entry("digit-classifier").load()

    def judge(generator: nn.Module) -> dict[str, float]:
        figures = recognise_samples(classifier, generator, usual)
        at_full = recognise_samples(classifier, generator, full)
        return {**figures, **{f"{name}_at_full_variance": v for name, v in at_full.items()}}

    return judge
