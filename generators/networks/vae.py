"""Variational autoencoder of 28x28 digits; its decoder is the generator.

Kingma, Welling 2013 (arXiv 1312.6114), conditioned on the class (Sohn et al. 2015, Learning
Structured Output Representation using Deep Conditional Generative Models): the encoder is told it,
and the decoder reads it off the latent (:mod:`generators.networks.classes`), so that what is left
of a latent need only say how a digit is written.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from generators.networks.classes import CLASSES, LATENT, with_one_hot
from genslim.signature import BATCH, Input, Output, Prior, Signature

STYLE = LATENT - CLASSES
"""Numbers of a latent that say how a digit is written."""
WIDTHS = (128, 96, 64)
"""Channels of the decoder at 7x7, 14x14 and 28x28."""
TRUNCATION = 0.5
"""Standard deviation that samples are drawn with, as for ``dcgan-mnist``: far from the mean a
decoder has seen little."""


class Decoder(nn.Module):
    """Latents ``(N, 32)``, normal, to images ``(N, 1, 28, 28)`` in [0, 1]."""

    def __init__(self, widths: tuple[int, int, int] = WIDTHS) -> None:
        super().__init__()
        a, b, c = widths
        self.net = nn.Sequential(  # (N, 32)
            nn.Linear(LATENT, a * 49),  # (N, 6272)
            nn.Unflatten(1, (-1, 7, 7)),  # (N, 128, 7, 7)
            nn.ReLU(),
            nn.ConvTranspose2d(a, b, 4, 2, 1),  # (N, 96, 14, 14)
            nn.ReLU(),
            nn.ConvTranspose2d(b, c, 4, 2, 1),  # (N, 64, 28, 28)
            nn.ReLU(),
            nn.Conv2d(c, 1, 3, padding=1),  # (N, 1, 28, 28)
            nn.Sigmoid(),
        )

    def forward(self, z: Tensor) -> Tensor:
        """Images for latents ``z``: the brightness that each pixel is expected to have."""
        images: Tensor = self.net(with_one_hot(z))
        return images


class Encoder(nn.Module):
    """Images ``(N, 1, 28, 28)`` in [0, 1] and classes ``(N,)`` to a normal distribution."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, width, 4, 2, 1),  # (N, 32, 14, 14)
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 4, 2, 1),  # (N, 64, 7, 7)
            nn.ReLU(),
            nn.Flatten(),  # (N, 3136)
        )
        self.hidden = nn.Linear(2 * width * 49 + CLASSES, 256)
        self.moments = nn.Linear(256, 2 * STYLE)

    def forward(self, images: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance of the posterior, ``(N, 22)`` each."""
        one_hot = nn.functional.one_hot(classes, CLASSES).to(images.dtype)
        hidden = self.hidden(torch.cat([self.features(images), one_hot], 1)).relu()
        mean, log_variance = self.moments(hidden).chunk(2, 1)
        return mean, log_variance


def reparameterised(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """A sample of the posterior that gradients go through; ``noise`` is standard normal."""
    return mean + (log_variance / 2).exp() * noise


def signature(truncation: float = TRUNCATION) -> Signature:
    """The contract of :class:`Decoder`; latents have the standard deviation ``truncation``."""
    return Signature(
        inputs=(Input("z", (BATCH, LATENT), Prior("normal", truncation)),),
        outputs=(Output("images", (BATCH, 1, 28, 28), (0.0, 1.0)),),
    )
