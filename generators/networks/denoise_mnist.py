"""Denoising autoencoder for 32x32 digits: strided convolutions down, pixel shuffles up.

Vincent et al. 2008 (ICML, "Extracting and composing robust features with denoising
autoencoders"), convolutional. Nothing goes round the bottleneck: what comes out is drawn anew from
what was recognised, so noise has no way through. Enlarging is by sub-pixel convolution (Shi et al.
2016, arXiv 1609.05158), which every runtime quantizes well.
"""

from __future__ import annotations

from torch import Tensor, nn

from generators.networks.initialising import begin
from genslim.signature import BATCH, Input, Output, Sampler, Signature

WIDTHS = (64, 128)
"""Channels at 16x16 and 8x8."""
NOISE = (0.0, 0.5)
"""Least and greatest standard deviation of the noise, of a range of 1."""


class DigitDenoiser(nn.Module):
    """Noisy images ``(N, 1, 32, 32)``, not clamped, to clean ones, about [0, 1].

    The end is linear: a sigmoid begins flat on pictures that are mostly black, and stays there.
    """

    def __init__(self, widths: tuple[int, int] = WIDTHS) -> None:
        super().__init__()
        a, b = widths
        last = nn.Conv2d(a, 4, 3, 1, 1)
        self.net = nn.Sequential(  # (N, 1, 32, 32)
            nn.Conv2d(1, a, 5, 2, 2),  # (N, 64, 16, 16)
            nn.ReLU(),
            nn.Conv2d(a, b, 3, 2, 1),  # (N, 128, 8, 8)
            nn.ReLU(),
            nn.Conv2d(b, b, 3, 1, 1),
            nn.ReLU(),
            nn.Conv2d(b, b, 3, 1, 1),
            nn.ReLU(),
            nn.Conv2d(b, 4 * a, 3, 1, 1),  # (N, 256, 8, 8)
            nn.PixelShuffle(2),  # (N, 64, 16, 16)
            nn.ReLU(),
            last,  # (N, 4, 16, 16)
            nn.PixelShuffle(2),  # (N, 1, 32, 32)
        )
        begin(self, last)

    def forward(self, images: Tensor) -> Tensor:
        """The digits without their noise."""
        clean: Tensor = self.net(images)
        return clean


def signature() -> Signature:
    """The contract of :class:`DigitDenoiser`: noisy samples of ``dcgan-mnist``, in [0, 1]."""
    return Signature(
        inputs=(Input("images", (BATCH, 1, 32, 32), Sampler("digits"), noise=NOISE),),
        outputs=(Output("clean", (BATCH, 1, 32, 32), (0.0, 1.0)),),
    )
