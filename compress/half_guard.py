"""What of a graph fp16 can't hold: found on real inputs, before a GPU makes a black picture of it.

fp16 ends at 65504, and below 6e-8 there is nothing: sums of squares overflow, and the small numbers
that norms add to keep from dividing by nothing vanish. Both end as NaN, infinity or blank pictures,
which is what users of fp16 report most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from compress.quantization.ranges import outputs_of
from genslim.half import GREATEST
from genslim.onnx_model import load_model

if TYPE_CHECKING:
    import onnx

ROOM = 2.0
"""How much farther than on these inputs activations may reach on others."""
SMALLEST = float(np.finfo(np.float16).smallest_subnormal)
"""The least positive fp16 number."""


def beyond_half(graph: bytes, batches: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The tensors of an fp32 graph that fp16 can't hold, with the reason.

    Args:
        graph: fp32.
        batches: of real inputs, by name.
    """
    model = load_model(graph)
    found = constants_beyond(model)
    names = float_tensors(model)
    run = outputs_of(model, names)
    reach = dict.fromkeys(names, 0.0)
    for batch in batches:
        for name, values in run(batch).items():
            if values.size:
                reach[name] = max(reach[name], float(np.abs(values).max()))
    for name, most in reach.items():
        if not most * ROOM <= GREATEST:  # NaN too
            found[name] = f"reaches {most:.3g}; fp16 ends at {GREATEST:.0f}"
    return found


def constants_beyond(model: onnx.ModelProto) -> dict[str, str]:
    """The constants that are too large for fp16, or too small for it to tell from nothing."""
    from onnx import TensorProto, numpy_helper

    held = {t.name: t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT}
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.t.data_type == TensorProto.FLOAT:
                held[node.output[0]] = attribute.t
    found = {}
    for name, tensor in held.items():
        values = np.abs(numpy_helper.to_array(tensor))
        finite = values[np.isfinite(values)]
        most = float(finite.max()) if finite.size else 0.0
        if most > GREATEST:
            found[name] = f"holds {most:.3g}; fp16 ends at {GREATEST:.0f}"
        elif 0 < most < SMALLEST:
            found[name] = f"holds {most:.3g}, which is nothing in fp16"
    return found


def float_tensors(model: onnx.ModelProto) -> list[str]:
    """The names of all float tensors that nodes make."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model).graph
    known = (*inferred.value_info, *inferred.output)
    floats = {v.name for v in known if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}
    constants = {n.output[0] for n in model.graph.node if n.op_type == "Constant"}
    made = [name for node in model.graph.node for name in node.output]
    return [name for name in made if name in floats - constants]


def nodes_kept(graph: bytes, beyond: Mapping[str, str]) -> list[tuple[str, str]]:
    """The nodes that make or read such tensors, with the first reason of each."""
    found = []
    for node in load_model(graph).graph.node:
        reasons = [beyond[name] for name in (*node.output, *node.input) if name in beyond]
        if reasons and node.op_type != "Constant":
            found.append((node.name or node.op_type, reasons[0]))
    return found
