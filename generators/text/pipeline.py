"""Prompts to pictures: the shipped text-mnist, or what compression made of it.

draw = TextToImage.load("text-mnist")
images = draw(["three", "三"], seed=0, decoding="masked", steps=8)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, get_args

from torch import Tensor

from generators.networks.text_to_image import TextImageModel, drawn
from generators.text import prompts
from generators.text.cached import quantized, step_graph
from generators.text.compressed import painter_graph, painter_of, transformer_of
from generators.text.decoding import (
    MASKED,
    NUCLEUS,
    ONE_BY_ONE,
    Reader,
    many_at_once,
    one_after_another,
)
from generators.text.eager import TorchReader
from generators.text.sessions import OnnxRuntimeReader, OpenVinoReader
from genslim.errors import UserError
from genslim.generator import Generator

Decoding = Literal["autoregressive", "masked"]
Runtime = Literal["auto", "torch", "onnxruntime", "openvino"]


@dataclass(frozen=True)
class TextToImage:
    """A reader that writes tokens, and what draws them."""

    reader: Reader
    paint: Callable[[Tensor], Tensor]
    """Codes ``(N, 49)``, int64, to pictures ``(N, 1, 32, 32)`` in [-1, 1]."""

    @classmethod
    def load(
        cls,
        source: str | Path | Generator = "text-mnist",
        *,
        runtime: Runtime = "auto",
        threads: int | None = None,
    ) -> Self:
        """Open a text-mnist.

        Args:
            source: the shipped one by its name, an artifact, a run, or a generator already open.
            runtime: where tokens are written. A graph, after quantization, runs on ONNX Runtime
                or OpenVINO; ``auto`` is PyTorch for a module and ONNX Runtime for a graph.
            threads: of the runtime; PyTorch's own count by default.

        Raises:
            UserError: the source is something else, or has no form that the runtime takes.
        """
        from genslim.loading import load

        generator = source if isinstance(source, Generator) else load(source)
        original = check_draws_prompts(generator)
        if isinstance(generator.module, TextImageModel):
            return cls.of_module(generator.module, runtime, threads)
        if generator.onnx is None or runtime == "torch":
            raise UserError(
                f"{generator.label} is a graph, which PyTorch does not run",
                hint="use onnxruntime or openvino, or an artifact from before quantization",
            )
        reader = open_reader(step_of(generator), runtime, threads)
        return cls(reader, painter_of(generator.onnx, original.codes))

    @classmethod
    def of_module(
        cls, model: TextImageModel, runtime: Runtime = "auto", threads: int | None = None
    ) -> Self:
        """What draws with a module, pruned or not; on another runtime by its step graph."""
        reader: Reader
        if runtime in ("auto", "torch"):
            reader = TorchReader(model.transformer)
        else:
            reader = open_reader(step_graph(model.transformer), runtime, threads)
        return cls(reader, lambda codes: drawn(model, codes).cpu())

    def write(
        self,
        asked: Sequence[str],
        *,
        seed: int = 0,
        decoding: Decoding = "autoregressive",
        steps: int = 8,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
    ) -> Tensor:
        """The codes ``(N, 49)``, int64, of pictures for prompts; see :meth:`__call__`."""
        read = prompts.encode(asked)
        if decoding == "autoregressive":
            heat = ONE_BY_ONE if temperature is None else temperature
            share = NUCLEUS if top_p is None else top_p
            return one_after_another(
                self.reader, read, temperature=heat, top_k=top_k, top_p=share, seed=seed
            )
        if decoding != "masked":
            raise UserError(
                f"there is no decoding {decoding!r}", hint="use autoregressive or masked"
            )
        heat = MASKED if temperature is None else temperature
        return many_at_once(
            self.reader, read, steps=steps, temperature=heat, top_k=top_k, top_p=top_p, seed=seed
        )

    def __call__(
        self,
        asked: str | Sequence[str],
        *,
        seed: int = 0,
        decoding: Decoding = "autoregressive",
        steps: int = 8,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
    ) -> Tensor:
        """Draw a picture for each prompt.

        Args:
            asked: prompts of up to 32 bytes in UTF-8; one that names no digit draws any.
            seed: of the choice of tokens.
            decoding: tokens one after another, or in a few steps of many at once.
            steps: of masked decoding, 1 to 49.
            temperature: less draws the likelier; 0.6, masked 0.5, by default.
            top_k: only so many codes can come at each place.
            top_p: only the likeliest codes can come that together have this share; 0.6, masked 1,
                by default.

        Returns:
            ``(N, 1, 32, 32)``, float32 in [-1, 1].

        Raises:
            UserError: a prompt or a number is not one that can be taken.
        """
        asked = [asked] if isinstance(asked, str) else list(asked)
        if not asked:
            raise UserError("there is no prompt", hint='ask for a digit: "a handwritten seven"')
        return self.paint(
            self.write(
                asked,
                seed=seed,
                decoding=decoding,
                steps=steps,
                temperature=temperature,
                top_k=top_k,
                top_p=top_p,
            )
        )


def open_reader(graph: bytes, runtime: Runtime, threads: int | None) -> Reader:
    """A step graph on a runtime; ``auto`` is ONNX Runtime, the fastest with small steps."""
    if runtime == "openvino":
        return OpenVinoReader(graph, threads)
    return OnnxRuntimeReader(graph, threads)


def step_of(generator: Generator) -> bytes:
    """The step graph of a text-mnist, or of what compression made of it: int8 where that was."""
    original = check_draws_prompts(generator)
    if isinstance(generator.module, TextImageModel):
        return step_graph(generator.module.transformer)
    assert generator.onnx is not None
    graph = step_graph(transformer_of(generator.onnx, original.transformer))
    return quantized(graph) if rounded(generator) else graph


def rounded(generator: Generator) -> bool:
    """Whether the generator was quantized to int8."""
    return any(
        step.name == "quantize" and step.parameters.get("precision") == "int8"
        for step in generator.steps
    )


def save_graphs(generator: Generator, folder: Path) -> tuple[Path, Path]:
    """Write ``step.onnx`` and ``painter.onnx``, with which any program can draw for prompts.

    A step reads tokens with a key-value cache among its inputs and outputs
    (:mod:`generators.text.cached`); the painter draws ``images`` ``(batch, 1, 32, 32)`` of
    ``shares`` ``(batch, 49, codes)``, float32: 1 for the code that was written at a place, else 0.

    Args:
        generator: a text-mnist, or what compression made of one.
        folder: made where it is not there.

    Raises:
        UserError: the generator is something else, or the folder can't be written.
    """
    from genslim.onnx_graph import onnx_of
    from genslim.storage import write_whole

    original = check_draws_prompts(generator)
    graphs = {
        "step.onnx": step_of(generator),
        "painter.onnx": painter_graph(onnx_of(generator), original.codes),
    }
    for name, graph in graphs.items():
        write_whole(folder / name, graph)
    step, painter = (folder / name for name in graphs)
    return step, painter


def check_draws_prompts(generator: Generator) -> TextImageModel:
    """The original of what draws for prompts.

    Raises:
        UserError: it is something else.
    """
    original = generator.original.module
    if not isinstance(original, TextImageModel):
        raise UserError(
            f"{generator.label} draws no pictures for prompts",
            hint="name text-mnist, or an artifact that was made of it",
        )
    return original


def draws_prompts(generator: Generator) -> bool:
    """Whether it is a text-mnist, or was made of one."""
    return isinstance(generator.original.module, TextImageModel)


def read_runtime(text: str | None) -> Runtime:
    """A runtime by its name; None is ``auto``.

    Raises:
        UserError: prompts can't be drawn on it.
    """
    if text is None:
        return "auto"
    for known in get_args(Runtime):
        if text == known:
            return known  # type: ignore[no-any-return]
    raise UserError(f"prompts are not drawn on {text!r}", hint="use torch, onnxruntime or openvino")
