"""Crops of images as they might look in other pictures: what recovery is shown.

A generator that learns again from a few files otherwise unlearns colours and textures which they
do not hold: x4plus-anime without 60 % of its MACs drew magenta as red. And photographs are clean
where a restoring network's inputs are not, so crops are degraded too, as such networks are trained
(Wang et al. 2021, Real-ESRGAN, arXiv 2107.10833, section 3).
"""

from __future__ import annotations

from io import BytesIO

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

MOST_SHRUNK = 4.0
"""A crop is taken at most this many times as large, and shrunk."""
MOST_NOISE = 12 / 255
"""Greatest standard deviation of the noise, of a range of 1."""
JPEG_QUALITY = (30, 96)


class Variation:
    """Random crops, each varied in its own way; two made from equal streams draw alike."""

    def __init__(self, random: torch.Generator) -> None:
        self._random = random

    def crop(self, image: Tensor, height: int, width: int) -> Tensor:
        """A random crop ``(C, height, width)`` of ``image`` ``(C, H, W)``, as it is."""
        top = self._integer(image.shape[1] - height + 1)
        left = self._integer(image.shape[2] - width + 1)
        return image[:, top : top + height, left : left + width]

    def varied_crop(
        self, image: Tensor, height: int, width: int, *, degraded: bool = True
    ) -> Tensor:
        """A random crop ``(C, height, width)`` of ``image``, in [0, 1] like it.

        Half of the time shrunk, mirrored, turned; half of the time each in other colours and,
        unless ``degraded`` is false, degraded.
        """
        crop = self._shrunk_crop(image, height, width)
        mirrored = [axis for axis in (1, 2) if self._integer(2)]
        crop = crop.flip(mirrored)
        if height == width and self._integer(2):
            crop = crop.transpose(1, 2)
        if self._integer(2):
            crop = self._recoloured(crop)
        if degraded and self._integer(2):
            crop = self._degraded(crop)
        return crop.contiguous()

    def _shrunk_crop(self, image: Tensor, height: int, width: int) -> Tensor:
        """A crop of a larger part, where the image has one."""
        room = min(image.shape[1] / height, image.shape[2] / width, MOST_SHRUNK)
        if room <= 1 or self._integer(2):
            return self.crop(image, height, width)
        factor = room ** self._fraction()  # as many below as above the middle of the range
        larger = self.crop(image, round(height * factor), round(width * factor))
        shrunk = interpolate(larger[None], (height, width), mode="bilinear", antialias=True)
        return shrunk[0].clamp(0, 1)  # means of 1 are rounded to a little more

    def _recoloured(self, crop: Tensor) -> Tensor:
        """The crop with its channels in another order, perhaps inverted, and with less contrast."""
        crop = crop[torch.randperm(len(crop), generator=self._random)]
        if self._integer(2):
            crop = 1 - crop
        ends = torch.rand(2, len(crop), 1, 1, generator=self._random)
        low, high = ends.amin(0), ends.amax(0)
        return low + (high - low) * crop

    def _degraded(self, crop: Tensor) -> Tensor:
        """The crop with noise, or out of a JPEG file, or both."""
        which = self._integer(3)
        if which != 0:
            noise = torch.randn(crop.shape, generator=self._random)
            crop = (crop + self._fraction() * MOST_NOISE * noise).clamp(0, 1)
        if which != 1 and len(crop) in (1, 3):
            low, high = JPEG_QUALITY
            crop = out_of_jpeg(crop, low + self._integer(high - low))
        return crop

    def _integer(self, below: int) -> int:
        return int(torch.randint(below, (), generator=self._random))

    def _fraction(self) -> float:
        return float(torch.rand((), generator=self._random))


def out_of_jpeg(image: Tensor, quality: int) -> Tensor:
    """``image`` ``(1 or 3, H, W)`` in [0, 1], written as a JPEG file and read again."""
    from PIL import Image

    pixels = image.mul(255).round().byte().permute(1, 2, 0).numpy()
    file = BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(
        file, "JPEG", quality=quality
    )
    read = np.asarray(Image.open(file)).reshape(pixels.shape)
    return torch.from_numpy(read.astype(np.float32).transpose(2, 0, 1) / 255)
