"""ONNX: one file, standard operators, dynamic shapes, with metadata that says how to use it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from export.exporter import Exporter, Product
from export.graph import beyond_half, graph_of, kind_of
from genslim.artifact import installed
from genslim.console import Console
from genslim.generator import Generator
from genslim.onnx_model import fixed_sides, load_model
from genslim.signature import Images, Signature


@dataclass(frozen=True)
class Onnx(Exporter):
    """One ``.onnx`` file."""

    name: ClassVar[str] = "onnx"
    suffixes: ClassVar[tuple[str, ...]] = (".onnx",)

    precision: Literal["auto", "fp16"] = "auto"
    """auto: as the generator is; fp16: weights, inputs and outputs in 16 bits."""

    def produce(self, generator: Generator, folder: Path, console: Console) -> Product:
        """Export, describe, check."""
        import onnx

        graph = graph_of(generator, self.precision)
        model = load_model(graph)
        onnx.helper.set_model_props(model, metadata(generator))
        onnx.checker.check_model(model, full_check=True)
        described = model.SerializeToString()
        return Product(
            kind_of(graph),
            onnx=described,
            fixed=fixed_sides(graph, generator.signature),
            figures={
                "bytes": len(described),
                "opset": {o.domain or "ai.onnx": o.version for o in model.opset_import},
                "operators": len(model.graph.node),
            },
            failures=beyond_half(graph, generator.signature),
        )


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
        if isinstance(spec.draw, Images):
            facts[f"input.{spec.name}"] = "image, 0 1"
        else:
            facts[f"input.{spec.name}"] = f"{spec.draw.kind} {spec.draw.scale:g}"
    if (scale := enlargement(signature)) is not None:
        facts["scale"] = str(scale)
    return facts


def enlargement(signature: Signature) -> int | None:
    """How many times as high and wide as the input the images are, where the input is an image."""
    for spec in signature.inputs:
        if isinstance(spec.draw, Images) and len(spec.shape) == 4:
            taken, made = spec.shape[2], signature.images.shape[2]
            if isinstance(taken, int) and isinstance(made, int):
                return made // taken
            if made == taken:
                return 1
            factor = str(made).removesuffix(f"*{taken}")
            return int(factor) if factor.isdecimal() else None
    return None
