"""Quality metrics against scikit-image's, which others wrote."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import (
    mean_squared_error,
    peak_signal_noise_ratio,
    structural_similarity,
)

from genslim.metrics import compare, gaussian_window, mse, psnr, ssim


def random_pair(seed: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Two images ``(C, H, W)`` between equal and unlike, and the width of their value range."""
    random = np.random.default_rng(seed)
    channels = int(random.choice([1, 3, 4]))
    height, width = random.integers(11, 70, 2)
    low, high = [(-1.0, 1.0), (0.0, 1.0), (0.0, 255.0), (-0.3, 4.0)][int(random.integers(4))]
    likeness = random.random()
    smooth = np.cumsum(random.normal(size=(channels, height, width)), axis=2)
    ours = (smooth - smooth.min()) / (np.ptp(smooth) + 1e-9)
    theirs = likeness * ours + (1 - likeness) * random.random(ours.shape)
    a, b = ((low + (high - low) * image).astype(np.float32) for image in (ours, theirs))
    return a, b, high - low


@pytest.mark.parametrize("seed", range(100))
def test_ssim_psnr_and_mse_equal_scikit_images(seed: int) -> None:
    a, b, data_range = random_pair(seed)
    quality = compare(torch.tensor(a)[None], torch.tensor(b)[None], data_range=data_range)
    expected = structural_similarity(
        a.astype(np.float64),
        b.astype(np.float64),
        channel_axis=0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=data_range,
    )
    assert quality.ssim[0] == pytest.approx(expected, abs=1e-4)
    assert quality.mse[0] == pytest.approx(mean_squared_error(a, b), rel=1e-4)
    assert quality.psnr_db[0] == pytest.approx(
        peak_signal_noise_ratio(a, b, data_range=data_range), abs=1e-3
    )


def test_random_pairs_reach_from_like_to_unlike() -> None:
    values = [
        float(ssim(torch.tensor(a)[None], torch.tensor(b)[None], data_range=r))
        for a, b, r in map(random_pair, range(100))
    ]
    assert min(values) < 0.2
    assert max(values) > 0.9


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([1.0, 2.0, 255.0]))
def test_an_image_is_like_itself_and_likeness_is_mutual(seed: int, data_range: float) -> None:
    random = torch.Generator().manual_seed(seed)
    a, b = (torch.rand(2, 3, 16, 16, generator=random) * data_range for _ in range(2))
    assert torch.allclose(ssim(a, a, data_range=data_range), torch.ones(2), atol=1e-4)
    assert torch.allclose(
        ssim(a, b, data_range=data_range), ssim(b, a, data_range=data_range), atol=1e-5
    )
    assert psnr(a, a, data_range=data_range).tolist() == pytest.approx([100.0, 100.0], abs=1e-3)
    assert mse(a, a).tolist() == [0.0, 0.0]


def test_one_figure_an_image_whatever_the_batch() -> None:
    random = torch.Generator().manual_seed(0)
    a, b = (torch.rand(7, 1, 20, 13, generator=random) for _ in range(2))
    whole = compare(a, b, data_range=1.0)
    parts = compare(a, b, data_range=1.0, batch=3)
    assert whole.ssim == pytest.approx(parts.ssim, abs=1e-6)
    assert len(whole.ssim) == len(whole.psnr_db) == len(whole.mse) == 7
    assert whole.ssim_mean == pytest.approx(sum(whole.ssim) / 7)
    assert whole.data_range == 1.0


def test_half_precision_images_are_compared_in_float32() -> None:
    a = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    assert compare(a.half(), a, data_range=1.0).ssim_mean > 0.999


def test_ssim_can_be_learned_from() -> None:
    random = torch.Generator().manual_seed(0)
    reference = torch.rand(1, 1, 16, 16, generator=random)
    images = torch.rand(1, 1, 16, 16, generator=random).requires_grad_()
    before = ssim(images, reference, data_range=1.0).sum()
    before.backward()
    assert images.grad is not None
    with torch.no_grad():
        after = ssim(images + 0.1 * images.grad / images.grad.norm(), reference, data_range=1.0)
    assert float(after) > float(before.detach())


def test_the_window_is_the_papers() -> None:
    window = gaussian_window(1).flatten()
    assert len(window) == 11
    assert float(window.sum()) == pytest.approx(1, abs=1e-6)
    assert float(window[5] / window[4]) == pytest.approx(np.exp(1 / (2 * 1.5**2)), rel=1e-5)
