"""The way from the original to the last artifact: figures before and after, and a stair a step."""

from __future__ import annotations

from dataclasses import dataclass

from bench.measurement import Artifact, Measurement
from bench.tables import prose, recipe, rows

TILES = (
    ("latency_ms", "Latency a batch"),
    ("parameters", "Parameters"),
    ("macs", "MACs an image"),
    ("disk_bytes", "Size on disk"),
    ("memory_bytes", "Peak memory"),
)
"""Fields of a row that the page begins with."""


@dataclass(frozen=True)
class Tile:
    """One figure of the original and of the last artifact."""

    title: str
    was: str
    now: str
    share: float
    """What is left, 1 at most: the length of its bar."""


def tiles(before: rows.Row, after: rows.Row) -> list[Tile]:
    """Original and last artifact in a few figures; those that are not known are left out."""
    writers = {column.key: column for column in rows.MAIN}
    found = []
    for key, title in TILES:
        was, now = getattr(before, key), getattr(after, key)
        if was and now is not None:
            cell = writers[key].cell
            found.append(Tile(title, cell(before), cell(after), min(1.0, now / was)))
    return found


@dataclass(frozen=True)
class Stair:
    """One step of the way: its gain, how far it brought, and what it did."""

    gain: prose.Gain | None
    name: str
    speedup: float | None
    share: float
    """Of the greatest speed-up, for the bar."""
    place: str
    """Latency and runtime, or why there is none."""
    detail: recipe.Detail | None

    @property
    def times(self) -> str:
        """The speed-up as text."""
        return rows.NOTHING if self.speedup is None else rows.times(self.speedup)


def stairs(measurement: Measurement) -> list[Stair]:
    """The baseline and every step after it."""
    table = rows.main_rows(measurement)
    gained = prose.gains(measurement)
    artifacts: list[Artifact | None] = [None] * (len(table) - len(measurement.artifacts))
    artifacts += measurement.artifacts
    sentences = [None] * (len(table) - len(gained)) + gained
    most = max((r.speedup or 0 for r in table), default=1) or 1
    start = f"{measurement.name}, {rows.baseline_name(measurement)}"
    return [
        Stair(
            gain=sentence,
            name=sentence.step if sentence else start,
            speedup=r.speedup,
            share=(r.speedup or 0) / most,
            place=place_of(r, artifact),
            detail=recipe.detail(artifact) if artifact and artifact.kind != "original" else None,
        )
        for r, sentence, artifact in zip(table, sentences, artifacts, strict=True)
    ]


def place_of(row: rows.Row, artifact: Artifact | None) -> str:
    """Latency and runtime of a row, or why the artifact was not measured."""
    if row.latency_ms is not None:
        return f"{rows.milliseconds(row.latency_ms)} on {row.runtime}"
    return "; ".join(refusal.reason for refusal in artifact.refusals) if artifact else ""
