"""The report as GitHub's Markdown, for a job summary and for a comment on a pull request.

A comment holds 65,536 characters and a summary 1 MiB; the report is kept below the smaller of the
two, with room for what a workflow puts around it. GitHub takes images by address alone and strips
data URIs, so the pictures are named where they are: in the HTML page.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from bench.measurement import Measurement
from bench.tables import prose, recipe, rows

MOST = 60_000
"""Characters of a report. What GitHub counts is no more: a comment's limit is 65,536."""
LONGEST_LINE = 2_000
"""Longer lines are cut: a warning that names hundreds of artifacts."""


@dataclass(frozen=True)
class Part:
    """A part of the report whose last lines can be left out."""

    lines: tuple[str, ...]
    before: str = ""
    after: str = ""
    left_out: int = 0
    """How many lines are."""
    elsewhere: str = "in the HTML page"
    """Where they can be read."""

    def __str__(self) -> str:
        more = f"\n{self.more}" if self.left_out else ""
        return self.before + "\n".join(self.lines) + more + self.after

    @property
    def more(self) -> str:
        """What stands in place of lines left out."""
        return f"\n… and {self.left_out} more {self.elsewhere}."

    def shorter(self) -> Part:
        """The same without the last half of its lines."""
        kept = len(self.lines) // 2
        gone = len(self.lines) - kept
        return replace(self, lines=self.lines[:kept], left_out=self.left_out + gone)


class Commands(Part):
    """Commands in a block of code."""

    @property
    def more(self) -> str:
        """A comment in the block."""
        return f"# … and {self.left_out} more"


def markdown(measurement: Measurement, missing: Sequence[str] = (), *, most: int = MOST) -> str:
    """The report.

    Args:
        measurement: what to show.
        missing: names of artifacts that are newer than the measurement.
        most: characters at most; the longest parts are cut from their ends until it fits.
    """
    environment = measurement.environment
    libraries = ", ".join(f"{name} {v}" for name, v in environment.libraries.items())
    warnings = [*prose.stale(missing), *measurement.warnings]
    parts = [
        Part((f"## {escape(measurement.name)}: {prose.headline(measurement)}",), after="\n\n"),
        Part(tuple(f"> [!WARNING]\n> {line}\n" for line in cut(warnings)), after="\n"),
        Part(table(rows.main_rows(measurement), rows.MAIN), after="\n\n"),
        Part(tuple(cut(gains(measurement))), after="\n\n"),
        Part(
            (
                *table(rows.every_row(measurement), rows.EVERY),
                *("", *cut(refusals(measurement))),
            ),
            before="<details><summary>Every runtime</summary>\n\n",
            after="\n\n</details>\n\n",
        ),
        Part(
            ("In `report.html`, a page that works offline: side by side, with maps of errors.",),
            before="<details><summary>Pictures</summary>\n\n",
            after="\n\n</details>\n\n",
        ),
        Commands(tuple(cut(recipe.commands(measurement))), before="```sh\n", after="\n```\n\n"),
        Part((prose.method(measurement),), after="\n\n"),
        Part(
            tuple(
                cut(
                    [
                        f"{environment.cpu}, {environment.cores} cores, {environment.system}, "
                        f"Python {environment.python}; {libraries}; {environment.date}"
                    ]
                )
            ),
            after="\n",
        ),
    ]
    return fitted(parts, most)


def fitted(parts: Sequence[Part], most: int) -> str:
    """The parts together, the longest halved until they fit into ``most`` characters."""
    found = list(parts)
    while len(text := "".join(map(str, found))) > most:
        cuttable = [p for p in found if len(p.lines) > 1]
        if not cuttable:
            return text[:most]
        longest = max(cuttable, key=lambda part: len(str(part)))
        found[found.index(longest)] = longest.shorter()
    return text


def cut(lines: Iterable[str]) -> list[str]:
    """The lines, each no longer than one can be."""
    return [line if len(line) <= LONGEST_LINE else line[: LONGEST_LINE - 1] + "…" for line in lines]


def gains(measurement: Measurement) -> list[str]:
    """What each step gained and cost, as a list."""
    return [
        f"- **{escape(g.step)}**: {'; '.join((g.speed, *g.costs))}"
        for g in prose.gains(measurement)
    ]


def refusals(measurement: Measurement) -> list[str]:
    """What was not measured, and why, as a list."""
    return [
        f"- {escape(a.name)} on {r.runtime} was not measured: {escape(r.reason)}"
        for a in measurement.artifacts
        for r in a.refusals
    ]


def table(lines: Sequence[rows.Row], columns: Sequence[rows.Column]) -> tuple[str, ...]:
    """A table, text to the left and figures to the right."""
    texts = {"step", "runtime", "precision", "version", "provider"}
    return (
        "| " + " | ".join(c.title for c in columns) + " |",
        "| " + " | ".join("---" if c.key in texts else "---:" for c in columns) + " |",
        *("| " + " | ".join(map(escape, line)) + " |" for line in rows.cells(lines, columns)),
    )


def escape(text: str) -> str:
    """Text that would end a cell or start a tag."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
