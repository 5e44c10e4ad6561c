"""Inpainting of photographs: what a rectangular hole might hide, from what is around it.

Colours run into the holes from their borders (:mod:`generators.networks.diffusing`), and a network
adds what that lacks: an encoder to a quarter of the sides, dilated convolutions that see across a
hole, and a decoder, as in Iizuka et al. 2017 ("Globally and locally consistent image completion",
ACM TOG 36(4)), without the adversary: the expected picture, not one of many possible. Known pixels
are passed on as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from generators.networks.diffusing import diffused
from generators.networks.initialising import begin
from genslim.signature import BATCH, Holes, Images, Input, Output, Signature

WIDTHS = (64, 128)
"""Channels at a half and at a quarter of the sides."""
DILATIONS = (1, 2, 4, 2)
"""Of the convolutions at a quarter of the sides: together they see 36 pixels each way."""
HOLES = (0.1, 0.3)
"""Least and greatest height and width of a hole, as shares of the sides."""
SIDE = 96


class PhotoInpainter(nn.Module):
    """Images ``(N, 3, H, W)`` in [0, 1] and masks ``(N, 1, H, W)``, 1 where a pixel is missing.

    Gives the images back, about [0, 1], with the missing pixels filled and all others as they were.
    What is in the holes does not matter. Sides are multiples of 4.
    """

    def __init__(self, widths: tuple[int, int] = WIDTHS) -> None:
        super().__init__()
        a, b = widths
        self.stem = nn.Conv2d(4, a, 5, 2, 2)  # (N, 64, H/2, W/2)
        self.shrink = nn.Conv2d(a, b, 3, 2, 1)  # (N, 128, H/4, W/4)
        self.across = nn.ModuleList(nn.Conv2d(b, b, 3, 1, d, d) for d in DILATIONS)
        self.enlarge = nn.Conv2d(b, 4 * a, 3, 1, 1)  # (N, 256, H/4, W/4)
        self.shuffle = nn.PixelShuffle(2)
        self.refine = nn.Conv2d(a, a, 3, 1, 1)  # (N, 64, H/2, W/2)
        self.decode = nn.Conv2d(a, 12, 3, 1, 1)  # (N, 12, H/2, W/2)
        begin(self, self.decode, share=0.0)

    def forward(self, images: Tensor, mask: Tensor) -> Tensor:
        """The images with their holes filled."""
        smooth = diffused(images, mask)
        half = self.stem(torch.cat([smooth, mask], 1))
        quarter = self.shrink(relu(half))
        for convolution in self.across:
            quarter = quarter + convolution(relu(quarter))
        half = half + self.shuffle(self.enlarge(relu(quarter)))
        half = half + self.refine(relu(half))
        detail: Tensor = self.shuffle(self.decode(half))
        return smooth + detail * mask


def signature() -> Signature:
    """The contract of :class:`PhotoInpainter`: crops of photographs, and a hole in each."""
    sizes = {"height": SIDE, "width": SIDE}
    shape = (BATCH, 3, "height", "width")
    holes = (BATCH, 1, "height", "width")
    return Signature(
        inputs=(
            Input("images", shape, Images(), sizes=sizes, multiple_of=4),
            Input("mask", holes, Holes(*HOLES), sizes=sizes, multiple_of=4),
        ),
        outputs=(Output("filled", shape, (0.0, 1.0)),),
    )
