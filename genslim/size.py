"""How large a generator is: parameters and multiply-accumulate operations."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genslim.generator import Generator


@dataclass(frozen=True)
class Size:
    """Parameters, and MACs of one image at the signature's usual size."""

    parameters: int
    macs: int


def size_of(generator: Generator) -> Size:
    """Count parameters and MACs of convolutions and matrix products.

    A module is counted by PyTorch's own counter, a graph by its shapes; biases, norms and
    activations count as parameters but not as MACs, as is usual.
    """
    if generator.onnx is None:
        return size_of_module(generator)
    return size_of_graph(generator)


def size_of_module(generator: Generator) -> Size:
    """Count with ``torch.utils.flop_counter``, which sees every product wherever it is called."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    assert generator.module is not None
    module = generator.module
    example = [
        torch.zeros(spec.concrete(1), dtype=generator.dtype) for spec in generator.signature.inputs
    ]
    learned = [p for p in module.parameters() if p.requires_grad]
    try:
        for parameter in learned:  # the counter's hooks fail on views of what wants gradients
            parameter.requires_grad_(False)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module(*example)
    finally:
        for parameter in learned:
            parameter.requires_grad_(True)
    return Size(sum(p.numel() for p in module.parameters()), counter.get_total_flops() // 2)


def size_of_graph(generator: Generator) -> Size:
    """Count from the shapes that ONNX infers; weights stored as int8 count like any other."""
    import onnx
    from onnx import numpy_helper

    from genslim.onnx_model import load_model

    assert generator.onnx is not None
    model = load_model(generator.onnx)
    for value, spec in zip(model.graph.input, generator.signature.inputs, strict=True):
        for dim, side in zip(value.type.tensor_type.shape.dim, spec.concrete(1), strict=True):
            dim.dim_value = side
    for value in model.graph.output:  # let inference say: the old symbols no longer hold
        value.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*graph.value_info, *graph.output, *graph.input)
    }
    constants = {i.name: numpy_helper.to_array(i).shape for i in graph.initializer}
    # A quantized weight reaches its product through DequantizeLinear: look behind it.
    behind = {
        n.output[0]: n.input[0] for n in graph.node if n.op_type in ("DequantizeLinear", "Cast")
    }

    def constant(name: str) -> tuple[int, ...] | None:
        while name not in constants and name in behind:
            name = behind[name]
        return constants.get(name)

    parameters = macs = 0
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear", "Cast", "Reshape", "Resize"):
            continue
        held = [s for s in (constant(n) for n in node.input) if s is not None and prod(s) > 1]
        parameters += sum(prod(s) for s in held)
        weight = constant(node.input[1]) if len(node.input) > 1 else None
        if node.op_type == "Conv" and weight:
            macs += prod(shapes[node.output[0]]) * prod(weight[1:])
        elif node.op_type == "ConvTranspose" and weight:
            macs += prod(shapes[node.input[0]]) * prod(weight[1:])
        elif node.op_type in ("MatMul", "Gemm"):
            macs += prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]
    return Size(parameters, macs)
