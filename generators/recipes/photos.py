"""How what restores images is trained: a network, what is done to its images, and a judge.

A recipe takes the data held apart and a seed; what can be set beside (``--option lr=0.0005``) are
its keyword arguments, with the values that the shipped weights were made with.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from generators.data.dataset import Dataset
from generators.data.mnist import Digits
from generators.judging.restoration import judge_restored
from generators.networks.denoise_mnist import NOISE as DIGIT_NOISE
from generators.networks.denoise_mnist import DigitDenoiser
from generators.networks.denoise_photo import NOISE as PHOTO_NOISE
from generators.networks.denoise_photo import PhotoDenoiser
from generators.networks.enhance_photo import PhotoEnhancer
from generators.networks.inpaint_photo import HOLES, PhotoInpainter
from generators.training.degradation import Degradation, Hiding, Noise, Shrinking
from generators.training.objective import Judge, Objective
from generators.training.restoration import SHOWN, Restoration

JUDGED = 1000
"""Digits of the test split that a judgement looks at."""
MOST_GRADIENT = 0.03
"""Of networks of photographs: unclipped, the first steps kill most of their rectifiers. After 80 s
the denoiser was 5.8 dB better than its input without it, and 8.5 dB with 0.1; 0.03 does as well."""


def denoise_mnist(
    test: Digits, seed: int, *, lr: float = 1e-3, smoothness: float = 0.1
) -> Objective:
    """Digits from noise, judged at a sigma of 0.3."""
    torch.manual_seed(seed)
    clean = [(part + 1) / 2 for part in test.images[:JUDGED].split(100)]
    return Restoration(
        DigitDenoiser(),
        Noise(*DIGIT_NOISE),
        judge=judge_of(clean, {"": Noise(0.3, 0.3)}),
        shown=clean[0],
        seed=seed,
        value_range=(-1.0, 1.0),
        lr=lr,
        smoothness=smoothness,
    )


def denoise_photo(
    photos: Dataset, seed: int, *, lr: float = 3e-3, smoothness: float = 0.01
) -> Objective:
    """Photographs from noise, judged at a sigma of 25/255, and of 15 and 50."""
    torch.manual_seed(seed)
    levels = {f"_at_{level}": Noise(level / 255, level / 255) for level in (15, 50)}
    return restoring(
        PhotoDenoiser(),
        Noise(*PHOTO_NOISE),
        {"": Noise(25 / 255, 25 / 255), **levels},
        photos,
        seed,
        lr=lr,
        smoothness=smoothness,
    )


def enhance_photo(
    photos: Dataset,
    seed: int,
    *,
    lr: float = 1e-3,
    smoothness: float = 1e-3,
    blur: float = 0.8,
) -> Objective:
    """Photographs twice as large, judged as they are shrunk by bicubic interpolation, and blurred.

    Args:
        photos: held apart.
        seed: of the weights and degradations.
        lr: greatest learning rate.
        smoothness: of the loss.
        blur: greatest standard deviation, in pixels of the large image.
    """
    torch.manual_seed(seed)
    return restoring(
        PhotoEnhancer(),
        Shrinking(0.0, blur),
        {"": Shrinking(), "_when_blurred": Shrinking(blur, blur)},
        photos,
        seed,
        lr=lr,
        smoothness=smoothness,
    )


def inpaint_photo(
    photos: Dataset,
    seed: int,
    *,
    lr: float = 3e-3,
    smoothness: float = 1.0,
    holes: int = 4,
) -> Objective:
    """Photographs with holes in them, judged in the hole of photographs with one each.

    Args:
        photos: held apart.
        seed: of the weights and holes.
        lr: greatest learning rate.
        smoothness: of the loss; 1 makes it the squared error, as errors in holes are large and it
            is their squares that are judged.
        holes: in each image that is trained on.
    """
    torch.manual_seed(seed)
    return restoring(
        PhotoInpainter(),
        Hiding(*HOLES, holes=holes),
        {"": Hiding(*HOLES)},
        photos,
        seed,
        lr=lr,
        smoothness=smoothness,
    )


def restoring(
    network: nn.Module,
    degradation: Degradation,
    judged: dict[str, Degradation],
    photos: Dataset,
    seed: int,
    *,
    lr: float,
    smoothness: float,
) -> Objective:
    """An objective of photographs, judged on the same crops every time."""
    batches = photos.batches(min(SHOWN, len(photos)), torch.Generator().manual_seed(0))
    clean = [images for images, _ in batches]
    return Restoration(
        network,
        degradation,
        judge=judge_of(clean, judged),
        shown=clean[0],
        seed=seed,
        lr=lr,
        smoothness=smoothness,
        most_gradient=MOST_GRADIENT,
    )


def judge_of(clean: list[Tensor], degradations: dict[str, Degradation]) -> Judge:
    """A judge of what a network makes of ``clean`` ``(N, C, H, W)`` in [0, 1] after degradations.

    Args:
        clean: batches of images held apart.
        degradations: by what their figures' names end in.
    """

    def judge(network: nn.Module) -> dict[str, float]:
        place = next(network.parameters()).device
        figures: dict[str, float] = {}
        for ending, degradation in degradations.items():
            random = torch.Generator().manual_seed(1)
            pairs = (degradation.degraded(part.to(place), random) for part in clean)
            judged = judge_restored(network, pairs, degradation.baseline)
            figures |= {name + ending: value for name, value in judged.items()}
        return figures

    return judge
