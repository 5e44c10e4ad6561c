"""Whether something changed: a figure before and after, and what may honestly be said of it.

A figure that comes out the same each time is compared as it is. A time is called changed only if
the confidence interval of its ratio excludes 1 *and* the ratio exceeds a least effect: an interval
alone would sooner or later call a change of a thousandth, which nobody feels and a new memory
layout makes. ``benchmarks/honesty.py`` counts how often this is right.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from genslim.bootstrap import LEAST_ROUNDS
from genslim.timing import Samples

Direction = Literal["lower", "higher"]
Verdict = Literal["faster", "slower", "better", "worse", "no change"]

CONFIDENCE = 0.95
LEAST_EFFECT = 0.03
"""Of times in one run: closer to 1 is no change, however sure."""
LEAST_EFFECT_APART = 0.05
"""Of times in two runs: memory lies elsewhere in another process, which no interval shows."""


@dataclass(frozen=True)
class Change:
    """One figure of one artifact, before and after."""

    figure: str
    """``latency``, ``ssim_mean``, ``size_bytes`` …"""
    direction: Direction
    """Which way is better."""
    base: float
    """Before; latencies in milliseconds a batch."""
    head: float
    """After."""
    ratio: float | None
    """After by before; None where before is 0. Of times that of paired rounds, or of ratios to
    each run's own baseline: not ``head / base``."""
    interval: tuple[float, float] | None
    """Of the ratio; None: the figure comes out the same each time."""
    verdict: Verdict
    least: float = 0.0
    """The least effect that counts: of times a share, of other figures a difference."""

    @property
    def changed(self) -> bool:
        """Whether a change is called."""
        return self.verdict != "no change"

    @property
    def worsened(self) -> bool:
        """Whether a change for the worse is called."""
        return self.verdict in ("slower", "worse")

    @property
    def settled(self) -> bool:
        """Whether the verdict rests on enough: of no change, that the interval shows none."""
        if self.interval is None or self.changed:
            return True
        low, high = self.interval
        return 1 / (1 + self.least) <= low <= high <= 1 + self.least

    def __str__(self) -> str:
        if self.interval is None or self.ratio is None:
            return self.verdict
        low, high = self.interval
        said = f"{self.verdict}, ratio {self.ratio:.3f} ({low:.3f} to {high:.3f})"
        return said if self.settled else f"{said}: too rough to exclude one; measure longer"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {**asdict(self), "settled": self.settled}


def paired(
    base: Samples,
    head: Samples,
    *,
    confidence: float = CONFIDENCE,
    least: float = LEAST_EFFECT,
) -> Change:
    """Latency of ``head`` by that of ``base`` in the same rounds.

    Args:
        base: before.
        head: after; sample ``i`` is of the same round.
        confidence: of the interval.
        least: the least effect that counts, as a share.
    """
    ratio, interval = head.ratio_to(base), head.ratio_interval(base, confidence)
    enough = len(base.milliseconds) >= LEAST_ROUNDS
    verdict = verdict_on_time(ratio, interval, least) if enough else "no change"
    return Change(
        "latency", "lower", base.median_ms, head.median_ms, ratio, interval, verdict, least
    )


def apart(
    base: Samples,
    base_control: Samples,
    head: Samples,
    head_control: Samples,
    *,
    confidence: float = CONFIDENCE,
    least: float = LEAST_EFFECT_APART,
) -> Change:
    """Latency of ``head`` by that of ``base``, where each was measured in a run of its own.

    The two have no rounds in common. But each has a control in its own rounds, the same original on
    the same runtime, so that what is compared are the ratios to it, and a machine that was slower
    in one of the runs changes nothing.

    Args:
        base: before.
        base_control: the control in the same rounds.
        head: after.
        head_control: the control in the same rounds as ``head``.
        confidence: of the interval.
        least: the least effect that counts, as a share.
    """
    from genslim.bootstrap import difference_interval

    ours, theirs = head.ratios_to(head_control), base.ratios_to(base_control)
    low, high = difference_interval(
        tuple(map(math.log, ours)),
        tuple(map(math.log, theirs)),
        (head.opened, base.opened),
        confidence,
    )
    ratio = head.ratio_to(head_control) / base.ratio_to(base_control)
    interval = math.exp(low), math.exp(high)
    enough = min(len(ours), len(theirs)) >= LEAST_ROUNDS
    verdict = verdict_on_time(ratio, interval, least) if enough else "no change"
    return Change(
        "latency", "lower", base.median_ms, head.median_ms, ratio, interval, verdict, least
    )


def verdict_on_time(ratio: float, interval: tuple[float, float], least: float) -> Verdict:
    """What may be said of a latency ratio."""
    low, high = interval
    if low > 1 and ratio > 1 + least:
        return "slower"
    if high < 1 and ratio < 1 / (1 + least):
        return "faster"
    return "no change"


def exact(
    figure: str, base: float, head: float, direction: Direction, least: float = 0.0
) -> Change:
    """A figure that comes out the same each time.

    Args:
        figure: its name.
        base: before.
        head: after.
        direction: which way is better.
        least: a difference that is no more than this is none: sums of floating-point numbers in
            another order.
    """
    verdict: Verdict = "no change"
    if abs(head - base) > least:
        verdict = "better" if (head < base) == (direction == "lower") else "worse"
    return Change(
        figure, direction, base, head, head / base if base else None, None, verdict, least
    )
