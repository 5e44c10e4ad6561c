"""DCGAN for 32x32 digits: strided transposed convolutions with batch norm, ten classes.

Radford, Metz, Chintala 2015 (arXiv 1511.06434). The class of a sample is read off its latent: it
is the place of the greatest of the first ten numbers, so a prior of plain latents draws all ten
digits alike, and no mode can be dropped. The discriminator is told the class by projection (Miyato,
Koyama 2018, arXiv 1802.05637) and sees how much the samples of a minibatch differ (Karras et al.
2017, arXiv 1710.10196), both remedies against mode collapse.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genslim.signature import BATCH, Input, Output, Prior, Signature

LATENT = 32
CLASSES = 10
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
        head, rest = z[:, :CLASSES], z[:, CLASSES:]
        one_hot = (head == head.amax(1, keepdim=True)).to(z.dtype)  # (N, 10)
        images: Tensor = self.net(torch.cat([one_hot, rest], 1)[:, :, None, None])
        return images


def class_of(z: Tensor) -> Tensor:
    """The class ``(N,)``, int64, that the generator draws for latents ``z`` ``(N, 32)``."""
    return z[:, :CLASSES].argmax(1)


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
        features = self.features(images)
        score: Tensor = self.score(append_minibatch_deviation(features)).flatten()
        match: Tensor = (self.classes(classes) * features.flatten(1)).sum(1)
        return score + match


def append_minibatch_deviation(features: Tensor, group: int = 4) -> Tensor:
    """``features`` and one more channel: how much the samples of a group of 4 differ.

    A discriminator that sees it notices a generator which draws the same picture for every
    latent: a remedy against mode collapse (Karras et al. 2017, arXiv 1710.10196, section 3).
    """
    n, _, h, w = features.shape
    size = group if n % group == 0 else n
    deviation = features.unflatten(0, (size, -1)).var(dim=0, unbiased=False).add(1e-8).sqrt()
    per_group = deviation.mean(dim=(1, 2, 3))  # (N / size,)
    return torch.cat([features, per_group.repeat(size)[:, None, None, None].expand(n, 1, h, w)], 1)


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
