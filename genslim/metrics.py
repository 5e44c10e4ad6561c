"""Image quality against a reference: SSIM, PSNR, MSE.

SSIM is that of Wang et al. 2004 (IEEE TIP 13(4)): Gaussian window 11x11, sigma 1.5, population
covariance, K1 = 0.01, K2 = 0.03, channels averaged, borders of half a window left out. It equals
scikit-image's ``structural_similarity(gaussian_weights=True, sigma=1.5,
use_sample_covariance=False)``, which the tests hold it to. It is written here because steps read it
again and again and trainings may want it as a loss: scikit-image's takes one image at a time (four
times as long on 256 digits), and torchmetrics' keeps the reflected borders, which reads up to 0.05
differently on 32x32 images.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import conv2d

SSIM_WINDOW = 11
SSIM_SIGMA = 1.5


@cache
def gaussian_window(channels: int) -> Tensor:
    """The normalised one-dimensional window, ``(channels, 1, 1, 11)``, one for each channel."""
    offsets = torch.arange(SSIM_WINDOW) - SSIM_WINDOW // 2
    weights = torch.exp(-(offsets**2) / (2 * SSIM_SIGMA**2))
    return (weights / weights.sum()).expand(channels, 1, 1, SSIM_WINDOW)


def ssim(images: Tensor, reference: Tensor, *, data_range: float) -> Tensor:
    """Structural similarity of each image, differentiable.

    Args:
        images: ``(N, C, H, W)``, float32, sides of at least 11.
        reference: the same shape.
        data_range: width of the value range, e.g. 2.0 for [-1, 1].

    Returns:
        ``(N,)``; 1 means equal.
    """
    luminance, structure = similarity_maps(images, reference, data_range=data_range)
    return (luminance * structure).flatten(1).mean(1)


def similarity_maps(
    images: Tensor, reference: Tensor, *, data_range: float
) -> tuple[Tensor, Tensor]:
    """The two factors of SSIM at each place of the window: luminance, and contrast and structure.

    Arguments are those of :func:`ssim`; both results are ``(N, C, H - 10, W - 10)``.
    """
    channels = images.shape[1]
    stack = torch.cat(
        [images, reference, images * images, reference * reference, images * reference], 1
    )
    window = gaussian_window(5 * channels).to(stack)
    local = conv2d(stack, window, groups=5 * channels)
    local = conv2d(local, window.transpose(2, 3), groups=5 * channels)
    mean_a, mean_b, square_a, square_b, product = local.chunk(5, 1)
    variance_a, variance_b = square_a - mean_a**2, square_b - mean_b**2
    covariance = product - mean_a * mean_b
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (variance_a + variance_b + c2)
    return luminance, structure


def mse(images: Tensor, reference: Tensor) -> Tensor:
    """Mean squared error of each image ``(N, C, H, W)``, in squared units of the value range."""
    return (images - reference).square().flatten(1).mean(1)


def psnr(images: Tensor, reference: Tensor, *, data_range: float) -> Tensor:
    """Peak signal-to-noise ratio of each image in dB; equal images read 100 dB, not infinity."""
    floor = data_range**2 * 1e-10
    return 10 * torch.log10(data_range**2 / mse(images, reference).clamp_min(floor))


@dataclass(frozen=True)
class Quality:
    """Quality of a set of images against their references, image by image."""

    ssim: list[float]
    psnr_db: list[float]
    mse: list[float]
    data_range: float

    @property
    def ssim_mean(self) -> float:
        """The mean SSIM."""
        return sum(self.ssim) / len(self.ssim)


@torch.no_grad()
def compare(images: Tensor, reference: Tensor, *, data_range: float, batch: int = 64) -> Quality:
    """Compare images with their references.

    Args:
        images: ``(N, C, H, W)``, any float type.
        reference: the same shape, what the original generator makes of the same inputs.
        data_range: width of the value range.
        batch: how many are compared at a time.
    """
    pairs = [
        (a.float(), b.float())
        for a, b in zip(images.split(batch), reference.split(batch), strict=True)
    ]
    return Quality(
        ssim=[v for a, b in pairs for v in ssim(a, b, data_range=data_range).tolist()],
        psnr_db=[v for a, b in pairs for v in psnr(a, b, data_range=data_range).tolist()],
        mse=[v for a, b in pairs for v in mse(a, b).tolist()],
        data_range=data_range,
    )
