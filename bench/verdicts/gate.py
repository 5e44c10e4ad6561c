"""Thresholds: where they stand, what they mean, and what a measurement says to each.

A figure that comes out the same each time is compared as it is. A time is known only up to its
confidence interval: a threshold passes when the whole interval satisfies it, and fails when none of
it does. In between nothing is proved, and the verdict is *undecided*: it passes with a warning, as
a gate that fails on noise is soon switched off; ``strict`` fails it.
"""

from __future__ import annotations

import math
import operator
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from bench.measurement import Artifact, Measurement
from bench.verdicts.figures import FIGURES, Context, Figure, Value, number
from genslim.errors import UserError

OPERATORS = {
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
    ">": operator.gt,
}
POINTS = {"lower": "<=", "higher": ">="}
"""The way in which a threshold on a figure points."""
EXPRESSION = re.compile(r"\s*(\w+)\s*([<>=!]+)\s*(\S+)\s*")
TABLE = "tool.genslim.gate"
PROJECT = "pyproject.toml"

Outcome = Literal["passed", "failed", "undecided"]


@dataclass(frozen=True)
class Threshold:
    """``ssim_mean >= 0.95``, for one artifact or for the newest."""

    figure: Figure
    operator: str
    bound: float
    text: str
    """As it was written."""
    artifact: str | None = None
    """None: the newest that ran."""

    @classmethod
    def parse(cls, text: str, artifact: str | None = None) -> Threshold:
        """Read an expression.

        Raises:
            UserError: it is none, the figure is unknown, or the direction makes no sense.
        """
        found = EXPRESSION.fullmatch(text)
        if not found or found[2] not in OPERATORS:
            raise UserError(
                f"{text!r} is no threshold", hint="write FIGURE <= NUMBER or FIGURE >= NUMBER"
            )
        name, sign, number = found.groups()
        figure = FIGURES.get(name)
        if figure is None:
            raise UserError(f"there is no figure {name!r}", hint="there are " + ", ".join(FIGURES))
        try:
            bound = float(number)
        except ValueError:
            bound = math.nan
        if not math.isfinite(bound):
            raise UserError(
                f"{text!r}: {number!r} is no number", hint="write it like 0.95 or 2_000_000"
            )
        right = POINTS[figure.better]
        if sign[0] != right[0]:
            raise UserError(
                f"{text!r} points the wrong way: {name} is better when {figure.better}",
                hint=f"write {name} {right} {number}",
            )
        return cls(figure, sign, bound, f"{name} {sign} {number}", artifact)

    def holds(self, value: float) -> bool:
        """Whether a figure satisfies it."""
        return bool(OPERATORS[self.operator](value, self.bound))

    def judge(self, value: Value) -> Outcome:
        """What a figure with its interval says to it."""
        held = {self.holds(value.low), self.holds(value.high)}
        return "undecided" if len(held) == 2 else "passed" if True in held else "failed"


