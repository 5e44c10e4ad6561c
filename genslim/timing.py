"""Latency, measured fairly: all candidates in turn, round after round, in one process.

A machine's speed drifts; two candidates timed one after the other meet two machines. Here every
round times each candidate once, so that a ratio within a round compares like with like, and the
median over rounds is quoted, with an interval that says how well it is known. Raw samples are kept,
all of them: an outlier is what users meet too.
"""

from __future__ import annotations

import gc
import math
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

STEADY_CALLS = 5
"""Warm-up ends when so many calls in a row were no quicker than the quickest before them."""
QUICKER = 0.95
"""Quicker means at most this share of the time."""
FEWEST_CALLS = 3
"""Of a warm-up, however slow."""


@dataclass(frozen=True)
class Samples:
    """Latencies of one candidate, in the order of the rounds."""

    milliseconds: tuple[float, ...]
    opened: tuple[int, ...] = (0,)
    """The rounds before which the sessions of all candidates were opened, the first 0."""

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

    @property
    def p5_ms(self) -> float:
        """The 5th percentile: nearly undisturbed."""
        return self.percentile_ms(5)

    @property
    def p95_ms(self) -> float:
        """The 95th percentile."""
        return self.percentile_ms(95)

    @property
    def p99_ms(self) -> float:
        """The 99th percentile; of fewer than 100 rounds little more than the slowest."""
        return self.percentile_ms(99)

    def throughput(self, batch: int) -> float:
        """Images a second, one batch after the other, at the median latency."""
        return batch * 1e3 / self.median_ms

    def ratios_to(self, baseline: Samples) -> tuple[float, ...]:
        """This latency by the baseline's, round by round."""
        pairs = zip(self.milliseconds, baseline.milliseconds, strict=True)
        return tuple(ours / theirs for ours, theirs in pairs)

    def ratio_to(self, baseline: Samples) -> float:
        """Median over rounds of this latency by the baseline's in the same round."""
        return statistics.median(self.ratios_to(baseline))

    def ratio_interval(self, baseline: Samples, confidence: float = 0.95) -> tuple[float, float]:
        """Where :meth:`ratio_to` lies with the given confidence, by the bootstrap.

        It allows for neighbouring rounds that are alike, and, where sessions were opened more than
        once, for openings that are not; see :mod:`genslim.bootstrap`.

        Args:
            baseline: samples of the same rounds.
            confidence: how often such an interval holds the true ratio, between 0 and 1.

        Returns:
            Its ends, the same each time. Of fewer than 6 rounds the least and the greatest ratio,
            which hold the true one less often than asked.
        """
        from genslim.bootstrap import median_interval

        logs = tuple(math.log(ratio) for ratio in self.ratios_to(baseline))
        low, high = median_interval(logs, self.opened, confidence)
        return math.exp(low), math.exp(high)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Samples:
        """Rebuild samples from what ``dataclasses.asdict`` made of them."""
        return cls(tuple(data["milliseconds"]), tuple(data.get("opened", (0,))))

    def then(self, later: Samples) -> Samples:
        """These, and after them those of a later opening."""
        count = len(self.milliseconds)
        opened = self.opened + tuple(count + place for place in later.opened)
        return Samples(self.milliseconds + later.milliseconds, opened)


def interleave(
    candidates: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 30,
    seconds: float | None = None,
    on_round: Callable[[int], None] = lambda _: None,
    seed: int = 0,
) -> dict[str, Samples]:
    """Time ``candidates`` in turn.

    Each timed call follows an untimed one of the same candidate, which wakes its threads and warms
    its caches after its neighbour; calls shorter than 2 ms are repeated and averaged. Every second
    round has a random order, and the one after it the reverse: in a fixed order, or one that turns,
    a candidate would nearly always follow the same neighbour, and a scheduler that remembers what
    ran before (on Linux, a thread that slept goes first) would favour one over another. Python's
    collection of garbage waits meanwhile.

    Args:
        candidates: what to call, by name; a call must wait for its own result.
        rounds: how many rounds at least 3.
        seconds: stop early after this time, but never before 5 rounds.
        on_round: called with the number of rounds done.
        seed: of the orders.

    Returns:
        Samples of equal length for each candidate, none left out.
    """
    names = list(candidates)
    chance = random.Random(seed)  # noqa: S311  not a secret
    raw: dict[str, list[float]] = {name: [] for name in names}
    with without_garbage_collection():
        repeats = {name: warm_up(candidates[name]) for name in names}
        started = time.monotonic()
        for done in range(max(3, rounds)):
            names = names[::-1] if done % 2 else chance.sample(names, len(names))
            for name in names:
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


def over_openings(
    opener: Callable[[int], Mapping[str, Callable[[], object]]],
    *,
    openings: int = 5,
    rounds: int = 30,
    seconds: float | None = None,
    on_round: Callable[[int], None] = lambda _: None,
) -> dict[str, Samples]:
    """Time candidates in turn, and open them anew every few rounds.

    One artifact opened twice on a loaded machine was seen to differ from itself by 5 % and more,
    for as long as both stayed open. So the rounds are spread over openings, and the interval of a
    ratio is taken over them.

    Args:
        opener: given 0, 1, 2 …: closes what it opened before, opens all candidates in another
            order than the time before, and returns what to call, by name.
        openings: how often; fewer where each would have less than 3 rounds.
        rounds: how many in all.
        seconds: stop early after this time, but never before 5 rounds.
        on_round: called with the number of rounds done.

    Returns:
        Samples of equal length for each candidate, none left out.
    """
    openings = max(1, min(openings, rounds // 3))
    started = time.monotonic()
    found: dict[str, Samples] = {}
    for number in range(openings):
        done = len(next(iter(found.values())).milliseconds) if found else 0
        samples = interleave(
            opener(number),
            rounds=(rounds - done) // (openings - number),
            seconds=None if seconds is None else seconds / openings,
            on_round=lambda more, done=done: on_round(done + more),  # type: ignore[misc]
            seed=number,
        )
        found = {n: found[n].then(s) for n, s in samples.items()} if found else samples
        if seconds is not None and time.monotonic() - started > seconds:
            break
    return found


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Collect now, and not again before the end; reference counting goes on."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def warm_up(call: Callable[[], object], *, most_seconds: float = 1.0) -> int:
    """Call until the latency stops falling; return how many calls make a sample of about 2 ms.

    It has stopped when ``STEADY_CALLS`` calls in a row brought nothing quicker: noise only slows
    calls down, so one slow call does not end it. Where calls are so slow that ``most_seconds``
    are over first it ends too, and the first rounds may still be slow: the samples show it.
    """
    best = float("inf")
    begun = time.perf_counter()
    steady = calls = 0
    while steady < STEADY_CALLS:
        start = time.perf_counter()
        call()
        end = time.perf_counter()
        taken, calls = end - start, calls + 1
        steady = 0 if taken < QUICKER * best else steady + 1
        best = min(best, taken)
        if calls >= FEWEST_CALLS and end - begun >= most_seconds:
            break
    return max(1, min(50, round(2e-3 / best)))
