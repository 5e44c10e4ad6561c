"""``bench report``: show what was measured."""

from __future__ import annotations

from pathlib import Path

from bench import report as reports
from bench.commands.finding import FOLDER, REPORT, find_run
from bench.measurement import RECORD, Measurement
from bench.verdicts import gate
from genslim.command import Common
from genslim.errors import UserError


def report(
    source: str | None = None,
    /,
    *,
    common: Common = Common(),  # noqa: B008  frozen
) -> None:
    """Show what was measured: terminal, JSON, Markdown, JUnit XML and one HTML page.

    Written to RUN/report unless -o names a folder, or one file ending in .html, .md, .xml or .json.
    Thresholds of the nearest pyproject.toml ([tool.genslim.gate]) are test cases of the XML.

    Parameters
    ----------
    source:
        The run's folder. The newest run below the working folder if left out.
    """
    found = find_run(source)
    console = common.console()
    if not (found.path / FOLDER / RECORD).is_file():
        raise UserError(
            f"nothing was measured in {found.path}", hint=f"run: bench run {found.path}"
        )
    measurement = Measurement.load(found.path / FOLDER)
    known = {artifact.name for artifact in measurement.artifacts}
    missing = [path.name for path in found.artifacts if path.name not in known]
    place = Path(common.output) if common.output else found.path / REPORT
    if common.dry_run:
        reports.show(measurement, console, missing)
        console.info(f"would write the report to {place}")
        return
    asked = gate.configured()
    thresholds = [t for t in asked.thresholds if not t.figure.compares]
    verdicts = gate.judge(measurement, thresholds, strict=asked.strict)
    written = reports.write(measurement, place, missing, verdicts)
    reports.show(measurement, console, missing)
    console.finish(
        {**reports.facts(measurement), "files": [str(path) for path in written]},
        wrote=str(written[-1]),
        following=None,
    )
