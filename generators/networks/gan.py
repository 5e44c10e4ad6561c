"""The plain GAN for 28x28 digits: a dense layer, then transposed convolutions.

The generator that most tutorials begin with: Goodfellow et al. 2014 (arXiv 1406.2661) with the
layers of DCGAN (arXiv 1511.06434). Its discriminator has dropout, and no batch norm. The class of a
sample is read off its latent (:mod:`generators.networks.classes`).
"""

from __future__ import annotations

from torch import Tensor, nn

from generators.networks.classes import CLASSES, LATENT, with_one_hot
from generators.networks.steadying import projected
from genslim.signature import BATCH, Input, Output, Prior, Signature

WIDTHS = (256, 128, 64)
"""Channels at 7x7 as they leave the dense layer, at 7x7, and at 14x14."""
TRUNCATION = 0.5
"""Standard deviation that samples are drawn with, as for ``dcgan-mnist``."""


class Generator(nn.Module):
    """Latents ``(N, 32)``, normal, to images ``(N, 1, 28, 28)`` in [-1, 1]."""

    def __init__(self, widths: tuple[int, int, int] = WIDTHS) -> None:
        super().__init__()
        a, b, c = widths
        self.net = nn.Sequential(  # (N, 32)
            nn.Linear(LATENT, a * 49, bias=False),  # (N, 12544)
            nn.BatchNorm1d(a * 49),
            nn.LeakyReLU(0.2),
            nn.Unflatten(1, (-1, 7, 7)),  # (N, 256, 7, 7)
            nn.ConvTranspose2d(a, b, 5, 1, 2, bias=False),  # (N, 128, 7, 7)
            nn.BatchNorm2d(b),
            nn.LeakyReLU(0.2),
            nn.ConvTranspose2d(b, c, 4, 2, 1, bias=False),  # (N, 64, 14, 14)
            nn.BatchNorm2d(c),
            nn.LeakyReLU(0.2),
            nn.ConvTranspose2d(c, 1, 4, 2, 1),  # (N, 1, 28, 28)
            nn.Tanh(),
        )

    def forward(self, z: Tensor) -> Tensor:
        """Images for latents ``z``."""
        images: Tensor = self.net(with_one_hot(z))
        return images


class Discriminator(nn.Module):
    """Images ``(N, 1, 28, 28)`` in [-1, 1] and classes ``(N,)`` to logits ``(N,)``."""

    def __init__(self, width: int = 64, dropout: float = 0.3) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, width, 5, 2, 2),  # (N, 64, 14, 14)
            nn.LeakyReLU(0.2),
            nn.Dropout(dropout),
            nn.Conv2d(width, 2 * width, 5, 2, 2),  # (N, 128, 7, 7)
            nn.LeakyReLU(0.2),
            nn.Dropout(dropout),
        )
        self.score = nn.Conv2d(2 * width + 1, 1, 7)  # (N, 1, 1, 1)
        self.classes = nn.Embedding(CLASSES, 2 * width * 49)  # compared with all (128, 7, 7)
        nn.init.normal_(self.classes.weight, 0.0, 0.02)

    def forward(self, images: Tensor, classes: Tensor) -> Tensor:
        """Logits of ``images`` as members of ``classes``."""
        return projected(self.features(images), self.score, self.classes(classes))


def signature(truncation: float = TRUNCATION) -> Signature:
    """The contract of :class:`Generator`; latents have the standard deviation ``truncation``."""
    return Signature(
        inputs=(Input("z", (BATCH, LATENT), Prior("normal", truncation)),),
        outputs=(Output("images", (BATCH, 1, 28, 28), (-1.0, 1.0)),),
    )
