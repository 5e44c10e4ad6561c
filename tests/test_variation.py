"""Crops are varied as they might look in other pictures, and stay pictures."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genslim.variation import MOST_NOISE, MOST_SHRUNK, Variation, out_of_jpeg


def variation(seed: int = 0) -> Variation:
    return Variation(torch.Generator().manual_seed(seed))


def blobs(height: int, width: int, channels: int = 3) -> torch.Tensor:
    """A smooth picture that is nowhere flat."""
    coarse = torch.rand(1, channels, 6, 6, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0]


@settings(max_examples=30)
@given(
    st.integers(0, 2**31),
    st.sampled_from([1, 3, 4]),
    st.integers(8, 40),
    st.integers(8, 40),
)
def test_varied_crops_have_the_size_and_range_asked_for(
    seed: int, channels: int, height: int, width: int
) -> None:
    image = blobs(40, 40, channels)
    crop = variation(seed).varied_crop(image, height, width)
    assert crop.shape == (channels, height, width)
    assert crop.dtype == torch.float32
    assert 0 <= float(crop.min()) <= float(crop.max()) <= 1


def test_equal_streams_vary_alike_and_others_do_not() -> None:
    image = blobs(64, 64)
    first, second, third = variation(3), variation(3), variation(4)
    ours = [first.varied_crop(image, 16, 16) for _ in range(20)]
    assert all(torch.equal(a, second.varied_crop(image, 16, 16)) for a in ours)
    assert not all(torch.equal(a, third.varied_crop(image, 16, 16)) for a in ours)


def test_a_crop_is_cut_out_as_it_is_anywhere_in_the_image() -> None:
    image = torch.arange(5 * 4).reshape(1, 5, 4).float()
    random = variation()
    crops = [random.crop(image, 3, 2) for _ in range(200)]
    corners = {int(crop[0, 0, 0]) for crop in crops}
    assert corners == {4 * top + left for top in range(3) for left in range(3)}
    for crop in crops:
        top, left = divmod(int(crop[0, 0, 0]), 4)
        assert torch.equal(crop, image[:, top : top + 3, left : left + 2])


def test_half_of_the_crops_are_shrunk_by_1_to_4() -> None:
    """The slope of a ramp says how much: shrinking by 3 makes it three times as steep."""
    ramp = (torch.arange(256) / 255).expand(1, 256, 256)
    random = variation()
    factors = []
    for _ in range(300):
        crop = random._shrunk_crop(ramp, 16, 16)
        factors.append(float((crop[0, 8, 12] - crop[0, 8, 4]) / 8 * 255))
    whole = sum(abs(factor - 1) < 1e-3 for factor in factors)
    assert 120 <= whole <= 180
    assert min(factors) > 0.99
    assert MOST_SHRUNK * 0.9 < max(factors) < MOST_SHRUNK * 1.05
    between = [factor for factor in factors if factor > 1.02]
    below = sum(factor < 2 for factor in between)  # the middle of the range
    assert 0.3 < below / len(between) < 0.7


def test_what_has_no_room_is_not_shrunk() -> None:
    image = blobs(16, 64)
    random = variation()
    for _ in range(20):
        crop = random._shrunk_crop(image, 16, 16)
        assert any(torch.equal(crop, image[:, :, left : left + 16]) for left in range(49))


def test_degraded_crops_are_noisy_or_out_of_a_jpeg_and_others_are_neither() -> None:
    """On flat grey, which is its own mean and survives JPEG, only noise makes pixels differ."""
    grey = torch.full((3, 32, 32), 128 / 255)
    random = variation()
    spreads = [float(random._degraded(grey).std()) for _ in range(200)]
    clean = sum(spread < 1e-6 for spread in spreads)
    assert 40 <= clean <= 95, "a third only went through a JPEG file"
    assert 0.5 * MOST_NOISE < max(spreads) < 1.2 * MOST_NOISE
    plain = [random.varied_crop(grey, 16, 16, degraded=False) for _ in range(60)]
    assert all(float(crop.flatten(1).std(dim=1).max()) < 1e-6 for crop in plain)


def test_a_varied_crop_is_degraded_half_of_the_time() -> None:
    grey = torch.full((3, 16, 16), 0.5)
    random = variation()
    noisy = 0
    for _ in range(300):
        crop = random.varied_crop(grey, 16, 16)
        noisy += float(crop.flatten(1).std(dim=1).max()) > 1e-6
    assert 70 <= noisy <= 130, "half, and two thirds of these with noise"


@pytest.mark.parametrize("channels", [1, 3])
def test_a_jpeg_file_of_better_quality_changes_less(channels: int) -> None:
    image = blobs(24, 16, channels)
    errors = []
    for quality in (10, 50, 95):
        read = out_of_jpeg(image, quality)
        assert read.shape == image.shape
        assert read.dtype == torch.float32
        assert 0 <= float(read.min()) <= float(read.max()) <= 1
        errors.append(float((read - image).square().mean()))
    assert errors[0] > errors[1] > errors[2] > 0
    assert errors[2] < 0.005
