"""Timing: who is called when, and what is made of the samples. No test asserts a time."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genslim import timing
from genslim.timing import Samples, interleave, over_openings, warm_up

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


def test_p5_p95_p99_and_throughput() -> None:
    values = tuple(np.random.default_rng(1).gamma(4.0, size=200))
    samples = Samples(values)
    found = (samples.p5_ms, samples.p95_ms, samples.p99_ms)
    assert found == pytest.approx(tuple(np.percentile(values, (5, 95, 99))))
    assert Samples((20.0, 40.0, 30.0)).throughput(16) == pytest.approx(16 / 0.030)


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
    timed = "".join(clock.calls[warm:])
    for start in range(0, len(timed), 4):
        assert timed[start : start + 4] in ("aabb", "bbaa"), "one untimed call, one timed"


def test_no_candidate_always_follows_the_same_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    interleave(dict(clock.candidate(name, 0.010) for name in "abc"), rounds=60)
    calls = "".join(clock.calls)
    rounds = [calls[i : i + 6 : 2] for i in range(len(calls) - 60 * 6, len(calls), 6)]
    assert all(sorted(order) == list("abc") for order in rounds)
    before = [one + two for order in rounds for one, two in pairwise(order)]
    for pair in ("ab", "ac", "ba", "bc", "ca", "cb"):
        assert before.count(pair) > 8, f"{pair} of {len(before)}"


def test_garbage_waits_and_is_collected_again_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    seen: list[bool] = []

    def call() -> None:
        seen.append(gc.isenabled())
        clock.now += 0.01

    assert gc.isenabled()
    interleave({"a": call}, rounds=3)
    assert gc.isenabled()
    assert not any(seen)

    def fails() -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        interleave({"a": fails})
    assert gc.isenabled()


def warm_up_calls(monkeypatch: pytest.MonkeyPatch, latencies: list[float]) -> int:
    """How many calls a warm-up makes; after ``latencies`` all take as long as the last of them."""
    clock = Clock(monkeypatch)
    rest = iter(latencies + latencies[-1:] * 100)
    made = 0

    def call() -> None:
        nonlocal made
        made += 1
        clock.now += next(rest)

    warm_up(call, most_seconds=60)
    return made


def test_warm_up_goes_on_while_calls_become_quicker(monkeypatch: pytest.MonkeyPatch) -> None:
    made = warm_up_calls(monkeypatch, [0.1 * 0.9**n for n in range(12)])
    assert made == 12 + timing.STEADY_CALLS


def test_one_slow_call_does_not_end_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    made = warm_up_calls(monkeypatch, [0.1, 0.3, 0.3, 0.05, 0.3, 0.02])
    assert made == 6 + timing.STEADY_CALLS


def test_warm_up_ends_where_calls_are_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    _, call = clock.candidate("slow", 5.0)
    assert warm_up(call) == 1  # type: ignore[arg-type]
    assert len(clock.calls) == timing.FEWEST_CALLS


class Shop:
    """Opens candidates anew; how fast they are depends on the opening."""

    def __init__(self, clock: Clock, factors: Sequence[float]) -> None:
        self.clock, self.factors = clock, factors
        self.opened: list[int] = []

    def __call__(self, number: int) -> dict[str, Callable[[], object]]:
        self.opened.append(number)
        factor = self.factors[number]
        pairs = [self.clock.candidate("a", 0.010), self.clock.candidate("b", 0.010 * factor)]
        return dict(pairs)  # type: ignore[arg-type]


def test_openings_share_the_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop(Clock(monkeypatch), [1.0, 2.0, 3.0])
    rounds: list[int] = []
    samples = over_openings(shop, openings=3, rounds=10, on_round=rounds.append)
    assert shop.opened == [0, 1, 2]
    assert rounds == list(range(1, 11))
    assert samples["a"].opened == samples["b"].opened == (0, 3, 6)
    assert samples["b"].ratios_to(samples["a"]) == pytest.approx([1] * 3 + [2] * 3 + [3] * 4)
    assert Samples.from_json(asdict(samples["b"])) == samples["b"]


def test_an_opening_has_three_rounds_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop(Clock(monkeypatch), [1.0] * 5)
    samples = over_openings(shop, openings=5, rounds=7)
    assert shop.opened == [0, 1]
    assert samples["a"].opened == (0, 3)
    assert len(samples["a"].milliseconds) == 7
    assert over_openings(shop, openings=5, rounds=3)["a"].opened == (0,)


def test_nothing_is_opened_when_the_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop(Clock(monkeypatch), [1000.0] * 5)
    samples = over_openings(shop, openings=5, rounds=100, seconds=30)
    assert shop.opened == [0]
    assert len(samples["a"].milliseconds) == 5


def test_samples_of_old_records_were_opened_once() -> None:
    assert Samples.from_json({"milliseconds": [1.0, 2.0]}) == Samples((1.0, 2.0), (0,))


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
