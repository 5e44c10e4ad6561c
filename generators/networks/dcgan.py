"""DCGAN for 32x32 digits: strided transposed convolutions with batch norm, ten classes.

Radford, Metz, Chintala 2015 (arXiv 1511.06434). The class of a sample is read off its latent
(:mod:`generators.networks.classes`). The discriminator is told the class by projection (Miyato,
Koyama 2018, arXiv 1802.05637) and sees how much the samples of a minibatch differ
(:mod:`generators.networks.steadying`), both remedies against mode collapse.
"""

from __future__ import annotations

from torch import Tensor, nn

from generators.networks.classes import CLASSES, LATENT, with_one_hot
from generators.networks.steadying import projected
from genslim.signature import BATCH, Input, Output, Prior, Signature

WIDTHS = (768, 128, 64)
"""Channels at 4x4, 8x8 and 16x16: most where a channel costs least. What a latent becomes is
decided at 4x4, and halving that layer costs more than halving any other."""
TRUNCATION = 0.5
"""Samples are drawn with this standard deviation, less than trained with: cleaner digits for a
little less variety (the truncation trick, Brock et al. 2018, arXiv 1809.11096)."""


class Generator(nn.Module):
    """Latents ``(N, 32)``, normal, to images ``(N, 1, 32, 32)`` in [-1, 1]."""

    def __init__(self, widths: tuple[int, int, int] = WIDTHS) -> None:
        super().__init__()
        a, b, c = widths
        self.net = nn.Sequential(  # (N, 32, 1, 1)
            nn.ConvTranspose2d(LATENT, a, 4, 1, 0, bias=False),  # (N, 768, 4, 4)
            nn.BatchNorm2d(a),
            nn.ReLU(),
            nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False),  # (N, 128, 8, 8)
            nn.BatchNorm2d(b),
            nn.ReLU(),
            nn.ConvTranspose2d(b, c, 4, 2, 1, bias=False),  # (N, 64, 16, 16)
            nn.BatchNorm2d(c),
            nn.ReLU(),
            nn.ConvTranspose2d(c, 1, 4, 2, 1),  # (N, 1, 32, 32)
            nn.Tanh(),
        )
        self.apply(initialise)

    def forward(self, z: Tensor) -> Tensor:
        """Images for latents ``z``."""
        images: Tensor = self.net(with_one_hot(z)[:, :, None, None])
        return images


class Discriminator(nn.Module):
    """Images ``(N, 1, 32, 32)`` in [-1, 1] and classes ``(N,)`` to logits ``(N,)``.

    A greater logit means more like a real image of that class.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, width, 4, 2, 1),  # (N, 32, 16, 16)
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False),  # (N, 64, 8, 8)
            nn.BatchNorm2d(2 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 4 * width, 4, 2, 1, bias=False),  # (N, 128, 4, 4)
            nn.BatchNorm2d(4 * width),
            nn.LeakyReLU(0.2),
        )
        self.score = nn.Conv2d(4 * width + 1, 1, 4)  # (N, 1, 1, 1)
        self.classes = nn.Embedding(CLASSES, 4 * width * 16)  # compared with all (128, 4, 4)
        self.apply(initialise)
        nn.init.normal_(self.classes.weight, 0.0, 0.02)

    def forward(self, images: Tensor, classes: Tensor) -> Tensor:
        """Logits of ``images`` as members of ``classes``."""
        return projected(self.features(images), self.score, self.classes(classes))


def initialise(module: nn.Module) -> None:
    """The paper's start: convolutions N(0, 0.02), batch norm's scale N(1, 0.02)."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)


def signature(truncation: float = TRUNCATION) -> Signature:
    """The contract of :class:`Generator`; latents have the standard deviation ``truncation``."""
    return Signature(
        inputs=(Input("z", (BATCH, LATENT), Prior("normal", truncation)),),
        outputs=(Output("images", (BATCH, 1, 32, 32), (-1.0, 1.0)),),
    )
