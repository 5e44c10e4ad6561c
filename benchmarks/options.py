"""The options that all benchmarks have."""

from __future__ import annotations

import argparse
from pathlib import Path

SOURCES = {
    "dcgan-mnist": "dcgan-mnist",
    "animevideov3": "{models}/realesr-animevideov3-x4.safetensors",
    "x4plus-anime": "{models}/realesrgan-x4plus-anime.safetensors",
}
"""What is measured, by the names of the rows; the weights lie in the folder of ``--models``."""


def parser(doc: str | None, output: str) -> argparse.ArgumentParser:
    """A parser of them, described by a module's first line.

    Args:
        doc: the module's docstring.
        output: where the page goes by default; its raw figures lie beside it.
    """
    made = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    made.add_argument("--models", type=Path, required=True, help="folder of the weights")
    made.add_argument("--images", required=True, help="folder of images")
    made.add_argument("--only", default="", help="measure just the rows with this in their name")
    made.add_argument("-o", "--output", type=Path, default=Path(output))
    return made
