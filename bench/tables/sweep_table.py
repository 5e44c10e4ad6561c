"""The sweep as a table: images a second, a line for each artifact, a column for each setting."""

from __future__ import annotations

from collections.abc import Sequence

from bench.sweep import Point
from bench.tables.rows import NOTHING, in_words, significant


def sweep_table(points: Sequence[Point]) -> tuple[list[str], list[list[str]]]:
    """The titles and the rows; empty without points. A setting that was refused has a dash."""
    if not points:
        return [], []
    settings = list(dict.fromkeys((p.threads, p.batch) for p in points))
    titles = [f"batch {batch}, {in_words(threads)}" for threads, batch in settings]
    rows = []
    for name, runtime in dict.fromkeys((p.artifact, p.runtime) for p in points):
        mine = {(p.threads, p.batch): p for p in points if p.artifact == name}
        speeds = [mine[s].images_per_second if s in mine else None for s in settings]
        rows.append([name, runtime, *(significant(v) if v else NOTHING for v in speeds)])
    return ["Images a second", "Runtime", *titles], rows


def sweep_reasons(points: Sequence[Point]) -> list[str]:
    """Why a setting could not be measured, a line each; the same reason once."""
    refused: dict[tuple[str, str, str], list[str]] = {}
    for p in points:
        if p.reason is not None:
            at = refused.setdefault((p.artifact, p.runtime, p.reason), [])
            at.append(f"batch {p.batch} with {in_words(p.threads)}")
    return [
        f"{artifact} on {runtime} was not measured at {', '.join(at)}: {reason}"
        for (artifact, runtime, reason), at in refused.items()
    ]


def markdown(points: Sequence[Point]) -> list[str]:
    """The table as lines of Markdown, and what was refused."""
    titles, rows = sweep_table(points)
    if not rows:
        return []
    return [
        "| " + " | ".join(titles) + " |",
        "| --- | --- |" + " ---: |" * (len(titles) - 2),
        *("| " + " | ".join(row) + " |" for row in rows),
        *(f"- {line}" for line in sweep_reasons(points)),
    ]
