"""Measures how the images of every artifact are distributed, on its best runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bench.harness.candidates import Candidate, images_from
from bench.measurement import Artifact
from bench.metrics.distribution import Yardstick
from genslim.errors import UserError

if TYPE_CHECKING:
    from bench.metrics.features import Extractor
    from bench.metrics.perceptual import Lpips
    from bench.metrics.real import RealImages
    from genslim.console import Console
    from genslim.runtimes import Session


@dataclass(frozen=True)
class Yardsticks:
    """What was named to measure quality by; each may be missing."""

    real: RealImages | None = None
    extractor: Extractor | None = None
    lpips: Lpips | None = None


def find_yardsticks(
    real: str | Path | None, extractor: str | None, lpips_weights: str | Path | None
) -> Yardsticks:
    """Open what was named, before anything is measured.

    Raises:
        UserError: something is not there, can't be read, or does not go with the rest.
    """
    from bench.metrics.features import SYNTAX, names, open_extractor
    from bench.metrics.perceptual import open_lpips
    from bench.metrics.real import RealImages

    if real is not None and extractor is None:
        raise UserError(
            f"real images {real} and nothing to compare them by",
            hint=f"name features with --extractor: {', '.join([*names(), SYNTAX])}",
        )
    return Yardsticks(
        RealImages.find(real) if real is not None else None,
        open_extractor(extractor) if extractor is not None else None,
        open_lpips(lpips_weights) if lpips_weights is not None else None,
    )


def take_distributions(
    candidates: Sequence[Candidate],
    measured: Sequence[Artifact],
    inputs: Mapping[str, NDArray[np.float32]],
    batch: int,
    *,
    yardsticks: Yardsticks,
    console: Console,
) -> list[Artifact]:
    """The artifacts with the distribution of the baseline, and of each one's best reading.

    Args:
        candidates: with open sessions, the original first.
        measured: the same artifacts, their qualities known.
        inputs: those that quality was measured on.
        batch: the batch that is run.
        yardsticks: what to compare with, and by.
        console: told about progress.
    """
    output = candidates[0].generator.signature.images

    def make(session: Session) -> NDArray[np.float32]:
        return images_from(session, inputs, output.name, batch)

    baseline = measured[0].readings[0]
    original = make(candidates[0].sessions[baseline.runtime])
    _, channels, height, width = original.shape
    real = yardsticks.real
    references = real.read((channels, height, width), output.value_range) if real else None
    yardstick = Yardstick(original, output.value_range, yardsticks.extractor, references)
    found = []
    with console.progress("distribution", len(measured)) as bar:
        for candidate, artifact in zip(candidates, measured, strict=True):
            readings = []
            for reading in artifact.readings:
                if reading is baseline or reading is artifact.best:
                    images = (
                        original
                        if reading is baseline
                        else make(candidate.sessions[reading.runtime])
                    )
                    readings.append(replace(reading, distribution=yardstick.read(images)))
                else:
                    readings.append(reading)
            found.append(replace(artifact, readings=tuple(readings)))
            bar.advance(note=artifact.name)
    return found
