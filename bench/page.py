"""The one self-contained HTML page: nothing is fetched, everything lies inside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from bench import recipe, rows
from bench.measurement import Artifact, Measurement, Reading
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
LEAST = 4
"""Pictures are cut rather than that fewer are shown."""
SMOOTH = 128
"""Pictures of fewer pixels a side are enlarged with sharp pixels."""


@dataclass
class Shown:
    """One artifact's pictures, a data URI for each input."""

    name: str
    runtime: str = ""
    images: list[str] = field(default_factory=list)
    heat: list[str] = field(default_factory=list)
    """Where each differs from the original's."""
    captions: list[str] = field(default_factory=list)
    """The SSIM of each, or what is wrong with it."""


@dataclass(frozen=True)
class Gallery:
    """The same inputs through every artifact."""

    titles: Sequence[str]
    """``input 17``, one for each picture."""
    reference: Sequence[str]
    shown: Sequence[Shown]
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
        return 55 if len(self.reference) > 10 else 96


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
    template = templates().get_template("page.html.j2")
    return template.render(
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
        memory_reasons=rows.memory_reasons(measurement),
        gallery=gallery(measurement),
        heat_css=palette_css(),
        plot_wide=plot(measurement, width=1140, height=460),
        plot_narrow=plot(measurement, width=350, height=330),
        commands=recipe.commands(measurement),
        legend=[(name, shape(name, 7, 7, 5)) for name in runtimes],
        last=last,
        threads=rows.in_words(measurement.target.threads),
        method=method(measurement),
        warnings=[*stale(missing), *measurement.warnings],
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
    place: str
    """Latency and runtime, or why there is none."""
    detail: recipe.Detail | None

    @property
    def times(self) -> str:
        """The speed-up as text."""
        return rows.NOTHING if self.speedup is None else rows.times(self.speedup)


def stairs(measurement: Measurement) -> list[Stair]:
    """The baseline and every step after it."""
    table = rows.main_rows(measurement)
    gained = rows.gains(measurement)
    artifacts: list[Artifact | None] = [None] * (len(table) - len(measurement.artifacts))
    artifacts += measurement.artifacts
    sentences = [None] * (len(table) - len(gained)) + gained
    most = max((r.speedup or 0 for r in table), default=1) or 1
    start = f"{measurement.name}, {rows.baseline_name(measurement)}"
    return [
        Stair(
            gain=sentence,
            name=sentence.step if sentence else start,
            speedup=r.speedup,
            share=(r.speedup or 0) / most,
            place=place_of(r, artifact),
            detail=recipe.detail(artifact) if artifact and artifact.kind != "original" else None,
        )
        for r, sentence, artifact in zip(table, sentences, artifacts, strict=True)
    ]


def place_of(row: rows.Row, artifact: Artifact | None) -> str:
    """Latency and runtime of a row, or why the artifact was not measured."""
    if row.latency_ms is not None:
        return f"{rows.milliseconds(row.latency_ms)} on {row.runtime}"
    return "; ".join(refusal.reason for refusal in artifact.refusals) if artifact else ""


def gallery(measurement: Measurement) -> Gallery | None:
    """The pictures as data URIs, as many and as large as the page can carry."""
    if measurement.pictures is None:
        return None
    for side in SIDES:
        found = encode(measurement, side)
        if len(found.reference) >= min(LEAST, len(measurement.pictures.indices)):
            break
    return found


def encode(measurement: Measurement, side: int) -> Gallery:
    """Pictures of at most ``side`` a side, the worst first, until the page is full."""
    pictures = measurement.pictures
    assert pictures is not None
    _, reading = rows.last_measured(measurement)
    rank = {index: place for place, index in enumerate(reading.quality.worst(measurement.count))}
    ranked = sorted(range(len(pictures.indices)), key=lambda i: rank[pictures.indices[i]])
    reference = centre(pictures.reference, side)
    # The original on another runtime looks like the original: its pictures would only take room.
    original = measurement.artifacts[0].name
    names = [name for name in pictures.images if name != original] or [original]
    images = {name: centre(pictures.images[name], side) for name in names}
    gaps = {name: difference(array, reference) for name, array in images.items()}
    most = scale_of(list(gaps.values()))
    shown = {name: Shown(name) for name in images}
    titles: list[str] = []
    originals: list[str] = []
    taken = 0
    for i in ranked:
        first = data_uri(png(reference[i]))
        uris = {name: data_uri(png(array[i])) for name, array in images.items()}
        heat = {name: data_uri(heat_png(gap[i], most)) for name, gap in gaps.items()}
        taken += sum(map(len, (first, *uris.values(), *heat.values())))
        if taken > MOST_BYTES:
            break
        index = pictures.indices[i]
        titles.append(f"input {index}")
        originals.append(first)
        for name, one in shown.items():
            best = measured_best(measurement, name)
            one.runtime = best.runtime
            one.images.append(uris[name])
            one.heat.append(heat[name])
            one.captions.append(caption(best.quality.ssim[index], best.quality.psnr_db[index]))
    height, width = measurement.image_shape[1:]
    tall, wide = min(height, side), min(width, side)
    return Gallery(
        titles=titles,
        reference=originals,
        shown=list(shown.values()),
        most=f"{most:.0%}".replace("%", " %"),
        cut=f"{wide}×{tall}" if (tall, wide) != (height, width) else None,
        pixelated=min(tall, wide) < SMOOTH,
        aspect=wide / tall,
    )


def measured_best(measurement: Measurement, name: str) -> Reading:
    """The best reading of an artifact that has pictures."""
    artifact = measurement.artifact(name)
    assert artifact is not None
    assert artifact.best is not None
    return artifact.best


def caption(ssim: float | None, psnr_db: float | None) -> str:
    """The quality of one picture in a few letters."""
    if ssim is not None:
        return f"{ssim:.3f}"
    return f"{psnr_db:.1f} dB" if psnr_db is not None else "NaN"
