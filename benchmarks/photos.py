"""The folder of images that the figures in docs/ were taken on, from packages that ship images.

    python -m benchmarks.photos photos/

Copies what scikit-image, scikit-learn and matplotlib install; nothing is downloaded. Of pairs that
show the same scene one is taken, since the other might be among those that quality is read on.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
from pathlib import Path

from generators.data.photos import PACKAGES, shipped_images


def collect(folder: Path) -> list[Path]:
    """Copy the images of the packages that are installed to ``folder``; the new paths."""
    folder.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise SystemExit(
                f"{package} ships images and is not installed: pip install genslim[dev]"
            )
    return [Path(shutil.copy(path, folder)) for path in shipped_images()]


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    made = collect(parser.parse_args().folder)
    print(f"{len(made)} images")


if __name__ == "__main__":
    main()
