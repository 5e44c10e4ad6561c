"""The sign of rounded activations, as each runtime wants it.

TensorRT's parser reads uint8 as int8 with no more than a warning, and everything above the middle
of the range is clipped: :func:`signed`. OpenVINO 2026.4 computes convolutions wrongly whose input
is a concatenation of int8 tensors, on CPUs without AMX at least: Real-ESRGAN read an SSIM of 0.24
to what ONNX Runtime made of the same graph, and 0.93 with the same numbers as uint8. Transposed
convolutions, however, it runs in int8 only where no zero point is subtracted, and on a CPU with AMX
its quickest kernels of other convolutions take none either (animevideov3: 1.95 ms as int8, 2.56 as
uint8): :func:`for_openvino`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from genslim.errors import GenslimError
from genslim.onnx_model import drop_unused_constants, load_model, put_constants
from genslim.processes import has_amx

if TYPE_CHECKING:
    from numpy.typing import NDArray

PAIR = ("QuantizeLinear", "DequantizeLinear")
MOVES = (
    *("Reshape", "Unsqueeze", "Squeeze", "Transpose", "Flatten", "Concat", "Slice", "Split"),
    *("DepthToSpace", "SpaceToDepth"),
)
"""Operators that only move values about."""


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


def unsigned(graph: bytes) -> bytes:
    """Shift every int8 activation of a Q/DQ graph by 128: the same numbers as uint8.

    Weights stay int8, and zero points that are computed stay what they are.
    """
    model = load_model(graph)
    return shifted(model, graph, {n.name: np.dtype(np.uint8) for n in activation_pairs(model)})


def for_openvino(graph: bytes, *, elsewhere: bool = False) -> bytes:
    """The same numbers as int8 where that is quicker, as uint8 elsewhere.

    It is quicker where a transposed convolution reads them; on a CPU with AMX everywhere. What has
    another zero point than 128 stays uint8.

    Args:
        graph: with Q/DQ pairs.
        elsewhere: whether it may run on another CPU than this one: then what is concatenated stays
            uint8, which every CPU computes rightly.
    """
    model, amx = load_model(graph), has_amx()
    readers: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)

    def read_by(kind: str, name: str) -> bool:
        """Whether an operator of this kind reads a tensor, moved about at most."""
        return any(
            node.op_type == kind
            or (
                node.op_type in (*MOVES, "DequantizeLinear")
                and any(read_by(kind, made) for made in node.output)
            )
            for node in readers.get(name, ())
        )

    kinds: dict[str, np.dtype[Any]] = {}
    for node in activation_pairs(model):
        if node.op_type == "QuantizeLinear":
            made = node.output[0]
            safe = not (elsewhere and read_by("Concat", made))
            quicker = read_by("ConvTranspose", made) or (amx and safe)
            kind = np.dtype(np.int8 if quicker else np.uint8)
            kinds[node.name] = kind
            for reader in readers.get(node.output[0], ()):
                kinds[reader.name] = kind
    return shifted(model, graph, kinds)


def activation_pairs(model: Any) -> list[Any]:
    """The nodes of pairs around activations whose zero points are constants."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [
        node
        for node in model.graph.node
        if node.op_type in PAIR
        and len(node.input) == 3
        and node.input[0] not in constants
        and node.input[2] in constants
    ]


def shifted(model: Any, graph: bytes, kinds: Mapping[str, np.dtype[Any]]) -> bytes:
    """The graph with zero points of other types, shifted by 128, where they have such a form."""
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    made: dict[str, NDArray[Any]] = {}
    for node in activation_pairs(model):
        zero = numpy_helper.to_array(constants[node.input[2]])
        kind = kinds.get(node.name, zero.dtype)
        if zero.dtype == kind or zero.dtype not in (np.uint8, np.int8):
            continue
        if kind == np.int8 and (zero != 128).any():
            continue
        name = f"{node.input[2]}.{kind.name}"
        made[name] = (zero.astype(np.int16) + (128 if kind == np.uint8 else -128)).astype(kind)
        node.input[2] = name
    if not made:
        return graph
    put_constants(model, made)
    drop_unused_constants(model)
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
    if zero.dtype == np.uint8 and (zero == 128).all():
        return scale  # the same numbers, shifted
    widened: NDArray[Any] = (scale.astype(np.float64) * steps / 127).astype(scale.dtype)
    return widened
