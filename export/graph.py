"""The ONNX graph that every format is made from, and what can be told from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from export.exporter import Kind
from export.parity import untimed
from genslim.errors import UserError
from genslim.generator import Generator
from genslim.inputs import Inputs
from genslim.onnx_graph import onnx_of
from genslim.onnx_model import float_type, load_model
from genslim.runtimes import runtime
from genslim.signature import Signature

if TYPE_CHECKING:
    import onnx

PROBES = 4
"""Inputs that the range of fp16 is tried on."""


def graph_of(generator: Generator, precision: str) -> bytes:
    """The generator's graph in the precision asked for.

    Args:
        generator: a module or a graph.
        precision: ``auto``: as it is; ``fp16``: its float part in 16 bits; ``fp32`` and ``int8``:
            as it is, which must be that.

    Raises:
        UserError: it is not what was asked for, and an export does not make it so.
        GenslimError: it can't be exported, or does not fit into fp16.
    """
    from genslim.half import to_fp16

    graph = onnx_of(generator)
    kind = kind_of(graph)
    if precision == "fp16":
        return to_fp16(graph)
    if precision == "int8" and kind != "int8":
        raise UserError(
            f"{generator.label} is {kind}; an export does not quantize",
            hint="quantize it first: compress quantize --int8",
        )
    if precision == "fp32" and kind != "fp32":
        raise UserError(
            f"{generator.label} is {kind} and can't be exported as fp32",
            hint="name an artifact from before it was quantized",
        )
    return graph


def kind_of(graph: bytes) -> Kind:
    """What a graph computes in: ``int8`` where it has Q/DQ pairs, else its float type."""
    if any(node.op_type == "QuantizeLinear" for node in load_model(graph).graph.node):
        return "int8"
    return "fp16" if float_type(graph) == "float16" else "fp32"


def beyond_half(graph: bytes, signature: Signature) -> list[str]:
    """Which tensors of an fp16 graph leave the range of fp16 on real inputs, a line each.

    ONNX Runtime's CPU provider computes such a graph in fp32 and rounds where a result is handed
    out, so its pictures look right where a GPU's are black or NaN. Here every tensor is handed out.

    Raises:
        UserError: inputs can't be drawn.
    """
    import onnx

    if float_type(graph) != "float16":
        return []
    model = load_model(graph)
    shown = {value.name for value in model.graph.output}
    inferred = onnx.shape_inference.infer_shapes(model).graph.value_info
    halves = [v for v in inferred if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16]
    made = {name for node in model.graph.node for name in node.output}
    model.graph.output.extend(v for v in halves if v.name in made - shown)
    probe = Generator("probe", signature, {}, onnx=model.SerializeToString())
    drawn = {n: t.numpy() for n, t in Inputs(signature, "parity").draw(PROBES).items()}
    with runtime("onnxruntime").open(probe, untimed("onnxruntime", signature)) as session:
        outputs = session.run(drawn)
    bad = [name for name, array in outputs.items() if not np.isfinite(array).all()]
    if not bad:
        return []
    maker = {name: node.name or node.op_type for node in model.graph.node for name in node.output}
    return [
        f"{len(bad)} of {len(outputs)} tensors leave the range of fp16 (65504), "
        f"the first behind {maker[first_of(bad, model)]}"
    ]


def first_of(names: list[str], model: onnx.ModelProto) -> str:
    """Which of ``names`` is computed first."""
    ordered = [name for node in model.graph.node for name in node.output]
    return min(names, key=ordered.index)
