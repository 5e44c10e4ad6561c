"""``bench compare``: what is called a change, in which direction, and what is refused.

Samples are made up where the verdict must be known; no test waits for a clock.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Cli
from hypothesis import given
from hypothesis import strategies as st

from bench.environment import Environment
from bench.measurement import Artifact, Measurement, Reading
from bench.quality import Quality
from bench.verdicts.change import LEAST_EFFECT, LEAST_EFFECT_APART, Change, apart, exact, paired
from bench.verdicts.differences import between, unlike, within
from genslim.errors import UserError
from genslim.runtimes import Execution
from genslim.target import Target
from genslim.timing import Samples

HERE = Environment("Some CPU", 2, "Linux", "3.11", {"torch": "2.13.0"}, "2026-11-22", 2)


def rounds(
    milliseconds: float, *, seed: int, count: int = 60, noise: float = 0.05, opened: int = 5
) -> Samples:
    """Samples about a latency, of a machine that is a little noisy."""
    random = np.random.default_rng(seed)
    values = milliseconds * np.exp(noise * random.normal(size=count))
    return Samples(tuple(values), tuple(range(0, count, count // opened)))


def reading(runtime: str, precision: str, latency: Samples, *, ssim: float, size: int) -> Reading:
    quality = Quality(ssim=(ssim,) * 4, psnr_db=(20.0,) * 4, mse=(0.01,) * 4, data_range=1.0)
    return Reading(Execution(runtime, "1", "CPU", precision, 1), latency, quality, size)


def measurement(
    *,
    original: float = 20.0,
    pruned: float = 10.0,
    ssim: float = 0.97,
    size: int = 500,
    seed: int = 0,
) -> Measurement:
    """An original and a pruned artifact, the latter with the given figures."""
    first = Artifact(
        *("00-original", "original", None, ()),
        *(1000, 5000),
        (
            reading("torch", "fp32", rounds(original, seed=seed), ssim=1.0, size=1000),
            reading("openvino", "fp32", rounds(0.8 * original, seed=seed + 1), ssim=1.0, size=1000),
        ),
        disk_bytes=1000,
    )
    second = Artifact(
        *("01-prune", "step", "00-original", ()),
        *(400, 2000),
        (
            reading("torch", "fp32", rounds(1.5 * pruned, seed=seed + 2), ssim=ssim, size=size),
            reading("openvino", "fp32", rounds(pruned, seed=seed + 3), ssim=ssim, size=size),
        ),
        disk_bytes=size,
    )
    return Measurement(
        *("gan", {"kind": "test"}, Target("openvino", 4, 1), (first, second)),
        *(HERE, 0, (1, 16, 16)),
        rounds_asked=60,
    )


def saved(folder: Path, made: Measurement) -> Path:
    made.save(folder)
    return folder


# What is called a change


@pytest.mark.parametrize(
    ("factor", "verdict"),
    [(1.10, "slower"), (0.90, "faster"), (1.0, "no change"), (1.02, "no change")],
)
def test_paired_times(factor: float, verdict: str) -> None:
    base = rounds(10, seed=0, noise=0.3)
    jitter = rounds(1, seed=1, noise=0.02)
    pairs = zip(base.milliseconds, jitter.milliseconds, strict=True)
    head = Samples(tuple(b * j * factor for b, j in pairs), base.opened)
    change = paired(base, head)
    assert change.verdict == verdict
    assert change.ratio == pytest.approx(factor, rel=0.01)
    assert change.interval is not None
    assert change.interval[0] < factor < change.interval[1]
    assert change.settled


def test_times_apart_are_compared_through_their_controls() -> None:
    base, base_control = rounds(10, seed=0), rounds(20, seed=1)
    # A machine that is half as fast, and a head that is 20 % slower on it.
    head, head_control = rounds(10 * 2 * 1.2, seed=2), rounds(20 * 2, seed=3)
    change = apart(base, base_control, head, head_control)
    assert change.verdict == "slower"
    assert change.ratio == pytest.approx(1.2, rel=0.03)
    same = apart(base, base_control, rounds(20, seed=4), head_control)
    assert same.verdict == "no change"
    assert same.head == pytest.approx(2 * same.base, rel=0.05)


def test_a_small_effect_is_none_however_sure() -> None:
    base = Samples((10.0,) * 50)
    for least, judge in (
        (LEAST_EFFECT, lambda head: paired(base, head)),
        (LEAST_EFFECT_APART, lambda head: apart(base, base, head, base)),
    ):
        assert judge(Samples((10.0 * (1 + 0.9 * least),) * 50)).verdict == "no change"
        assert judge(Samples((10.0 * (1 + 1.1 * least),) * 50)).verdict == "slower"
        assert judge(Samples((10.0 / (1 + 1.1 * least),) * 50)).verdict == "faster"


def test_few_rounds_call_no_change() -> None:
    base, head = Samples((10.0,) * 5), Samples((20.0,) * 5)
    for change in (paired(base, head), apart(base, base, head, base)):
        assert change.verdict == "no change"
        assert not change.settled
        assert "measure longer" in str(change)
    assert paired(Samples((10.0,) * 6), Samples((20.0,) * 6)).verdict == "slower"


def test_no_change_found_is_not_no_change_shown() -> None:
    rough = paired(rounds(10, seed=0, noise=0.5), rounds(10, seed=9, noise=0.5))
    assert rough.verdict == "no change"
    assert not rough.settled
    sure = paired(Samples((10.0,) * 20), Samples((10.1,) * 20))
    assert sure.verdict == "no change"
    assert sure.settled


@given(st.integers(0, 30), st.floats(0.7, 1.4))
def test_exchanged_sides_exchange_the_verdict(seed: int, factor: float) -> None:
    base, head = rounds(10, seed=seed), rounds(10 * factor, seed=seed + 100)
    opposite = {"faster": "slower", "slower": "faster", "no change": "no change"}
    there, back = paired(base, head), paired(head, base)
    assert there.ratio == pytest.approx(1 / (back.ratio or 0), rel=1e-3)
    # Quantiles of resamples are not mirrored exactly: at the border one may be called.
    low, high = there.interval or (0, 0)
    ratio = there.ratio or 0
    edges = (low - 1, high - 1, ratio - (1 + LEAST_EFFECT), ratio - 1 / (1 + LEAST_EFFECT))
    if min(map(abs, edges)) > 0.005:
        assert back.verdict == opposite[there.verdict]


def test_an_artifact_with_itself_is_rarely_called_a_change() -> None:
    """Openings that differ by 5 % each, as on a loaded machine, and nothing else does."""
    random = np.random.default_rng(0)
    called = found = 0
    for _ in range(40):
        openings = 0.05 * random.normal(size=(10, 1)) + 0.15 * random.standard_t(3, (10, 15))
        ratios = np.exp(openings.ravel())
        opened = tuple(range(0, 150, 15))
        base = Samples((10.0,) * 150, opened)
        called += paired(base, Samples(tuple(10 * ratios), opened)).changed
        found += paired(base, Samples(tuple(11 * ratios), opened)).verdict == "slower"
    assert called <= 2
    assert found >= 34


@pytest.mark.parametrize(
    ("before", "after", "direction", "verdict"),
    [
        (0.96, 0.97, "higher", "better"),
        (0.97, 0.96, "higher", "worse"),
        (100, 90, "lower", "better"),
        (100, 101, "lower", "worse"),
        (5, 5, "lower", "no change"),
        (0, 3, "lower", "worse"),
    ],
)
def test_exact_figures(before: float, after: float, direction: str, verdict: str) -> None:
    change = exact("figure", before, after, direction)  # type: ignore[arg-type]
    assert change.verdict == verdict
    assert change.worsened == (verdict == "worse")
    assert change.interval is None
    assert change.settled
    json.dumps(change.to_json(), allow_nan=False)


# Two measurements


def test_two_runs_are_compared_by_name() -> None:
    pairs = between(measurement(), measurement(pruned=13.0, seed=50), None, times=True)
    assert [pair.head for pair in pairs] == [
        "00-original on openvino fp32",
        "01-prune on openvino fp32",
    ]
    original, pruned = pairs
    assert by_figure(original.changes)["latency"].verdict == "no change"
    latency = by_figure(pruned.changes)["latency"]
    assert latency.verdict == "slower"
    assert latency.ratio == pytest.approx(1.3, rel=0.05)
    assert all(not c.changed for c in pruned.changes if c.figure != "latency")


def by_figure(changes: tuple[Change, ...]) -> dict[str, Change]:
    return {change.figure: change for change in changes}


def test_quality_and_sizes_have_a_direction() -> None:
    worse = measurement(ssim=0.95, size=400, seed=50)
    changes = by_figure(between(measurement(), worse, None, times=True)[1].changes)
    assert changes["ssim_mean"].verdict == "worse"
    assert changes["ssim_p5"].verdict == "worse"
    assert changes["size_bytes"].verdict == "better"
    assert changes["parameters"].verdict == "no change"
    assert changes["psnr_db_mean"].direction == "higher"


def test_a_last_digit_of_quality_is_no_change() -> None:
    other = measurement(ssim=0.97 + 1e-7)
    changes = by_figure(between(measurement(), other, None, times=True)[1].changes)
    assert changes["ssim_mean"].verdict == "no change"


def test_the_baseline_is_its_own_control() -> None:
    pair = between(measurement(), measurement(), "torch", times=True)[0]
    assert "latency" not in by_figure(pair.changes)
    assert "compared with" in pair.note


def test_artifacts_of_one_run_alone_are_named() -> None:
    base = measurement()
    longer = replace(base, artifacts=(*base.artifacts, replace(base.artifacts[1], name="02-x")))
    assert between(base, longer, None, times=True)[-1].note == "measured only after"
    assert between(longer, base, None, times=True)[-1].note == "measured only before"
    renamed = replace(base, artifacts=tuple(replace(a, name=a.name + "x") for a in base.artifacts))
    with pytest.raises(UserError, match="no artifact of the same name"):
        between(base, renamed, None, times=True)


def test_a_runtime_that_one_did_not_run_on_is_a_note() -> None:
    base = measurement()
    (first, second) = base.artifacts
    without = replace(base, artifacts=(first, replace(second, readings=second.readings[:1])))
    pair = between(without, base, "openvino", times=True)[1]
    assert pair.changes == ()
    assert "not measured on openvino in both" in pair.note


UNLIKE: list[tuple[str, Callable[[Measurement], Measurement]]] = [
    ("batch: 4, not 8", lambda m: replace(m, target=replace(m.target, batch=8))),
    ("threads: 1, not 2", lambda m: replace(m, target=replace(m.target, threads=2))),
    ("seed: 0, not 1", lambda m: replace(m, seed=1)),
    ("generator: gan, not other", lambda m: replace(m, name="other")),
    (
        "CPU: Some CPU, not Other CPU",
        lambda m: replace(m, environment=replace(m.environment, cpu="Other CPU")),
    ),
    (
        "torch: 2.13.0, not 2.14.0",
        lambda m: replace(m, environment=replace(m.environment, libraries={"torch": "2.14.0"})),
    ),
]


@pytest.mark.parametrize(("said", "changed"), UNLIKE, ids=[said for said, _ in UNLIKE])
def test_unlike_measurements_are_refused_with_what_differs(
    cli: Cli, tmp_path: Path, said: str, changed: Callable[[Measurement], Measurement]
) -> None:
    base, head = measurement(), changed(measurement(ssim=0.9))
    assert unlike(base, head) == [said]
    folders = saved(tmp_path / "base", base), saved(tmp_path / "head", head)
    line = cli("bench", "compare", *folders).refused()
    assert said in line
    assert "--force" in line
    done = cli("bench", "compare", *folders, "--force", "--json")
    assert done.status == 0, done
    facts = json.loads(done.out.splitlines()[-1])
    assert facts["unlike"] == [said]
    figures = {change["figure"] for pair in facts["pairs"] for change in pair["changes"]}
    assert "ssim_mean" in figures
    assert "latency" not in figures
    assert "times are not compared" in done.err


# The command


def test_folders_and_files_are_measurements(cli: Cli, tmp_path: Path) -> None:
    base = saved(tmp_path / "base", measurement())
    head = saved(tmp_path / "head", measurement(pruned=5.0, seed=50))
    done = cli("bench", "compare", base, head / "measurement.json", "-o", tmp_path / "out.md")
    assert done.status == 0, done
    assert "faster" in done.out
    text = (tmp_path / "out.md").read_text()
    assert "### 01-prune on openvino fp32" in text
    assert "faster" in text
    assert "| ssim_mean | 0.97 | 0.97 | 1.000 | – | no change |" in text


def test_artifacts_of_one_run_are_compared_in_their_rounds(cli: Cli, tmp_path: Path) -> None:
    made = measurement()
    folder = saved(tmp_path / "run", made)
    done = cli(
        *("bench", "compare", folder, "--base", "00-original", "--head", "01-prune"), "--json"
    )
    assert done.status == 0, done
    (pair,) = json.loads(done.out.splitlines()[-1])["pairs"]
    latency = pair["changes"][0]
    first, second = (a.readings[1].latency for a in made.artifacts)
    assert latency["ratio"] == pytest.approx(second.ratio_to(first))
    assert latency["interval"] == pytest.approx(second.ratio_interval(first))
    assert latency["verdict"] == "faster"
    on_torch = within(made, "00-original", "01-prune", "torch")
    assert on_torch.changes[0].ratio == pytest.approx(0.75, rel=0.05)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "nothing to compare with"),
        (("--base", "00-original"), "nothing to compare with"),
        (("--base", "00-original", "--head", "07-none"), "there are 00-original, 01-prune"),
        (("--base", "00-original", "--head", "01-prune", "--runtime", "trt"), "it ran on"),
        (("other",), "does not exist"),
    ],
)
def test_what_can_not_be_compared(
    cli: Cli, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    folder = saved(tmp_path / "run", measurement())
    assert said in cli("bench", "compare", folder, *arguments).refused()


def test_two_runs_and_two_artifacts_are_too_much(cli: Cli, tmp_path: Path) -> None:
    folder = saved(tmp_path / "run", measurement())
    line = cli("bench", "compare", folder, folder, "--base", "00-original").refused()
    assert "two runs are named" in line
    (tmp_path / "text").write_text("x")
    assert "is no measurement" in cli("bench", "compare", tmp_path / "text", folder).refused()


def test_a_dry_run_writes_nothing(cli: Cli, tmp_path: Path) -> None:
    folder = saved(tmp_path / "run", measurement())
    done = cli("bench", "compare", folder, folder, "--dry-run", "-o", tmp_path / "out.md")
    assert done.status == 0, done
    assert "would compare 00-original on openvino fp32" in done.out
    assert not (tmp_path / "out.md").exists()
