"""Latency against SSIM as a hand-made SVG: it inherits the page's fonts and colours, dark too.

matplotlib's SVG carries its own glyphs and colours; this is text that a reader can select.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from bench.measurement import Measurement
from bench.tables.rows import every_row, milliseconds

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
    parts.append(f'<polyline class="front" points="{front_path(frame, front(points))}"/>')
    joined = [p for p in points if p.best]
    path = " ".join(f"{frame.x(p.latency_ms):.1f},{frame.y(p.ssim):.1f}" for p in joined)
    parts.append(f'<polyline class="way" points="{path}"/>')
    parts += [mark(frame, p) for p in sorted(points, key=lambda p: p.best)]
    parts += labels(frame, points)
    return "".join((*parts, "</svg>"))


def front(points: Sequence[Point]) -> list[Point]:
    """The Pareto front, the fastest first: nothing else is both as fast and as good."""
    found: list[Point] = []
    for point in sorted(points, key=lambda p: (p.latency_ms, -p.ssim)):
        if not found or point.ssim > found[-1].ssim:
            found.append(point)
    return found


def front_path(frame: Frame, points: Sequence[Point]) -> str:
    """The front as stairs: at each latency the best SSIM to be had within it."""
    bottom = frame.height - frame.bottom
    first = f"{frame.x(points[0].latency_ms):.1f},{bottom:.1f}"
    corners = [
        f"{frame.x(p.latency_ms):.1f},{frame.y(q.ssim):.1f}"
        for before, p in zip([None, *points], points, strict=False)
        for q in ((before, p) if before else (p,))
    ]
    last = f"{frame.width - frame.right:.1f},{frame.y(points[-1].ssim):.1f}"
    return " ".join((first, *corners, last))


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
    left, top = frame.left, frame.top
    right, bottom = frame.width - frame.right, frame.height - frame.bottom
    for value in ssim_ticks(frame.least_ssim):
        y = frame.y(value)
        parts.append(line(left, y, right, y) + text("tick", left - 8, y + 4, f"{value:g}", "end"))
    for value in latency_ticks(frame.least_ms, frame.most_ms):
        x = frame.x(value)
        parts.append(line(x, top, x, bottom) + text("tick", x, bottom + 17, f"{value:g}", "middle"))
    foot = frame.height - 6
    parts.append(text("axis", right, foot, "ms a batch, log scale", "end"))
    parts.append(text("axis", left, foot, "← faster", "start"))
    parts.append(text("axis", left + 8, top + 4, "SSIM ↑ better", "start"))
    return parts


def line(x1: float, y1: float, x2: float, y2: float) -> str:
    """A line of the grid."""
    return f'<line class="grid" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def text(kind: str, x: float, y: float, said: str, anchor: str) -> str:
    """A text of a class, its anchor ``start``, ``middle`` or ``end``."""
    where = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text class="{kind}" {where}>{escape(said)}</text>'


def ssim_ticks(least: float) -> list[float]:
    """Up to seven round values from ``least`` to 1."""
    span = 1 - least
    grades = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
    step = next((s for s in grades if span / s <= 6), 1.0)
    return [round(1 - i * step, 4) for i in range(math.floor(span / step) + 1)]


def latency_ticks(low: float, high: float) -> list[float]:
    """Round values, the denser the shorter the scale; powers of ten alone on a long one."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    span = math.log10(high / low)
    grades = ((0.7, (1, 1.5, 2, 3, 4, 5, 7)), (1.6, (1, 2, 3, 5, 7)), (2.6, (1, 2, 5)))
    factors = next((f for most, f in grades if span < most), (1,))
    found = [round(f * 10.0**d, 9) for d in decades for f in factors]
    return [v for v in found if low <= v <= high]


def mark(frame: Frame, point: Point) -> str:
    """A reading: a disc, a square, a diamond or a triangle, so that colour is not needed."""
    size = 6.5 if point.best else 4.0
    figures = f"{milliseconds(point.latency_ms)}, SSIM {point.ssim:.4f}"
    said = escape(f"{point.step} on {point.runtime}: {figures}")
    kind = f'class="mark {escape(point.runtime)}{"" if point.best else " other"}"'
    form = shape(point.runtime, frame.x(point.latency_ms), frame.y(point.ssim), size)
    return f"<g {kind}><title>{said}</title>{form}</g>"


def shape(runtime: str, x: float, y: float, size: float) -> str:
    """The runtime's shape around a centre."""
    match runtime:
        case "torch":
            return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size}"/>'
        case "onnxruntime":
            corners = [(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)]
        case "openvino":
            corners = [(0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)]
        case _:
            corners = [(0.0, -1.2), (1.1, 0.9), (-1.1, 0.9)]
    points = " ".join(f"{x + a * size:.1f},{y + b * size:.1f}" for a, b in corners)
    return f'<polygon points="{points}"/>'


def labels(frame: Frame, points: Sequence[Point]) -> list[str]:
    """The names of the best readings, each where it covers nothing, if there is such a place."""
    taken: list[Box] = [(frame.left, frame.top - 10, frame.left + 100, frame.top + 10)]
    for p in points:
        x, y, r = frame.x(p.latency_ms), frame.y(p.ssim), 9 if p.best else 6
        taken.append((x - r, y - r, x + r, y + r))
    inside = (frame.left, frame.top - 14, frame.width, frame.height - frame.bottom)
    parts = []
    for p in points:
        if not p.best:
            continue
        x, y = frame.x(p.latency_ms), frame.y(p.ssim)
        places = [label_box(p.step, x + dx, y + dy, side) for dx, dy, side in PLACES]
        box, side = min(places, key=lambda place: covered(place[0], taken, inside))
        taken.append(box)
        at = {"start": box[0], "middle": (box[0] + box[2]) / 2, "end": box[2]}[side]
        parts.append(text("name", at, box[3] - 4, p.step, side))
    return parts


PLACES = (
    (12, 4, "start"),
    (-12, 4, "end"),
    (0, 24, "middle"),
    (0, -14, "middle"),
    (10, 20, "start"),
    (-10, 20, "end"),
    (10, -11, "start"),
    (-10, -11, "end"),
    (0, 40, "middle"),
    (0, -30, "middle"),
    (14, 38, "start"),
    (-14, 38, "end"),
)
"""Where a label may stand: offset of its baseline from the point, and its side towards it."""


def label_box(text: str, x: float, baseline: float, side: str) -> tuple[Box, str]:
    """The space that a label takes, at 7.2 pixels a letter."""
    width = 7.2 * len(text)
    left = {"start": x, "middle": x - width / 2, "end": x - width}[side]
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
