"""Latency against SSIM as a hand-made SVG: it inherits the page's fonts and colours, dark too.

matplotlib's SVG carries its own glyphs and colours; this is text that a reader can select.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from bench.measurement import Measurement, Reading
from bench.rows import every_row, milliseconds, significant

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


@dataclass(frozen=True)
class Point:
    """One reading in the plane."""

    step: str
    runtime: str
    latency_ms: float
    ssim: float
    best: bool
    """On the artifact's best runtime: joined by the line, and named."""


@dataclass(frozen=True)
class Frame:
    """The plane: pixels and the values at its edges."""

    width: int
    height: int
    least_ms: float
    most_ms: float
    least_ssim: float
    left: int = 52
    right: int = 18
    top: int = 18
    bottom: int = 44
    most_ssim: float = 1.0

    def x(self, latency_ms: float) -> float:
        """Pixels from the left; the scale is logarithmic, equal factors are equally far apart."""
        share = math.log(latency_ms / self.least_ms) / math.log(self.most_ms / self.least_ms)
        return self.left + share * (self.width - self.left - self.right)

    def y(self, ssim: float) -> float:
        """Pixels from the top."""
        share = (self.most_ssim - ssim) / (self.most_ssim - self.least_ssim)
        return self.top + share * (self.height - self.top - self.bottom)


def points_of(measurement: Measurement) -> list[Point]:
    """Every reading that has an SSIM."""
    best = {a.name: a.best.runtime for a in measurement.artifacts if a.best}
    return [
        Point(row.step, row.runtime, row.latency_ms, row.ssim, best[row.step] == row.runtime)
        for row in every_row(measurement)
        if row.ssim is not None and row.latency_ms is not None and row.runtime is not None
    ]


def plot(measurement: Measurement, *, width: int, height: int) -> str:
    """The figure as an ``<svg>`` element; empty where no reading has an SSIM.

    Args:
        measurement: what to show.
        width: of the view box, in the page's pixels: text is as large as the page's own.
        height: likewise.
    """
    points = points_of(measurement)
    if not points:
        return ""
    frame = frame_for(points, width, height)
    parts = [
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="Latency against SSIM: '
        'lower latency is further left, better quality further up">'
    ]
    parts += axes(frame)
    joined = [p for p in points if p.best]
    path = " ".join(f"{frame.x(p.latency_ms):.1f},{frame.y(p.ssim):.1f}" for p in joined)
    parts.append(f'<polyline class="way" points="{path}"/>')
    parts += [mark(frame, p) for p in sorted(points, key=lambda p: p.best)]
    parts += labels(frame, points)
    return "".join((*parts, "</svg>"))


def frame_for(points: Sequence[Point], width: int, height: int) -> Frame:
    """A frame with some air around the points."""
    latencies = [p.latency_ms for p in points]
    low, high = min(latencies) / 1.35, max(latencies) * 1.35
    worst = min(p.ssim for p in points)
    air = max(0.12 * (1 - worst), 0.002)
    return Frame(width, height, low, high, worst - air, most_ssim=1 + air / 2)


def axes(frame: Frame) -> list[str]:
    """Grid, ticks and titles."""
    parts = []
    right, bottom = frame.width - frame.right, frame.height - frame.bottom
    for value in ssim_ticks(frame.least_ssim):
        y = frame.y(value)
        parts.append(
            f'<line class="grid" x1="{frame.left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        parts.append(
            f'<text class="tick" x="{frame.left - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'
        )
    for value in latency_ticks(frame.least_ms, frame.most_ms):
        x = frame.x(value)
        parts.append(
            f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{frame.top}" y2="{bottom}"/>'
        )
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{bottom + 17}" text-anchor="middle">{value:g}</text>'
        )
    parts.append(
        f'<text class="axis" x="{right}" y="{frame.height - 6}" text-anchor="end">ms a batch, log scale</text>'
    )
    parts.append(f'<text class="axis" x="{frame.left}" y="{frame.height - 6}">← faster</text>')
    parts.append(
        f'<text class="axis" x="{frame.left + 8}" y="{frame.top + 4}">SSIM ↑ better</text>'
    )
    return parts


def ssim_ticks(least: float) -> list[float]:
    """Four to eight round values from ``least`` to 1."""
    span = 1 - least
    step = next(
        s
        for s in (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1)
        if span / s <= 6
    )
    count = math.floor(span / step)
    return [round(1 - i * step, 4) for i in range(count + 1)]


