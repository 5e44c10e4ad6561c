"""What a reader of a measurement should distrust, and what to do about it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from bench.metrics.defects import NOT_FINITE
from bench.metrics.distribution import collapse

if TYPE_CHECKING:
    from bench.measurement import Artifact, Measurement, Reading

UNSTABLE = 0.20
"""Latencies whose interquartile range exceeds this share of the median are called unstable."""
UNSURE = 0.10
"""Ratios whose interval reaches further than this share from the ratio are called unsure."""
DRIFT = 1.25
"""Latencies whose first third is this many times the last, or the reverse, are called drifting."""
FEWEST_TO_DRIFT = 15
"""Rounds: fewer have no thirds worth comparing."""
IDLE_LOAD = 0.5
"""Cores: a machine with more than this at work was doing something else."""


def doubts(measurement: Measurement) -> list[str]:
    """Everything, a line each."""
    lines: list[str] = []
    for artifact, reading in measurement.all_readings():
        lines += doubts_of_images(measurement, artifact, reading)
    return [*lines, *doubts_of_times(measurement)]


def doubts_of_images(
    measurement: Measurement, artifact: Artifact, reading: Reading
) -> Iterator[str]:
    """What is wrong with the images of one artifact on one runtime."""
    who, count = f"{artifact.name} on {reading.runtime}", measurement.count
    if broken := reading.quality.broken:
        yield (
            f"{who}: {broken} of {count} images hold NaN or infinity, so no quality is quoted; "
            "undo the step, or run it at a higher precision"
        )
    if wrong := {k: v for k, v in reading.quality.defect_counts.items() if k != NOT_FINITE}:
        found = ", ".join(f"{number} {name}" for name, number in wrong.items())
        yield (
            f"{who}: of {count} images, {found}, which the original's own are not; look at them "
            "in the report, or undo the step"
        )
    original = measurement.baseline.distribution
    if (
        original is not None
        and reading.distribution is not None
        and (reason := collapse(reading.distribution, original))
    ):
        yield f"{who}: modes have collapsed ({reason}); undo the step, or recover on more inputs"


def doubts_of_times(measurement: Measurement) -> Iterator[str]:
    """What was wrong with the machine, and how well latencies are known."""
    place, rounds, asked = measurement.environment, measurement.rounds, measurement.rounds_asked
    if place.load is not None and place.load > IDLE_LOAD:
        yield (
            f"the machine was busy before the measurement began ({place.load:g} cores at work); "
            "close other programs, and measure again"
        )
    threads = measurement.target.threads
    if place.physical_cores is not None and threads and threads > place.physical_cores:
        yield (
            f"{threads} threads share {place.physical_cores} physical cores; measure with "
            f"--target {measurement.target.runtime}:threads={place.physical_cores}"
        )
    if asked is not None and rounds < asked:
        yield (
            f"time was up after {rounds} of {asked} rounds; give it more (bench run --seconds), or "
            "measure on fewer runtimes (--runtimes)"
        )
    if unstable := named(measurement, lambda r: r.spread > UNSTABLE, lambda r: f"{r.spread:.0%}"):
        yield (
            f"latencies vary between rounds (interquartile range by median: {unstable}); close "
            "other programs, or measure longer: bench run --rounds 100 --seconds 300"
        )
    if drifting := named(
        measurement, lambda r: not 1 / DRIFT < drift(r) < DRIFT, lambda r: f"{drift(r):.2f}x"
    ):
        yield (
            f"the machine's speed drifted (first third of the rounds by the last: {drifting}); let "
            "it settle, and measure again"
        )
    # A baseline against itself is sure.
    halves = {id(r): half_width(measurement, r) for _, r in measurement.all_readings()}
    if unsure := named(
        measurement, lambda r: halves[id(r)] > UNSURE, lambda r: f"±{halves[id(r)]:.0%}"
    ):
        # Intervals shrink with the square root of the rounds.
        factor = min(100.0, (max(halves.values()) / UNSURE) ** 2)
        yield (
            f"speed-ups are known roughly (95 % interval: {unsure}); measure longer: bench run "
            f"--openings 10 --rounds {math.ceil(rounds * factor / 10) * 10} --seconds 600"
        )


def named(
    measurement: Measurement,
    which: Callable[[Reading], bool],
    said: Callable[[Reading], str],
) -> str:
    """Those readings that a test picks, each with its figure; empty where none is picked."""
    return ", ".join(
        f"{a.name} on {r.runtime} {said(r)}" for a, r in measurement.all_readings() if which(r)
    )


def drift(reading: Reading) -> float:
    """The median of the first third of the rounds by that of the last; 1 of too few."""
    from statistics import median

    samples = reading.latency.milliseconds
    if len(samples) < FEWEST_TO_DRIFT:
        return 1.0
    third = len(samples) // 3
    return median(samples[:third]) / median(samples[-third:])


def half_width(measurement: Measurement, reading: Reading) -> float:
    """How far the interval of the ratio to the baseline reaches, as a share of the ratio."""
    if reading is measurement.baseline:
        return 0.0
    low, high = reading.latency.ratio_interval(measurement.baseline.latency)
    return math.sqrt(high / low) - 1
