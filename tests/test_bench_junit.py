"""The JUnit XML: sound, escaped, in the dialect that pytest writes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import figures
import pytest
from conftest import Cli
from test_bench_gate import benched

from bench.formats.junit import render
from bench.measurement import Measurement
from bench.verdicts.gate import Threshold, judge
from genslim.run import Run

pytest_plugins = ["pytester"]
__all__ = ["benched"]

ASKED = ("ssim_mean >= 0.9", "latency_ratio <= 0.1", "memory_bytes <= 1")


def parsed(measured: Measurement, *asked: str) -> Element:
    verdicts = judge(measured, [Threshold.parse(text) for text in asked])
    return ElementTree.fromstring(render(measured, verdicts))


def facts(case: Element) -> dict[str | None, str | None]:
    return {p.get("name"): p.get("value") for p in case.iterfind("properties/property")}


def test_each_artifact_and_each_threshold_is_a_case() -> None:
    root = parsed(figures.usual(), *ASKED)
    assert [case.get("name") for case in root.iter("testcase")] == [
        "00-original",
        "01-prune",
        "02-quantize",
        "03-trt",
        *(f"02-quantize: {text.replace('0.90', '0.9')}" for text in ASKED),
    ]
    (suite,) = root
    failed = [case for case in root.iter("testcase") if case.find("failure") is not None]
    assert [case.get("name") for case in failed] == [f"02-quantize: {text}" for text in ASKED[1:]]
    assert suite.get("tests") == root.get("tests") == "7"
    assert suite.get("failures") == "2"
    assert suite.get("skipped") == "1"
    assert suite.get("errors") == "0"


def test_figures_are_properties() -> None:
    measured = figures.usual()
    root = parsed(measured, *ASKED)
    case = root.findall(".//testcase")[2]
    found = facts(case)
    assert found["ssim_mean"] == "0.945"
    assert found["size_bytes"] == "500_000"
    assert (found["runtime"], found["precision"]) == ("openvino", "int8")
    assert " to " in str(found["latency_ratio"])
    median = measured.artifacts[2].readings[1].latency.median_ms
    assert float(case.get("time", "")) == pytest.approx(median / 1e3, abs=1e-6)


def test_what_did_not_run_is_skipped_with_the_reason() -> None:
    skipped = parsed(figures.usual()).find(".//skipped")
    assert skipped is not None
    assert skipped.get("message") == 'not measured: tensorrt: no <GPU> & no "driver"'


def test_undecided_is_said_and_broken_images_fail() -> None:
    noisy = figures.measurement(
        figures.artifact("00-original", figures.reading("torch", figures.around(10, 0.3))),
        figures.artifact(
            "01-x",
            figures.reading("openvino", figures.around(5, 0.3, seed=1), (None,) * figures.COUNT),
            parent="00-original",
        ),
    )
    ratio = noisy.artifacts[1].readings[0].latency.ratio_to(noisy.baseline.latency)
    root = parsed(noisy, f"latency_ratio <= {ratio}")
    said = root.find(".//system-out")
    assert said is not None
    assert "too noisy" in str(said.text)
    failure = root.find(".//testcase[@name='01-x']/failure")
    assert failure is not None
    assert failure.get("message") == "20 of 20 images hold NaN or infinity"


def test_what_xml_can_not_hold_is_replaced() -> None:
    text = 'a\x00b\x1b[31m <&> "q" \ud800 é 🎨'
    root = parsed(replace(figures.usual(), name=text))
    suite = root.find("testsuite")
    assert suite is not None
    assert suite.get("name") == 'a�b�[31m <&> "q" � é 🎨'


def test_it_is_the_dialect_of_pytest(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        def test_passes(record_property): record_property("a", 1)
        def test_fails(): assert 0
        def test_skips(): pytest.skip("why")
        def test_says(): print("words")
        """
    )
    pytester.runpytest_subprocess(
        "--junitxml=theirs.xml", "-o", "junit_logging=all"
    ).assert_outcomes(passed=2, failed=1, skipped=1)

    def shapes(root: Element) -> set[tuple[str, str, frozenset[str]]]:
        parents = {child: parent.tag for parent in root.iter() for child in parent}
        return {(parents.get(e, ""), e.tag, frozenset(e.attrib)) for e in root.iter()}

    known: dict[tuple[str, str], set[str]] = {}
    for parent, tag, names in shapes(ElementTree.parse(pytester.path / "theirs.xml").getroot()):
        known.setdefault((parent, tag), set()).update(names)
    # Jenkins' schema: totals on the root, and properties on a suite.
    known["", "testsuites"] |= {"tests", "failures", "errors", "skipped", "time"}
    known["testsuite", "properties"] = set()
    for parent, tag, names in shapes(parsed(figures.usual(), *ASKED)):
        assert (parent, tag) in known
        assert names <= known[parent, tag], (tag, names)


def test_the_report_writes_it(benched: Run, cli: Cli) -> None:
    Path("pyproject.toml").write_text('[tool.genslim.gate]\nrequire = ["macs <= 1"]\n')
    done = cli("bench", "report", "-o", "x.xml", "--quiet")
    assert done.status == 0, done
    names = [case.get("name") for case in ElementTree.parse("x.xml").iter("testcase")]
    assert names == ["00-original", "01-prune", "01-prune: macs <= 1"]
    Path("pyproject.toml").write_text('[tool.genslim.gate]\nrequire = ["macs >= 1"]\n')
    assert "wrong way" in cli("bench", "report", "-o", "x.xml").refused()
