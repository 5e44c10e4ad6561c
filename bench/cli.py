"""The ``bench`` program: its commands, as data."""

from __future__ import annotations

from genslim.command import Command, Group

bench = Group(
    "bench",
    "Measure every artifact of a run, and show what each step gained and cost.",
    (
        Command("run", "measure latency, size, memory and quality", "bench.commands.run:run"),
        Command("peers", "the same generator as other tools run it", "bench.commands.peers:peers"),
        Command(
            "report", "terminal, JSON, Markdown and one HTML page", "bench.commands.report:report"
        ),
        Command("compare", "what changed between two runs", "bench.commands.compare:compare"),
        Command(
            "gate", "fail a build whose figures are not good enough", "bench.commands.gate:gate"
        ),
    ),
)
