"""Measuring: every artifact on every runtime, in one process and in turn, against the original.

The baseline is the original in PyTorch eager fp32 with the same batch and threads. Latencies are
taken in paired rounds, quality on inputs that no step was fitted on, memory in fresh processes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bench.environment import environment
from bench.harness.candidates import Candidate, candidates_of, images_from
from bench.harness.distributions import find_yardsticks, take_distributions
from bench.harness.memory import peak_memory
from bench.harness.rounds import take_latencies
from bench.harness.showing import choose, displayed
from bench.harness.sweeping import take_sweep
from bench.measurement import Artifact, Measurement, Pictures, Reading
from bench.quality import judge
from bench.sweep import Point, Sweep
from genslim.console import SILENT, Console
from genslim.errors import UserError
from genslim.generator import Generator
from genslim.inputs import Inputs
from genslim.runtimes import RUNTIMES, Session, runtime
from genslim.signature import Signature
from genslim.size import Size, size_of
from genslim.target import Target
from genslim.timing import Samples

if TYPE_CHECKING:
    from bench.metrics.perceptual import Lpips

LATENT_COUNT = 256
"""Quality inputs where inputs are latents."""
IMAGE_COUNT = 16
"""Quality inputs where inputs are images: each has many windows, and takes long."""


def measure(
    generators: Sequence[Generator],
    target: str | Target = "openvino",
    *,
    runtimes: Sequence[str] | None = None,
    count: int | None = None,
    openings: int = 5,
    rounds: int = 30,
    seconds: float = 60.0,
    seed: int = 0,
    memory: bool = True,
    sweep: Sweep | None = None,
    real: str | Path | None = None,
    extractor: str | None = None,
    lpips_weights: str | Path | None = None,
    console: Console = SILENT,
) -> Measurement:
    """Measure generators side by side.

    Args:
        generators: the original first, then what was made of it, oldest first.
        target: batch and threads for all; its precision is asked of its own runtime alone.
        runtimes: names of the runtimes to measure on; None: all.
        count: how many inputs quality is measured on; None: 256 latents or 16 images.
        openings: how often sessions are opened anew between rounds; fewer where an opening would
            have less than 3 rounds.
        rounds: how many rounds latency is measured in.
        seconds: stop the rounds after this time, but never before 5.
        seed: of the inputs.
        memory: whether to start a process for each artifact to measure its peak memory and how long
            it takes to the first image.
        sweep: other batches and threads to measure each artifact's best runtime at.
        real: real images that distributions are compared with, a folder or an IDX file; None: the
            original's own.
        extractor: features that distributions are compared by, see :mod:`bench.metrics.features`;
            None: pixels.
        lpips_weights: what :func:`bench.metrics.perceptual.open_lpips` reads; None: no LPIPS.
        console: told about progress.

    Returns:
        The measurement; ``.report("report.html")`` writes it for people.

    Raises:
        UserError: a setting is none, the original can't run, or inputs can't be drawn.
    """
    check(count, rounds, seconds, openings)
    surroundings = environment()
    yardsticks = find_yardsticks(real, extractor, lpips_weights)
    candidates = candidates_of(generators)
    signature = generators[0].signature
    parsed = Target.parse(target) if isinstance(target, str) else target
    settled = parsed.settled(signature)
    runtime(settled.runtime)
    assert settled.batch is not None
    timing = arrays(Inputs(signature, "timing", seed), settled.batch)
    with ExitStack() as opened:
        for candidate in candidates:
            opened.callback(candidate.close)
        open_all(candidates, targets(settled, runtimes), timing, console)
        latencies = take_latencies(
            candidates, timing, openings=openings, rounds=rounds, seconds=seconds, console=console
        )
        inputs = arrays(Inputs(signature, "quality", seed), count or default_count(signature))
        measured = read_all(
            candidates, latencies, inputs, settled.batch, lpips=yardsticks.lpips, console=console
        )
        measured = take_distributions(
            candidates, measured, inputs, settled.batch, yardsticks=yardsticks, console=console
        )
        pictures = take_pictures(candidates, measured, inputs, settled.batch)
    points: tuple[Point, ...] = ()
    if sweep is not None:
        points = take_sweep(candidates, measured, settled, sweep, seed=seed, console=console)
    if memory:
        measured = take_memory(candidates, measured, settled, console)
    return Measurement(
        name=generators[0].name,
        source=dict(generators[0].source),
        target=settled,
        artifacts=tuple(measured),
        environment=surroundings,
        seed=seed,
        image_shape=pictures_shape(pictures),
        pictures=pictures,
        sweep=points,
        rounds_asked=rounds,
    )


def check(count: int | None, rounds: int, seconds: float, openings: int = 1) -> None:
    """Raise UserError for settings that can't be."""
    if count is not None and count < 1:
        raise UserError(f"count {count} is less than 1", hint="try --count 256")
    if rounds < 3:
        raise UserError(f"rounds {rounds} are too few for a median", hint="try --rounds 30")
    if openings < 1:
        raise UserError(f"openings {openings} are none", hint="try --openings 5")
    if seconds <= 0:
        raise UserError(f"seconds {seconds} is no time", hint="try --seconds 60")


def default_count(signature: Signature) -> int:
    """How many inputs quality is measured on unless it is said."""
    return IMAGE_COUNT if signature.takes_images else LATENT_COUNT


def targets(settled: Target, names: Sequence[str] | None) -> list[Target]:
    """A target for each runtime, in the order in which runtimes are listed.

    Raises:
        UserError: an unknown runtime.
    """
    wanted = {runtime(name).name for name in names} if names else {r.name for r in RUNTIMES}
    return [
        replace(
            settled,
            runtime=place.name,
            precision=settled.precision if place.name == settled.runtime else "auto",
        )
        for place in RUNTIMES
        if place.name in wanted
    ]


