"""Sentences that every report holds: how it was measured, and what it doesn't know."""

from __future__ import annotations

from collections.abc import Sequence

from bench import rows
from bench.measurement import Measurement


def method(measurement: Measurement) -> str:
    """How the figures were taken, in a sentence or two."""
    target, quality = measurement.target, measurement.baseline.quality
    return (
        f"Latency of a batch of {target.batch} with {rows.in_words(target.threads)}: median of "
        f"{measurement.rounds} rounds in which every candidate ran once; speed-ups are medians of "
        f"ratios within a round, against {rows.baseline_name(measurement)}. Quality against the "
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
