"""Samples of a generator, made in batches and written as PNG files or as one sheet."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from generators.sinks import Pixels, sink_of
from genslim import Generator, Session
from genslim.console import Console
from genslim.errors import UserError
from genslim.runtimes import Execution, runtime
from genslim.serving.statistics import Statistics
from genslim.signature import Output

PREFERRED = ("torch", "openvino", "onnxruntime", "tensorrt")
"""The runtime is the first of these that takes the generator, unless another is asked for."""
BATCHES = (32, 1)
"""Of latents, and of images, which take their time."""


@dataclass(frozen=True)
class Sampling:
    """What was made, and how long it took."""

    n: int
    batch: int
    """Images run together at most."""
    execution: Execution
    """What really executed."""
    seconds: float
    """In all, from the first input to the last file."""
    generating_seconds: float
    """In which the runtime ran."""
    writing_seconds: float
    """Of all threads that wrote, together, while the runtime ran or not."""
    waited_seconds: float
    """In which no image was asked for, because those before were not written yet."""

    @property
    def images_per_second(self) -> float:
        """Of the generator alone."""
        return self.n / self.generating_seconds

    @property
    def images_per_second_written(self) -> float:
        """With all that belongs to it."""
        return self.n / self.seconds

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        speeds = ("images_per_second", "images_per_second_written")
        return {**asdict(self), **{name: round(getattr(self, name), 1) for name in speeds}}


def sample(
    generator: Generator,
    output: Path,
    n: int,
    *,
    runtime_name: str | None = None,
    threads: int | None = None,
    batch: int | None = None,
    seed: int = 0,
    scale: int = 1,
    console: Console,
) -> Sampling:
    """Make ``n`` images and write them.

    Args:
        generator: what makes them; its image inputs are drawn from the folder that it names.
        output: a sheet where it ends in ``.png``, otherwise a folder of ``00000.png`` and so on,
            which must be new or empty. Either is there whole or not at all.
        n: how many.
        runtime_name: None: the first of :data:`PREFERRED` that can run it.
        threads: of the CPU. None: all.
        batch: images run together at most. None: 32 of latents, 1 of images.
        seed: of the inputs; the same images come of it whatever the batch.
        scale: each pixel becomes a square of this many pixels.
        console: shows progress.

    Raises:
        UserError: a setting can't be, or it can't be written there.
        GenslimError: the runtime can't run this generator.
    """
    signature = generator.signature
    for name, value in (("n", n), ("scale", scale), ("batch", batch)):
        if value is not None and value < 1:
            raise UserError(f"{name} is {value}", hint=f"it is 1 or more: --{name} 32")
    if signature.needs_images:
        raise UserError(
            f"{generator.label} takes images, and no folder was named",
            hint="name one: --images DIR",
        )
    if runtime_name is None:
        runtime_name = next((r for r in PREFERRED if runtime(r).takes(generator)), PREFERRED[0])
    batch = min(n, batch or BATCHES[signature.takes_images])
    sink = sink_of(output, n, scale)
    with (
        Session(generator, runtime=runtime_name, threads=threads, max_batch=batch) as session,
        sink.writing(),
        console.progress("generating", total=n) as progress,
    ):
        started = time.monotonic()
        for images in session.stream(n, batch=batch, seed=seed):
            sink.add(pixels_of(images, signature.images))
            rate = session.statistics.images_per_second
            progress.advance(len(images), note=f"{rate:,.0f} images per second")
        sink.finish()
        seconds = time.monotonic() - started
        statistics: Statistics = session.statistics
        execution = session.execution
    return Sampling(
        n,
        batch,
        execution,
        round(seconds, 4),
        round(statistics.busy_seconds, 4),
        round(sink.writing_seconds, 4),
        round(sink.waited_seconds, 4),
    )


def pixels_of(images: NDArray[np.float32], output: Output) -> Pixels:
    """Images ``(N, C, H, W)`` in the output's value range as pixels.

    Raises:
        UserError: they have no channels that a PNG has.
    """
    channels = images.shape[1]
    if channels not in (1, 3, 4):
        raise UserError(
            f"the generator makes {channels} channels, and a PNG has 1, 3 or 4",
            hint="name a generator of images",
        )
    low, high = output.value_range
    scaled = np.rint((images - low) * (255 / (high - low))).clip(0, 255)
    pixels: Pixels = np.ascontiguousarray(scaled.astype(np.uint8).transpose(0, 2, 3, 1))
    return pixels
