"""``bench gate``: expressions, directions, intervals, files, and how a build fails."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import figures
import numpy as np
import pytest
from conftest import Cli
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bench.formats.verdicts import markdown
from bench.measurement import Measurement
from bench.metrics.distribution import Distribution
from bench.verdicts.figures import FIGURES, Value, best_context, median_ranks
from bench.verdicts.gate import Threshold, configured, judge, read_file
from genslim.errors import UserError
from genslim.generator import Generator
from genslim.run import Run


def outcome(measured: Measurement, text: str, **settings: object) -> str:
    (verdict,) = judge(measured, [Threshold.parse(text)], **settings)  # type: ignore[arg-type]
    return verdict.outcome


@pytest.fixture
def benched(tiny_gan: Generator, working_folder: Path) -> Run:
    """A run whose measurement is made up; its newest artifact is ``01-prune``."""
    run = Run(working_folder / "runs" / "00-gan")
    with run.locked():
        run.append(run.start(tiny_gan), "prune", parent="00-original")
    measured = figures.usual()
    replace(measured, artifacts=measured.artifacts[:2]).save(run.path / "bench")
    return run


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("latency_ratio <= 0.55", "passed"),
        ("latency_ratio <= 0.45", "failed"),
        ("latency_ms<6", "passed"),
        ("ssim_mean >= 0.945", "passed"),
        ("ssim_mean >= 0.9451", "failed"),
        ("ssim_p5 >= 0.90", "passed"),
        ("ssim_p5 > 0.91", "failed"),
        ("ssim_worst >= 0.9", "passed"),
        ("psnr_db_mean >= 38", "passed"),
        ("mse_mean <= 0.005", "failed"),
        ("size_bytes <= 500_000", "passed"),
        ("size_bytes < 5e5", "failed"),
        ("parameters <= 1000", "passed"),
        ("macs <= 1_999", "failed"),
        ("memory_bytes <= 3e8", "passed"),
        ("broken <= 0", "passed"),
    ],
)
def test_thresholds_on_the_newest_that_ran(text: str, expected: str) -> None:
    assert outcome(figures.usual(), text) == expected


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("ssim_mean <= 0.9", "write ssim_mean >= 0.9"),
        ("latency_ratio >= 0.5", "write latency_ratio <= 0.5"),
        ("size_bytes > 10", "better when lower"),
        ("ssim >= 0.9", "there are latency_ratio, "),
        ("ssim_mean", "no threshold"),
        ("ssim_mean == 1", "no threshold"),
        ("ssim_mean => 1", "no threshold"),
        ("ssim_mean >= high", "is no number"),
        ("ssim_mean >= nan", "is no number"),
        ("0.5 <= ssim_mean", "there is no figure '0'|no threshold"),
        ("", "no threshold"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_hint(text: str, line: str) -> None:
    with pytest.raises(UserError, match=line):
        Threshold.parse(text)


@given(st.sampled_from(list(FIGURES)), st.floats(-1e9, 1e9))
def test_each_figure_takes_one_direction(name: str, bound: float) -> None:
    sound = "<=" if FIGURES[name].better == "lower" else ">="
    assert Threshold.parse(f"{name} {sound} {bound}").holds(bound)
    with pytest.raises(UserError, match="wrong way"):
        Threshold.parse(f"{name} {'<=' if sound == '>=' else '>='} {bound}")


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_a_time_passes_or_fails_only_with_its_whole_interval(a: float, b: float, c: float) -> None:
    low, middle, high = sorted((a, b, c))
    found = Threshold.parse("latency_ratio <= 0.5").judge(Value(middle, low, high))
    assert (found == "passed") == (high <= 0.5)
    assert (found == "failed") == (low > 0.5)


def test_noise_is_undecided_and_strict_fails_it() -> None:
    noisy = figures.measurement(
        figures.artifact("00-original", figures.reading("torch", figures.around(10, 0.2))),
        figures.artifact(
            "01-prune", figures.reading("openvino", figures.around(5, 0.2, seed=1)), parent="00"
        ),
    )
    context = best_context(noisy, noisy.artifacts[1])
    assert context is not None
    value = FIGURES["latency_ratio"].read(context)
    assert value is not None
    assert value.low < value.middle < value.high
    text = f"latency_ratio <= {value.middle}"
    assert outcome(noisy, text) == "undecided"
    assert outcome(noisy, text, strict=True) == "failed"
    assert outcome(noisy, f"latency_ratio <= {value.high}") == "passed"
    assert outcome(noisy, f"latency_ratio <= {value.low - 1e-9}") == "failed"


@pytest.mark.parametrize("count", [3, 5, 6, 7, 20, 30, 101])
def test_ranks_of_the_median_are_the_narrowest_that_are_sure_enough(count: int) -> None:
    low, high = median_ranks(count, 0.95)
    assert low + high == count - 1
    covered = 1 - 2 * stats.binom.cdf(low, count, 0.5)
    narrower = 1 - 2 * stats.binom.cdf(low + 1, count, 0.5)
    assert covered >= 0.95 or low == 0
    assert narrower < 0.95 or low + 1 > (count - 1) // 2


def test_what_was_not_measured_fails() -> None:
    measured = figures.usual()
    (verdict,) = judge(measured, [Threshold.parse("lpips_mean <= 0.1")])
    assert (verdict.outcome, verdict.reason) == ("failed", "lpips_mean was not measured")
    (verdict,) = judge(measured, [Threshold.parse("macs <= 5", "03-trt")])
    assert verdict.outcome == "failed"
    assert "03-trt did not run anywhere; tensorrt: no <GPU>" in verdict.reason
    (verdict,) = judge(measured, [Threshold.parse("macs <= 5", "9-none")])
    assert "there are 00-original, 01-prune" in verdict.reason
    (verdict,) = judge(measured, [Threshold.parse("macs <= 5")], runtime="tensorrt")
    assert "02-quantize did not run on tensorrt" in verdict.reason


def test_a_collapse_of_modes_fails() -> None:
    def spread(diversity: float, coverage: float) -> Distribution:
        return Distribution(20, diversity, 0.5, "original", 20, "pixels", coverage=coverage)

    measured = figures.usual()
    first, *_, last = measured.artifacts[:3]
    baseline = replace(first.readings[0], distribution=spread(0.4, 1.0))
    collapsed = replace(last.readings[1], distribution=spread(0.1, 0.3))
    measured = replace(
        measured,
        artifacts=(replace(first, readings=(baseline,)), replace(last, readings=(collapsed,))),
    )
    assert outcome(measured, "diversity >= 0.1") == "passed"
    assert outcome(measured, "diversity_ratio >= 0.26") == "failed"
    assert outcome(measured, "diversity_ratio >= 0.25") == "passed"
    assert outcome(measured, "coverage >= 0.8") == "failed"
    assert outcome(measured, "fid <= 10") == "failed"


def test_broken_images_fail_quality() -> None:
    ssim = (None, *(1.0,) * (figures.COUNT - 1))
    broken = figures.measurement(
        figures.artifact("00-original", figures.reading("torch", (1.0, 2.0, 3.0), ssim))
    )
    (verdict,) = judge(broken, [Threshold.parse("ssim_mean >= 0.5")])
    assert "1 of 20 images hold NaN" in verdict.reason
    assert outcome(broken, "broken <= 0") == "failed"


def test_an_artifact_is_named_by_folder_or_by_step() -> None:
    measured = figures.usual()
    for name in ("01-prune", "prune"):
        (verdict,) = judge(measured, [Threshold.parse("latency_ratio <= 0.9", name)])
        assert verdict.artifact == "01-prune"
        assert verdict.value is not None
        assert verdict.value.middle == pytest.approx(0.8, rel=0.02)


def test_an_older_run_is_compared_ratio_by_ratio() -> None:
    now = figures.usual()
    baseline = now.artifacts[0].readings[0]
    slow_machine = [
        replace(
            a,
            readings=tuple(
                replace(
                    r,
                    latency=replace(
                        r.latency, milliseconds=tuple(3 * ms for ms in r.latency.milliseconds)
                    ),
                )
                for r in a.readings
            ),
        )
        for a in now.artifacts
    ]
    then = replace(now, artifacts=tuple(slow_machine))
    assert then.baseline.latency.median_ms == pytest.approx(3 * baseline.latency.median_ms)
    assert outcome(now, "latency_change <= 1.05", base=then) == "passed"
    assert outcome(now, "latency_change <= 0.9", base=then) == "failed"
    assert outcome(now, "size_change <= 1", base=then) == "passed"
    assert outcome(now, "ssim_change >= 0", base=then) == "passed"
    with pytest.raises(UserError, match="--base RUN"):
        outcome(now, "latency_change <= 1.05")
    shorter = replace(now, artifacts=now.artifacts[:2])
    (verdict,) = judge(now, [Threshold.parse("latency_change <= 1")], base=shorter)
    assert verdict.reason == "the older run has no 02-quantize on openvino"


def test_a_file_holds_thresholds_for_artifacts(tmp_path: Path) -> None:
    file = tmp_path / "gate.toml"
    file.write_text(
        'require = ["ssim_mean >= 0.9"]\nstrict = true\n["02-quantize"]\nrequire = ["macs <= 9"]\n'
    )
    settings = read_file(file)
    assert settings.strict
    assert [(t.artifact, t.text) for t in settings.thresholds] == [
        (None, "ssim_mean >= 0.9"),
        ("02-quantize", "macs <= 9"),
    ]


def test_the_nearest_pyproject_counts(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text(
        '[tool.genslim.gate]\nrequire = ["macs <= 1"]\n[tool.genslim.gate.prune]\n'
        'require = ["ssim_p5 >= 0.9"]\n'
    )
    assert [(t.artifact, t.text) for t in configured(inner).thresholds] == [
        (None, "macs <= 1"),
        ("prune", "ssim_p5 >= 0.9"),
    ]
    (tmp_path / "a" / "pyproject.toml").write_text("[project]\n")
    assert configured(inner).thresholds == ()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("require = 'macs <= 1'", "no list of thresholds"),
        ("require = [1]", "no list of thresholds"),
        ("strict = 1", "strict is 1"),
        ("required = ['macs <= 1']", "'required' is no setting"),
        ("[prune]\nrequires = []", "'prune' is no setting"),
        ("require = [", "is no TOML"),
        ("require = ['ssim_mean <= 1']", "wrong way"),
    ],
)
def test_a_damaged_file_is_refused(benched: Run, cli: Cli, text: str, line: str) -> None:
    Path("gate.toml").write_text(text)
    assert line in cli("bench", "gate", "--file", "gate.toml").refused()


def test_the_command_passes_and_fails(benched: Run, cli: Cli) -> None:
    done = cli("bench", "gate", "--require", "ssim_mean >= 0.9", "--json")
    assert done.status == 0, done
    facts = json.loads(done.out.splitlines()[-1])
    assert facts["passed"]
    assert facts["checks"][0]["artifact"] == "01-prune"
    done = cli(
        *("bench", "gate", benched.path, "--json"),
        *("--require", "ssim_mean >= 0.99", "--require", "latency_ratio <= 0.5"),
        *("--require", "parameters <= 1000"),
    )
    assert done.status == 1
    reasons = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert len(reasons) == 2
    assert reasons[0] == "error: 01-prune: ssim_mean is 0.945, asked for >= 0.99"
    assert reasons[1].startswith("error: 01-prune: latency_ratio is 0.")
    facts = json.loads(done.out.splitlines()[-1])
    assert [check["outcome"] for check in facts["checks"]] == ["failed", "failed", "passed"]
    low, high = facts["checks"][1]["interval"]
    assert 0.5 < low < high


def test_undecided_passes_with_a_warning(benched: Run, cli: Cli) -> None:
    measured = Measurement.load(benched.path / "bench")
    ours, theirs = measured.artifacts[1].readings[0].latency, measured.baseline.latency
    ratios = np.divide(ours.milliseconds, theirs.milliseconds)
    text = f"latency_ratio <= {np.median(ratios)}"
    done = cli("bench", "gate", "--require", text)
    assert done.status == 0
    assert "warning: 01-prune: latency_ratio is" in done.err
    assert "too noisy to tell" in done.err
    assert cli("bench", "gate", "--require", text, "--strict").status == 1


def test_thresholds_come_from_the_project_and_the_command_line_replaces_them(
    benched: Run, cli: Cli
) -> None:
    Path("pyproject.toml").write_text('[tool.genslim.gate]\nrequire = ["macs <= 1"]\n')
    assert cli("bench", "gate").status == 1
    assert cli("bench", "gate", "--require", "macs <= 2000").status == 0
    done = cli("bench", "gate", "--dry-run")
    assert (done.status, "macs <= 1" in done.out) == (0, True)


def test_without_thresholds_it_says_where_to_write_them(benched: Run, cli: Cli) -> None:
    assert "[tool.genslim.gate]" in cli("bench", "gate").refused()
    assert cli("bench", "gate", "--allow-none").status == 0


def test_what_can_not_be_judged_is_refused(benched: Run, cli: Cli, tiny_gan: Generator) -> None:
    asked = ("--require", "macs <= 1")
    assert "no figure 'mac'" in cli("bench", "gate", "--require", "mac <= 1").refused()
    assert "no probability" in cli("bench", "gate", *asked, "--confidence", "95").refused()
    assert "no table ends in" in cli("bench", "gate", *asked, "-o", "x.html").refused()
    assert "can't read none.toml" in cli("bench", "gate", "--file", "none.toml").refused()
    with benched.locked():
        benched.append(tiny_gan, "quantize", parent="01-prune")
    assert "02-quantize" in cli("bench", "gate", *asked).refused()
    for file in (benched.path / "bench").iterdir():
        file.unlink()
    assert "nothing was measured" in cli("bench", "gate", *asked).refused()


def test_an_older_measurement_must_be_alike(benched: Run, cli: Cli) -> None:
    measured = Measurement.load(benched.path / "bench")
    asked = ("bench", "gate", "--require", "latency_change <= 1.2", "--base", "older")
    measured.save(Path("older"))
    done = cli(*asked)
    assert done.status == 0, done
    replace(measured, environment=replace(measured.environment, cpu="another")).save(Path("older"))
    assert "CPU: another" in cli(*asked).refused()
    asked = ("bench", "gate", "--require", "ssim_change >= 0", "--base", "older")
    assert cli(*asked).status == 0
    assert cli("bench", "gate", "older", "--require", "ssim_mean >= 0.9").status == 0


def test_the_table_is_written_for_people_and_programs(benched: Run, cli: Cli) -> None:
    asked = ("--require", "macs <= 1", "--require", "ssim_mean >= 0.9")
    assert cli("bench", "gate", *asked, "-o", "out/gate.md").status == 1
    lines = Path("out/gate.md").read_text().splitlines()
    assert len(lines) == 4
    assert "❌ failed" in lines[2]
    assert "✅ passed" in lines[3]
    assert {line.replace("\\|", "").count("|") for line in lines} == {5}
    assert cli("bench", "gate", *asked, "-o", "out/gate.json").status == 1
    assert json.loads(Path("out/gate.json").read_text())["passed"] is False


def test_markdown_is_escaped() -> None:
    (verdict,) = judge(figures.usual(), [Threshold.parse("macs <= 5", "03-trt")])
    text = markdown([replace(verdict, reason="a | b\n<script>")])
    assert "a \\| b &lt;script>" in text
    assert markdown([]) == ""
