"""The one self-contained HTML page: nothing is fetched, everything lies inside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from bench import recipe, rows
from bench.measurement import Artifact, Measurement
from bench.pictures import (
    centre,
    data_uri,
    difference,
    heat_png,
    palette_css,
    png,
    scale_of,
)
from bench.plot import plot, shape, strip
from bench.report import method, stale

if TYPE_CHECKING:
    import jinja2

MOST_BYTES = 4_200_000
"""What the pictures may take of the page; the rest is well under 5 MB with them."""
SIDES = (512, 384, 256, 128)
"""Larger pictures are cut to their centre, further where there are many."""
SMOOTH = 128
"""Pictures of fewer pixels a side are enlarged with sharp pixels."""


@dataclass(frozen=True)
class Shown:
    """One artifact's pictures."""

    name: str
    runtime: str
    images: tuple[str, ...]
    """A data URI for each input."""
    heat: tuple[str, ...]
    """Where each differs from the original's."""
    captions: tuple[str, ...]
    """The SSIM of each, or what is wrong with it."""


@dataclass(frozen=True)
class Gallery:
    """The same inputs through every artifact."""

    titles: tuple[str, ...]
    """``input 17``, one for each picture."""
    reference: tuple[str, ...]
    shown: tuple[Shown, ...]
    most: str
    """The difference that the brightest colour stands for."""
    cut: str | None
    """Said where pictures are cut to their centre: ``256×256``."""
    pixelated: bool
    aspect: float
    """Width by height."""

    @property
    def thumb(self) -> int:
        """Width of a small picture on the page, in pixels."""
        return 60 if len(self.reference) > 10 else 96

    @property
    def bytes(self) -> int:
        """What it takes of the page."""
        parts = [*self.reference, *(uri for s in self.shown for uri in (*s.images, *s.heat))]
        return sum(map(len, parts))


def render(measurement: Measurement, missing: Sequence[str] = ()) -> str:
    """The page.

    Args:
        measurement: what to show.
        missing: names of artifacts that are newer than the measurement.
    """
    original = measurement.artifacts[0]
    last, reading = rows.last_measured(measurement)
    baseline = rows.row(measurement, original, measurement.baseline, rows.BASELINE)
    samples = [v for _, r in measurement.all_readings() for v in r.latency.milliseconds]
    low, high = min(samples), max(samples)
    runtimes = dict.fromkeys(r.runtime for _, r in measurement.all_readings())
    every = [
        (rows.row(measurement, a, r, a.name), strip(r, low, high))
        for a, r in measurement.all_readings()
    ]
    return (
        templates()
        .get_template("page.html.j2")
        .render(
            m=measurement,
            headline=rows.headline(measurement),
            baseline_name=rows.baseline_name(measurement),
            tiles=tiles(baseline, rows.row(measurement, last, reading, last.name)),
            stairs=stairs(measurement),
            main=rows.MAIN,
            main_rows=rows.main_rows(measurement),
            every=rows.EVERY,
            every_rows=every,
            refusals=[(a.name, r) for a in measurement.artifacts for r in a.refusals],
            memory_reasons=[
                (a.name, a.memory) for a in measurement.artifacts if a.memory and a.memory.reason
            ],
            missing=missing,
            gallery=gallery(measurement),
            heat_css=palette_css(),
            plot_wide=plot(measurement, width=860, height=400),
            plot_narrow=plot(measurement, width=350, height=330),
                commands=recipe.commands(measurement),
            last=last,
            last_names=last.name,
        )
    )


def notebook(measurement: Measurement) -> str:
    """A fragment for a notebook: the headline, the table, a few pictures."""
    return (
        templates()
        .get_template("notebook.html.j2")
        .render(
            headline=rows.headline(measurement),
            main=rows.MAIN,
            main_rows=rows.main_rows(measurement),
            gallery=gallery(measurement),
            warnings=measurement.warnings,
        )
    )


