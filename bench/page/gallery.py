"""The same inputs through every artifact, as pictures that lie inside the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.measurement import Measurement, Pictures, Reading
from bench.metrics.defects import NOT_FINITE
from bench.plots.pictures import (
    centre,
    coarse,
    data_uri,
    difference,
    heat_png,
    scale_of,
    webp,
)
from bench.quality import Quality
from bench.tables import rows

MOST_BYTES = 4_200_000
"""What the pictures may take of the page; the rest is well under 5 MB with them."""
SIDES = (512, 384, 256, 192, 128)
"""Larger pictures are cut to their centre, further where there are many."""
LEAST = 6
"""Pictures are cut rather than that fewer are shown."""
HEAT_SIDE = 128
"""Maps of differences are small on the page: they are kept at this many pixels a side."""
SMOOTH = 128
"""Pictures of fewer pixels a side are enlarged with sharp pixels."""


@dataclass
class Shown:
    """One artifact's pictures, a data URI for each input."""

    name: str
    runtime: str = ""
    images: list[str] = field(default_factory=list)
    heat: list[str] = field(default_factory=list)
    """Where each differs from the original's; empty for the original."""
    captions: list[str] = field(default_factory=list)
    """The SSIM of each, or that it is not finite."""
    defects: list[str] = field(default_factory=list)
    """What is wrong with each beside that: ``banding, saturated``; mostly nothing."""


@dataclass(frozen=True)
class Gallery:
    """The same inputs through every artifact, the worst of the last artifact first."""

    titles: Sequence[str]
    """``input 17``, one for each picture."""
    original: Shown
    shown: Sequence[Shown]
    """The artifacts after it."""
    kept: int
    """How many pictures there were; the page may have room for fewer."""
    most: float
    """The difference that the brightest colour stands for, as a share of the value range."""
    cut: str | None
    """Said where pictures are cut to their centre: ``256×256``."""
    pixelated: bool
    aspect: float
    """Width by height."""

    @property
    def thumb(self) -> int:
        """Width of a small picture on the page, in pixels."""
        return 55 if len(self.titles) > 10 else 96

    @property
    def everyone(self) -> list[Shown]:
        """The original and the artifacts after it."""
        return [self.original, *self.shown]

    @property
    def most_said(self) -> str:
        """``most`` in percent."""
        return f"{self.most:.0%}".replace("%", " %")


def gallery(measurement: Measurement) -> Gallery | None:
    """The pictures as data URIs, as many and as large as the page can carry."""
    if measurement.pictures is None:
        return None
    largest = max(measurement.image_shape[1:])
    # Beyond the pictures' own size all sides are alike.
    for side in dict.fromkeys(min(side, largest) for side in SIDES):
        found = encode(measurement, measurement.pictures, side)
        if len(found.titles) >= min(LEAST, found.kept):
            break
    return found


def encode(measurement: Measurement, pictures: Pictures, side: int) -> Gallery:
    """Pictures of at most ``side`` a side, the worst first, until the page is full."""
    reference = centre(pictures.reference, side)
    # The original on another runtime looks like the original: its pictures would only take room.
    original = measurement.artifacts[0].name
    names = [name for name in pictures.images if name != original] or [original]
    images = {name: centre(pictures.images[name], side) for name in names}
    gaps = {name: difference(array, reference) for name, array in images.items()}
    most = scale_of(list(gaps.values()))
    best = {name: measured_best(measurement, name) for name in names}
    shown = {name: Shown(name, best[name].runtime) for name in names}
    # It may be among them under its own name where nothing else was measured.
    first = Shown("original" if original in names else original, measurement.baseline.runtime)
    titles: list[str] = []
    taken = 0
    for i in worst_first(measurement, pictures):
        whole = data_uri(webp(reference[i]), "webp")
        uris = {name: data_uri(webp(array[i]), "webp") for name, array in images.items()}
        heat = {
            name: data_uri(heat_png(coarse(gap[i], HEAT_SIDE), most)) for name, gap in gaps.items()
        }
        taken += sum(map(len, (whole, *uris.values(), *heat.values())))
        if taken > MOST_BYTES:
            break
        index = pictures.indices[i]
        titles.append(f"input {index}")
        first.images.append(whole)
        first.captions.append(rows.NOTHING)
        first.defects.append(defects(measurement.baseline.quality, index))
        for name, one in shown.items():
            quality = best[name].quality
            one.images.append(uris[name])
            one.heat.append(heat[name])
            one.captions.append(caption(quality.ssim[index], quality.psnr_db[index]))
            one.defects.append(defects(quality, index))
    height, width = measurement.image_shape[1:]
    tall, wide = min(height, side), min(width, side)
    return Gallery(
        titles=titles,
        original=first,
        shown=list(shown.values()),
        kept=len(pictures.indices),
        most=most,
        cut=f"{wide}×{tall}" if (tall, wide) != (height, width) else None,
        pixelated=min(tall, wide) < SMOOTH,
        aspect=wide / tall,
    )


def worst_first(measurement: Measurement, pictures: Pictures) -> list[int]:
    """The places of the pictures, those that the last artifact made worst first."""
    _, reading = rows.last_measured(measurement)
    rank = {index: place for place, index in enumerate(reading.quality.worst(measurement.count))}
    return sorted(range(len(pictures.indices)), key=lambda i: rank[pictures.indices[i]])


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


def defects(quality: Quality, index: int) -> str:
    """What is wrong with one picture, by its defects' names; nothing in old records."""
    found = quality.defects[index] if quality.defects else ()
    return ", ".join(name for name in found if name != NOT_FINITE)
