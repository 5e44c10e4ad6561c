"""From the graph that a chain ends in back to what decoding needs: a transformer, and a painter.

The graph reads a prompt and all tokens at once. Its layers keep their names through quantization
(the exporter's ``name_scopes``), so their weights, dequantized, make the transformer of a step
graph; what comes after its last softmax draws pictures of tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from generators.networks.text_transformer import Transformer
from generators.networks.vector_quantizer import TOKENS
from genslim.errors import UserError
from genslim.onnx_model import load_model

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

Arrays = dict[str, "NDArray[np.float32]"]
SCOPES = "pkg.torch.onnx.name_scopes"


def transformer_of(graph: bytes, original: Transformer) -> Transformer:
    """The transformer whose weights a graph holds, dequantized where they are quantized.

    Args:
        graph: a chain's, of a :class:`generators.networks.text_to_image.TextImageModel`.
        original: says which layers there are; a graph may hold less of each.

    Raises:
        UserError: the graph lacks some of the layers.
    """
    model = load_model(graph)
    found = learned(model)
    result = copy.deepcopy(original)
    missing = [name for name, _ in original.named_parameters() if name not in found]
    if missing:
        raise UserError(
            f"the graph names no {missing[0]} ({len(missing)} of the transformer's weights are "
            "not there)",
            hint="name an artifact that compress made of text-mnist",
        )
    for name, _ in original.named_parameters():
        place, _, own = name.rpartition(".")
        layer = result.get_submodule(place)
        setattr(layer, own, nn.Parameter(torch.from_numpy(found[name].copy()), requires_grad=False))
        if isinstance(layer, nn.Linear):
            layer.out_features, layer.in_features = layer.weight.shape
        elif isinstance(layer, nn.LayerNorm):
            layer.normalized_shape = tuple(layer.weight.shape)
        elif isinstance(layer, nn.Embedding):
            layer.embedding_dim = layer.weight.shape[1]
    return result.eval()


def learned(model: onnx.ModelProto) -> Arrays:
    """The transformer's parameters by their names, as far as the graph holds them."""
    places: dict[str, tuple[str, bool]] = {}  # the tensor of each, and whether it lies transposed
    fixed = constants(model)
    for node in model.graph.node:
        layer = layer_of(node).removeprefix("transformer.")
        known = [name for name in node.input if name in fixed]
        match node.op_type:
            case "MatMul" if len(known) == 1:
                places[f"{layer}.weight"] = known[0], True
            case "Gemm":
                turned = any(a.name == "transB" and a.i for a in node.attribute)
                places[f"{layer}.weight"] = node.input[1], not turned
                places[f"{layer}.bias"] = node.input[2], False
            case "Add" if layer == "transformer" and known:
                places["positions.weight"] = known[0], False
            case "Add" if known:
                places[f"{layer}.bias"] = known[0], False
            case "LayerNormalization":
                places[f"{layer}.weight"] = node.input[1], False
                places[f"{layer}.bias"] = node.input[2], False
            case "Gather" if layer == "tokens":
                places["tokens.weight"] = node.input[0], False
    values = evaluated(model, sorted({name for name, _ in places.values()}))
    return {
        name: values[tensor].T if turned else values[tensor]
        for name, (tensor, turned) in places.items()
    }


def layer_of(node: onnx.NodeProto) -> str:
    """The module that a node was exported from: ``transformer.blocks.0.attention.query``."""
    import ast

    for entry in node.metadata_props:
        if entry.key == SCOPES:
            scopes = ast.literal_eval(entry.value)
            return str(scopes[-2]) if len(scopes) > 1 else ""
    return ""


def constants(model: onnx.ModelProto) -> set[str]:
    """The tensors that depend on no input."""
    found = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if all(name in found for name in node.input if name):
            found.update(node.output)
    return found


def evaluated(model: onnx.ModelProto, names: list[str]) -> Arrays:
    """The values of tensors that depend on no input."""
    held = {tensor.name for tensor in model.graph.initializer}
    from onnx import numpy_helper

    values = {
        t.name: numpy_helper.to_array(t) for t in model.graph.initializer if t.name in set(names)
    }
    computed = [name for name in names if name not in held]
    if computed:
        run = part(model, [], computed)
        values |= dict(zip(computed, run({}), strict=True))
    return values


def part(
    model: onnx.ModelProto, inputs: list[str], outputs: list[str]
) -> Callable[[dict[str, Any]], list[Any]]:
    """A piece of a graph, from some of its tensors to others, on ONNX Runtime."""
    return running(piece(model, inputs, outputs).SerializeToString(), outputs)


def piece(model: onnx.ModelProto, inputs: list[str], outputs: list[str]) -> onnx.ModelProto:
    """What of a graph leads from some of its tensors to others."""
    import onnx
    from onnx import TensorProto, helper

    graph = copy.deepcopy(model.graph)
    known = {v.name for v in (*graph.value_info, *graph.output, *graph.input)}
    for name in {*inputs, *outputs} - known:
        graph.value_info.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    whole = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    return onnx.utils.Extractor(whole).extract_model(inputs, outputs)


def running(graph: bytes, outputs: list[str]) -> Callable[[dict[str, Any]], list[Any]]:
    """A graph on ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4
    session: Any = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def run(feed: dict[str, Any]) -> list[Any]:
        made: list[Any] = session.run(outputs, feed)
        return made

    return run


def painter_graph(graph: bytes, codes: int) -> bytes:
    """The piece of a graph that draws ``images`` of ``shares`` ``(batch, 49, codes)``, float32.

    Args:
        graph: a chain's, or the original's, exported.
        codes: how many there are.

    Raises:
        UserError: it is of something else.
    """
    from onnx import TensorProto, helper

    model = load_model(graph)
    softmax = [node for node in model.graph.node if node.op_type == "Softmax"]
    if not softmax:
        raise UserError(
            "the graph has no softmax over codes",
            hint="name an artifact that compress made of text-mnist",
        )
    read = softmax[-1].output[0]
    made = piece(model, [read], [model.graph.output[0].name])
    for node in made.graph.node:
        node.input[:] = ["shares" if name == read else name for name in node.input]
    shape: list[str | int | None] = ["batch", TOKENS, codes]
    made.graph.input[0].CopyFrom(helper.make_tensor_value_info("shares", TensorProto.FLOAT, shape))
    blob: bytes = made.SerializeToString()
    return blob


def painter_of(graph: bytes, codes: int) -> Callable[[Tensor], Tensor]:
    """What draws pictures ``(N, 1, 32, 32)`` of codes ``(N, 49)``, int64, in a chain's graph."""
    painter = painter_graph(graph, codes)
    run = running(painter, [load_model(painter).graph.output[0].name])

    def paint(tokens: Tensor) -> Tensor:
        (images,) = run({"shares": one_hot(tokens, codes).float().numpy()})
        return torch.from_numpy(images)

    return paint
