"""Inputs come from seeds: alike for everyone, and never shared between purposes."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from genslim.errors import UserError
from genslim.inputs import Inputs, Purpose, noisy, read_folder, stream_seed
from genslim.signature import BATCH, Holes, Images, Input, Output, Prior, Sampler, Signature

PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
LATENTS = Signature(
    (Input("z", (BATCH, 16), Prior()), Input("noise", (BATCH, 1, 4, 4), Prior("uniform", 3.0))), ()
)


def images_of(folder: Path, channels: int = 3, side: int = 16) -> Signature:
    spec = Input("images", (BATCH, channels, side, side), Images(str(folder)))
    return Signature((spec,), (Output("images", spec.shape, (0.0, 1.0)),))


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(PURPOSES), st.integers(0, 2**31), st.integers(1, 9))
def test_the_same_seed_draws_the_same(purpose: Purpose, seed: int, count: int) -> None:
    ours, theirs = Inputs(LATENTS, purpose, seed), Inputs(LATENTS, purpose, seed)
    for _ in range(2):
        a, b = ours.draw(count), theirs.draw(count)
        assert a.keys() == b.keys() == {"z", "noise"}
        assert all(torch.equal(a[name], b[name]) for name in a)


def test_shapes_types_and_ranges_are_as_the_signature_says() -> None:
    drawn = Inputs(LATENTS, "quality").draw(4000)
    assert drawn["z"].shape == (4000, 16)
    assert drawn["noise"].shape == (4000, 1, 4, 4)
    assert drawn["z"].dtype == drawn["noise"].dtype == torch.float32
    assert abs(float(drawn["z"].mean())) < 0.02
    assert abs(float(drawn["z"].std()) - 1) < 0.02
    assert 0 <= float(drawn["noise"].min()) < 0.01
    assert 2.99 < float(drawn["noise"].max()) <= 3.0


def test_a_stream_goes_on() -> None:
    stream = Inputs(LATENTS, "recovery")
    assert not torch.equal(stream.draw(4)["z"], stream.draw(4)["z"])


def test_no_latent_is_drawn_for_two_purposes_or_two_seeds() -> None:
    rows = [
        tuple(row)
        for purpose, seed in itertools.product(PURPOSES, range(3))
        for row in Inputs(LATENTS, purpose, seed).draw(64)["z"].tolist()
    ]
    assert len(set(rows)) == len(rows)


@given(st.sets(st.tuples(st.sampled_from(PURPOSES), st.integers(0, 10**6)), max_size=50))
def test_stream_seeds_differ(keys: set[tuple[str, int]]) -> None:
    assert len({stream_seed(*key) for key in keys}) == len(keys)


def test_images_are_crops_in_0_to_1(image_folder: Path) -> None:
    drawn = Inputs(images_of(image_folder), "calibration").draw(5)["images"]
    assert drawn.shape == (5, 3, 16, 16)
    assert drawn.dtype == torch.float32
    assert float(drawn.min()) >= 0
    assert float(drawn.max()) <= 1
    assert float(drawn.std()) > 0.02
    again = Inputs(images_of(image_folder), "calibration").draw(5)["images"]
    assert torch.equal(drawn, again)
    assert Inputs(images_of(image_folder, channels=1), "parity").draw(2)["images"].shape[1] == 1


def flat_images(tmp_path: Path) -> Path:
    """A folder of twelve images of a shade each, which tells what image a crop is of."""
    folder = tmp_path / "flat"
    folder.mkdir()
    for index in range(12):
        Image.new("RGB", (20, 20), (20 * index, 0, 0)).save(folder / f"{index}.png")
    return folder


def shades(folder: Path, purpose: Purpose, count: int) -> list[int]:
    """Of which images ``count`` crops are."""
    crops = Inputs(images_of(folder), purpose).draw(count)["images"]
    return [round(255 * shade) for shade in crops[:, 0, 0, 0].tolist()]


def test_files_that_quality_is_judged_by_are_never_fitted_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("genslim.inputs.VARIED", frozenset())  # shades tell the files apart
    folder = flat_images(tmp_path)
    judged = set(shades(folder, "quality", 200))
    fitted = set().union(*(shades(folder, p, 200) for p in PURPOSES if p != "quality"))
    assert len(judged) == 3, "a quarter of the files"
    assert judged.isdisjoint(fitted)
    assert judged | fitted == {20 * index for index in range(12)}


def test_every_image_comes_once_before_any_comes_again(tmp_path: Path) -> None:
    drawn = shades(flat_images(tmp_path), "calibration", 20)  # of nine
    assert len(set(drawn[:9])) == 9
    assert sorted(drawn[:9]) == sorted(drawn[9:18])
    assert drawn[:9] != drawn[9:18], "in another order"


def test_images_are_varied_for_recovery_alone(tmp_path: Path) -> None:
    """One red picture: what learns from it sees other colours too, what is judged never does."""
    folder = tmp_path / "red"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (64, 64), (255, 0, 0)).save(folder / name)
    red = torch.tensor([1.0, 0.0, 0.0]).reshape(1, 3, 1, 1).expand(64, 3, 16, 16)
    for purpose in PURPOSES:
        drawn = Inputs(images_of(folder), purpose).draw(64)["images"]
        if purpose != "recovery":
            assert torch.equal(drawn, red)
            continue
        same = int(((drawn - red).abs() < 1e-6).all(dim=(1, 2, 3)).sum())
        assert 5 <= same <= 28, "about a quarter keep their colours and are not degraded"
        means = drawn.mean(dim=(2, 3))
        reddish = int(((means - red[:, :, 0, 0]).abs() < 0.05).all(dim=1).sum())
        assert 20 <= reddish <= 46, "about half keep their colours; noise and JPEG change little"
        assert 0 <= float(drawn.min()) < float(drawn.max()) <= 1
        colours = {tuple(round(value, 2) for value in mean) for mean in means.tolist()}
        assert len(colours) > 20


def test_varied_images_are_mirrored_turned_and_shrunk(tmp_path: Path) -> None:
    """A ramp's mean slopes say which way it goes, and how many times as steep it became."""
    folder = tmp_path / "ramp"
    folder.mkdir()
    ramp = np.tile(np.arange(64, dtype=np.uint8)[None, :, None], (64, 1, 3))
    for name in ("a.png", "b.png"):
        Image.fromarray(ramp).save(folder / name)
    crops = Inputs(images_of(folder), "recovery").draw(400)["images"][:, 0] * 255
    down = (crops[:, -1] - crops[:, 0]).mean(1) / 15
    right = (crops[:, :, -1] - crops[:, :, 0]).mean(1) / 15
    plain = {(0.0, 1.0), (0.0, -1.0), (1.0, 0.0), (-1.0, 0.0)}
    slopes = {
        (round(d, 1) + 0.0, round(r, 1) + 0.0)
        for d, r in zip(down.tolist(), right.tolist(), strict=True)
    }
    assert plain <= slopes
    steepest = torch.maximum(down.abs(), right.abs())
    assert 2 < float(steepest.max()) < 4.5, "shrunk by up to 4"
    assert len({round(float(slope)) for slope in steepest}) >= 4, "by any factor"


