"""Unsigned quantization as signed: TensorRT's int8 is symmetric.

NNCF quantizes what can't be negative to uint8. TensorRT's parser reads uint8 as int8 with no more
than a warning, and everything above the middle of the range is clipped. Here each such pair gets
the smallest symmetric int8 range that holds its old range; that costs at most one bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from genslim.errors import GenslimError
from genslim.onnx_graph import load_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

PAIR = ("QuantizeLinear", "DequantizeLinear")


def signed(graph: bytes) -> bytes:
    """Rewrite every asymmetric activation quantizer of a Q/DQ graph as symmetric int8.

    A scale ``s`` and zero point ``z`` of a type from ``low`` to ``high`` hold the values
    ``(low - z) s`` to ``(high - z) s``; the new scale is ``s max(z - low, high - z) / 127``.

    Raises:
        GenslimError: a weight is stored so, or a zero point is computed.
    """
    from onnx import numpy_helper

    model = load_model(graph)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    renamed: dict[tuple[str, str], tuple[str, str]] = {}
    for node in model.graph.node:
        if node.op_type not in PAIR or len(node.input) < 3:
            continue
        values, scale_name, zero_name = node.input
        if scale_name not in constants or zero_name not in constants:
            raise GenslimError(
                f"the zero point of {node.op_type} {node.name!r} is computed; "
                "TensorRT wants a constant",
                hint="quantize again with static ranges",
            )
        zero = numpy_helper.to_array(constants[zero_name])
        if is_symmetric(zero):
            continue
        if values in constants:
            raise GenslimError(
                f"the weight {values!r} is quantized asymmetrically, which TensorRT can't read",
                hint="quantize again with symmetric int8 weights",
            )
        if (scale_name, zero_name) not in renamed:
            scale = numpy_helper.to_array(constants[scale_name])
            names = (f"{scale_name}.signed.{len(renamed)}", f"{zero_name}.signed.{len(renamed)}")
            renamed[scale_name, zero_name] = names
            model.graph.initializer.extend(
                [
                    numpy_helper.from_array(symmetric_scale(scale, zero), names[0]),
                    numpy_helper.from_array(np.zeros(zero.shape, np.int8), names[1]),
                ]
            )
        node.input[1], node.input[2] = renamed[scale_name, zero_name]
    if not renamed:
        return graph
    drop_unused_constants(model)
    # Types of the tensors between were inferred for uint8.
    del model.graph.value_info[:]
    return bytes(model.SerializeToString())


def is_symmetric(zero: NDArray[Any]) -> bool:
    """Whether a zero point is that of symmetric int8 (or of a type that has no asymmetric form)."""
    if zero.dtype not in (np.uint8, np.int8):
        return True
    return zero.dtype == np.int8 and not zero.any()


def symmetric_scale(scale: NDArray[Any], zero: NDArray[Any]) -> NDArray[Any]:
    """The scale of symmetric int8 that holds the range of ``scale`` and ``zero``, in its type."""
    limits = np.iinfo(zero.dtype)
    steps = np.maximum(zero.astype(np.int64) - limits.min, limits.max - zero.astype(np.int64))
    widened: NDArray[Any] = (scale.astype(np.float64) * steps / 127).astype(scale.dtype)
    return widened


def drop_unused_constants(model: Any) -> None:
    """Remove initializers that nothing reads."""
    used = {name for node in model.graph.node for name in node.input}
    used |= {value.name for value in model.graph.output}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
