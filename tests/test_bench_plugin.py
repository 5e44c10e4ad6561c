"""The pytest plugin, in tests that pytest runs in a process of its own."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest
from conftest import random_dcgan, run_program

from genslim.generator import StepRecord
from genslim.pytest_plugin import Replay
from genslim.run import Run

pytest_plugins = ["pytester"]

QUICK = 'target="torch:batch=2,threads=1", count=4, rounds=5'


@pytest.fixture(autouse=True)
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """pytest-benchmark times nothing below a worker of xdist, which may run this test."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)


@pytest.fixture(scope="session")
def imported() -> None:
    """What can be imported once a process, before ``pytester`` begins to put modules back."""
    importlib.import_module("torch._dynamo")
    importlib.import_module("bench.plugin")


@pytest.fixture
def suite(imported: None, pytester: pytest.Pytester) -> pytest.Pytester:
    """A folder with a run of an original and of a step that moved its weights a little."""
    import torch

    generator = random_dcgan()
    module = generator.trainable()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1 + 0.05 * torch.randn_like(parameter))
    run = Run(pytester.path / "runs" / "00-gan")
    with run.locked():
        original = run.start(generator)
        run.append(
            original.with_step(StepRecord("shake", {}), module=module),
            "shake",
            parent="00-original",
        )
    return pytester


def test_it_asserts_quality_and_speed_and_fills_the_table(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        f"""
        import pytest

        @pytest.mark.benchmark(group="mine")
        @pytest.mark.parametrize("least", [0.3])
        def test_speed(genslim_benchmark, least):
            found = genslim_benchmark(
                "runs/00-gan", min_ssim=least, max_ratio=50, require=["size_bytes <= 9e6"], {QUICK}
            )
            assert [a.name for a in found.artifacts] == ["00-original", "01-shake"]

        def test_quality(genslim_benchmark):
            genslim_benchmark("runs/00-gan/00-original", "runs/00-gan", min_ssim=0.9999, {QUICK})

        def test_ratio(genslim_benchmark):
            genslim_benchmark("runs/00-gan", max_ratio=0.01, {QUICK})
        """
    )
    done = suite.runpytest_inprocess("--benchmark-json=out.json", "--benchmark-columns=median")
    done.assert_outcomes(passed=1, failed=2)
    done.stdout.re_match_lines(
        [
            r"01-shake on torch: ssim_mean is 0\.\d+, asked for >= 0\.9999",
            r"01-shake on torch: latency_ratio is .* \(.* to .*\), asked for <= 0\.01",
            r".*benchmark 'mine': 1 tests",
            r"test_speed\[0\.3\] .*",
        ]
    )
    done.stdout.no_fnmatch_line("*Traceback*")
    benchmarks = {b["name"]: b for b in json.loads(Path("out.json").read_text())["benchmarks"]}
    speed = benchmarks["test_speed[0.3]"]
    assert speed["group"] == "mine"
    assert speed["options"]["timer"] == "replay"
    assert speed["stats"]["rounds"] == len(speed["stats"]["data"]) == 5
    assert speed["extra_info"]["artifact"] == "01-shake"
    assert 0.3 < speed["extra_info"]["ssim_mean"] < 0.9999
    low, high = speed["extra_info"]["latency_ratio_interval"]
    assert low <= speed["extra_info"]["latency_ratio"] <= high
    assert speed["extra_info"]["latency_ms"] / 1e3 == pytest.approx(speed["stats"]["median"])


def test_disabled_it_asserts_quality_alone_and_mistakes_are_one_line(
    suite: pytest.Pytester,
) -> None:
    suite.makepyfile(
        f"""
        import genslim

        def test_speed(genslim_benchmark):
            genslim_benchmark("runs/00-gan", min_ssim=0.3, max_ratio=0.01, {QUICK})

        def test_quality(genslim_benchmark):
            genslim_benchmark("runs/00-gan", min_ssim=0.9999, max_ratio=0.01, {QUICK})

        def test_missing(genslim_benchmark):
            genslim_benchmark("no-such-generator", "runs/00-gan")

        def test_one(genslim_benchmark):
            genslim_benchmark(genslim.load("runs/00-gan"))

        def test_wrong_way(genslim_benchmark):
            genslim_benchmark("runs/00-gan", require=["ssim_mean <= 0.5"])

        def test_twice(genslim_benchmark):
            try:
                genslim_benchmark("runs/00-gan", target="nowhere")
            except BaseException:
                pass
            genslim_benchmark("runs/00-gan")
        """
    )
    done = suite.runpytest_inprocess("--benchmark-disable", "-W", "error::pytest.PytestWarning")
    done.assert_outcomes(passed=1, failed=5)
    done.stdout.no_fnmatch_line("*latency_ratio*is*")
    done.stdout.re_match_lines(
        [
            r"01-shake on torch: ssim_mean is 0\.\d+, asked for >= 0\.9999",
            r"'no-such-generator' is no source; name .*",
            r"there is no second generator to compare with; give .*",
            r"'ssim_mean <= 0.5' points the wrong way: .*",
            r"genslim_benchmark was called twice; parametrize the test",
        ]
    )


def test_without_pytest_benchmark(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        f"""
        def test_speed(genslim_benchmark):
            genslim_benchmark("runs/00-gan", min_ssim=0.3, max_ratio=50, {QUICK})

        def test_ratio(genslim_benchmark):
            genslim_benchmark("runs/00-gan", max_ratio=0.01, {QUICK})
        """
    )
    done = suite.runpytest_inprocess("-p", "no:benchmark")
    done.assert_outcomes(passed=1, failed=1)
    done.stdout.re_match_lines([r"01-shake on torch: latency_ratio is .*, asked for <= 0\.01"])


def test_benchmark_flags_of_pytest_are_heard(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        def test_speed(genslim_benchmark): pass
        def test_other(): pass
        def test_theirs(benchmark): benchmark(sum, [1, 2])
        """
    )
    done = pytester.runpytest_inprocess("--benchmark-skip")
    done.assert_outcomes(passed=1, skipped=2)
    done = pytester.runpytest_inprocess("--benchmark-only")
    done.assert_outcomes(passed=2, skipped=1)


def test_starting_pytest_imports_nothing_heavy(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_nothing(request):
            assert request.config.pluginmanager.hasplugin("genslim")
            heavy = {"torch", "numpy", "rich", "onnx", "openvino", "bench"}
            assert not heavy & set(sys.modules)
        """
    )
    pytester.runpytest_subprocess("-p", "no:hypothesispytest").assert_outcomes(passed=1)


def test_a_package_called_bench_of_the_users_own_does_no_harm(pytester: pytest.Pytester) -> None:
    pytester.mkpydir("bench")
    pytester.makepyfile("import bench\ndef test_own(): assert not hasattr(bench, 'measure')")
    done = run_program([sys.executable, "-m", "pytest", "-q"], cwd=pytester.path)
    assert done.status == 0, done


def test_the_clock_replays_and_then_runs() -> None:
    clock = Replay()
    clock.load([0.25, 1e-7])
    assert [-clock() + clock() for _ in range(2)] == [0.25, 1e-7]
    assert clock() <= clock()
