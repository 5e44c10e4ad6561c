"""A measurement as pytest-benchmark's JSON: its statistics, and the programs that read it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import figures
import pytest
from conftest import installed_program, run_program
from hypothesis import given
from hypothesis import strategies as st
from pytest_benchmark.stats import Stats

from bench.formats.pytest_json import document, stats, write

pytest_plugins = ["pytester"]
SECONDS = st.floats(1e-6, 1e3, allow_nan=False)


@pytest.fixture(autouse=True)
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """pytest-benchmark times nothing below a worker of xdist, which may run this test."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)


@given(st.lists(SECONDS, min_size=1, max_size=40))
def test_statistics_are_those_of_pytest_benchmark(seconds: list[float]) -> None:
    theirs = Stats()
    for value in seconds:
        theirs.update(value)
    ours = stats(seconds)
    assert ours.pop("data") == theirs.data
    assert ours.pop("iterations") == 1
    assert ours == pytest.approx(theirs.as_dict())
    assert list(ours) == list(theirs.fields)


@given(st.lists(st.sampled_from([1.0, 2.0, 3.0, 50.0]), min_size=1, max_size=12))
def test_ties_and_outliers_count_as_in_pytest_benchmark(seconds: list[float]) -> None:
    theirs = Stats()
    theirs.data = list(seconds)
    ours = stats(seconds)
    for field in ("outliers", "ld15iqr", "hd15iqr", "q1", "q3", "ops"):
        assert ours[field] == getattr(theirs, field), field


def test_every_reading_is_a_benchmark_with_its_quality(tmp_path: Path) -> None:
    measured = figures.usual()
    data = json.loads(write(measured, tmp_path).read_text())
    assert [b["name"] for b in data["benchmarks"]] == [
        "00-original[torch]",
        "00-original[openvino]",
        "01-prune[openvino]",
        "02-quantize[onnxruntime]",
        "02-quantize[openvino]",
    ]
    last, reading = data["benchmarks"][-1], measured.artifacts[2].readings[1]
    assert last["stats"]["data"] == [ms / 1e3 for ms in reading.latency.milliseconds]
    info = last["extra_info"]
    assert info["ssim_mean"] == reading.quality.ssim_mean
    assert info["ssim_p5"] == reading.quality.ssim_p5
    assert (info["runtime"], info["precision"]) == ("openvino", "int8")
    assert (info["parameters"], info["macs"]) == (1000, 2000)
    assert (info["size_bytes"], info["memory_bytes"]) == (500_000, 300_000_000)
    low, high = info["latency_ratio_interval"]
    assert low < info["latency_ratio"] < high
    assert info["latency_ratio"] == pytest.approx(0.5, rel=0.02)
    assert last["params"]["batch"] == 4


def test_the_file_has_all_that_pytest_benchmark_writes(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_one(benchmark):\n    benchmark(sum, [1, 2])\n")
    pytester.runpytest_subprocess("--benchmark-json=theirs.json").assert_outcomes(passed=1)
    theirs = json.loads((pytester.path / "theirs.json").read_text())
    ours = document(figures.usual())
    assert set(ours) == set(theirs)
    assert set(ours["benchmarks"][0]) == set(theirs["benchmarks"][0])
    assert set(ours["benchmarks"][0]["stats"]) == set(theirs["benchmarks"][0]["stats"])
    assert set(ours["commit_info"]) == set(theirs["commit_info"])
    measured = figures.usual()
    environment = replace(measured.environment, commit="abc", dirty=True)
    found = document(replace(measured, environment=environment))["commit_info"]
    assert (found["id"], found["dirty"]) == ("abc", True)
    assert {"processor", "machine", "python_version", "system", "release", "cpu"} <= (
        set(ours["machine_info"]) & set(theirs["machine_info"])
    )


def test_pytest_benchmark_compares_it(tmp_path: Path) -> None:
    path = write(figures.usual(), tmp_path)
    other = tmp_path / "other.json"
    other.write_text(path.read_text())
    program = installed_program("pytest-benchmark")
    done = run_program([program, "compare", path, other, "--columns=median,rounds", "--name=long"])
    assert done.status == 0, done
    for benchmark in json.loads(path.read_text())["benchmarks"]:
        assert done.out.count(benchmark["fullname"]) == 2


def test_github_action_benchmark_finds_what_it_reads() -> None:
    """Its ``tool: pytest`` takes these fields: ``fullname`` names, ``ops`` is the value."""
    data = document(figures.usual())
    for benchmark in data["benchmarks"]:
        found = benchmark["stats"]
        assert isinstance(benchmark["fullname"], str)
        assert found["ops"] == pytest.approx(1 / found["mean"])
        assert found["stddev"] > 0
        assert found["rounds"] == 30
    names = [benchmark["fullname"] for benchmark in data["benchmarks"]]
    assert len(set(names)) == len(names)


def test_names_stay_the_same_from_run_to_run() -> None:
    first, second = document(figures.usual()), document(figures.usual())
    assert [b["fullname"] for b in first["benchmarks"]] == [
        b["fullname"] for b in second["benchmarks"]
    ]


def test_broken_images_leave_figures_out() -> None:
    broken = figures.measurement(
        figures.artifact(
            "00-original", figures.reading("torch", (1.0, 2.0, 3.0), (None, *(1.0,) * 19))
        )
    )
    (benchmark,) = document(broken)["benchmarks"]
    assert "ssim_mean" not in benchmark["extra_info"]
    assert benchmark["extra_info"]["broken"] == 1
    json.dumps(document(broken), allow_nan=False)
