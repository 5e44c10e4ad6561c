"""Two measurements, or two artifacts of one, side by side: every figure and what became of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bench.measurement import Artifact, Measurement, Reading
from bench.tables.rows import NOTHING
from bench.verdicts.change import Change, apart, exact, paired
from bench.verdicts.figures import FIGURES, Context, Figure, number
from genslim.errors import UserError

RESOLUTION = 1e-5
"""Figures of quality are sums of floating-point numbers, whose order a library may choose anew:
differences up to this share are none."""
WHOLE = ("size_bytes", "parameters", "macs", "broken")
"""Figures that are counted: any difference is one."""
NOISY = ("memory_bytes",)
"""Figures that are neither timed nor the same each time: they are shown by no verdict."""


@dataclass(frozen=True)
class Pair:
    """An artifact before and after."""

    base: str
    """``00-original on openvino int8``."""
    head: str
    changes: tuple[Change, ...] = ()
    note: str = ""
    """Why something was not compared."""

    def __str__(self) -> str:
        return f"{self.base} → {self.head}" if self.base != self.head else self.head

    def cells(self) -> list[list[str]]:
        """The rows of a table."""
        return [
            [
                change.figure,
                number(change.base),
                number(change.head),
                NOTHING if change.ratio is None else f"{change.ratio:.3f}",
                NOTHING
                if change.interval is None
                else f"{change.interval[0]:.3f}–{change.interval[1]:.3f}",
                change.verdict,
            ]
            for change in self.changes
        ]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {
            "base": self.base,
            "head": self.head,
            "changes": [change.to_json() for change in self.changes],
            "note": self.note,
        }


def unlike(base: Measurement, head: Measurement) -> list[str]:
    """What makes the times of two measurements incomparable, a line each, the first's value first.

    The environments, and what was measured how: generator, batch, threads, device, seed, inputs.
    """
    asked = {
        "generator": (base.name, head.name),
        "batch": (base.target.batch, head.target.batch),
        "threads": (base.target.threads, head.target.threads),
        "device": (base.target.device, head.target.device),
        "quality inputs": (base.count, head.count),
        "seed": (base.seed, head.seed),
        "image shape": (base.image_shape, head.image_shape),
        "baseline": (str(base.baseline.execution), str(head.baseline.execution)),
    }
    found = [f"{name}: {a}, not {b}" for name, (a, b) in asked.items() if a != b]
    return found + base.environment.differences(head.environment)


def within(measurement: Measurement, base: str, head: str, runtime: str | None) -> Pair:
    """Two artifacts of one measurement, in their paired rounds.

    Raises:
        UserError: there is none of that name, or it did not run there.
    """
    before, after = (found(measurement, name, runtime) for name in (base, head))
    latency = paired(before.reading.latency, after.reading.latency)
    changes = (latency, *exact_changes(before, after))
    return Pair(named(before), named(after), changes)


def between(
    base: Measurement, head: Measurement, runtime: str | None, *, times: bool
) -> list[Pair]:
    """The artifacts that both measurements hold, by name, each on one runtime.

    On the runtime that is named, or else on the best one of the artifact in ``head``.

    Args:
        base: before.
        head: after.
        runtime: None: the best.
        times: whether latencies may be compared.

    Raises:
        UserError: they hold no artifact of the same name.
    """
    pairs = [
        pair_of(base, head, before, after, runtime, times=times)
        for after in head.artifacts
        if (before := base.artifact(after.name)) is not None
    ]
    if not pairs:
        raise UserError(
            "the two hold no artifact of the same name: "
            + ", ".join(a.name for a in base.artifacts)
            + "; "
            + ", ".join(a.name for a in head.artifacts),
            hint="compare runs of the same chain",
        )
    for one, other, when in ((base, head, "before"), (head, base, "after")):
        if alone := [a.name for a in one.artifacts if other.artifact(a.name) is None]:
            pairs += [Pair(name, name, note=f"measured only {when}") for name in alone]
    return pairs


def pair_of(
    base: Measurement,
    head: Measurement,
    before: Artifact,
    after: Artifact,
    runtime: str | None,
    *,
    times: bool,
) -> Pair:
    """One artifact in two measurements."""
    wanted = runtime or (after.best.runtime if after.best else None)
    ours = after.reading(wanted) if wanted else None
    theirs = before.reading(wanted) if wanted else None
    if ours is None or theirs is None:
        where = wanted or "any runtime"
        return Pair(after.name, after.name, note=f"not measured on {where} in both")
    old, new = Context(base, before, theirs), Context(head, after, ours)
    changes = tuple(exact_changes(old, new))
    if not times:
        return Pair(named(old), named(new), changes)
    if ours is head.baseline:
        note = "latency: it is what latencies of each run are compared with"
        return Pair(named(old), named(new), changes, note)
    latency = apart(theirs.latency, base.baseline.latency, ours.latency, head.baseline.latency)
    return Pair(named(old), named(new), (latency, *changes))


def exact_changes(base: Context, head: Context) -> Iterator[Change]:
    """Every figure that both have and that comes out the same each time."""
    for name, figure in FIGURES.items():
        if figure.compares or figure.timed or name in NOISY:
            continue
        before, after = value(figure, base), value(figure, head)
        if before is not None and after is not None:
            least = 0.0 if name in WHOLE else RESOLUTION * max(abs(before), abs(after))
            yield exact(name, before, after, figure.better, least)


def value(figure: Figure, context: Context) -> float | None:
    """The figure, if it was measured."""
    found = figure.read(context)
    return None if found is None else found.middle


def found(measurement: Measurement, name: str, runtime: str | None) -> Context:
    """An artifact on a runtime, or on its best.

    Raises:
        UserError: there is none of that name, or it did not run there.
    """
    artifact = measurement.artifact(name)
    if artifact is None:
        raise UserError(
            f"no artifact {name!r} was measured",
            hint="there are " + ", ".join(a.name for a in measurement.artifacts),
        )
    reading: Reading | None = artifact.reading(runtime) if runtime else artifact.best
    if reading is None:
        ran = ", ".join(r.runtime for r in artifact.readings) or "nowhere"
        raise UserError(
            f"{name} was not measured on {runtime or 'any runtime'}", hint=f"it ran on: {ran}"
        )
    return Context(measurement, artifact, reading)


def named(context: Context) -> str:
    """``03-quantize on openvino int8``."""
    return f"{context.artifact.name} on {context.reading.execution}"


def markdown(pairs: Sequence[Pair], unlike: Sequence[str]) -> str:
    """A table for each pair, in GitHub's Markdown."""
    lines: list[str] = []
    for pair in pairs:
        lines += [f"### {pair}", ""]
        if pair.changes:
            lines += ["| | before | after | ratio | 95 % | verdict |"]
            lines += ["| --- | ---: | ---: | ---: | ---: | --- |"]
            lines += ["| " + " | ".join(row) + " |" for row in pair.cells()]
            lines += [""]
        if pair.note:
            lines += [f"{pair.note}.", ""]
    if unlike:
        lines += ["Times are not compared, the two are unlike: " + "; ".join(unlike) + ".", ""]
    return "\n".join(lines)