def latency_ticks(low: float, high: float) -> list[float]:
    """Round values: 1, 2, 5 of each decade; powers of ten alone where that is many."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if math.log10(high / low) < 2.6 else (1,)
    found = [round(f * 10.0**d, 9) for d in decades for f in factors]
    return [v for v in found if low <= v <= high]


def mark(frame: Frame, point: Point) -> str:
    """A reading: a disc, a square, a diamond or a triangle, so that colour is not needed."""
    x, y = frame.x(point.latency_ms), frame.y(point.ssim)
    size = 6.5 if point.best else 4.0
    said = escape(
        f"{point.step} on {point.runtime}: {milliseconds(point.latency_ms)}, SSIM {point.ssim:.4f}"
    )
    kind = f'class="mark {escape(point.runtime)}{"" if point.best else " other"}"'
    return f"<g {kind}><title>{said}</title>{shape(point.runtime, x, y, size)}</g>"


def shape(runtime: str, x: float, y: float, size: float) -> str:
    """The runtime's shape around a centre."""
    s = size
    match runtime:
        case "torch":
            return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{s}"/>'
        case "onnxruntime":
            return (
                f'<rect x="{x - s:.1f}" y="{y - s:.1f}" width="{2 * s}" height="{2 * s}" rx="1"/>'
            )
        case "openvino":
            corners = ((x, y - 1.3 * s), (x + 1.3 * s, y), (x, y + 1.3 * s), (x - 1.3 * s, y))
        case _:
            corners = ((x, y - 1.2 * s), (x + 1.1 * s, y + 0.9 * s), (x - 1.1 * s, y + 0.9 * s))
    return '<polygon points="' + " ".join(f"{a:.1f},{b:.1f}" for a, b in corners) + '"/>'


def labels(frame: Frame, points: Iterable[Point]) -> list[str]:
    """The names of the best readings, each where it covers nothing, if there is such a place."""
    points = list(points)
    taken: list[Box] = []
    for p in points:
        x, y, r = frame.x(p.latency_ms), frame.y(p.ssim), 9 if p.best else 6
        taken.append((x - r, y - r, x + r, y + r))
    taken.append((frame.left, frame.top - 10, frame.left + 100, frame.top + 10))
    inside = (frame.left, frame.top - 14, frame.width, frame.height - frame.bottom)
    parts = []
    for p in points:
        if not p.best:
            continue
        x, y = frame.x(p.latency_ms), frame.y(p.ssim)
        places = [label_box(p.step, x + dx, y + dy, side) for dx, dy, side in PLACES]
        box, side = min(places, key=lambda place: covered(place[0], taken, inside))
        taken.append(box)
        anchor = {"left": "start", "middle": "middle", "right": "end"}[side]
        at = {"left": box[0], "middle": (box[0] + box[2]) / 2, "right": box[2]}[side]
        parts.append(
            f'<text class="name" x="{at:.1f}" y="{box[3] - 4:.1f}" text-anchor="{anchor}">{escape(p.step)}</text>'
        )
    return parts


PLACES = (
    (12, 4, "left"),
    (-12, 4, "right"),
    (0, 24, "middle"),
    (0, -14, "middle"),
    (10, 20, "left"),
    (-10, 20, "right"),
    (10, -11, "left"),
    (-10, -11, "right"),
    (0, 40, "middle"),
    (0, -30, "middle"),
    (14, 38, "left"),
    (-14, 38, "right"),
)
"""Where a label may stand: offset of its baseline from the point, and its side towards it."""


def label_box(text: str, x: float, baseline: float, side: str) -> tuple[Box, str]:
    """The space that a label takes, at 7.2 pixels a letter."""
    width = 7.2 * len(text)
    left = {"left": x, "middle": x - width / 2, "right": x - width}[side]
    return (left, baseline - 12, left + width, baseline + 4), side


def covered(box: Box, taken: Sequence[Box], inside: Box) -> float:
    """How much of ``box`` lies over others or outside, in square pixels."""
    within = overlap(box, inside)
    return area(box) - within + sum(overlap(box, other) for other in taken)


def area(box: Box) -> float:
    """Square pixels of a box."""
    return (box[2] - box[0]) * (box[3] - box[1])


def overlap(a: Box, b: Box) -> float:
    """Square pixels that two boxes share."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(0.0, width) * max(0.0, height)


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
        f"{len(samples)} samples, {significant(min(samples))} to {significant(max(samples))} ms, "
        f"interquartile range {reading.spread:.0%} of the median"
    )
    return (
        f'<svg class="strip {escape(reading.runtime)}" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-label="{said}"><title>{said}</title>{dots}'
        f'<line x1="{median:.1f}" x2="{median:.1f}" y1="2" y2="{height - 2}"/></svg>'
    )