def arrays(inputs: Inputs, count: int) -> dict[str, NDArray[np.float32]]:
    """The next inputs as arrays."""
    return {name: tensor.numpy() for name, tensor in inputs.draw(count).items()}


def open_all(
    candidates: Sequence[Candidate],
    places: Sequence[Target],
    inputs: Mapping[str, NDArray[np.float32]],
    console: Console,
) -> None:
    """Open every session, the baseline first.

    Raises:
        UserError: the original runs nowhere.
    """
    original = candidates[0]
    eager = replace(places[0], runtime="torch", precision="auto")
    with console.progress("opening", len(candidates) * len(places)) as bar:
        original.open(eager, inputs)
        for candidate in candidates:
            for place in places:
                if candidate is not original or place.runtime != "torch":
                    candidate.open(place, inputs)
                bar.advance(note=f"{candidate.name} on {place.runtime}")
    if not original.sessions:
        reasons = (
            "; ".join(f"{r.runtime}: {r.reason}" for r in original.refusals)
            or "no runtime takes it"
        )
        raise UserError(f"the original {original.name} can't be run ({reasons})")


def read_all(
    candidates: Sequence[Candidate],
    latencies: Mapping[tuple[str, str], Samples],
    inputs: Mapping[str, NDArray[np.float32]],
    batch: int,
    *,
    lpips: Lpips | None,
    console: Console,
) -> list[Artifact]:
    """Measure quality on every open session, and put each artifact's figures together."""
    signature = candidates[0].generator.signature
    output = signature.images.name
    baseline = next(iter(candidates[0].sessions.values()))
    measured: list[Artifact] = []
    with console.progress("quality", 1 + len(latencies)) as bar:
        reference = images_from(baseline, inputs, output, batch)
        if not np.isfinite(reference).all():
            raise UserError(
                "the original makes images with NaN or infinity",
                hint="use weights from a sound checkpoint",
            )
        bar.advance()
        sizes: dict[str, Size | None] = {}
        for candidate in candidates:
            readings = []
            for name, session in candidate.sessions.items():
                images = images_from(session, inputs, output, batch)
                quality = judge(
                    images, reference, value_range=signature.images.value_range, lpips=lpips
                )
                readings.append(
                    Reading(
                        session.execution,
                        latencies[candidate.name, name],
                        quality,
                        candidate.deployed_bytes(name),
                    )
                )
                bar.advance(note=f"{candidate.name} on {name}")
            size = sizes[candidate.name] = size_or_parents(candidate, sizes)
            artifact = Artifact(
                name=candidate.name,
                kind=candidate.kind,
                parent=candidate.parent,
                steps=tuple(asdict(step) for step in candidate.generator.steps),
                parameters=size.parameters if size else None,
                macs=size.macs if size else None,
                readings=tuple(readings),
                refusals=tuple(candidate.refusals),
            )
            best = artifact.best.runtime if artifact.best else None
            measured.append(replace(artifact, disk_bytes=candidate.disk_bytes(best)))
    return measured


def size_or_parents(candidate: Candidate, known: Mapping[str, Size | None]) -> Size | None:
    """Size of what can be counted; exported files have the size of what they were made from."""
    generator = candidate.generator
    if candidate.kind == "export" or (generator.module is None and generator.onnx is None):
        return known.get(candidate.parent or "")
    return size_of(generator)


def take_pictures(
    candidates: Sequence[Candidate],
    measured: Sequence[Artifact],
    inputs: Mapping[str, NDArray[np.float32]],
    batch: int,
) -> Pictures:
    """Some of the quality inputs through every artifact on its best runtime."""
    signature = candidates[0].generator.signature
    output, span = signature.images.name, signature.images.value_range

    def make(session: Session, indices: Sequence[int]) -> NDArray[np.uint8]:
        chosen = {name: array[list(indices)] for name, array in inputs.items()}
        return displayed(images_from(session, chosen, output, batch), span)

    baseline = next(iter(candidates[0].sessions.values()))
    shape = make(baseline, [0]).shape
    last = [a.best for a in measured if a.best is not None][-1]
    indices = choose(last.quality, shape[1] * shape[2])
    images = {
        artifact.name: make(candidate.sessions[artifact.best.runtime], indices)
        for candidate, artifact in zip(candidates, measured, strict=True)
        if artifact.best is not None
    }
    return Pictures(tuple(indices), make(baseline, indices), images)


def pictures_shape(pictures: Pictures) -> tuple[int, int, int]:
    """``(C, H, W)`` of one picture."""
    _, height, width, channels = pictures.reference.shape
    return channels, height, width


def take_memory(
    candidates: Sequence[Candidate],
    measured: Sequence[Artifact],
    settled: Target,
    console: Console,
) -> list[Artifact]:
    """Start a process for the baseline and for each artifact on its best runtime."""
    baseline = measured[0].readings[0]
    found: list[Artifact] = []
    with console.progress("memory", len(measured) + 1) as bar:
        for candidate, artifact in zip(candidates, measured, strict=True):
            readings = []
            for reading in artifact.readings:
                if reading is artifact.best or reading is baseline:
                    (place,) = targets(settled, [reading.runtime])
                    memory = peak_memory(candidate.for_runtime(reading.runtime), place)
                    readings.append(replace(reading, memory=memory))
                    bar.advance(note=artifact.name)
                else:
                    readings.append(reading)
            found.append(replace(artifact, readings=tuple(readings)))
    return found
