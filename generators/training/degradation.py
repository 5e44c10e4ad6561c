"""What is done to clean images so that a network can learn to undo it.

Each degradation comes with a baseline: what one would make of its images without a network.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, max_pool2d, pad

from genslim.inputs import holes, noisy

BLUR_RADIUS = 4
"""Pixels each way that a blur takes in."""
SCALE = 2
"""How many times larger a shrunk image was."""


@dataclass(frozen=True)
class Pairs:
    """Degraded images and what they were."""

    inputs: tuple[Tensor, ...]
    """What the network is given, the images first."""
    clean: Tensor
    """What it should make of them, ``(N, C, H, W)`` in [0, 1]."""
    where: Tensor
    """Where the two are compared: 1 or 0, broadcast to ``clean``."""


class Degradation(ABC):
    """Something that images lose by."""

    @abstractmethod
    def degraded(self, clean: Tensor, random: torch.Generator) -> Pairs:
        """Degrade ``clean`` ``(N, C, H, W)`` in [0, 1], each image in its own way.

        Args:
            clean: on any device; stays as it is.
            random: on the CPU, so that chance is the same on every device.
        """

    @abstractmethod
    def baseline(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Images like the clean ones, made of :attr:`Pairs.inputs` without having learned."""


@dataclass(frozen=True)
class Noise(Degradation):
    """Gaussian noise, not clamped; its level is drawn for each image.

    The baseline is the noisy image.
    """

    low: float
    """Least standard deviation, of a range of 1."""
    high: float

    def degraded(self, clean: Tensor, random: torch.Generator) -> Pairs:
        """Add noise."""
        noise = noisy(torch.zeros(clean.shape), self.low, self.high, random)
        return Pairs((clean + noise.to(clean.device),), clean, everywhere(clean))

    def baseline(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """The noisy images themselves."""
        return inputs[0]


@dataclass(frozen=True)
class Shrinking(Degradation):
    """Half of the height and width, by bicubic interpolation, after a Gaussian blur.

    The baseline is the image enlarged by bicubic interpolation.
    """

    low: float = 0.0
    """Least standard deviation of the blur, in pixels of the large image; drawn for each image."""
    high: float = 0.0

    def degraded(self, clean: Tensor, random: torch.Generator) -> Pairs:
        """Blur and shrink images of even sides."""
        sigmas = self.low + (self.high - self.low) * torch.rand(len(clean), generator=random)
        soft = blurred(clean, sigmas.to(clean.device)) if self.high > 0 else clean
        return Pairs((resized(soft, 1 / SCALE),), clean, everywhere(clean))

    def baseline(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """The images, twice as high and wide."""
        return resized(inputs[0], SCALE)


@dataclass(frozen=True)
class Hiding(Degradation):
    """Rectangular holes, black in the image and 1 in the mask beside it; compared in the holes.

    The baseline fills them with the mean of the pixels that touch them.
    """

    low: float
    """Least height and width of a hole, as a share of the side; each is drawn."""
    high: float
    holes: int = 1
    """In each image; they may overlap."""

    def degraded(self, clean: Tensor, random: torch.Generator) -> Pairs:
        """Cut holes."""
        count, (height, width) = len(clean), clean.shape[2:]
        masks = holes(count * self.holes, (height, width), self.low, self.high, random)
        mask = masks.unflatten(0, (count, self.holes)).amax(1).to(clean.device)  # (N, 1, H, W)
        return Pairs((clean * (1 - mask), mask), clean, mask)

    def baseline(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """One colour an image in its holes; black where nothing is left of it."""
        images, mask = inputs
        border = max_pool2d(mask, 3, 1, 1) - mask  # corners touch too
        sums, pixels = (images * border).sum((2, 3)), border.sum((2, 3))
        mean = sums / pixels.clamp_min(1)  # (N, C)
        return images + mean[:, :, None, None] * mask


def everywhere(clean: Tensor) -> Tensor:
    """All pixels are compared."""
    return clean.new_ones(1, 1, 1, 1)


def resized(images: Tensor, factor: float) -> Tensor:
    """``images`` ``(N, C, H, W)`` with sides of ``factor`` times as many pixels, by bicubic.

    As Pillow does it: with the kernel of Keys 1981 ("Cubic convolution interpolation for digital
    image processing", IEEE TASSP 29(6)), a = -0.5, stretched where images shrink. Not clamped.
    """
    return interpolate(images, scale_factor=factor, mode="bicubic", antialias=True)


def blurred(images: Tensor, sigmas: Tensor) -> Tensor:
    """``images`` ``(N, C, H, W)``, each with a Gaussian blur of its own; edges are repeated.

    Args:
        images: of any range.
        sigmas: standard deviations ``(N,)`` in pixels; 0 leaves an image exactly as it is.
    """
    places = torch.arange(-BLUR_RADIUS, BLUR_RADIUS + 1, device=images.device)
    # At a thousandth of a pixel all weights but the middle one are exactly 0.
    weights = (-0.5 * (places / sigmas.clamp_min(1e-3)[:, None]) ** 2).exp()
    weights = weights / weights.sum(1, keepdim=True)  # (N, 9)
    n, c, h, w = images.shape
    kernels = weights.repeat_interleave(c, 0)[:, None]  # (N * C, 1, 9)
    flat = pad(images, (BLUR_RADIUS,) * 4, mode="replicate").reshape(1, n * c, h + 8, w + 8)
    flat = conv2d(flat, kernels[:, :, :, None], groups=n * c)
    return conv2d(flat, kernels[:, :, None, :], groups=n * c).view(n, c, h, w)
