"""Defects: damage is called by its name, and what is sound is not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from bench.metrics.defects import NAMES, defects
from bench.quality import judge
from genslim import load
from genslim.inputs import Inputs


def pictures(channels: int = 3, side: int = 64, count: int = 6) -> np.ndarray:
    """Smooth gradients with edges and a little texture, ``(N, C, H, W)`` in [0, 1]."""
    random = np.random.default_rng(0)
    down, across = np.mgrid[0:side, 0:side] / side
    found = []
    for _ in range(count):
        slope = random.normal(size=(channels, 2))
        plane = slope[:, :1, None] * down + slope[:, 1:, None] * across
        blobs = ndimage.gaussian_filter(random.random((channels, side, side)), (0, 4, 4)) > 0.5
        grain = 0.01 * random.normal(size=plane.shape)
        image = plane - plane.min() + 0.3 * blobs + grain
        found.append(0.05 + 0.9 * image / image.max())
    return np.stack(found).astype(np.float32)


def one(image: np.ndarray, reference: np.ndarray) -> set[str]:
    """The defects that all images of a set share; they must agree."""
    found = defects(image.astype(np.float32), reference, value_range=(0.0, 1.0))
    assert len(set(found)) == 1, found
    return set(found[0])


def pattern(side: int = 64, *, across_only: bool = False) -> np.ndarray:
    """+1 and -1 from pixel to pixel."""
    down, across = np.mgrid[0:side, 0:side]
    return (-1.0) ** (across if across_only else down + across)


@pytest.mark.parametrize(("channels", "side"), [(1, 32), (3, 64), (4, 63)])
def test_the_original_itself_has_none(channels: int, side: int) -> None:
    reference = pictures(channels, side)
    dark, flat = 0.001 * reference, np.full_like(reference, 0.5)
    ends = np.round(reference)
    grid = np.clip(reference + 0.2 * pattern(side), 0, 1).astype(np.float32)
    steps = (np.round(6 * reference) / 6).astype(np.float32)
    for odd in (reference, dark, flat, np.zeros_like(flat), np.ones_like(flat), ends, grid, steps):
        assert one(odd, odd) == set()


def test_sound_changes_are_none() -> None:
    reference = pictures()
    random = np.random.default_rng(1)
    blurred = ndimage.gaussian_filter(reference, (0, 0, 1, 1))
    for changed in (
        reference + 0.03 * random.normal(size=reference.shape),
        reference + 0.1 * random.normal(size=reference.shape),
        blurred,
        2 * reference - blurred,
        np.roll(reference, 1, axis=3),
        0.8 * reference + 0.1,
        0.5 * reference,
        np.round(255 * reference) / 255,
        np.round(127 * reference) / 127,
    ):
        assert one(changed, reference) == set()


def test_each_damage_is_called_by_its_name() -> None:
    reference = pictures()
    broken = reference.copy()
    broken[:, 0, 5, 5] = np.nan
    assert one(broken, reference) == {"not finite"}
    broken[:, 0, 5, 5] = -np.inf
    assert one(broken, reference) == {"not finite"}
    assert one(np.zeros_like(reference), reference) == {"black"}
    assert one(0.01 * reference, reference) == {"black"}
    assert one(np.full_like(reference, 0.4), reference) == {"blank"}
    assert one(np.ones_like(reference), reference) == {"blank", "saturated"}
    assert "saturated" in one(np.clip(6 * (reference - 0.5) + 0.5, 0, 1), reference)
    assert "saturated" in one(np.round(reference), reference)
    for amount in (0.02, 0.1):
        assert one(reference + amount * pattern(), reference) == {"checkerboard"}
        stripes = reference + amount * pattern(across_only=True)
        assert one(stripes, reference) == {"checkerboard"}
    # As a transposed convolution makes it: the picture itself, modulated.
    assert one(reference * (1 + 0.1 * pattern()), reference) == {"checkerboard"}
    for levels in (8, 16, 32):
        assert "banding" in one(np.round(levels * reference) / levels, reference)


def test_what_the_original_has_too_is_no_defect() -> None:
    sound = pictures()
    grid = (sound + 0.05 * pattern()).astype(np.float32)
    assert one(sound, grid) == set()  # a checkerboard that went away
    assert one(grid + 0.001, grid) == set()
    steps = (np.round(12 * sound) / 12).astype(np.float32)
    assert one(np.round(12 * steps) / 12, steps) == set()
    assert one(sound, np.zeros_like(sound)) == set()


def test_each_image_has_its_own_whatever_the_range() -> None:
    reference = pictures()
    images = reference.copy()
    images[1], images[4] = 0, 0.5
    images[2, 0, 0, 0] = np.inf
    expected = ((), ("black",), ("not finite",), (), ("blank",), ())
    assert defects(images, reference, value_range=(0.0, 1.0)) == expected
    assert defects(255 * images, 255 * reference, value_range=(0.0, 255.0)) == expected
    assert defects(2 * images - 1, 2 * reference - 1, value_range=(-1.0, 1.0)) == expected
    quality = judge(images, reference, value_range=(0.0, 1.0))
    assert quality.defects == expected
    assert quality.defect_counts == {"not finite": 1, "black": 1, "blank": 1}
    assert list(quality.defect_counts) == sorted(quality.defect_counts, key=NAMES.index)
    assert quality.broken == 1


def test_digits_of_the_shipped_generator() -> None:
    original = load("dcgan-mnist")
    (z,) = Inputs(original.signature, "quality", 0).draw(32).values()
    reference = original({"z": z}).numpy()
    rounded = np.round((reference + 1) * 127.5) / 127.5 - 1
    noisy = reference + 0.05 * np.random.default_rng(0).normal(size=reference.shape)
    for images in (reference, rounded, noisy.astype(np.float32), 0.95 * reference):
        assert set(defects(images.astype(np.float32), reference, value_range=(-1.0, 1.0))) == {()}
    others = original({"z": z.flip(0)}).numpy()
    assert set(defects(others, reference, value_range=(-1.0, 1.0))) == {()}
    with_grid = (reference + 0.1 * pattern(32)).astype(np.float32)
    assert set(defects(with_grid, reference, value_range=(-1.0, 1.0))) == {("checkerboard",)}
