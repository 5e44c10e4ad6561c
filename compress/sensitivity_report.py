"""What ``compress sensitivity`` says and writes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from compress.sensitivity import Sensitivity
from genslim.console import Console
from genslim.errors import UserError
from genslim.storage import write_errors, write_whole

PICTURE = "sensitivity.png"
RECORD = "sensitivity.json"


def numbers_of(text: str) -> tuple[float, ...]:
    """Numbers with commas between, in ascending order, each once.

    Raises:
        UserError: one is no number.
    """
    found = set()
    for word in filter(None, (part.strip() for part in text.split(","))):
        try:
            number = float(word)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise UserError(f"{word!r} is no ratio", hint="try --ratios 0.25,0.5,0.75")
        found.add(number)
    return tuple(sorted(found))


@contextmanager
def room_in(folder: str) -> Iterator[Path]:
    """Make a folder before the work begins; where that fails, it is taken away if it is empty.

    Raises:
        UserError: it can't be made.
    """
    place = Path(folder)
    with write_errors(place):
        place.mkdir(parents=True, exist_ok=True)
    try:
        yield place
    except BaseException:
        with suppress(OSError):
            place.rmdir()
        raise


def write(found: Sensitivity, place: Path) -> None:
    """Write the figure and the record into a folder.

    Raises:
        UserError: it can't be written to.
    """
    from compress.sensitivity_plot import plot

    write_whole(place / RECORD, json.dumps(found.to_json(), indent=1, allow_nan=False))
    write_whole(place / PICTURE, plot(found))


def show_sensitivity(found: Sensitivity, console: Console) -> None:
    """A row a group; for each ratio the SSIM and the MACs saved."""
    columns = ["group", "channels"]
    for ratio in found.ratios:
        columns += [f"SSIM at {ratio:g}", "MACs"]
    rows = []
    for curve in found.curves:
        others = len(curve.layers) - 1
        row = [curve.group + (f" and {others} more" if others else ""), str(curve.channels)]
        for point in curve.points:
            said = [f"{point.ssim:.4f}", f"-{point.macs_saved:.1%}"] if point.removed else ["–", ""]
            row += said
        rows.append(row)
    console.table(columns, rows)
    if found.ssim < 1:
        console.info(f"whole, it reads SSIM {found.ssim:.4f}")
    if found.left:
        whole = "layer is" if len(found.left) == 1 else "layers are"
        console.info(f"{len(found.left)} {whole} left whole: {RECORD} says why")
