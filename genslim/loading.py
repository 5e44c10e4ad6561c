"""From what a user names to a generator: the newest run, a run, an artifact, or a source."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import torch

from genslim import artifact
from genslim.errors import UserError
from genslim.folding import fold
from genslim.generator import Generator, check_finite, run_module
from genslim.run import Run, is_run, runs
from genslim.sources import SOURCES, SourceOptions, known

DEFAULT = "dcgan-mnist"
"""What starts a run when there is none and no source is named."""


def load(
    source: str | Path | None = None,
    *,
    images: str | Path | None = None,
    input: str | tuple[str, ...] = (),  # noqa: A002  the word of the command line
    weights: str | Path | None = None,
    value_range: tuple[float, float] | None = None,
) -> Generator:
    """Open a generator.

    Args:
        source: a built-in name, a weights file, an exported file (``.onnx`` of any maker;
            ``model.xml`` or ``engine.plan`` of ours), a diffusers folder,
            ``package.module:factory``, an artifact folder or a run folder (its newest artifact).
            None: the newest artifact of the newest run below the working folder, or the built-in
            ``dcgan-mnist`` without one.
        images: a folder of images, for generators that take images.
        input: ``[NAME:]SHAPE`` of each input that can't be told from the source, or the size to
            measure at.
        weights: a file of weights for a factory's module.
        value_range: least and greatest value of a pixel that a file of weights, a factory's module
            or an exported file makes.

    Raises:
        UserError: there is no such source, or it is damaged.
        MissingDependency: a library is needed that is not installed.
    """
    if value_range is not None:
        check_range(*value_range)
    options = SourceOptions(
        images=str(Path(images).resolve()) if images else None,
        input=(input,) if isinstance(input, str) else input,
        weights=str(weights) if weights else None,
        value_range=value_range,
    )
    generator = open_source(str(source) if source is not None else None, options)
    if options.images:
        signature = generator.signature.with_images(options.images)
        generator = replace(generator, signature=signature)
    if generator.module is not None:
        check_finite(generator.module)
        if generator.path is None:
            settle(generator)
    return generator


def check_range(low: float, high: float) -> None:
    """Raise UserError where two numbers are no range of values."""
    if not -math.inf < low < high < math.inf:
        raise UserError(
            f"a pixel can't lie in {low:g} to {high:g}",
            hint="name the least value first: 0 1, or -1 1",
        )


def settle(generator: Generator) -> None:
    """Compute weights that are computed anew at each run, so that they can be changed."""
    module, signature = generator.module, generator.signature
    assert module is not None
    example = {spec.name: torch.rand(spec.concrete(1)) for spec in signature.inputs}
    try:
        fold(module, lambda: run_module(module, signature, example))
    except (RuntimeError, ValueError, TypeError, AssertionError, IndexError):
        fold(module)  # it will be told what is wrong with the input where it is used


def open_source(text: str | None, options: SourceOptions) -> Generator:
    """The generator behind ``text``; see :func:`load`."""
    if text is None:
        recent = runs()
        return artifact.load(recent[-1].newest) if recent else open_source(DEFAULT, options)
    path = Path(text)
    if artifact.is_artifact(path):
        return artifact.load(path)
    if is_run(path):
        return artifact.load(Run(path).newest)
    for source in SOURCES:
        if source.claims(text):
            return source.open(text, options)
    there = "exists but is no source" if path.exists() else "is no source"
    raise UserError(
        f"{text!r} {there}",
        hint=f"name a built-in generator ({', '.join(known())}), a weights file (.safetensors, "
        ".pth), an exported file (.onnx, .xml, .plan), a diffusers folder, "
        "package.module:factory, an artifact folder or a run folder",
    )
