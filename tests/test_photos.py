"""The folder of images that figures are taken on: which pictures of others' packages go into it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import photos


@pytest.fixture
def wallpapers(tmp_path: Path) -> Path:
    """Folders as Plasma, MATE and Lomiri lay them out."""
    root = tmp_path / "share"
    random = np.random.default_rng(0)

    def put(name: str, width: int, height: int, channels: int = 3) -> None:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (height, width, channels), np.uint8)
        Image.fromarray(pixels).save(path)

    put("wallpapers/Autumn/contents/images/1280x800.png", 1280, 800)
    put("wallpapers/Autumn/contents/images/300x200.png", 300, 200)
    put("wallpapers/Autumn/contents/images_dark/400x300.png", 400, 300)
    put("wallpapers/Autumn/contents/screenshot.png", 500, 400)
    put("backgrounds/mate/nature/Wood.png", 400, 300)
    put("backgrounds/mate/abstract/Elephants_3840x2160.png", 700, 400)
    put("backgrounds/mate/abstract/Elephants.png", 350, 200)
    put("backgrounds/mate/desktop/Stripes-no-logo.png", 300, 300, 4)
    put("backgrounds/Wine_by_someone.png", 300, 400)
    put("backgrounds/icon.png", 32, 32)
    (root / "backgrounds" / "copyright").write_text("all of it" * 20_000)
    return root


def test_each_scene_is_taken_once_in_its_largest_form(wallpapers: Path) -> None:
    found = photos.scenes([wallpapers / "wallpapers", wallpapers / "backgrounds"])
    assert {name: path.name for name, path in found.items()} == {
        "Autumn": "1280x800.png",
        "Wood": "Wood.png",
        "Elephants": "Elephants_3840x2160.png",
        "Stripes": "Stripes-no-logo.png",
        "Wine_by_someone": "Wine_by_someone.png",
    }


def test_wallpapers_are_shrunk_and_transparent_ones_left_out(
    wallpapers: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    made = photos.collect_wallpapers(folder, [wallpapers])
    assert sorted(path.stem for path in made) == ["Autumn", "Elephants", "Wine_by_someone", "Wood"]
    with Image.open(folder / "Autumn.png") as image:
        assert image.size == (1024, 640)
