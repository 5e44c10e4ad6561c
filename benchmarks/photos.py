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

PACKAGES = {
    "skimage": "data",
    "sklearn": "datasets/images",
    "matplotlib": "mpl-data/sample_data",
}
"""Where in a package its images lie."""
LEFT_OUT = {"motorcycle_right.png", "chessboard_GRAY.png", "microaneurysms.png"}
"""The same as another, or too small for the crops."""
SUFFIXES = {".png", ".jpg"}


def collect(folder: Path) -> list[Path]:
    """Copy the images of the packages that are installed to ``folder``; the new paths."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for package, inside in PACKAGES.items():
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise SystemExit(
                f"{package} ships images and is not installed: pip install genslim[dev]"
            )
        for path in sorted((Path(spec.origin).parent / inside).iterdir()):
            if path.suffix in SUFFIXES and path.name not in LEFT_OUT:
                made.append(Path(shutil.copy(path, folder)))
    return made


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    made = collect(parser.parse_args().folder)
    print(f"{len(made)} images")


if __name__ == "__main__":
    main()