def templates() -> jinja2.Environment:
    """The templates that lie in this package; everything put into them is escaped."""
    import jinja2

    folder = files("bench")
    return jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (folder / name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def tiles(before: rows.Row, after: rows.Row) -> list[dict[str, Any]]:
    """Original and last artifact in a few figures, with their ratio for a bar."""
    wanted = (
        ("latency_ms", "Latency a batch"),
        ("parameters", "Parameters"),
        ("macs", "MACs an image"),
        ("disk_bytes", "Size on disk"),
        ("memory_bytes", "Peak memory"),
    )
    writers = {column.key: column for column in rows.MAIN}
    found = []
    for key, title in wanted:
        was, now = getattr(before, key), getattr(after, key)
        if was and now is not None:
            cell = writers[key].cell
            share = now / was
            found.append(
                {"title": title, "was": cell(before), "now": cell(after), "share": min(1.0, share)}
            )
    return found


@dataclass(frozen=True)
class Stair:
    """One step of the way: its gain, how far it brought, and what it did."""

    gain: rows.Gain | None
    name: str
    speedup: float | None
    share: float
    """Of the greatest speed-up, for the bar."""
    latency: str
    runtime: str
    detail: recipe.Detail | None

    @property
    def times(self) -> str:
        """The speed-up as text."""
        return rows.NOTHING if self.speedup is None else rows.times(self.speedup)


def stairs(measurement: Measurement) -> list[Stair]:
    """The baseline and every step after it."""
    table = rows.main_rows(measurement)
    gained = rows.gains(measurement)
    details: list[Artifact | None] = [None] * (len(table) - len(measurement.artifacts))
    details += measurement.artifacts
    most = max((r.speedup or 0 for r in table), default=1) or 1
    sentences = [None] * (len(table) - len(gained)) + gained
    return [
        Stair(
            gain=sentence,
            name=sentence.step
            if sentence
            else f"{measurement.name}, {rows.baseline_name(measurement)}",
            speedup=r.speedup,
            share=(r.speedup or 0) / most,
            latency=rows.milliseconds(r.latency_ms) if r.latency_ms is not None else rows.NOTHING,
            runtime=r.runtime or "",
            detail=recipe.detail(artifact) if artifact and artifact.kind != "original" else None,
        )
        for r, sentence, artifact in zip(table, sentences, details, strict=True)
    ]


def gallery(measurement: Measurement) -> Gallery | None:
    """The pictures as data URIs, as many and as large as the page can carry."""
    if measurement.pictures is None:
        return None
    many = len(measurement.pictures.indices)
    found = None
    for side in SIDES:
        count = many
        while count >= min(4, many):
            found = encode(measurement, count, side)
            if found.bytes <= MOST_BYTES:
                return found
            count = count * 2 // 3
    return found


def encode(measurement: Measurement, count: int, side: int) -> Gallery:
    """The ``count`` pictures of least quality and the rest in order, at most ``side`` a side."""
    pictures = measurement.pictures
    assert pictures is not None
    last, _ = rows.last_measured(measurement)
    assert last.best is not None
    severity = last.best.quality.worst(measurement.count)
    ranked = sorted(range(len(pictures.indices)), key=lambda i: severity.index(pictures.indices[i]))
    chosen = ranked[:count]
    reference = centre(pictures.reference[chosen], side)
    images = {name: centre(array[chosen], side) for name, array in pictures.images.items()}
    gaps = {name: difference(array, reference) for name, array in images.items()}
    most = scale_of([gap for name, gap in gaps.items() if name != measurement.artifacts[0].name])
    shown = []
    for artifact in measurement.artifacts:
        if artifact.best is None or artifact.name not in images:
            continue
        quality = artifact.best.quality
        places = [pictures.indices[i] for i in chosen]
        shown.append(
            Shown(
                artifact.name,
                artifact.best.runtime,
                tuple(data_uri(png(image)) for image in images[artifact.name]),
                tuple(data_uri(heat_png(gap, most)) for gap in gaps[artifact.name]),
                tuple(caption(quality.ssim[p], quality.psnr_db[p]) for p in places),
            )
        )
    height, width = measurement.image_shape[1:]
    tall, wide = min(height, side), min(width, side)
    return Gallery(
        titles=tuple(f"input {pictures.indices[i]}" for i in chosen),
        reference=tuple(data_uri(png(image)) for image in reference),
        shown=tuple(shown),
        most=f"{most:.0%}".replace("%", " %"),
        cut=f"{wide}×{tall}" if (tall, wide) != (height, width) else None,
        pixelated=min(tall, wide) < SMOOTH,
        aspect=wide / tall,
    )


def caption(ssim: float | None, psnr_db: float | None) -> str:
    """The quality of one picture in a few letters."""
    if ssim is not None:
        return f"{ssim:.3f}"
    return f"{psnr_db:.1f} dB" if psnr_db is not None else "NaN"
