"""The folder of images that the figures in docs/ were taken on, from packages that ship images.

    python -m benchmarks.photos photos/ [--also /usr/share/backgrounds /usr/share/wallpapers]

Copies what scikit-image, scikit-learn and matplotlib install; nothing is downloaded. Of pairs that
show the same scene one is taken, since the other might be among those that quality is read on.

``--also`` takes folders of larger pictures as well, shrunk: the wallpapers of Debian's packages
lomiri-wallpapers-16.04, lomiri-wallpapers-20.04, mate-backgrounds and plasma-workspace-wallpapers
are three times as many scenes.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from generators.data.photos import LONGEST_SIDE, PACKAGES, shipped_images
from genslim.inputs import IMAGE_SUFFIXES

LEAST_BYTES = 100_000
"""Smaller files are icons, previews and patterns."""


def collect(folder: Path) -> list[Path]:
    """Copy the images of the packages that are installed to ``folder``; the new paths."""
    folder.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise SystemExit(
                f"{package} ships images and is not installed: pip install genslim[dev]"
            )
    return [Path(shutil.copy(path, folder)) for path in shipped_images()]


def collect_wallpapers(folder: Path, places: Iterable[Path]) -> list[Path]:
    """Shrink the pictures below ``places`` into ``folder``; what is transparent is left out."""
    from PIL import Image

    made = []
    for scene, path in sorted(scenes(places).items()):
        with Image.open(path) as image:
            if image.mode != "RGB":
                continue
            image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
            made.append(folder / f"{scene}.png")
            image.save(made[-1])
    return made


def scenes(places: Iterable[Path]) -> dict[str, Path]:
    """The largest file of each scene below ``places``.

    Plasma keeps a folder for each scene, with files called after their size and a preview; others
    write the scene first, then size, variant or author: Elephants_3840x2160.
    """
    found: dict[str, Path] = {}
    for path in (p for place in places for p in place.rglob("*")):
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.stem == "screenshot":
            continue
        of_plasma = path.parent.name.startswith("images")
        scene = path.parents[2].name if of_plasma else re.split("_[0-9]|-", path.stem)[0]
        largest = max(path, found.get(scene, path), key=lambda file: file.stat().st_size)
        if largest.stat().st_size > LEAST_BYTES:
            found[scene] = largest
    return found


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--also", type=Path, nargs="+", default=[], metavar="DIR")
    options = parser.parse_args()
    made = collect(options.folder) + collect_wallpapers(options.folder, options.also)
    print(f"{len(made)} images")


if __name__ == "__main__":
    main()
