"""Throughput against batch as SVG: a panel for each number of threads, a line for each artifact.

In the style of :mod:`bench.plots.plot`, and with its classes, so that it takes the page's fonts and
colours. Both scales are logarithmic, where twice the batch and twice the speed are as far apart
everywhere: a line that rises by as much as it goes to the right gains in full from the batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from bench.plots.plot import latency_ticks, line, shape, text
from bench.sweep import Point
from bench.tables.rows import in_words, significant

LABEL_HEIGHT = 16
"""Pixels from one name to the next."""
LETTER = 7.2
"""Pixels of a letter in a name."""


@dataclass(frozen=True)
class Frame:
    """A panel: pixels, and the values at its edges."""

    width: int
    height: int
    batches: tuple[int, ...]
    """In rising order."""
    least: float
    """Images a second at the bottom."""
    most: float
    right: float
    """Pixels for names, right of the last batch."""
    left: int = 56
    top: int = 30
    bottom: int = 44

    def x(self, batch: int) -> float:
        """Pixels from the left; a single batch stands in the middle."""
        low, high = self.batches[0], self.batches[-1]
        share = math.log(batch / low) / math.log(high / low) if high > low else 0.5
        return self.left + 14 + share * (self.width - self.left - self.right - 28)

    def y(self, images_per_second: float) -> float:
        """Pixels from the top."""
        share = math.log(self.most / images_per_second) / math.log(self.most / self.least)
        return self.top + share * (self.height - self.top - self.bottom)


def sweep_plots(points: Sequence[Point], *, width: int, height: int) -> list[str]:
    """An ``<svg>`` element for each number of threads, all on the same scale.

    Args:
        points: a measurement's sweep.
        width: of each view box, in the page's pixels: text is as large as the page's own.
        height: likewise.

    Returns:
        Empty where nothing ran.
    """
    ran = [p for p in points if p.samples is not None]
    if not ran:
        return []
    speeds = [speed(p) for p in ran]
    frame = Frame(
        width,
        height,
        tuple(sorted({p.batch for p in ran})),
        min(speeds) / 1.3,
        max(speeds) * 1.3,
        right=LETTER * max(len(p.artifact) for p in ran) + 20,
    )
    return [
        panel(frame, [p for p in ran if p.threads == threads], threads)
        for threads in dict.fromkeys(p.threads for p in ran)
    ]


def speed(point: Point) -> float:
    """Images a second of a point that ran."""
    assert point.images_per_second is not None
    return point.images_per_second


def panel(frame: Frame, points: Sequence[Point], threads: int) -> str:
    """The figure of one number of threads."""
    said = f"Images a second against the batch, with {in_words(threads)}: further up is faster"
    parts = [f'<svg viewBox="0 0 {frame.width} {frame.height}" role="img" aria-label="{said}">']
    parts += axes(frame, threads)
    ends = []
    for name in dict.fromkeys(p.artifact for p in points):
        mine = sorted((p for p in points if p.artifact == name), key=lambda p: p.batch)
        path = " ".join(f"{frame.x(p.batch):.1f},{frame.y(speed(p)):.1f}" for p in mine)
        parts.append(f'<polyline class="way" points="{path}"/>')
        parts += [mark(frame, p) for p in mine]
        ends.append((frame.y(speed(mine[-1])), name, frame.x(mine[-1].batch)))
    parts += names(frame, ends)
    return "".join((*parts, "</svg>"))


def axes(frame: Frame, threads: int) -> list[str]:
    """Grid, ticks and titles."""
    left, right = frame.left, frame.width - frame.right
    top, bottom = frame.top, frame.height - frame.bottom
    parts = []
    for value in latency_ticks(frame.least, frame.most):
        y = frame.y(value)
        parts.append(line(left, y, right, y) + text("tick", left - 8, y + 4, f"{value:g}", "end"))
    for batch in frame.batches:
        x = frame.x(batch)
        parts.append(line(x, top, x, bottom) + text("tick", x, bottom + 17, str(batch), "middle"))
    parts.append(text("axis", left, top - 12, f"images a second, {in_words(threads)}", "start"))
    parts.append(text("axis", right, frame.height - 6, "batch, log scale", "end"))
    return parts


def mark(frame: Frame, point: Point) -> str:
    """A point in its runtime's shape, with its figures as a title."""
    assert point.samples is not None
    said = escape(
        f"{point.artifact} on {point.runtime}: {significant(speed(point))} images a second at "
        f"batch {point.batch} ({significant(point.samples.median_ms)} ms)"
    )
    form = shape(point.runtime, frame.x(point.batch), frame.y(speed(point)), 5.0)
    return f'<g class="mark {escape(point.runtime)}"><title>{said}</title>{form}</g>'


def names(frame: Frame, ends: Sequence[tuple[float, str, float]]) -> list[str]:
    """The artifacts' names beside the ends of their lines, moved apart where they would overlap.

    Args:
        frame: the panel.
        ends: for each line the pixels from the top at its end, its name, the pixels from the left.
    """
    parts: list[str] = []
    room = frame.height - frame.bottom
    ordered = sorted(ends)
    places: list[float] = []
    for y, _, _ in ordered:
        places.append(max(y, places[-1] + LABEL_HEIGHT) if places else y)
    for index in range(len(places) - 1, -1, -1):  # what went below the panel goes back up
        ceiling = room if index == len(places) - 1 else places[index + 1] - LABEL_HEIGHT
        places[index] = min(places[index], ceiling)
    for place, (y, name, x) in zip(places, ordered, strict=True):
        if abs(place - y) > LABEL_HEIGHT / 2:
            parts.append(line(x + 7, y, x + 14, place))
        parts.append(text("name", x + 16, place + 4, name, "start"))
    return parts
