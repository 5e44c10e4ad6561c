"""Reports: the same rows as JSON, Markdown, JUnit XML, one HTML page, and on the terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.formats import junit
from bench.formats.markdown import markdown
from bench.measurement import Measurement
from bench.tables import prose, recipe, rows
from bench.verdicts.gate import Verdict
from genslim.console import Console
from genslim.errors import UserError
from genslim.storage import write_whole

JSON_FILE, MARKDOWN_FILE, JUNIT_FILE = "report.json", "report.md", "junit.xml"
PAGE_FILE = "report.html"


def write(
    measurement: Measurement,
    place: Path,
    missing: Sequence[str] = (),
    verdicts: Sequence[Verdict] = (),
) -> list[Path]:
    """Write the report.

    Args:
        measurement: what to report.
        place: a folder for all files, or one file ending in .json, .md, .xml or .html.
        missing: names of artifacts that are newer than the measurement.
        verdicts: what thresholds say, for the JUnit XML.

    Returns:
        What was written.

    Raises:
        UserError: an unknown ending, or it can't be written there.
    """
    makers = {
        ".json": lambda: json.dumps(facts(measurement), indent=1, allow_nan=False) + "\n",
        ".md": lambda: markdown(measurement, missing),
        ".xml": lambda: junit.render(measurement, verdicts),
        ".html": lambda: page(measurement, missing),
    }
    if not place.suffix or place.is_dir():
        wanted = [place / name for name in (JSON_FILE, MARKDOWN_FILE, JUNIT_FILE, PAGE_FILE)]
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
        "headline": str(prose.headline(measurement)),
        "baseline": rows.baseline_name(measurement),
        "target": str(measurement.target),
        "rows": [asdict(row) for row in rows.main_rows(measurement)],
        "runtimes": [asdict(row) for row in rows.every_row(measurement)],
        "steps": [asdict(gain) | {"sentence": str(gain)} for gain in prose.gains(measurement)],
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


def show(measurement: Measurement, console: Console, missing: Sequence[str] = ()) -> None:
    """Everything on the terminal."""
    console.heading(f"{measurement.name}: {prose.headline(measurement)}")
    table = rows.main_rows(measurement)
    for keys in rows.TERMINAL:
        columns = [c for c in rows.MAIN if c.key in keys]
        console.table([c.title for c in columns], rows.cells(table, columns))
    for gain in prose.gains(measurement):
        console.info(str(gain))
    for artifact in measurement.artifacts:
        for refusal in artifact.refusals:
            console.info(f"{artifact.name} on {refusal.runtime} was not measured: {refusal.reason}")
    for line in rows.memory_reasons(measurement):
        console.info(line)
    for line in [*prose.stale(missing), *measurement.warnings]:
        console.warn(line)
