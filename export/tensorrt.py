"""A TensorRT engine, built by TensorRT or TensorRT-RTX: both have the same API.

Networks are strongly typed: the types in the ONNX graph are the types that execute. So fp16 means
an fp16-typed graph and int8 means Q/DQ pairs; there is no flag that could be ignored in silence.
What was built is read back all the same, from the network and, where there is a GPU, from the
engine itself.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal

from export.exporter import Exporter, Product
from export.graph import beyond_half, graph_of, kind_of
from genslim.console import Console
from genslim.errors import GenslimError
from genslim.generator import Generator
from genslim.onnx_model import fixed_sides
from genslim.runtimes.tensorrt import TensorRt as Runtime
from genslim.runtimes.tensorrt import find_tensorrt, quiet_logger
from genslim.signature import BATCH, Images, Input, Signature
from genslim.signs import signed
from genslim.storage import write_whole
from genslim.target import Target

ENGINE = "engine.plan"
PRODUCTS = ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY")
MOVES = ("CONCATENATION", "SHUFFLE", "SLICE", "SQUEEZE", "UNSQUEEZE")
"""Layers that only move values."""
TYPES = {"HALF": "fp16", "FLOAT": "fp32", "BF16": "bf16", "INT8": "int8", "FP8": "fp8"}

LATENT_BATCH_MOST = 64
IMAGE_BATCH_MOST = 4
LONGEST_SIDE = 1024
"""Sides of at least this fit the engine, or of twice the usual size if that is more."""


@dataclass(frozen=True)
class TensorRt(Exporter):
    """``engine.plan``. On a machine without a GPU it is built, not run."""

    name: ClassVar[str] = "trt"
    suffixes: ClassVar[tuple[str, ...]] = (".plan", ".engine", ".trt")

    precision: Literal["auto", "fp32", "fp16", "int8"] = "auto"
    """auto: as the generator is; fp16: what is float in 16 bits; fp32, int8: it must be that."""

    def ready(self) -> None:
        """One of the two libraries must be installed."""
        super().ready()
        find_tensorrt()

    def produce(self, generator: Generator, folder: Path, console: Console) -> Product:
        """Build the engine; judge its graph on ONNX Runtime, which runs the same types."""
        trt = find_tensorrt()
        graph = signed(graph_of(generator, self.precision))
        started = time.monotonic()
        built = build(trt, graph, generator.signature)
        seconds = round(time.monotonic() - started, 1)
        write_whole(folder / ENGINE, built.engine)
        inspected = inspect(trt, built.engine)
        run = "built, not run: " + (
            "no GPU that this engine runs on"
            if inspected is None
            else (Runtime().missing() or "").partition(";")[0]
        )
        kind = kind_of(graph)
        asked = kind if self.precision == "auto" else self.precision
        library = f"{trt.__name__} {trt.__version__}"
        console.info(f"{library}: {run}; built in {seconds} s")
        console.info("convolutions and products in the network: " + listed(built.products))
        if inspected:
            console.info("layers in the engine: " + listed(inspected))
        console.info("the parity below is that of the graph the engine was built from")
        return Product(
            kind,
            files={ENGINE: folder / ENGINE},
            judged=replace(generator, onnx=graph, module=None, files={}),
            fixed=fixed_sides(graph, generator.signature),
            figures={
                "bytes": len(built.engine),
                "library": library,
                "asked": asked,
                "build_seconds": seconds,
                "profile": built.profile,
                "network": built.products,
                "engine": inspected,
                "run": run,
            },
            failures=[
                *refusals(asked, built.products, inspected),
                *beyond_half(graph, generator.signature),
            ],
        )


@dataclass(frozen=True)
class Built:
    """An engine and what is known of it."""

    engine: bytes
    profile: dict[str, dict[str, list[int]]]
    """The least, usual and greatest shape of each input."""
    products: dict[str, int]
    """How many convolutions and matrix products of the network there are in each type."""


def build(trt: Any, graph: bytes, signature: Signature) -> Built:
    """Parse ``graph`` and build an engine of it.

    Raises:
        GenslimError: TensorRT can't parse or build it; each error with its ONNX node.
    """
    logger = quiet_logger(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(graph):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        raise GenslimError(
            f"{trt.__name__} can't parse the graph: "
            + "; ".join(f"{e.node_operator()} {e.node_name()!r}: {e.desc()}" for e in errors),
            hint="export onnx still works; ONNX Runtime or OpenVINO may run it",
        )
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # what the inspector reads
    shapes = profile_shapes(network, signature)
    profile = builder.create_optimization_profile()
    for name, shape in shapes.items():
        profile.set_shape(name, shape["min"], shape["opt"], shape["max"])
    if shapes:
        config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise GenslimError(
            f"{trt.__name__} can't build an engine: "
            + ("; ".join(logger.errors[-3:]) or "no reason given"),
            hint="export onnx still works; ONNX Runtime or OpenVINO may run it",
        )
    return Built(bytes(engine), shapes, product_types(network))


def profile_shapes(network: Any, signature: Signature) -> dict[str, dict[str, list[int]]]:
    """The range of shapes of each input that is dynamic in the network.

    The usual shape is the signature's at the target's usual batch; the greatest batch is 64 for
    latents and 4 for images; sides go from a quarter of the usual to 1024 or twice the usual.
    """
    usual_batch = Target().settled(signature).batch
    assert usual_batch is not None
    specs = {spec.name: spec for spec in signature.inputs}
    shapes = {}
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        parsed = tuple(tensor.shape)
        if -1 not in parsed:
            continue
        spec = specs[tensor.name]
        ranges = [
            side_range(spec, axis, usual_batch) if side == -1 else (side, side, side)
            for axis, side in enumerate(parsed)
        ]
        least, usual, most = (list(sides) for sides in zip(*ranges, strict=True))
        shapes[tensor.name] = {"min": least, "opt": usual, "max": most}
    return shapes


def side_range(spec: Input, axis: int, usual_batch: int) -> tuple[int, int, int]:
    """Least, usual and greatest size of one dynamic dimension."""
    if spec.shape[axis] == BATCH:
        most = IMAGE_BATCH_MOST if isinstance(spec.draw, Images) else LATENT_BATCH_MOST
        return 1, usual_batch, max(most, usual_batch)
    usual, step = spec.concrete(1)[axis], spec.multiple_of
    least = max(step, usual // 4 // step * step)
    return least, usual, max(LONGEST_SIDE // step * step, 2 * usual)


def product_types(network: Any) -> dict[str, int]:
    """Count the network's convolutions and matrix products by the type that they compute in.

    One whose input comes from a DequantizeLinear, directly or through layers that only move
    values, is int8: that is what Q/DQ means to TensorRT.
    """
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    made_by = {
        layer.get_output(index).name: layer
        for layer in layers
        for index in range(layer.num_outputs)
    }

    @cache
    def quantized(name: str) -> bool:
        layer = made_by.get(name)
        if layer is None or layer.type.name not in MOVES:
            return layer is not None and layer.type.name == "DEQUANTIZE"
        many = layer.type.name == "CONCATENATION"  # the others' further inputs are shapes
        return all(
            quantized(layer.get_input(index).name)
            for index in range(layer.num_inputs if many else 1)
        )

    found: Counter[str] = Counter()
    for layer in layers:
        if layer.type.name in PRODUCTS:
            taken = layer.get_input(0)
            kind = taken.dtype.name
            found["int8" if quantized(taken.name) else TYPES.get(kind, kind.lower())] += 1
    return dict(found)


def inspect(trt: Any, engine: bytes) -> dict[str, int] | None:
    """Count the layers of a built engine by the type of their first output.

    None where the engine can't be loaded: TensorRT gives no reason, most often there is no GPU.
    """
    loaded = trt.Runtime(quiet_logger(trt)).deserialize_cuda_engine(engine)
    if loaded is None:
        return None
    text = loaded.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    found: Counter[str] = Counter()
    for layer in json.loads(text).get("Layers", []):
        outputs = layer.get("Outputs") if isinstance(layer, dict) else None
        if outputs:
            found[type_in(str(outputs[0].get("Format/Datatype", "")))] += 1
    return dict(found)


def type_in(text: str) -> str:
    """The type in the inspector's words: ``Channel major FP16 format``, ``Half``."""
    words = text.lower()
    for kind, names in {
        "int8": ("int8",),
        "fp8": ("fp8",),
        "bf16": ("bf16", "bfloat16"),
        "fp16": ("fp16", "half"),
        "fp32": ("fp32", "float"),
    }.items():
        if any(name in words for name in names):
            return kind
    return "other"


def refusals(asked: str, products: dict[str, int], inspected: dict[str, int] | None) -> list[str]:
    """Why what was built is not what was asked for; empty where it is."""
    failures = []
    if asked == "fp16" and products.get("fp32"):
        failures.append(f"fp16 was asked for, and the network is {listed(products)}")
    if asked == "int8" and not products.get("int8"):
        failures.append(f"int8 was asked for, and the network is {listed(products)}")
    if inspected and asked != "fp32" and not (inspected.get("fp16") or inspected.get("int8")):
        failures.append(f"{asked} was asked for, and the engine's layers are {listed(inspected)}")
    return failures


def listed(counts: dict[str, int]) -> str:
    """``17 fp16, 1 fp32``, the commonest first."""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{count} {kind}" for kind, count in ordered) or "without products"
