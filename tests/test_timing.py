"""Timing: who is called when, and what is made of the samples. No test asserts a time."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genslim import timing
from genslim.timing import Samples, interleave

latencies = st.lists(st.floats(0.01, 1e4), min_size=1, max_size=40)


@given(latencies, st.floats(0, 100))
def test_percentiles_equal_numpys(milliseconds: list[float], percent: float) -> None:
    samples = Samples(tuple(milliseconds))
    assert samples.percentile_ms(percent) == pytest.approx(np.percentile(milliseconds, percent))
    assert samples.median_ms == pytest.approx(np.median(milliseconds))


@given(latencies, st.floats(0.1, 10))
def test_a_ratio_compares_within_rounds(milliseconds: list[float], factor: float) -> None:
    baseline = Samples(tuple(milliseconds))
    ours = Samples(tuple(factor * value for value in milliseconds))
    assert ours.ratio_to(baseline) == pytest.approx(factor)


def test_a_drifting_machine_does_not_bend_the_ratio() -> None:
    drift = [1.0 + round_ for round_ in range(9)]
    slow = Samples(tuple(4 * d for d in drift))
    fast = Samples(tuple(drift))
    assert slow.ratio_to(fast) == 4.0
    assert statistics.median(slow.milliseconds) / fast.milliseconds[0] == 20.0


def test_samples_of_unlike_length_are_not_compared() -> None:
    with pytest.raises(ValueError, match="shorter"):
        Samples((1.0, 2.0)).ratio_to(Samples((1.0,)))


class Clock:
    """A clock that moves only when a candidate runs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.calls: list[str] = []
        monkeypatch.setattr(timing.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(timing.time, "monotonic", lambda: self.now)

    def candidate(self, name: str, seconds: float) -> tuple[str, object]:
        def call() -> None:
            self.calls.append(name)
            self.now += seconds

        return name, call


def test_every_round_times_every_candidate_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    candidates = dict([clock.candidate("a", 0.010), clock.candidate("b", 0.030)])
    rounds: list[int] = []

    def on_round(done: int) -> None:
        rounds.append(done)

    samples = interleave(candidates, rounds=4, on_round=on_round)
    assert rounds == [1, 2, 3, 4]
    assert samples["a"].milliseconds == pytest.approx((10.0,) * 4)
    assert samples["b"].milliseconds == pytest.approx((30.0,) * 4)
    assert samples["b"].ratio_to(samples["a"]) == pytest.approx(3)
    warm = len(clock.calls) - 4 * 2 * 2
    assert clock.calls[:warm].count("a") >= 3, "warmed up"
    one_untimed_one_timed = "aabb" + "bbaa"
    assert "".join(clock.calls[warm:]) == 2 * one_untimed_one_timed


def test_short_calls_are_repeated_and_averaged(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    samples = interleave(dict([clock.candidate("quick", 0.0002)]), rounds=3)
    assert samples["quick"].milliseconds == pytest.approx((0.2,) * 3)
    assert len(clock.calls) >= 3 * 10


def test_it_stops_when_the_time_is_up_but_not_before_five_rounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch)
    samples = interleave(dict([clock.candidate("slow", 1.0)]), rounds=100, seconds=0.5)
    assert len(samples["slow"].milliseconds) == 5
    samples = interleave(dict([clock.candidate("slow", 1.0)]), rounds=100, seconds=20)
    assert 5 < len(samples["slow"].milliseconds) < 100


def test_at_least_three_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    assert len(interleave(dict([clock.candidate("a", 0.1)]), rounds=1)["a"].milliseconds) == 3
