"""Super-resolution of photographs by 2, sharpening what is a little blurred.

All layers work at the small size, and a sub-pixel convolution enlarges at the end (Shi et al. 2016,
ESPCN, arXiv 1609.05158); the network predicts what the image enlarged by repeating pixels lacks,
as Real-ESRGAN's compact networks do (Wang et al. 2021, arXiv 2107.10833).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import interpolate

from generators.networks.initialising import begin
from genslim.signature import BATCH, Images, Input, Output, Signature

SCALE = 2
WIDTH = 64
LAYERS = 6
"""Convolutions between the first and the last."""
SIDE = 48
"""Usual side of what goes in."""


class PhotoEnhancer(nn.Module):
    """Images ``(N, 3, H, W)`` in [0, 1] to ``(N, 3, 2H, 2W)``, about [0, 1]; of any size."""

    def __init__(self, width: int = WIDTH, layers: int = LAYERS) -> None:
        super().__init__()
        body: list[nn.Module] = [nn.Conv2d(3, width, 3, 1, 1), nn.PReLU(width)]  # (N, 64, H, W)
        for _ in range(layers):
            body += [nn.Conv2d(width, width, 3, 1, 1), nn.PReLU(width)]
        last = nn.Conv2d(width, 3 * SCALE**2, 3, 1, 1)
        self.net = nn.Sequential(
            *body,
            last,  # (N, 12, H, W)
            nn.PixelShuffle(SCALE),  # (N, 3, 2H, 2W)
        )
        begin(self, last)

    def forward(self, images: Tensor) -> Tensor:
        """The images, twice as high and wide."""
        detail: Tensor = self.net(images)
        return interpolate(images, scale_factor=SCALE, mode="nearest") + detail


def signature() -> Signature:
    """The contract of :class:`PhotoEnhancer`."""
    sizes = {"height": SIDE, "width": SIDE}
    return Signature(
        inputs=(Input("images", (BATCH, 3, "height", "width"), Images(), sizes=sizes),),
        outputs=(Output("enhanced", (BATCH, 3, f"{SCALE}*height", f"{SCALE}*width"), (0.0, 1.0)),),
    )
