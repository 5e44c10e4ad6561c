"""What hangs on no input, computed once: PyTorch's exporter leaves large constants unfolded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genslim.graph_rewrites.view import Sites, View

if TYPE_CHECKING:
    import onnx

KEPT = ("QuantizeLinear", "DequantizeLinear")
"""Folding a weight's pair would undo its rounding."""
LARGEST = 1 << 24
"""Bytes of a constant that may come of it."""
WHOLE = "graph"
"""The name of the one site."""


def folded(view: View) -> Sites:
    """The whole graph, where anything in it can be folded."""
    known = {*view.initializers, ""}
    found = []
    for node in view.nodes:
        if known.issuperset(node.input) and node.op_type not in (*KEPT, "Constant"):
            known.update(node.output)
            found.append(node)
    return {WHOLE: lambda: fold(view.model)} if found else {}


def fold(model: onnx.ModelProto) -> None:
    """Fold, in place."""
    import onnx_ir
    from onnxscript.optimizer import fold_constants

    graph = onnx_ir.from_proto(model)
    fold_constants(
        graph,
        onnx_shape_inference=False,
        input_size_limit=LARGEST,
        output_size_limit=LARGEST,
        should_fold=lambda node: False if node.op_type in KEPT else None,
    )
    model.CopyFrom(onnx_ir.to_proto(graph))
