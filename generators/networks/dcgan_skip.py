"""DCGAN with skip connections in both players, for 32x32 digits.

The generator draws a picture at every size and adds the enlarged smaller ones to the larger (Karras
et al. 2019, arXiv 1912.04958, section 4.1); the discriminator is residual (He et al. 2015, arXiv
1512.03385). Gradients reach every layer of both on a short way, which steadies the training.
"""

from __future__ import annotations

from itertools import pairwise
from math import sqrt

from torch import Tensor, nn
from torch.nn.functional import interpolate

from generators.networks.classes import CLASSES, LATENT, with_one_hot
from generators.networks.dcgan import TRUNCATION, initialise
from generators.networks.steadying import projected
from genslim.signature import BATCH, Input, Output, Prior, Signature

WIDTHS = (512, 128, 64, 32)
"""Channels at 4x4, 8x8, 16x16 and 32x32."""


class Generator(nn.Module):
    """Latents ``(N, 32)``, normal, to images ``(N, 1, 32, 32)`` in [-1, 1]."""

    def __init__(self, widths: tuple[int, int, int, int] = WIDTHS) -> None:
        super().__init__()
        self.start = nn.Sequential(  # (N, 32, 1, 1)
            nn.ConvTranspose2d(LATENT, widths[0], 4, 1, 0, bias=False),  # (N, 512, 4, 4)
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(),
        )
        self.enlarge = nn.ModuleList(  # (N, 128, 8, 8), (N, 64, 16, 16), (N, 32, 32, 32)
            nn.Sequential(
                nn.ConvTranspose2d(narrow, wide, 4, 2, 1, bias=False),
                nn.BatchNorm2d(wide),
                nn.ReLU(),
            )
            for narrow, wide in pairwise(widths)
        )
        self.draw = nn.ModuleList(nn.Conv2d(width, 1, 3, padding=1) for width in widths[1:])
        self.apply(initialise)

    def forward(self, z: Tensor) -> Tensor:
        """Images for latents ``z``."""
        features = self.start(with_one_hot(z)[:, :, None, None])
        picture: Tensor | None = None
        for enlarge, draw in zip(self.enlarge, self.draw, strict=True):
            features = enlarge(features)
            drawn = draw(features)
            if picture is not None:
                drawn = drawn + interpolate(picture, scale_factor=2.0, mode="nearest")
            picture = drawn
        assert picture is not None
        return picture.tanh()


class Halving(nn.Module):
    """``(N, C, H, W)`` to ``(N, D, H/2, W/2)``: two convolutions beside a short way past them."""

    def __init__(self, narrow: int, wide: int) -> None:
        super().__init__()
        self.long = nn.Sequential(
            nn.LeakyReLU(0.2),
            nn.Conv2d(narrow, wide, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(wide, wide, 4, 2, 1),
        )
        self.short = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(narrow, wide, 1, bias=False))

    def forward(self, features: Tensor) -> Tensor:
        """The sum of both ways, of the variance of one."""
        total: Tensor = (self.long(features) + self.short(features)) / sqrt(2)
        return total


class Discriminator(nn.Module):
    """Images ``(N, 1, 32, 32)`` in [-1, 1] and classes ``(N,)`` to logits ``(N,)``."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, width, 4, 2, 1),  # (N, 32, 16, 16)
            Halving(width, 2 * width),  # (N, 64, 8, 8)
            Halving(2 * width, 4 * width),  # (N, 128, 4, 4)
            nn.LeakyReLU(0.2),
        )
        self.score = nn.Conv2d(4 * width + 1, 1, 4)  # (N, 1, 1, 1)
        self.classes = nn.Embedding(CLASSES, 4 * width * 16)  # compared with all (128, 4, 4)
        nn.init.normal_(self.classes.weight, 0.0, 0.02)

    def forward(self, images: Tensor, classes: Tensor) -> Tensor:
        """Logits of ``images`` as members of ``classes``."""
        return projected(self.features(images), self.score, self.classes(classes))


def signature(truncation: float = TRUNCATION) -> Signature:
    """The contract of :class:`Generator`; latents have the standard deviation ``truncation``."""
    return Signature(
        inputs=(Input("z", (BATCH, LATENT), Prior("normal", truncation)),),
        outputs=(Output("images", (BATCH, 1, 32, 32), (-1.0, 1.0)),),
    )
