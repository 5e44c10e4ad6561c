"""What each step changed, against the artifact before it and against the original."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from bench.measurement import Measurement
from bench.tables import prose, rows

Tone = Literal["better", "worse", "same"]
Figure = float | int | None


@dataclass(frozen=True)
class Change:
    """How one figure moved: as text, and whether that is wanted."""

    text: str
    tone: Tone


@dataclass(frozen=True)
class Changes:
    """One row of the table."""

    step: str
    runtime: str
    pairs: tuple[tuple[Change, Change], ...]
    """For each of ``TITLES``: against the step before, and against the original."""


UNKNOWN = Change(rows.NOTHING, "same")


def factor(before: Figure, after: Figure) -> Change:
    """Times as fast, from two speed-ups."""
    if not before or not after:
        return UNKNOWN
    ratio = after / before
    close = abs(ratio - 1) < prose.ABOUT_EQUAL
    return Change(rows.times(ratio), "same" if close else "better" if ratio > 1 else "worse")


def difference(before: Figure, after: Figure) -> Change:
    """By how much an SSIM moved."""
    if before is None or after is None:
        return UNKNOWN
    moved = after - before
    if abs(moved) < 5e-5:
        return Change("0", "same")
    return Change(prose.signed(moved, ".4f"), "better" if moved > 0 else "worse")


def percent(before: Figure, after: Figure) -> Change:
    """By how many percent a size moved."""
    if not before or after is None:
        return UNKNOWN
    moved = 100 * (after / before - 1)
    if abs(moved) < 0.5:
        return Change("0 %", "same")
    return Change(f"{prose.signed(moved, '.0f')} %", "better" if moved < 0 else "worse")


FIGURES: tuple[tuple[str, str, Callable[[Figure, Figure], Change]], ...] = (
    ("speedup", "Speed", factor),
    ("ssim", "SSIM", difference),
    ("parameters", "Params", percent),
    ("macs", "MACs", percent),
    ("disk_bytes", "Disk", percent),
    ("memory_bytes", "Memory", percent),
)
TITLES = tuple(title for _, title, _ in FIGURES)


def changes(measurement: Measurement) -> list[Changes]:
    """A row for every artifact but the baseline, each on its best runtime.

    Speeds are compared by their paired ratios (:meth:`genslim.timing.Samples.ratio_to`).
    """
    table = rows.main_rows(measurement)
    baseline, following = table[0], table[1:]
    by_name = {row.step: row for row in table}
    found = []
    for row in following:
        artifact = measurement.artifact(row.step)
        before = by_name.get(artifact.parent or "", baseline) if artifact else baseline
        pairs = tuple(
            (
                marginal(compare, key, before, row),
                compare(getattr(baseline, key), getattr(row, key)),
            )
            for key, _, compare in FIGURES
        )
        found.append(Changes(row.step, row.runtime or rows.NOTHING, pairs))
    return found


def marginal(
    compare: Callable[[Figure, Figure], Change], key: str, before: rows.Row, row: rows.Row
) -> Change:
    """The change against the step before; of the speed, as it was paired round by round."""
    if key == "speedup":
        return compare(1.0, row.change)
    return compare(getattr(before, key), getattr(row, key))
