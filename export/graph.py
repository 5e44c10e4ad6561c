"""The ONNX graph that every format is made from, and what can be told from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from export.exporter import Kind
from genslim.errors import UserError
from genslim.onnx_graph import float_type, load_model, onnx_of

if TYPE_CHECKING:
    from genslim.generator import Generator


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
