"""Thresholds and what became of them as Markdown, for a pull request."""

from __future__ import annotations

from collections.abc import Sequence

from bench.formats.markdown import Part, escape, fitted
from bench.verdicts.gate import Verdict

MOST, MOST_CELL = 4_000, 500
"""Characters of the table for a pull request, and of a cell of it."""


def markdown(verdicts: Sequence[Verdict]) -> str:
    """The verdicts as a table that fits beside a report, the failed first; empty without any."""
    if not verdicts:
        return ""
    marks = {"failed": "❌ failed", "undecided": "⚠️ undecided", "passed": "✅ passed"}
    ordered = sorted(verdicts, key=lambda verdict: list(marks).index(verdict.outcome))
    lines = ["| Artifact | Threshold | Outcome | Reason |", "| --- | --- | --- | --- |"]
    for v in ordered:
        cells = (v.artifact, v.threshold.text, marks[v.outcome], v.reason)
        lines.append("| " + " | ".join(escape(cell)[:MOST_CELL] for cell in cells) + " |")
    return fitted([Part(tuple(lines), after="\n", elsewhere="in the log")], MOST)
