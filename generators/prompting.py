"""Pictures for prompts, made in batches and written as PNG files or as one sheet."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from generators.networks.vector_quantizer import TOKENS
from generators.sampling import pixels_of
from generators.sinks import sink_of
from generators.text import prompts
from generators.text.pipeline import Decoding, Runtime, TextToImage
from genslim.console import Console
from genslim.errors import UserError
from genslim.generator import Generator

BATCH = 64


@dataclass(frozen=True)
class Prompted:
    """What was drawn, and how long it took."""

    n: int
    batch: int
    decoding: Decoding
    prompts: tuple[str, ...]
    drawing_seconds: float
    """In which tokens were written and drawn."""

    @property
    def images_per_second(self) -> float:
        """Without the writing of files."""
        return self.n / self.drawing_seconds

    @property
    def tokens_per_second(self) -> float:
        """Of images."""
        return TOKENS * self.images_per_second

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        speeds = ("images_per_second", "tokens_per_second")
        return {**asdict(self), **{name: round(getattr(self, name), 1) for name in speeds}}


def sample_prompts(
    generator: Generator,
    output: Path,
    n: int | None,
    asked: Sequence[str],
    *,
    decoding: Decoding = "autoregressive",
    steps: int = 8,
    temperature: float | None = None,
    runtime: Runtime = "auto",
    threads: int | None = None,
    batch: int | None = None,
    seed: int = 0,
    scale: int = 1,
    console: Console,
) -> Prompted:
    """Draw ``n`` pictures, the prompts in turn, and write them.

    Args:
        generator: a text-mnist, compressed or not.
        output: see :func:`generators.sampling.sample`.
        n: how many pictures; None is one a prompt.
        asked: prompts; with none, the ten digits in English.
        decoding: tokens one after another, or in a few steps of many at once.
        steps: of masked decoding.
        temperature: less draws the likelier; the decoding's own by default.
        runtime: where tokens are written.
        threads: of the runtime.
        batch: prompts at a time; 64 by default.
        seed: of the first batch; the next ones take the numbers after it.
        scale: each pixel becomes a square of this many pixels.
        console: shows progress.

    Raises:
        UserError: a prompt or a setting can't be, or it can't be written there.
    """
    asked = tuple(asked) or tuple(prompts.LANGUAGES[0].names)
    prompts.encode(asked)  # refused before anything is opened
    n, batch = len(asked) if n is None else n, BATCH if batch is None else batch
    for name, value in (("n", n), ("scale", scale), ("batch", batch)):
        if value < 1:
            raise UserError(f"{name} is {value}", hint=f"it is 1 or more: --{name} 32")
    draw = TextToImage.load(generator, runtime=runtime, threads=threads)
    wanted = [asked[index % len(asked)] for index in range(n)]
    sink, spent = sink_of(output, n, scale), 0.0
    with sink.writing(), console.progress("drawing", total=n) as progress:
        for start in range(0, n, batch):
            part = wanted[start : start + batch]
            started = time.monotonic()
            images = draw(
                part,
                seed=seed + start // batch,
                decoding=decoding,
                steps=steps,
                temperature=temperature,
            )
            spent += time.monotonic() - started
            sink.add(pixels_of(images.numpy(), generator.signature.images))
            progress.advance(len(part))
        sink.finish()
    return Prompted(n, batch, decoding, asked, round(spent, 4))
