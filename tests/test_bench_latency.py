"""Latency beside its surroundings: openings, environments, cold starts, sweeps, doubts."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from conftest import Cli

from bench import environment as places
from bench.environment import Environment
from bench.harness import memory as memories
from bench.harness.candidates import candidates_of
from bench.harness.measuring import measure, open_all, targets
from bench.harness.rounds import reopen, take_latencies
from bench.measurement import Measurement, Memory, Reading
from bench.plots.sweep_plot import sweep_plots
from bench.sweep import Point, Sweep
from bench.tables import rows
from bench.tables.sweep_table import markdown, sweep_reasons, sweep_table
from genslim.console import SILENT
from genslim.errors import UserError
from genslim.generator import Generator
from genslim.run import Run
from genslim.target import Target
from genslim.timing import Samples

TARGET = "onnxruntime:batch=2,threads=1"
HERE = Environment(
    cpu="Some CPU",
    cores=4,
    system="Linux 6.1 x86_64",
    python="3.11.7",
    libraries={"torch": "2.13.0", "genslim": "0.1.0"},
    date="2026-11-22T00:00:00+00:00",
    physical_cores=2,
    cpu_flags=("avx2", "avx512f"),
    governor="performance",
    turbo=False,
    load=0.1,
    thread_variables={},
    commit="0" * 40,
    dirty=False,
)

MEASURED: list[Measurement] = []


@pytest.fixture
def measured(small_gan: Generator) -> Measurement:
    """One artifact, two openings, and a sweep of which one setting is refused."""
    if not MEASURED:
        sweep = Sweep((1, 2), (1,), rounds=5)
        MEASURED.append(
            measure(
                [small_gan],
                TARGET,
                runtimes=["torch", "onnxruntime"],
                count=4,
                openings=2,
                rounds=12,
                sweep=sweep,
                memory=False,
            )
        )
    return replace(MEASURED[0], environment=HERE)


# Openings


def test_rounds_are_spread_over_openings(measured: Measurement) -> None:
    for _, reading in measured.all_readings():
        assert reading.latency.opened == (0, 6)
        assert len(reading.latency.milliseconds) == 12
    assert measured.rounds_asked == measured.rounds == 12
    row = rows.every_row(measured)[1]
    assert row.speedup_interval is not None
    low, high = row.speedup_interval
    assert low <= (row.speedup or 0) <= high
    assert rows.every_row(measured)[0].speedup_interval is None, "the baseline itself"
    assert row.images_per_second == pytest.approx(2e3 / (row.latency_ms or 0))
    assert (row.p5_ms or 0) <= (row.latency_ms or 0) <= (row.p95_ms or 0) <= (row.p99_ms or 0)


def test_sessions_are_opened_anew_as_they_were(small_gan: Generator) -> None:
    candidates = candidates_of([small_gan])
    settled = Target("torch", 2, 1).settled(small_gan.signature)
    inputs = {"z": np.zeros((2, 8), np.float32)}
    open_all(candidates, targets(settled, ["torch", "onnxruntime"]), inputs, SILENT)
    before = dict(candidates[0].sessions)
    reopen(candidates, backwards=True)
    after = candidates[0].sessions
    assert list(after) == list(before) == ["torch", "onnxruntime"]
    assert all(after[name] is not before[name] for name in after)
    for name in after:
        assert after[name].execution == before[name].execution
    latencies = take_latencies(candidates, inputs, openings=2, rounds=6, seconds=60, console=SILENT)
    assert {s.opened for s in latencies.values()} == {(0, 3)}
    candidates[0].close()


# Environments


def test_alike_environments_do_not_differ() -> None:
    later = replace(HERE, date="2027-01-01", load=9.0, commit="1" * 40, dirty=True)
    assert HERE.differences(later) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cpu": "Other"}, "CPU: Some CPU, not Other"),
        ({"cores": 8}, "cores: 4, not 8"),
        ({"physical_cores": 4}, "physical cores: 2, not 4"),
        ({"cpu_flags": ("avx2",)}, "CPU flags: avx2 avx512f, not avx2"),
        ({"governor": "powersave"}, "governor: performance, not powersave"),
        ({"turbo": True}, "turbo: False, not True"),
        ({"system": "Linux 6.2 x86_64"}, "system: Linux 6.1 x86_64, not Linux 6.2 x86_64"),
        ({"python": "3.12.0"}, "Python: 3.11.7, not 3.12.0"),
        ({"libraries": {"torch": "2.14.0", "genslim": "0.1.0"}}, "torch: 2.13.0, not 2.14.0"),
        ({"thread_variables": {"OMP_NUM_THREADS": "1"}}, "variables: none, not OMP_NUM_THREADS=1"),
    ],
)
def test_what_differs_is_named(change: dict[str, object], said: str) -> None:
    assert HERE.differences(replace(HERE, **change)) == [said]  # type: ignore[arg-type]


def test_what_an_old_record_does_not_know_is_no_difference() -> None:
    old = Environment.from_json(
        {
            "cpu": HERE.cpu,
            "cores": HERE.cores,
            "system": HERE.system,
            "python": HERE.python,
            "libraries": dict(HERE.libraries),
            "date": "2026-01-01",
        }
    )
    assert old.physical_cores is None
    assert old.differences(HERE) == HERE.differences(old) == []


def test_this_machine_is_told_as_psutil_and_git_tell_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    found = places.environment()
    assert found.physical_cores == psutil.cpu_count(logical=False)
    assert (found.thread_variables or {})["OMP_NUM_THREADS"] == "3"
    assert found.commit is None, "the working folder of a test is under no git"
    assert json.loads(json.dumps(found.__dict__))["cpu"] == found.cpu


def test_the_commit_is_that_of_the_working_folder(working_folder: Path) -> None:
    import subprocess

    def git(*words: str) -> str:
        settings = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        done = subprocess.run(
            ["git", *settings, *words], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    git("init", "-q")
    (working_folder / "file").write_text("one")
    git("add", "file")
    git("commit", "-q", "-m", "first")
    assert places.git_state() == (git("rev-parse", "HEAD"), False)
    (working_folder / "file").write_text("two")
    assert places.git_state()[1] is True


def test_flags_clock_and_gpu_as_systems_tell_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text(
        "model name\t: Fast CPU\nflags\t\t: fpu avx2 avx512_vnni amx_tile unknown\n" * 2
    )
    devices = tmp_path / "cpu"
    (devices / "intel_pstate").mkdir(parents=True)
    (devices / "intel_pstate" / "no_turbo").write_text("1\n")
    (devices / "cpu0" / "cpufreq").mkdir(parents=True)
    (devices / "cpu0" / "cpufreq" / "scaling_governor").write_text("powersave\n")
    monkeypatch.setattr(places, "CPU_INFO", info)
    monkeypatch.setattr(places, "CPU_DEVICES", devices)
    said = "NVIDIA A10, 24 GB, 580.95\n"
    monkeypatch.setattr(places, "answer", lambda c: said if c[0] == "nvidia-smi" else None)
    found = places.environment()
    assert (found.cpu, found.cpu_flags) == ("Fast CPU", ("avx2", "avx512_vnni", "amx_tile"))
    assert (found.turbo, found.governor) == (False, "powersave")
    assert (found.gpu, found.gpu_driver) == ("NVIDIA A10, 24 GB", "580.95")
    (devices / "intel_pstate" / "no_turbo").unlink()
    (devices / "cpufreq").mkdir()
    (devices / "cpufreq" / "boost").write_text("1\n")
    assert places.turbo() is True


def test_programs_that_fail_are_not_asked_again() -> None:
    assert places.answer(["no-such-program"]) is None
    assert places.answer(["false"]) is None
    assert places.answer(["echo", "yes"]) == "yes"


# Cold start and memory


def test_a_fresh_process_tells_its_cold_start(graph_gan: Generator) -> None:
    memory = memories.peak_memory(graph_gan, Target("onnxruntime", 2, 1))
    assert memory.reason is None
    assert memory.load_ms is not None
    assert memory.first_ms is not None
    assert min(memory.load_ms, memory.first_ms) > 0
    assert memory.cold_ms == pytest.approx(memory.load_ms + memory.first_ms)
    assert memory.gpu_peak_bytes is None
    assert Memory(None, "why").cold_ms is None


def test_memory_of_a_gpu_is_what_it_holds_beyond_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "answer", lambda _: "1000\n2000")
    assert memories.gpu_used_bytes() == 1000 * 2**20
    assert memories.gpu_peak_bytes(400 * 2**20) == 600 * 2**20
    assert memories.gpu_peak_bytes(None) is None
    monkeypatch.setattr(places, "answer", lambda _: None)
    assert memories.gpu_used_bytes() is None
    assert memories.gpu_peak_bytes(5) is None


# Doubts


def with_latencies(measured: Measurement, *series: tuple[float, ...]) -> Measurement:
    """The measurement with other samples in its readings."""
    (artifact,) = measured.artifacts
    readings = tuple(
        replace(reading, latency=Samples(values))
        for reading, values in zip(artifact.readings, series, strict=True)
    )
    return replace(
        measured,
        artifacts=(replace(artifact, readings=readings),),
        rounds_asked=len(series[0]),
    )


def test_a_sound_measurement_raises_no_doubts(measured: Measurement) -> None:
    steady = tuple(10 + 0.1 * (n % 3) for n in range(30))
    assert with_latencies(measured, steady, steady).warnings == []


def test_what_to_distrust_comes_with_what_to_do(measured: Measurement) -> None:
    steady = tuple(10 + 0.1 * (n % 3) for n in range(30))
    sound = with_latencies(measured, steady, steady)
    busy = replace(sound, environment=replace(HERE, load=3.4))
    assert re.search(r"busy .*3.4 cores at work.*close other programs", *busy.warnings)
    crowded = replace(sound, target=replace(sound.target, threads=4))
    assert re.search(r"4 threads share 2 physical cores; .*threads=2", *crowded.warnings)
    short = replace(sound, rounds_asked=100)
    assert re.search(r"after 30 of 100 rounds; .*--seconds", *short.warnings)
    cooling = tuple(10 + 0.3 * n for n in range(30))
    drifted = with_latencies(measured, cooling, cooling).warnings
    assert any(re.search(r"speed drifted .*torch 0\.\d+x.*settle", line) for line in drifted)
    random = np.random.default_rng(0)
    noisy = tuple(random.uniform(5, 20, 30))
    unsure = with_latencies(measured, steady, noisy).warnings
    assert any(re.search(r"known roughly .*onnxruntime ±\d+%.*--rounds \d+", w) for w in unsure)
    assert any("vary between rounds" in line for line in unsure)


# Old records


def test_records_of_before_are_read(measured: Measurement, tmp_path: Path) -> None:
    data = replace(measured, sweep=()).to_json()
    new = ("sweep", "rounds_asked")
    old = {k: v for k, v in data.items() if k not in new}
    known = ("cpu", "cores", "system", "python", "libraries", "date")
    old["environment"] = {k: data["environment"][k] for k in known}
    old["artifacts"][0]["readings"][0]["memory"] = {"peak_bytes": 5, "reason": None}
    for reading in old["artifacts"][0]["readings"]:
        del reading["latency"]["opened"]
    (tmp_path / "measurement.json").write_text(json.dumps(old))
    found = Measurement.load(tmp_path)
    first: Reading = found.baseline
    assert first.latency.milliseconds == measured.baseline.latency.milliseconds
    assert first.latency.opened == (0,)
    assert first.memory == Memory(5)
    assert found.sweep == ()
    assert found.environment.physical_cores is None
    assert not any("busy" in line for line in found.warnings)


# Sweeps


def test_a_sweep_measures_at_every_setting(measured: Measurement, tmp_path: Path) -> None:
    points = measured.sweep
    assert {(p.batch, p.threads) for p in points} == {(1, 1), (2, 1)}
    names = {p.artifact for p in points}
    best = measured.artifacts[0].best
    assert names == ({"00-original"} if best is measured.baseline else {"baseline", "00-original"})
    for point in points:
        assert point.reason is None
        assert point.samples is not None
        assert len(point.samples.milliseconds) == 5
        assert point.images_per_second == pytest.approx(
            point.batch * 1e3 / np.median(point.samples.milliseconds)
        )
    measured.save(tmp_path)
    assert Measurement.load(tmp_path).sweep == points


def test_a_batch_that_an_artifact_can_not_take_is_refused_with_the_reason(
    small_gan: Generator,
) -> None:
    import onnx

    from genslim.generator import StepRecord
    from genslim.onnx_graph import onnx_of

    graph = onnx.load_from_string(onnx_of(small_gan))
    for value in (*graph.graph.input, *graph.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 4
    fixed = replace(
        small_gan.with_step(StepRecord("fixed", {})), module=None, onnx=graph.SerializeToString()
    )
    found = measure(
        [small_gan, fixed],
        "onnxruntime:batch=4,threads=1",
        runtimes=["onnxruntime"],
        count=4,
        rounds=3,
        sweep=Sweep((3, 4), rounds=3),
        memory=False,
    )
    points = {(p.artifact, p.batch): p for p in found.sweep}
    assert points["01-fixed", 4].samples is not None
    refused = points["01-fixed", 3]
    assert refused.samples is None
    assert "batches of 4" in (refused.reason or "")
    assert points["00-original", 3].samples is not None
    titles, lines = sweep_table(found.sweep)
    line = next(cells for cells in lines if cells[0] == "01-fixed")
    assert line[titles.index("batch 3, 1 thread")] == rows.NOTHING
    assert line[titles.index("batch 4, 1 thread")] != rows.NOTHING
    (reason,) = sweep_reasons(found.sweep)
    assert reason.startswith("01-fixed on onnxruntime was not measured at batch 3 with 1 thread: ")
    assert markdown(found.sweep)[0].startswith("| Images a second | Runtime | batch 3")


def test_no_sweep_makes_no_table() -> None:
    assert sweep_table(()) == ([], [])
    assert markdown(()) == []
    assert sweep_plots((), width=500, height=300) == []
    assert Sweep.parse(None, None, seconds=5) is None


@pytest.mark.parametrize("text", ["", ",", "0", "1,x", "-1", "1.5"])
def test_settings_that_are_no_numbers(text: str) -> None:
    with pytest.raises(UserError, match="no whole numbers"):
        Sweep.parse(text, None, seconds=5)


def test_settings_come_once_and_in_order() -> None:
    sweep = Sweep.parse("4, 1,4", None, seconds=5)
    assert sweep == Sweep((1, 4), (), seconds=5)


def test_the_picture_of_a_sweep_shows_each_line_and_says_its_figures() -> None:
    points = [
        Point(name, "openvino", batch, threads, Samples((ms * batch**0.7,) * 3))
        for name, ms in (("00-original", 10.0), ("01-<prune>", 9.9), ("02-quantize", 9.8))
        for batch in (1, 4, 16)
        for threads in (1, 2)
    ]
    points.append(Point("03-trt", "tensorrt", 1, 1, reason="no GPU"))
    figures = sweep_plots(points, width=560, height=320)
    assert len(figures) == 2, "one for each number of threads"
    for figure in figures:
        root = ET.fromstring(figure)
        lines = root.findall("polyline")
        assert len(lines) == 3
        for polyline in lines:
            corners = [tuple(map(float, c.split(","))) for c in polyline.attrib["points"].split()]
            assert all(b[0] > a[0] and b[1] < a[1] for a, b in pairwise(corners))
            assert all(0 < x < 560 and 0 < y < 320 for x, y in corners)
        labels = [t for t in root.findall("text") if t.attrib["class"] == "name"]
        assert {t.text for t in labels} == {"00-original", "01-<prune>", "02-quantize"}
        heights = sorted(float(t.attrib["y"]) for t in labels)
        assert min(np.diff(heights)) >= 15.9, "names do not overlap"
    speed = 16e3 / (10 * 16**0.7)
    assert f"{rows.significant(speed)} images a second at batch 16" in figures[0]
    single = sweep_plots(points[:1], width=560, height=320)
    ET.fromstring(*single)


def test_the_command_sweeps(run: Run, cli: Cli) -> None:
    done = cli(
        *("bench", "run", run.path, "--target", TARGET, "--runtimes", "onnxruntime", "--no-memory"),
        *("--count", "4", "--rounds", "3", "--batches", "1,2", "--threads", "1", "--json"),
    )
    assert done.status == 0, done
    assert "batch 2, 1 thread" in done.err
    found = Measurement.load(run.path / "bench")
    assert {p.batch for p in found.sweep} == {1, 2}


def test_a_sweep_that_can_not_be_is_refused_at_once(run: Run, cli: Cli) -> None:
    line = cli("bench", "run", run.path, "--batches", "none").refused()
    assert "--batches 1,2,4" in line
    line = cli("bench", "run", run.path, "--openings", "0").refused()
    assert "--openings 5" in line