@dataclass(frozen=True)
class Verdict:
    """A threshold and what became of it."""

    threshold: Threshold
    artifact: str
    runtime: str | None
    outcome: Outcome
    value: Value | None
    reason: str
    """One line: the figure, its interval, and what was asked."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        value = self.value
        return {
            "artifact": self.artifact,
            "runtime": self.runtime,
            "threshold": self.threshold.text,
            "figure": self.threshold.figure.name,
            "outcome": self.outcome,
            "value": value.middle if value else None,
            "interval": [value.low, value.high] if value and value.noisy else None,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Settings:
    """What a file says."""

    thresholds: tuple[Threshold, ...] = ()
    strict: bool = False
    place: str | None = None
    """The file."""


def judge(
    measurement: Measurement,
    thresholds: Iterable[Threshold],
    *,
    base: Measurement | None = None,
    runtime: str | None = None,
    confidence: float = 0.95,
    strict: bool = False,
) -> list[Verdict]:
    """What a measurement says to each threshold.

    Args:
        measurement: what was measured.
        thresholds: what is asked.
        base: an older measurement, for changes.
        runtime: judge artifacts on this one; None: on the best runtime of each.
        confidence: of the intervals of times.
        strict: whether what is undecided fails.
    """
    verdicts = [judge_one(measurement, t, base, runtime, confidence) for t in thresholds]
    if not strict:
        return verdicts
    return [replace(v, outcome="failed") if v.outcome == "undecided" else v for v in verdicts]


def judge_one(
    measurement: Measurement,
    threshold: Threshold,
    base: Measurement | None,
    runtime: str | None,
    confidence: float,
) -> Verdict:
    """One threshold. A figure that is not there fails it: nothing was shown."""
    artifact = find(measurement, threshold.artifact)
    if artifact is None:
        names = ", ".join(a.name for a in measurement.artifacts)
        reason = f"there is no artifact {threshold.artifact}; there are {names}"
        return Verdict(threshold, str(threshold.artifact), None, "failed", None, reason)
    name = artifact.name
    context = context_of(measurement, artifact, runtime, confidence)
    if context is None:
        where = f"on {runtime}" if runtime else "anywhere"
        reasons = "".join(f"; {r.runtime}: {r.reason}" for r in artifact.refusals)
        reason = f"{name} did not run {where}{reasons}"
        return Verdict(threshold, name, runtime, "failed", None, reason)
    if threshold.figure.compares:
        if base is None:
            raise UserError(
                f"{threshold.figure.name} compares with an older run",
                hint="name it: --base RUN",
            )
        older = find(base, threshold.artifact or name)
        then = context_of(base, older, context.reading.runtime, confidence) if older else None
        if then is None:
            reason = f"the older run has no {name} on {context.reading.runtime}"
            return Verdict(threshold, name, context.reading.runtime, "failed", None, reason)
        context = replace(context, base=then)
    value = threshold.figure.read(context)
    where = context.reading.runtime
    if value is None:
        return Verdict(threshold, name, where, "failed", None, absent(threshold.figure, context))
    outcome = threshold.judge(value)
    return Verdict(threshold, name, where, outcome, value, reason_of(threshold, value, outcome))


def find(measurement: Measurement, name: str | None) -> Artifact | None:
    """An artifact by its folder, or by its step without the number; None: the newest that ran."""
    if name is None:
        return [a for a in measurement.artifacts if a.best is not None][-1]
    alike = [a for a in measurement.artifacts if a.name.partition("-")[2] == name]
    return measurement.artifact(name) or (alike[0] if len(alike) == 1 else None)


def context_of(
    measurement: Measurement, artifact: Artifact, runtime: str | None, confidence: float
) -> Context | None:
    """Where the figures of an artifact are read."""
    reading = artifact.reading(runtime) if runtime else artifact.best
    return Context(measurement, artifact, reading, confidence=confidence) if reading else None


def absent(figure: Figure, context: Context) -> str:
    """Why there is no figure."""
    if (broken := context.reading.quality.broken) and figure.name != "broken":
        count = context.measurement.count
        return f"{figure.name} can't be quoted: {broken} of {count} images hold NaN or infinity"
    if context.reading.memory and context.reading.memory.reason:
        return f"{figure.name} was not measured: {context.reading.memory.reason}"
    return f"{figure.name} was not measured"


def reason_of(threshold: Threshold, value: Value, outcome: Outcome) -> str:
    """The figure, its interval, and what was asked, in one line."""
    said, asked = f"{threshold.figure.name} is {value.text}", number(threshold.bound)
    if outcome == "undecided":
        return f"{said}: too noisy to tell whether it is {threshold.operator} {asked}"
    return f"{said}, asked for {threshold.operator} {asked}"


def read_file(path: Path) -> Settings:
    """Thresholds of a TOML file: ``require``, ``strict``, and a table for each artifact.

    In a ``pyproject.toml`` they stand in ``[tool.genslim.gate]``, elsewhere at the top.

    Raises:
        UserError: there is no such file, it is no TOML, or holds something else.
    """
    try:
        data: Any = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"can't read {path}: {reason_for(error)}", hint="name a file") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(
            f"{path} is no TOML: {error}", hint='require = ["ssim_mean >= 0.95"]'
        ) from None
    if path.name == PROJECT:
        for key in TABLE.split("."):
            data = data.get(key, {}) if isinstance(data, dict) else {}
    return settings_from(data, path)


def reason_for(error: Exception) -> str:
    """Why a file can't be read."""
    return (error.strerror or str(error)) if isinstance(error, OSError) else "it is not UTF-8"


def settings_from(data: Any, path: Path) -> Settings:
    """Settings out of a table."""
    if not isinstance(data, dict):
        raise UserError(f"{path}: {TABLE} is no table", hint=f"write [{TABLE}]")
    thresholds = list(required(data, None, path))
    for name, inner in data.items():
        if name in ("require", "strict"):
            continue
        if not isinstance(inner, dict) or set(inner) - {"require"}:
            raise UserError(
                f"{path}: {name!r} is no setting of the gate",
                hint="there are require, strict, and a table with require for an artifact",
            )
        thresholds += required(inner, name, path)
    strict = data.get("strict", False)
    if not isinstance(strict, bool):
        raise UserError(f"{path}: strict is {strict!r}", hint="write strict = true")
    return Settings(tuple(thresholds), strict, str(path))


def required(data: Mapping[str, Any], artifact: str | None, path: Path) -> list[Threshold]:
    """The thresholds in one table."""
    lines = data.get("require", [])
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise UserError(
            f"{path}: require is no list of thresholds",
            hint='write require = ["ssim_mean >= 0.95"]',
        )
    return [Threshold.parse(line, artifact) for line in lines]


def configured(folder: Path | None = None) -> Settings:
    """Thresholds of the nearest ``pyproject.toml`` at or above ``folder``; none without one."""
    start = (folder or Path.cwd()).resolve()
    for place in (start, *start.parents):
        if (place / PROJECT).is_file():
            return read_file(place / PROJECT)
    return Settings()
