"""A measurement as JUnit XML, which Jenkins, GitLab and others show as tests.

Each artifact is a test case with its figures as properties, and each threshold is one more. The
dialect is pytest's: ``testsuites``, one ``testsuite``, ``testcase`` with ``properties`` first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from bench.measurement import Artifact, Measurement
from bench.verdicts.figures import best_context, known, number
from bench.verdicts.gate import Verdict

ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 has no way to write."""


def render(measurement: Measurement, verdicts: Sequence[Verdict] = ()) -> str:
    """The XML.

    Args:
        measurement: what to show.
        verdicts: what thresholds say, where there are some.
    """
    cases = [artifact_case(measurement, artifact) for artifact in measurement.artifacts]
    cases += [verdict_case(measurement, verdict) for verdict in verdicts]
    environment = measurement.environment
    counts: dict[str, object] = {
        "tests": len(cases),
        "failures": sum(case.find("failure") is not None for case in cases),
        "errors": 0,
        "skipped": sum(case.find("skipped") is not None for case in cases),
        "time": f"{sum(float(case.get('time', '0')) for case in cases):.6f}",
    }
    root = element("testsuites", name="genslim", **counts)
    suite = element("testsuite", name=measurement.name, timestamp=environment.date, **counts)
    root.append(suite)
    facts = {"target": str(measurement.target), "cpu": environment.cpu, "seed": measurement.seed}
    suite.append(properties({**facts, **environment.libraries}))
    suite.extend(cases)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, "unicode") + "\n"


def artifact_case(measurement: Measurement, artifact: Artifact) -> Element:
    """An artifact on its best runtime; skipped where it ran nowhere, failed where images broke."""
    context = best_context(measurement, artifact)
    milliseconds = context.reading.latency.median_ms if context else 0.0
    case = element(
        "testcase",
        classname=f"genslim.{measurement.name}",
        name=artifact.name,
        time=f"{milliseconds / 1e3:.6f}",
    )
    if context is None:
        reasons = "; ".join(f"{r.runtime}: {r.reason}" for r in artifact.refusals)
        case.append(element("skipped", message=f"not measured: {reasons or 'no runtime takes it'}"))
        return case
    reading = context.reading
    facts = {"runtime": reading.runtime, "precision": reading.execution.precision}
    figures = {name: value.text for name, value in known(context).items()}
    case.append(properties({**facts, **figures}))
    if broken := reading.quality.broken:
        message = f"{broken} of {measurement.count} images hold NaN or infinity"
        case.append(element("failure", message, message=message))
    return case


def verdict_case(measurement: Measurement, verdict: Verdict) -> Element:
    """A threshold: passed, failed, or passed with the doubt said on standard output."""
    case = element(
        "testcase",
        classname=f"genslim.{measurement.name}.gate",
        name=f"{verdict.artifact}: {verdict.threshold.text}",
        time="0.000000",
    )
    if verdict.value is not None:
        facts = {
            verdict.threshold.figure.name: verdict.value.text,
            "bound": number(verdict.threshold.bound),
        }
        case.append(properties(facts))
    if verdict.outcome == "failed":
        case.append(element("failure", verdict.reason, message=verdict.reason))
    elif verdict.outcome == "undecided":
        case.append(element("system-out", f"undecided: {verdict.reason}"))
    return case


def properties(facts: Mapping[str, object]) -> Element:
    """Facts by name."""
    found = Element("properties")
    found.extend(element("property", name=key, value=value) for key, value in facts.items())
    return found


def element(tag: str, text: str | None = None, /, **attributes: object) -> Element:
    """An element whose text and attributes hold only what XML can hold."""
    made = Element(tag, {key: legal(str(value)) for key, value in attributes.items()})
    made.text = None if text is None else legal(text)
    return made


def legal(text: str) -> str:
    """The text without characters that XML has no way to write."""
    return ILLEGAL.sub("�", text)
