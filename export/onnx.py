"""ONNX: one file, standard operators, dynamic shapes, with metadata that says how to use it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from export.exporter import Exporter, Product, as_exported
from export.graph import beyond_half, graph_of, kind_of
from export.opset import at_opset, check_opset, check_runs
from genslim.artifact import installed
from genslim.console import Console
from genslim.errors import GenslimError, MissingDependency
from genslim.generator import Generator
from genslim.onnx_graph import onnx_of
from genslim.onnx_model import fixed_sides, load_model
from genslim.quiet import quiet
from genslim.signature import BATCH, Holes, Input, Prior, Signature
from genslim.sources.exported import LICENCE, SIGNATURE, text_of

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Onnx(Exporter):
    """One ``.onnx`` file."""

    name: ClassVar[str] = "onnx"
    suffixes: ClassVar[tuple[str, ...]] = (".onnx",)

    precision: Literal["auto", "fp16"] = "auto"
    """auto: as the generator is; fp16: weights, inputs and outputs in 16 bits."""
    opset: int | None = None
    """The version of ONNX's operators in the file. None: the graph's own, 20 as a rule."""
    simplify: bool = False
    """Let onnxsim write it with fewer operators. UNets and nets with attention lose a tenth to a
    quarter of them and run about 5 % faster on ONNX Runtime; plain convolutions gain nothing."""

    def ready(self) -> None:
        """There must be such an opset; onnxsim must be installed where it is asked for."""
        super().ready()
        if self.opset is not None:
            check_opset(self.opset)
        if self.simplify:
            find_onnxsim()

    def produce(self, generator: Generator, folder: Path, console: Console) -> Product:
        """Export, describe, check."""
        import onnx

        graph = self.graph(generator, console)
        kind = kind_of(graph)
        fixed = fixed_sides(graph, generator.signature)
        model = load_model(graph)
        drop_notes(model)
        facts = {
            **metadata(generator),
            **sides(generator.signature.with_sides(fixed)),
            "precision": kind,
            SIGNATURE: text_of(as_exported(generator.signature, fixed)),
        }
        onnx.helper.set_model_props(model, facts)
        onnx.checker.check_model(model, full_check=True)
        described = model.SerializeToString()
        return Product(
            kind,
            onnx=described,
            fixed=fixed,
            figures={
                "bytes": len(described),
                "opset": {o.domain or "ai.onnx": o.version for o in model.opset_import},
                "operators": len(model.graph.node),
            },
            failures=beyond_half(graph, generator.signature),
        )

    def graph(self, generator: Generator, console: Console) -> bytes:
        """The generator's graph as it was asked for.

        What can be fp16 depends on the opset, and constants are put together in fp32: so the
        precision comes last.
        """
        graph = onnx_of(generator)
        if self.simplify:
            graph = simplified(graph, console)
        if self.opset is not None:
            graph = at_opset(graph, self.opset)
        graph = graph_of(replace(generator, module=None, onnx=graph), self.precision)
        if self.opset is not None:
            check_runs(graph, self.opset, generator.signature)
        return graph


def find_onnxsim() -> Any:
    """The module onnxsim.

    Raises:
        MissingDependency: it is not installed.
    """
    try:
        return import_module("onnxsim")
    except ImportError as error:
        raise MissingDependency(
            "--simplify needs onnxsim, which is not installed",
            hint='install it: pip install "genslim[simplify]"',
        ) from error


def simplified(graph: bytes, console: Console) -> bytes:
    """The same graph with fewer operators, by onnxsim; pairs of Q/DQ stay.

    Raises:
        GenslimError: onnxsim fails on it.
    """
    onnxsim = find_onnxsim()
    model = load_model(graph)
    try:
        with quiet():
            fewer, _ = onnxsim.simplify(model)
    except Exception as error:  # onnxsim raises whatever its passes do
        line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise GenslimError(
            f"onnxsim can't simplify the graph: {line[:200]}", hint="leave --simplify out"
        ) from error
    console.info(f"onnxsim: {len(model.graph.node)} operators are {len(fewer.graph.node)} now")
    return bytes(fewer.SerializeToString())


def drop_notes(model: onnx.ModelProto) -> None:
    """Remove what PyTorch's exporter noted about every node and value.

    That is where in the Python code each comes from, with this machine's paths: a third of a small
    int8 file, a quarter of a UNet's.
    """
    for part in (model.graph, *model.functions):
        drop_notes_of(part)


def drop_notes_of(part: onnx.GraphProto | onnx.FunctionProto) -> None:
    """Remove the notes of a graph or function, and of the graphs within its nodes."""
    import onnx

    noted = [part, *part.node, *part.value_info]
    if isinstance(part, onnx.GraphProto):
        noted += [*part.input, *part.output, *part.initializer]
    for thing in noted:
        del thing.metadata_props[:]
        thing.ClearField("doc_string")
    for node in part.node:
        for attribute in node.attribute:
            inner = [attribute.g] if attribute.HasField("g") else attribute.graphs
            for graph in inner:
                drop_notes_of(graph)


def metadata(generator: Generator) -> dict[str, str]:
    """What a program needs to know to use the file, as strings."""
    signature = generator.signature
    low, high = signature.images.value_range
    channels = signature.images.shape[1]
    facts = {
        "genslim_version": installed(["genslim"]).get("genslim", "unknown"),
        "generator": generator.name,
        "steps": ", ".join(step.name for step in generator.steps) or "none",
        "layout": "NCHW",
        "colour_order": {1: "grey", 3: "RGB", 4: "RGBA"}.get(int(channels), f"{channels} channels"),
        "value_range": f"{low:g} {high:g}",
    }
    for spec in signature.inputs:
        facts[f"input.{spec.name}"] = described(spec)
    if (scale := enlargement(signature)) is not None:
        facts["scale"] = str(scale)
    if licence := generator.source.get("licence"):
        facts[LICENCE] = str(licence)
    return facts


def described(spec: Input) -> str:
    """What an input is, and how noisy it may be."""
    if spec.pictured:
        what = "image, 0 1"
    elif isinstance(spec.draw, Prior):
        what = f"{spec.draw.kind} {spec.draw.scale:g}"
    elif isinstance(spec.draw, Holes):
        what = "mask, 1 where the image is missing, else 0"
    else:
        what = "tokens"
    least, most = spec.noise
    return f"{what}, with Gaussian noise {least:g} to {most:g}" if most > 0 else what


def sides(signature: Signature) -> dict[str, str]:
    """Which sides of the inputs may have any size, and what height and width are multiples of."""
    free = dict.fromkeys(
        side for spec in signature.inputs for side in spec.shape if isinstance(side, str)
    )
    facts = {"free_sides": ", ".join(free) or "none"}
    if free.keys() - {BATCH}:
        facts["multiple_of"] = str(math.lcm(*(spec.multiple_of for spec in signature.inputs)))
    return facts


def enlargement(signature: Signature) -> int | None:
    """How many times as high and wide as the input the images are, where the input is an image."""
    for spec in signature.inputs:
        if spec.pictured and len(spec.shape) == 4:
            taken, made = spec.shape[2], signature.images.shape[2]
            if isinstance(taken, int) and isinstance(made, int):
                return made // taken
            if made == taken:
                return 1
            factor = str(made).removesuffix(f"*{taken}")
            return int(factor) if factor.isdecimal() else None
    return None
