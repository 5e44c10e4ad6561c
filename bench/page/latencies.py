"""How latencies are spread: the density and every sample, with p5, median and p95."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from bench.measurement import BASELINE, Measurement, Reading
from bench.plots.plot import latency_ticks
from bench.tables import rows
from genslim.timing import Samples

WIDTH, HEIGHT = 600, 46
CONFIDENCE = 0.95
DENSE, MIDDLE, STRIP = 25.0, 29.0, 39.0
"""Heights, from the top: the density's foot, the bar from p5 to p95, the middle of the samples."""


@dataclass(frozen=True)
class Latency:
    """One row: the samples of an artifact on a runtime."""

    name: str
    runtime: str
    samples: Samples
    figure: str
    """An ``<svg>`` element."""
    ratio: str
    """The latency by the baseline's."""
    interval: str
    """The confidence interval of the ratio; none for the baseline itself."""

    def cell(self, percent: float) -> str:
        """A percentile as text."""
        return rows.milliseconds(self.samples.percentile_ms(percent))


@dataclass(frozen=True)
class Latencies:
    """All rows on one logarithmic scale."""

    rows: Sequence[Latency]
    ticks: Sequence[tuple[float, str]]
    """Place from the left in percent, and milliseconds."""


@dataclass(frozen=True)
class Scale:
    """A logarithmic scale of milliseconds over the figure's width."""

    low: float
    high: float

    def share(self, milliseconds: float) -> float:
        """Where a latency lies, 0 at the left and 1 at the right."""
        return math.log(milliseconds / self.low) / math.log(self.high / self.low)

    def x(self, milliseconds: float) -> float:
        """The same in the figure's pixels."""
        return WIDTH * self.share(milliseconds)


def latencies(measurement: Measurement) -> Latencies:
    """The baseline and every artifact on its best runtime."""
    first = measurement.artifacts[0]
    readings = [(a.name, a.best) for a in measurement.artifacts if a.best]
    if first.best is not measurement.baseline:
        readings.insert(0, (BASELINE, measurement.baseline))
    every = [ms for _, reading in readings for ms in reading.latency.milliseconds]
    scale = Scale(min(every) / 1.15, max(every) * 1.15)
    ticks = latency_ticks(scale.low, scale.high)
    return Latencies(
        [
            Latency(
                name,
                reading.runtime,
                reading.latency,
                figure(reading, scale, ticks),
                *ratio(reading, measurement.baseline),
            )
            for name, reading in readings
        ],
        [(100 * scale.share(tick), f"{tick:g}") for tick in ticks],
    )


def ratio(reading: Reading, baseline: Reading) -> tuple[str, str]:
    """The latency as a part of the baseline's, and the confidence interval of that."""
    if reading is baseline:
        return "1", ""
    middle = reading.latency.ratio_to(baseline.latency)
    low, high = reading.latency.ratio_interval(baseline.latency, CONFIDENCE)
    return rows.significant(middle), f"{rows.significant(low)} to {rows.significant(high)}"


def figure(reading: Reading, scale: Scale, ticks: Sequence[float]) -> str:
    """Density, the bar from p5 to p95, the median, and a dot for each sample."""
    samples = reading.latency
    low, median, high = (scale.x(samples.percentile_ms(p)) for p in (5, 50, 95))
    said = (
        f"{len(samples.milliseconds)} samples: p5 {rows.milliseconds(samples.percentile_ms(5))}, "
        f"median {rows.milliseconds(samples.median_ms)}, "
        f"p95 {rows.milliseconds(samples.percentile_ms(95))}"
    )
    parts = [
        f'<svg class="spread {escape(reading.runtime)}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{said}"><title>{said}</title>'
    ]
    parts += [
        f'<line class="grid" x1="{scale.x(tick):.1f}" x2="{scale.x(tick):.1f}" y1="0" '
        f'y2="{HEIGHT}"/>'
        for tick in ticks
    ]
    if outline := density(samples.milliseconds, scale):
        parts.append(f'<polygon class="density" points="{outline}"/>')
    parts.append(
        f'<line class="range" x1="{low:.1f}" x2="{max(high, low + 1):.1f}" y1="{MIDDLE}" '
        f'y2="{MIDDLE}"/>'
    )
    # Samples of neighbouring rounds stand at different heights, so that equal ones stay apart.
    parts += [
        f'<circle cx="{scale.x(ms):.1f}" cy="{STRIP + 2.4 * (i % 5 - 2):.1f}" r="1.7"/>'
        for i, ms in enumerate(samples.milliseconds)
    ]
    parts.append(
        f'<line class="median" x1="{median:.1f}" x2="{median:.1f}" y1="3" y2="{HEIGHT - 1}"/></svg>'
    )
    return "".join(parts)


def density(milliseconds: Sequence[float], scale: Scale) -> str:
    """The points of a kernel density estimate's outline; empty where all samples are alike.

    Gaussian kernels on the logarithm, their width by Silverman's rule.
    """
    from matplotlib.mlab import GaussianKDE

    logs = np.log(milliseconds)
    if np.ptp(logs) < 1e-3:
        return ""
    estimate = GaussianKDE(logs, "silverman")
    width = 3 * logs.std() * estimate.factor
    places = np.linspace(logs.min() - width, logs.max() + width, 160)
    heights = estimate(places)
    heights /= heights.max()
    points = [(scale.x(math.exp(p)), DENSE * (1 - h)) for p, h in zip(places, heights, strict=True)]
    closed = ((points[0][0], DENSE), *points, (points[-1][0], DENSE))
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in closed)


def strip(reading: Reading, low: float, high: float, *, width: int = 150, height: int = 18) -> str:
    """Every raw sample of a latency on a log scale, and the median, as a small ``<svg>``.

    Args:
        reading: whose samples.
        low: milliseconds at the left edge, for all strips of a table alike.
        high: milliseconds at the right edge.
        width: pixels.
        height: pixels.
    """
    span = math.log(high / low) or 1.0

    def x(value: float) -> float:
        return 3 + (width - 6) * min(1.0, max(0.0, math.log(value / low) / span))

    samples = reading.latency.milliseconds
    middle = height / 2
    dots = "".join(f'<circle cx="{x(v):.1f}" cy="{middle}" r="2"/>' for v in samples)
    median = x(reading.latency.median_ms)
    said = (
        f"{len(samples)} samples, {rows.significant(min(samples))} to "
        f"{rows.significant(max(samples))} ms, "
        f"interquartile range {reading.spread:.0%} of the median"
    )
    return (
        f'<svg class="strip {escape(reading.runtime)}" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" aria-label="{said}">'
        f"<title>{said}</title>{dots}"
        f'<line x1="{median:.1f}" x2="{median:.1f}" y1="2" y2="{height - 2}"/></svg>'
    )