def test_the_split_goes_by_the_files_names_alone(image_folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(image_folder, moved)
    ours = read_folder(image_folder, 3, 16)
    theirs = read_folder(moved, 3, 16)
    for a, b in zip(ours, theirs, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_pixels_are_read_as_they_are(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    for name in ("a.png", "b.bmp"):
        Image.fromarray(pixels).save(tmp_path / name)
    (tmp_path / "note.txt").touch()
    (fit,), (held_apart,) = read_folder(tmp_path, 3, 1)
    assert torch.equal(fit, held_apart)
    assert np.array_equal((fit.numpy() * 255).round().astype(np.uint8), pixels.transpose(2, 0, 1))


def test_images_that_are_too_small(image_folder: Path) -> None:
    with pytest.raises(UserError, match="holds 0 usable images"):
        Inputs(images_of(image_folder, side=100), "quality").draw(1)
    wide = Signature((Input("x", (BATCH, 3, 16, 90), Images(str(image_folder))),), ())
    with pytest.raises(UserError, match="no image is as large as 16x90"):
        Inputs(wide, "quality").draw(1)


def test_images_without_a_folder() -> None:
    signature = Signature((Input("x", (BATCH, 3, 16, 16), Images()),), ())
    with pytest.raises(UserError, match="no folder was named"):
        Inputs(signature, "quality").draw(1)


def test_noise_is_gaussian_of_a_level_drawn_for_each_sample(image_folder: Path) -> None:
    (spec,) = images_of(image_folder).inputs
    quiet = Inputs(Signature((spec,), ()), "calibration").draw(1)["images"]
    loud = Signature((replace(spec, noise=(0.2, 0.2)),), ())
    drawn = Inputs(loud, "calibration").draw(1)["images"]
    assert abs(float((drawn - quiet).std()) - 0.2) < 0.02, "the same crop, and noise on it"
    flat = noisy(torch.zeros(500, 1, 16, 16), 0.1, 0.5, torch.Generator().manual_seed(0))
    levels = flat.flatten(1).std(dim=1)
    assert 0.08 < float(levels.min()) < 0.15
    assert 0.45 < float(levels.max()) < 0.56
    assert abs(float(levels.mean()) - 0.3) < 0.02
    assert abs(float(flat.mean())) < 0.01
    assert float(flat.abs().max()) > 1, "not clamped"


def test_a_stream_without_noise_draws_what_it_drew_before_there_was_any() -> None:
    seed = stream_seed("quality", 0)
    random = torch.Generator().manual_seed(seed)
    drawn = Inputs(LATENTS, "quality").draw(3)
    assert torch.equal(drawn["z"], torch.randn(3, 16, generator=random))
    assert torch.equal(drawn["noise"], torch.rand(3, 1, 4, 4, generator=random) * 3)


@pytest.mark.parametrize("noise", [(0.5, 0.1), (-0.1, 0.1), (float("nan"), 1.0)])
def test_noise_that_can_not_be_is_refused(noise: tuple[float, float]) -> None:
    with pytest.raises(UserError, match=r"noise of .* on input 'z' can't be"):
        Input("z", (BATCH, 4), Prior(), noise=noise)


def test_holes_are_rectangles_of_the_sizes_asked_for() -> None:
    spec = Input(
        "mask", (BATCH, 1, "height", "width"), Holes(0.1, 0.3), {"height": 40, "width": 80}
    )
    masks = Inputs(Signature((spec,), ()), "quality").draw(500)["mask"]
    assert masks.shape == (500, 1, 40, 80)
    assert masks.dtype == torch.float32
    assert masks.unique().tolist() == [0.0, 1.0]
    rows, columns = masks.amax((1, 3)), masks.amax((1, 2))
    heights, widths = rows.sum(1), columns.sum(1)
    assert torch.equal(masks.sum((1, 2, 3)), heights * widths), "filled rectangles"
    for places in (rows, columns):  # without gaps: one change to 1 at most, and one back
        assert float((places[:, 1:] - places[:, :-1]).abs().sum(1).max()) <= 2
    assert (float(heights.min()), float(heights.max())) == (4, 12)
    assert (float(widths.min()), float(widths.max())) == (8, 24)
    assert masks.amax((0, 1, 3)).min() == masks.amax((0, 1, 2)).min() == 1, "anywhere"
    again = Inputs(Signature((spec,), ()), "quality").draw(500)["mask"]
    assert torch.equal(masks, again)


def test_the_smallest_holes_have_a_pixel_and_the_largest_hide_everything() -> None:
    tiny = Input("mask", (BATCH, 1, 8, 8), Holes(0.001, 0.001))
    assert Inputs(Signature((tiny,), ()), "quality").draw(9)["mask"].sum((1, 2, 3)).eq(1).all()
    whole = Input("mask", (BATCH, 1, 8, 8), Holes(1.0, 1.0))
    assert Inputs(Signature((whole,), ()), "quality").draw(9)["mask"].min() == 1


@pytest.mark.parametrize("shares", [(0.0, 0.5), (0.5, 0.2), (0.5, 1.5)])
def test_holes_that_can_not_be_are_refused(shares: tuple[float, float]) -> None:
    with pytest.raises(UserError, match=r"holes of .* can't be"):
        Holes(*shares)


def test_a_sampler_draws_the_whole_input() -> None:
    spec = Input("digits", (BATCH, 1, 32, 32), Sampler("digits"))
    signature = Signature((spec,), ())
    assert signature.takes_images
    assert not signature.needs_images
    drawn = Inputs(signature, "calibration").draw(20)["digits"]
    assert drawn.shape == (20, 1, 32, 32)
    assert 0 <= float(drawn.min()) < 0.01
    assert 0.99 < float(drawn.max()) <= 1
    assert torch.equal(drawn, Inputs(signature, "calibration").draw(20)["digits"])
    assert not torch.equal(drawn, Inputs(signature, "recovery").draw(20)["digits"])


def test_a_sampler_that_nobody_announces_is_refused() -> None:
    spec = Input("x", (BATCH, 1, 32, 32), Sampler("letters"))
    with pytest.raises(UserError, match=r"no .* sampler called 'letters'; there are: .*digits"):
        Inputs(Signature((spec,), ()), "quality").draw(1)


def test_a_sampler_that_draws_another_shape_is_refused() -> None:
    spec = Input("x", (BATCH, 3, 32, 32), Sampler("digits"))
    with pytest.raises(
        UserError, match=r"drew \[1, 1, 32, 32\], and input 'x' is \[1, 3, 32, 32\]"
    ):
        Inputs(Signature((spec,), ()), "quality").draw(1)
