"""The step graph: an ONNX graph that reads tokens after others, their keys and values beside them.

Inputs are ``tokens`` ``(batch, tokens)``, int64, and for each layer ``past_key_I`` and
``past_value_I`` ``(batch, heads, past, head width)``, float32, of no token at first; outputs are
``logits`` ``(batch, tokens, codes)`` and ``present_key_I`` and ``present_value_I``
``(batch, heads, past + tokens, head width)``, which are the past of what is read next. Bytes of a
prompt look back, tokens of the image at all that is read at once: one graph decodes both ways.

It is written down node by node rather than exported: a step is so small that each node counts.
Here query, key and value are one product, all products are of two axes, which takes the biases in,
and ``Attention`` (opset 23) lays the cache out itself: 76 nodes for four layers, where PyTorch's
exporter makes 136 of that opset and 201 of opset 20.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from generators.networks.text_transformer import BYTES, Block, Transformer

if TYPE_CHECKING:
    import onnx

OPSET = 23
"""The first with ``Attention``."""


def cache_names(layers: int, when: str) -> list[str]:
    """The names of a cache's tensors: ``past`` or ``present``."""
    return [f"{when}_{part}_{i}" for i in range(layers) for part in ("key", "value")]


@dataclass
class Graph:
    """An ONNX graph that grows node by node."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def add(self, kind: str, *inputs: str, outputs: int | list[str] = 1, **settings: Any) -> Any:
        """Add a node; return the name of what it makes, or the names."""
        from onnx import helper

        name = f"{kind}_{len(self.nodes)}"
        made = (
            outputs
            if isinstance(outputs, list)
            else [f"{name}_{i}" if outputs > 1 else name for i in range(outputs)]
        )
        self.nodes.append(helper.make_node(kind, inputs, made, name, **settings))
        return made[0] if len(made) == 1 else made

    def constant(self, value: Any, name: str | None = None) -> str:
        """Add a constant; return its name."""
        from onnx import numpy_helper

        name = name or f"constant_{len(self.constants)}"
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def linear(self, x: str, weight: Tensor, bias: Tensor | None, name: str) -> str:
        """A product of two axes with the weight ``(outputs, inputs)`` of a linear layer."""
        learned = [self.constant(weight.T, f"{name}.weight")]
        learned += [] if bias is None else [self.constant(bias, f"{name}.bias")]
        return str(self.add("Gemm", x, *learned))

    def norm(self, x: str, layer: nn.LayerNorm, name: str) -> str:
        """A layer norm over the last axis."""
        learned = [self.constant(layer.weight, f"{name}.weight")]
        learned += [self.constant(layer.bias, f"{name}.bias")]
        return str(self.add("LayerNormalization", x, *learned, axis=-1, epsilon=layer.eps))


@torch.no_grad()
def step_graph(transformer: Transformer) -> bytes:
    """The step graph of a transformer, pruned or not, as a serialised ONNX model."""
    from onnx import TensorProto, helper

    graph = Graph()
    width, codes = transformer.tokens.weight.shape[1], transformer.head.out_features
    zero, one = graph.constant([0]), graph.constant([1])
    sides = graph.add("Shape", "tokens")  # (batch, tokens)
    read = graph.add("Slice", sides, one, graph.constant([2]))
    before = graph.add("Shape", "past_key_0", start=2, end=3)
    end = graph.add("Add", before, read)
    places = graph.add(
        "Range",
        graph.constant(0),
        graph.add("Squeeze", end),
        graph.constant(1),
    )  # (past + tokens)
    own = graph.add("Slice", places, before, end, zero)  # (tokens)
    column = graph.add("Unsqueeze", own, one)  # (tokens, 1)
    back = graph.add("LessOrEqual", places, column)  # (tokens, past + tokens)
    image = graph.add("GreaterOrEqual", "tokens", graph.constant(BYTES))  # (batch, tokens)
    image = graph.add("Unsqueeze", image, graph.constant([1, 3]))  # (batch, 1, tokens, 1)
    allowed = graph.add("Or", back, image)  # (batch, 1, tokens, past + tokens)

    x = graph.add("Gather", graph.constant(transformer.tokens.weight, "tokens.weight"), "tokens")
    place = graph.constant(transformer.positions.weight, "positions.weight")
    x = graph.add("Add", x, graph.add("Gather", place, own))
    x = graph.add("Reshape", x, graph.constant([-1, width]))  # (batch * tokens, width)
    for index, block in enumerate(transformer.layers()):
        x = add_block(graph, x, block, index, sides=sides, allowed=allowed)
    x = graph.norm(x, transformer.norm, "norm")
    x = graph.linear(x, transformer.head.weight, transformer.head.bias, "head")
    shape = graph.add("Concat", sides, graph.constant([codes]), axis=0)
    graph.add("Reshape", x, shape, outputs=["logits"])

    layers = len(transformer.layers())
    kinds = [(heads_of(b), b.attention.head_width) for b in transformer.layers() for _ in range(2)]
    floats, ints = TensorProto.FLOAT, TensorProto.INT64
    make = helper.make_tensor_value_info
    inputs = [make("tokens", ints, ["batch", "tokens"])]
    outputs = [make("logits", floats, ["batch", "tokens", codes])]
    for name, (heads, each) in zip(cache_names(layers, "past"), kinds, strict=True):
        inputs.append(make(name, floats, ["batch", heads, "past", each]))
    for name, (heads, each) in zip(cache_names(layers, "present"), kinds, strict=True):
        outputs.append(make(name, floats, ["batch", heads, "past + tokens", each]))
    made = helper.make_graph(graph.nodes, "step", inputs, outputs, graph.constants)
    model = helper.make_model(
        made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=11, producer_name="genslim"
    )
    blob: bytes = model.SerializeToString()
    return blob


def add_block(graph: Graph, x: str, block: Block, index: int, *, sides: str, allowed: str) -> str:
    """Add a block that reads the stream ``x`` ``(batch * tokens, width)``; return the stream."""
    name = f"blocks.{index}"
    attention, heads = block.attention, heads_of(block)
    width = heads * attention.head_width
    layers = (attention.query, attention.key, attention.value)
    h = graph.norm(x, block.before_attention, f"{name}.before_attention")
    h = graph.linear(
        h,
        torch.cat([layer.weight for layer in layers]),
        torch.cat([layer.bias for layer in layers]),
        f"{name}.attention.query_key_value",
    )
    h = graph.add("Reshape", h, graph.add("Concat", sides, graph.constant([3 * width]), axis=0))
    query, key, value = graph.add(
        "Split", h, graph.constant([width] * 3), outputs=3, axis=-1
    )  # (batch, tokens, heads * head width) each
    found, *_ = graph.add(
        "Attention",
        *(query, key, value, allowed, f"past_key_{index}", f"past_value_{index}"),
        outputs=[f"{name}.found", f"present_key_{index}", f"present_value_{index}"],
        q_num_heads=heads,
        kv_num_heads=heads,
    )
    found = graph.add("Reshape", found, graph.constant([-1, width]))
    out = attention.output
    h = graph.linear(found, out.weight, out.bias, f"{name}.attention.output")
    x = graph.add("Add", x, h)
    norm, first, _, second = block.feed_forward
    assert isinstance(norm, nn.LayerNorm)
    assert isinstance(first, nn.Linear)
    assert isinstance(second, nn.Linear)
    h = graph.norm(x, norm, f"{name}.feed_forward.0")
    h = graph.linear(h, first.weight, first.bias, f"{name}.feed_forward.1")
    h = graph.add("Gelu", h)
    h = graph.linear(h, second.weight, second.bias, f"{name}.feed_forward.3")
    return str(graph.add("Add", x, h))


def heads_of(block: Block) -> int:
    """How many heads a block has left."""
    return block.attention.key.out_features // block.attention.head_width


def quantized(graph: bytes) -> bytes:
    """The step graph with int8 weights, a scale for each output; activations are rounded as found.

    Ranges are taken of each step's own activations (dynamic quantization): no calibration, and
    nothing is clipped. Weights that were on an 8-bit grid of such scales stay on it.
    """
    import tempfile
    from pathlib import Path

    from onnxruntime.quantization import QuantType, quantize_dynamic

    from genslim.quiet import quiet

    with tempfile.TemporaryDirectory(prefix="genslim-") as folder, quiet():
        source, made = Path(folder) / "step.onnx", Path(folder) / "int8.onnx"
        source.write_bytes(graph)
        quantize_dynamic(
            source,
            made,
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=["MatMul", "Gemm"],
        )
        return made.read_bytes()
