"""How an artifact was made: the commands to type again, and what each step says it did."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.measurement import Artifact, Measurement

GROUPS = {"onnx": "export", "openvino": "export", "trt": "export", "triton": "export"}
"""The program of each step that is not one of ``compress``."""
COMMON = ("seed", "target")
"""Parameters that every step takes."""
MOST_LINES = 12
"""Longer lists in a step's report are cut; the artifact holds them whole."""


@dataclass(frozen=True)
class Detail:
    """What an artifact's last step says it did."""

    title: str
    facts: tuple[tuple[str, str], ...]
    """Figures by name, as text."""
    lists: tuple[tuple[str, tuple[str, ...], int], ...]
    """Title, lines, and how many more lines there were."""


def commands(measurement: Measurement) -> list[str]:
    """The commands that made everything measured, in order, and the one that measured it."""
    original = measurement.artifacts[0]
    source = str(measurement.source.get("name") or measurement.name)
    lines: list[str] = []
    for artifact in measurement.artifacts[1:]:
        if not artifact.steps:
            continue
        words = command_words(artifact)
        # The first command names the source; the next ones take the newest artifact.
        if artifact.parent == original.name and not lines:
            words.insert(2, source)
        lines.append(shlex.join(words))
    measure = ["bench", "run", "--target", str(measurement.target), "--seed", str(measurement.seed)]
    lines.append(shlex.join(measure))
    return lines


def command_words(artifact: Artifact) -> list[str]:
    """The command of an artifact's last step, its parameters as flags."""
    step = artifact.steps[-1]
    group = "export" if artifact.kind == "export" else GROUPS.get(step["name"], "compress")
    words = [group, str(step["name"])]
    # What every step takes comes last: a reader looks for what this one was asked.
    for name, value in sorted(step["parameters"].items(), key=lambda item: item[0] in COMMON):
        words += flag(name.replace("_", "-"), value)
    return words


def flag(name: str, value: Any) -> list[str]:
    """One parameter as words of a command line; none where it was not given."""
    if value is None or value == [] or isinstance(value, Mapping):
        return []
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    if isinstance(value, list | tuple):
        return [word for item in value for word in (f"--{name}", str(item))]
    return [f"--{name}", str(value)]


def detail(artifact: Artifact) -> Detail | None:
    """The report of the last step in words; None where it says nothing."""
    if not artifact.steps or not artifact.steps[-1].get("report"):
        return None
    report = artifact.steps[-1]["report"]
    facts: list[tuple[str, str]] = []
    lists: list[tuple[str, tuple[str, ...], int]] = []
    for key, value in report.items():
        title = key.replace("_", " ")
        if value is None:
            continue
        if not isinstance(value, Mapping | list | tuple):
            facts.append((title, number(value)))
        elif is_pair(value):
            facts.append((title, f"{number(value[0])} → {number(value[1])}"))
        elif entries := entries_of(value):
            shown = tuple(entries[:MOST_LINES])
            lists.append((title, shown, len(entries) - len(shown)))
    return Detail(artifact.name, tuple(facts), tuple(lists)) if facts or lists else None


def is_pair(value: Any) -> bool:
    """Whether a value is two numbers: before and after."""
    return (
        isinstance(value, list | tuple)
        and len(value) == 2
        and all(isinstance(v, int | float) for v in value)
    )


def entries_of(value: Any) -> list[str]:
    """A list or mapping in a line an entry; a list of mappings inside takes a line each."""
    if not isinstance(value, Mapping):
        return [line_of(item) for item in value]
    lines = []
    for key, item in value.items():
        name = str(key).replace("_", " ")
        if isinstance(item, list | tuple) and any(isinstance(one, Mapping) for one in item):
            lines += [f"{name}: {line_of(one)}" for one in item]
        elif item is not None:
            lines.append(f"{name}: {line_of(item)}")
    return lines


def line_of(item: Any) -> str:
    """One entry of a list: text as it is, ``{"what": …, "reason": …}`` as a clause."""
    if isinstance(item, Mapping):
        if set(item) == {"what", "reason"}:
            return f"{item['what']}: {item['reason']}"
        known = ((str(k).replace("_", " "), v) for k, v in item.items() if v is not None)
        return ", ".join(f"{key} {line_of(value)}" for key, value in known)
    if isinstance(item, list | tuple):
        return "[" + ", ".join(line_of(value) for value in item) + "]"
    return number(item)


def number(value: Any) -> str:
    """A value as text: thousands apart, floats short."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}".replace(",", " ")
    return f"{value:.4g}"
