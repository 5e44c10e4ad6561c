"""Sentences that every report holds: the headline, the gains, how it was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.measurement import BASELINE, Measurement
from bench.tables import rows
from bench.tables.rows import Row, baseline_name, in_words, last_measured, row, times

ABOUT_EQUAL = 0.05
"""Speeds closer than this share are called the same."""


def method(measurement: Measurement) -> str:
    """How the figures were taken, in a sentence or two."""
    target, quality = measurement.target, measurement.baseline.quality
    opened = len(measurement.baseline.latency.opened)
    openings = "one opening" if opened == 1 else f"{opened} openings"
    return (
        f"Latency of a batch of {target.batch} with {rows.in_words(target.threads)}: median of "
        f"{measurement.rounds} rounds in which every candidate ran once, in {openings} of all; "
        "speed-ups are medians of ratios within a round, against "
        f"{rows.baseline_name(measurement)}, with 95 % intervals by a bootstrap of openings and "
        "rounds. Quality against the "
        f"original on {measurement.count} inputs that no step was fitted on: SSIM of Wang et al. "
        f"2004 (Gaussian window 11x11, sigma 1.5, data range {quality.data_range:g}, channels "
        "averaged). "
        "Memory is the peak of a fresh process."
    )


def stale(missing: Sequence[str]) -> list[str]:
    """A line about artifacts that the measurement does not know."""
    if not missing:
        return []
    return [
        f"made after the measurement and not in it: {', '.join(missing)}; measure again: bench run"
    ]


@dataclass(frozen=True)
class Headline:
    """The one line that a report begins with, in its parts."""

    speed: str
    """``12.9× faster``."""
    rival: str
    """``PyTorch eager fp32``."""
    quality: str
    """``SSIM 0.951``."""
    where: str
    """``openvino, int8, batch 16, 2 threads; 12.1–13.4× in 95 %``."""

    @property
    def joint(self) -> str:
        """The word between speed and rival."""
        return "as" if self.speed == "as fast" else "than"

    def __str__(self) -> str:
        return f"{self.speed} {self.joint} {self.rival} at {self.quality} ({self.where})"


def headline(measurement: Measurement) -> Headline:
    """How fast and how good the last artifact is."""
    artifact, reading = last_measured(measurement)
    figures = row(measurement, artifact, reading, artifact.name)
    assert figures.speedup is not None
    quality = f"SSIM {figures.ssim:.3f}" if figures.ssim is not None else "no SSIM"
    if figures.broken:
        quality = f"no quality: {figures.broken} of {measurement.count} images hold NaN"
    elif figures.ssim is None and figures.psnr_db is not None:
        quality = f"PSNR {figures.psnr_db:.1f} dB"
    execution = reading.execution
    where = (
        f"{execution.runtime}, {execution.precision}, batch {measurement.target.batch}, "
        f"{in_words(execution.threads)}"
    )
    if ends := rows.speedup_interval(measurement, reading):
        where += f"; {rows.times_between(ends)} in 95 %"
    return Headline(faster(figures.speedup), baseline_name(measurement), quality, where)


def faster(speedup: float) -> str:
    """A factor in words, without a rival: ``12.9× faster``, ``1.30× slower``, ``as fast``."""
    if abs(speedup - 1) < ABOUT_EQUAL:
        return "as fast"
    return f"{times(speedup)} faster" if speedup > 1 else f"{times(1 / speedup)} slower"


@dataclass(frozen=True)
class Gain:
    """What one step gained and cost against the artifact it was made from."""

    step: str
    before: str
    speed: str
    """``2.10× faster``, or why nothing can be said."""
    costs: tuple[str, ...]
    """Quality and size: ``SSIM 0.9984 to 0.9712 (-0.0272)``, ``params -74 %``."""

    def __str__(self) -> str:
        return f"{self.step}: " + "; ".join((self.speed, *self.costs))


def gains(measurement: Measurement) -> list[Gain]:
    """A sentence for the change of runtime, and one for each step."""
    found = []
    original = measurement.artifacts[0]
    if original.best is not None and original.best is not measurement.baseline:
        now = row(measurement, original, original.best, original.name)
        was = row(measurement, original, measurement.baseline, BASELINE)
        found.append(gain(now, was, f"runtime alone ({now.runtime} {now.precision})"))
    for artifact in measurement.artifacts[1:]:
        parent = measurement.artifact(artifact.parent)
        before = row(measurement, parent, parent.best, parent.name) if parent else None
        now = row(measurement, artifact, artifact.best, artifact.name)
        found.append(gain(now, before, artifact.name))
    return found


def gain(now: Row, before: Row | None, name: str) -> Gain:
    """Compare a row with the one before."""
    costs = []
    if now.change is None:
        speed = "not measured"
    else:
        speed = faster(now.change)
        if before and (now.runtime, now.precision) != (before.runtime, before.precision):
            speed += f" on {now.runtime} {now.precision}"
    if before:
        if now.broken:
            costs.append(f"{now.broken} images hold NaN or infinity")
        elif now.ssim is not None and before.ssim is not None:
            moved = now.ssim - before.ssim
            costs.append(
                f"SSIM {before.ssim:.4f} to {now.ssim:.4f} ({signed(moved, '.4f')})"
                if abs(moved) >= 5e-5
                else f"SSIM stays {now.ssim:.4f}"
            )
        pairs = (
            ("params", before.parameters, now.parameters),
            ("MACs", before.macs, now.macs),
            ("disk", before.disk_bytes, now.disk_bytes),
        )
        costs += [
            f"{what} {signed(100 * (new / old - 1), '.0f')} %"
            for what, old, new in pairs
            if old and new is not None and abs(new / old - 1) >= 0.005
        ]
    return Gain(name, before.step if before else BASELINE, speed, tuple(costs))


def signed(value: float, form: str) -> str:
    """A change with its sign, the minus as long as the plus."""
    return f"{value:+{form}}".replace("-", "−")
