"""Latency, measured fairly: all candidates in turn, round after round, in one process.

A machine's speed drifts; two candidates timed one after the other meet two machines. Here every
round times each candidate once, so that a ratio within a round compares like with like, and the
median over rounds is quoted. Raw samples are kept.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Samples:
    """Latencies of one candidate, in the order of the rounds."""

    milliseconds: tuple[float, ...]

    @property
    def median_ms(self) -> float:
        """The median."""
        return statistics.median(self.milliseconds)

    def percentile_ms(self, percent: float) -> float:
        """The given percentile, by linear interpolation."""
        ordered = sorted(self.milliseconds)
        place = (len(ordered) - 1) * percent / 100
        low = int(place)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (ordered[high] - ordered[low]) * (place - low)

    def ratio_to(self, baseline: Samples) -> float:
        """Median over rounds of this latency by the baseline's in the same round."""
        pairs = zip(self.milliseconds, baseline.milliseconds, strict=True)
        return statistics.median(ours / theirs for ours, theirs in pairs)


def interleave(
    candidates: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 30,
    seconds: float | None = None,
    on_round: Callable[[int], None] = lambda _: None,
) -> dict[str, Samples]:
    """Time ``candidates`` in turn.

    Each timed call follows an untimed one of the same candidate, which wakes its threads and warms
    its caches after its neighbour; calls shorter than 2 ms are repeated and averaged. The order
    turns round by round, so that none always follows the same neighbour.

    Args:
        candidates: what to call, by name; a call must wait for its own result.
        rounds: how many rounds at least 3.
        seconds: stop early after this time, but never before 5 rounds.
        on_round: called with the number of rounds done.

    Returns:
        Samples of equal length for each candidate.
    """
    names = list(candidates)
    repeats = {name: warm_up(candidates[name]) for name in names}
    raw: dict[str, list[float]] = {name: [] for name in names}
    started = time.monotonic()
    for done in range(max(3, rounds)):
        for name in names[done % len(names) :] + names[: done % len(names)]:
            call, count = candidates[name], repeats[name]
            call()
            begun = time.perf_counter()
            for _ in range(count):
                call()
            raw[name].append((time.perf_counter() - begun) * 1e3 / count)
        on_round(done + 1)
        if seconds is not None and done >= 4 and time.monotonic() - started > seconds:
            break
    return {name: Samples(tuple(values)) for name, values in raw.items()}


def warm_up(call: Callable[[], object], *, least: int = 3, most_seconds: float = 1.0) -> int:
    """Call until the latency stops falling; return how many calls make a sample of about 2 ms."""
    best = float("inf")
    begun = time.perf_counter()
    stale = 0
    while stale < least and time.perf_counter() - begun < most_seconds:
        start = time.perf_counter()
        call()
        taken = time.perf_counter() - start
        stale = 0 if taken < 0.95 * best else stale + 1
        best = min(best, taken)
    return max(1, min(50, round(2e-3 / best)))
