"""Photographs to train on: which files, how they are split, and what crops look like."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from generators.data import photos
from genslim.errors import UserError
from genslim.inputs import read_folder


@pytest.fixture
def flat_folder(tmp_path: Path) -> Path:
    """Twelve images of a shade each, which tells what image a crop is of."""
    folder = tmp_path / "flat"
    folder.mkdir()
    for index in range(12):
        Image.new("RGB", (40, 36), (20 * index, 0, 0)).save(folder / f"{index}.png")
    return folder


def shades(data: photos.Photos, size: int = 4, seed: int = 0) -> list[int]:
    random = torch.Generator().manual_seed(seed)
    return [
        round(255 * shade)
        for images, _ in data.batches(size, random)
        for shade in images[:, 0, 0, 0].tolist()
    ]


def test_the_split_is_that_of_the_inputs_of_every_step(flat_folder: Path) -> None:
    train, test = photos.load(flat_folder, 32)
    fit, held_apart = read_folder(flat_folder, 3, 32)
    shown = [[round(255 * float(image[0, 0, 0])) for image in half] for half in (fit, held_apart)]
    taken = [[20 * int(p.path.stem) for p in half.photos] for half in (train, test)]
    assert taken == shown
    assert len(test.photos) == 3


def test_crops_are_in_0_to_1_and_photographs_take_turns(flat_folder: Path) -> None:
    _, test = photos.load(flat_folder, 32)
    images, labels = next(test.batches(6, torch.Generator().manual_seed(0)))
    assert images.shape == (6, 3, 32, 32)
    assert images.dtype == torch.float32
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert labels.tolist() == [0] * 6
    drawn = shades(test, size=6)
    assert len(drawn) == len(test) == photos.TO_JUDGE_BY
    for start in range(0, len(drawn), 3):
        assert len(set(drawn[start : start + 3])) == 3, "each once before any comes again"


def test_the_same_seed_draws_the_same_crops(image_folder: Path) -> None:
    for half in photos.load(image_folder, 32):
        first = next(half.batches(8, torch.Generator().manual_seed(1)))[0]
        again = next(half.batches(8, torch.Generator().manual_seed(1)))[0]
        other = next(half.batches(8, torch.Generator().manual_seed(2)))[0]
        assert torch.equal(first, again)
        assert not torch.equal(first, other)


def test_only_what_is_trained_on_is_varied(tmp_path: Path) -> None:
    folder = tmp_path / "red"
    folder.mkdir()
    for index in range(4):
        Image.new("RGB", (40, 40), (255, 0, 0)).save(folder / f"{index}.png")
    train, test = photos.load(folder, 32)
    red = torch.tensor([1.0, 0.0, 0.0])[:, None, None]
    judged = next(test.batches(40, torch.Generator().manual_seed(0)))[0]
    assert judged.sub(red).abs().max() == 0
    trained = next(train.batches(40, torch.Generator().manual_seed(0)))[0]
    same = int(trained.sub(red).abs().amax((1, 2, 3)).lt(1e-6).sum())
    assert 10 <= same <= 30, "half keep their colours, and none is degraded"
    assert trained.flatten(2).std(dim=2).max() < 1e-6


def test_subfolders_are_classes(image_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "classes"
    for name in ("cats", "dogs"):
        shutil.copytree(image_folder, folder / name)
    (folder / "empty").mkdir()
    train, test = photos.load(folder, 32)
    assert len(train.photos) + len(test.photos) == 16
    for half in (train, test):
        assert {(p.path.parent.name, p.label) for p in half.photos} == {("cats", 0), ("dogs", 1)}
    _, labels = next(train.batches(64, torch.Generator().manual_seed(0)))
    assert labels.unique().tolist() == [0, 1]


def test_of_more_files_than_fit_an_epoch_reads_some_and_the_next_others(flat_folder: Path) -> None:
    train, _ = photos.load(flat_folder, 32)
    bytes_each = 4 * 3 * 40 * 36
    few = photos.Photos(train.photos, 32, 60, varied=False, most_bytes=2 * bytes_each)
    random = torch.Generator().manual_seed(0)
    seen: set[float] = set()
    for _ in range(20):
        epoch = {float(i[0, 0, 0]) for images, _ in few.batches(4, random) for i in images}
        assert len(epoch) == 2
        assert len(few._held) == 2
        seen |= epoch
    assert len(seen) == len(train.photos)


def test_a_resumed_training_sees_what_one_in_one_go_sees(image_folder: Path) -> None:
    whole, _ = photos.load(image_folder, 32)
    random = torch.Generator().manual_seed(0)
    list(whole.batches(512, random))
    state = random.get_state()
    expected = next(whole.batches(8, random))[0]
    resumed, _ = photos.load(image_folder, 32)
    random.set_state(state)
    assert torch.equal(next(resumed.batches(8, random))[0], expected)


def test_large_photographs_are_shrunk_and_grey_ones_have_three_channels(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.new("L", (3000, 1500), 100).save(path)
    pixels = photos.read_pixels(path, 32)
    assert pixels.shape == (3, 512, 1024)
    assert photos.shortest_side(path) == 512
    assert pixels.dtype == torch.float32
    assert pixels.sub(100 / 255).abs().max() < 1e-6


def test_the_facts_name_what_was_read(flat_folder: Path) -> None:
    train, test = photos.load(flat_folder, 32)
    expected = hashlib.sha256()
    for photo in train.photos:
        expected.update(hashlib.sha256(photo.path.read_bytes()).digest())
    assert train.facts == {"name": "photographs of a folder", "sha256": expected.hexdigest()}
    assert test.facts != train.facts


def test_bad_folders_are_refused(flat_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no folder .*missing.*--data DIR"):
        photos.load(tmp_path / "missing", 32)
    with pytest.raises(UserError, match=r"holds 0 usable photographs \(12 files look like images"):
        photos.load(flat_folder, 37)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match="holds 0 usable photographs"):
        photos.load(empty, 32)
    for name in ("a.png", "b.png"):
        (empty / name).write_bytes(b"no picture")
    with pytest.raises(UserError, match="holds 0 usable photographs"):
        photos.load(empty, 32)


def test_a_file_that_is_cut_short_is_named(image_folder: Path) -> None:
    path = sorted(image_folder.iterdir())[0]
    path.write_bytes(path.read_bytes()[:2000])
    halves = photos.load(image_folder, 32)
    (half,) = (h for h in halves if path in {photo.path for photo in h.photos})
    with pytest.raises(UserError, match=f"{path.name} can't be read"):
        next(half.batches(4, torch.Generator().manual_seed(0)))


def test_without_a_folder_packages_photographs_are_taken() -> None:
    if not photos.shipped_images():
        pytest.skip("no package that ships photographs is installed")
    train, test = photos.load(None)
    names = {p.path.name for half in (train, test) for p in half.photos}
    assert not names & (photos.DRAWINGS | photos.LEFT_OUT)
    assert not {p.path for p in train.photos} & {p.path for p in test.photos}
    images, _ = next(test.batches(4, torch.Generator().manual_seed(0)))
    assert images.shape == (4, 3, 96, 96)


def test_without_a_folder_and_without_packages_it_says_where_images_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(photos, "PACKAGES", {"no_such_package": "data"})
    with pytest.raises(UserError, match="no folder of photographs was named") as refusal:
        photos.load(None)
    assert refusal.value.hint is not None
    assert "--data DIR" in refusal.value.hint
    assert "pip install" in refusal.value.hint
