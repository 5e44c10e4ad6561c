"""Reports: the same rows as JSON, Markdown, one HTML page, and on the terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench import recipe, rows
from bench.measurement import Measurement
from genslim.console import Console
from genslim.errors import UserError
from genslim.storage import write_whole

JSON_FILE, MARKDOWN_FILE, PAGE_FILE = "report.json", "report.md", "report.html"


def write(measurement: Measurement, place: Path, missing: Sequence[str] = ()) -> list[Path]:
    """Write the report.

    Args:
        measurement: what to report.
        place: a folder for all three files, or one file ending in .json, .md or .html.
        missing: names of artifacts that are newer than the measurement.

    Returns:
        What was written.

    Raises:
        UserError: an unknown ending, or it can't be written there.
    """
    makers = {
        ".json": lambda: json.dumps(facts(measurement), indent=1, allow_nan=False) + "\n",
        ".md": lambda: markdown(measurement, missing),
        ".html": lambda: page(measurement, missing),
    }
    if not place.suffix or place.is_dir():
        wanted = [place / name for name in (JSON_FILE, MARKDOWN_FILE, PAGE_FILE)]
    elif place.suffix in makers:
        wanted = [place]
    else:
        raise UserError(
            f"no report ends in {place.suffix!r}",
            hint="name a folder, or a file ending in " + ", ".join(makers),
        )
    for path in wanted:
        write_whole(path, makers[path.suffix]())
    return wanted


def page(measurement: Measurement, missing: Sequence[str]) -> str:
    """The HTML page."""
    from bench.page import render

    return render(measurement, missing)


def facts(measurement: Measurement) -> dict[str, Any]:
    """Everything the report says, as plain JSON data with units in the names."""
    return {
        "headline": str(rows.headline(measurement)),
        "baseline": rows.baseline_name(measurement),
        "target": str(measurement.target),
        "rows": [asdict(row) for row in rows.main_rows(measurement)],
        "runtimes": [asdict(row) for row in rows.every_row(measurement)],
        "steps": [asdict(gain) | {"sentence": str(gain)} for gain in rows.gains(measurement)],
        "refusals": [
            {"step": a.name, **asdict(refusal)}
            for a in measurement.artifacts
            for refusal in a.refusals
        ],
        "commands": recipe.commands(measurement),
        "quality_inputs": measurement.count,
        "rounds": measurement.rounds,
        "warnings": measurement.warnings,
        "environment": asdict(measurement.environment),
    }


def markdown(measurement: Measurement, missing: Sequence[str] = ()) -> str:
    """The report for a pull request or a job summary (GitHub's Markdown)."""
    environment = measurement.environment
    libraries = ", ".join(f"{name} {v}" for name, v in environment.libraries.items())
    parts = [f"## {measurement.name}: {rows.headline(measurement)}", ""]
    parts += [f"> [!WARNING]\n> {line}\n" for line in [*stale(missing), *measurement.warnings]]
    parts += markdown_table(rows.main_rows(measurement), rows.MAIN)
    parts += [
        "",
        *(f"- **{g.step}**: {'; '.join((g.speed, *g.costs))}" for g in rows.gains(measurement)),
    ]
    parts += ["", "<details><summary>Every runtime</summary>", ""]
    parts += markdown_table(rows.every_row(measurement), rows.EVERY)
    parts += [
        f"- {escape(a.name)} on {r.runtime} was not measured: {escape(r.reason)}"
        for a in measurement.artifacts
        for r in a.refusals
    ]
    parts += ["", "</details>", "", "```sh", *recipe.commands(measurement), "```", ""]
    parts += [
        method(measurement),
        "",
        f"{environment.cpu}, {environment.cores} cores, {environment.system}, "
        f"Python {environment.python}; {libraries}; {environment.date}",
    ]
    return "\n".join(parts) + "\n"


def markdown_table(table: Sequence[rows.Row], columns: Sequence[rows.Column]) -> list[str]:
    """A table, text to the left and figures to the right."""
    texts = {"step", "runtime", "precision", "version", "provider"}
    return [
        "| " + " | ".join(c.title for c in columns) + " |",
        "| " + " | ".join("---" if c.key in texts else "---:" for c in columns) + " |",
        *("| " + " | ".join(map(escape, line)) + " |" for line in rows.cells(table, columns)),
    ]


def escape(text: str) -> str:
    """Text that would end a cell or start a tag."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def method(measurement: Measurement) -> str:
    """How the figures were taken, in a sentence or two."""
    target, quality = measurement.target, measurement.baseline.quality
    return (
        f"Latency of a batch of {target.batch} with {rows.in_words(target.threads)}: median of "
        f"{measurement.rounds} rounds in which every candidate ran once; speed-ups are medians of "
        f"ratios within a round, against {rows.baseline_name(measurement)}. Quality against the "
        f"original on {measurement.count} inputs that no step was fitted on: SSIM of Wang et al. "
        f"2004 (Gaussian window 11x11, sigma 1.5, data range {quality.data_range:g}, channels "
        "averaged). "
        "Memory is the peak of a fresh process."
    )


def stale(missing: Sequence[str]) -> list[str]:
    """A line about artifacts that the measurement does not know."""
    if not missing:
        return []
    return [
        f"made after the measurement and not in it: {', '.join(missing)}; measure again: bench run"
    ]


def show(measurement: Measurement, console: Console, missing: Sequence[str] = ()) -> None:
    """Everything on the terminal."""
    console.heading(f"{measurement.name}: {rows.headline(measurement)}")
    table = rows.main_rows(measurement)
    for keys in rows.TERMINAL:
        columns = [c for c in rows.MAIN if c.key in keys]
        console.table([c.title for c in columns], rows.cells(table, columns))
    for gain in rows.gains(measurement):
        console.info(str(gain))
    for artifact in measurement.artifacts:
        for refusal in artifact.refusals:
            console.info(f"{artifact.name} on {refusal.runtime} was not measured: {refusal.reason}")
    for line in rows.memory_reasons(measurement):
        console.info(line)
    for line in [*stale(missing), *measurement.warnings]:
        console.warn(line)
