"""Where Q/DQ pairs go: the quantizers of NNCF and of ONNX Runtime, each for what its runtime fuses.

NNCF rounds once between two products, after what OpenVINO and TensorRT fuse into the first. ONNX
Runtime's kernels want pairs right around each product; in a graph of NNCF's its CPU provider finds
few that it can run in int8, and is slower than in fp32.

Weights are symmetric for each output channel and stored in int8; biases stay float32, which
TensorRT requires.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genslim.onnx_model import load_model
from genslim.quiet import quiet

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray

PRODUCTS = ("Conv", "ConvTranspose", "MatMul", "Gemm")
"""Operators that are worth rounding for."""
DECISIONS = (
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "ArgMax",
    "ArgMin",
    "TopK",
)
"""Operators that decide by their inputs, which must therefore be exact."""

Batches = Sequence[Mapping[str, "NDArray[np.float32]"]]
Placement = Callable[[bytes, Batches], bytes]


def by_nncf(graph: bytes, batches: Batches) -> bytes:
    """Pairs as NNCF's ONNX backend sets them, additions included."""
    return nncf_pairs(graph, batches, ())


def by_nncf_but_sums(graph: bytes, batches: Batches) -> bytes:
    """Pairs as NNCF sets them, but sums of streams stay in floating point."""
    return nncf_pairs(graph, batches, ("Add",))


def nncf_pairs(graph: bytes, batches: Batches, whole: Sequence[str]) -> bytes:
    """Run NNCF; operators of the types ``whole`` get no pairs of their own."""
    model = load_model(graph)
    present = {node.op_type for node in model.graph.node}
    with quiet():
        import nncf
        from nncf.quantization.advanced_parameters import (
            AdvancedQuantizationParameters,
            OverflowFix,
        )

        scope = nncf.IgnoredScope(
            names=before_decisions(model), types=[kind for kind in whole if kind in present]
        )
        model = nncf.quantize(
            model,
            nncf.Dataset([dict(batch) for batch in batches]),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(batches),
            ignored_scope=scope,
            advanced_parameters=AdvancedQuantizationParameters(
                # It moved SSIM by less than 0.0005 on every generator tried, and takes a third
                # of the time.
                disable_bias_correction=True,
                # A bit less for the first layer's weights is for CPUs older than VNNI.
                overflow_fix=OverflowFix.DISABLE,
            ),
        )
    return bytes(model.SerializeToString())


def by_onnxruntime(graph: bytes, batches: Batches) -> bytes:
    """Pairs as ONNX Runtime's static quantizer sets them, around products alone."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """The batches, one by one."""

        def __init__(self) -> None:
            self.rest = iter(batches)

        def get_next(self) -> Any:
            """The next batch; None after the last."""
            return next(self.rest, None)

    model = load_model(graph)
    exact = set(before_decisions(model))
    with tempfile.TemporaryDirectory(prefix="genslim-") as folder, quiet():
        place = Path(folder) / "model.onnx"
        quantize_static(
            model,
            place,
            Reader(),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=list(PRODUCTS),
            nodes_to_exclude=[name for name in exact if name],
            extra_options={"QuantizeBias": False, "WeightSymmetric": True},
        )
        return place.read_bytes()


PLACEMENTS: Mapping[str, Mapping[str, Placement]] = {
    "nncf": {"nncf, sums whole": by_nncf_but_sums, "nncf": by_nncf},
    "onnxruntime": {"onnxruntime": by_onnxruntime},
}
"""By quantizer, what it is told; what reads the best SSIM as a rule first."""


def usual_placement(runtime: str) -> Placement:
    """The pairs that a runtime's kernels are made for, where none are measured."""
    return by_onnxruntime if runtime == "onnxruntime" else by_nncf_but_sums


def before_decisions(model: onnx.ModelProto) -> list[str]:
    """The nodes whose results are compared or ranked somewhere: rounding would change decisions.

    A class read off a latent, say, is another class where rounding makes two numbers equal.
    """
    maker = {output: node for node in model.graph.node for output in node.output}
    waiting = [node for node in model.graph.node if node.op_type in DECISIONS]
    found: dict[str, None] = {}
    while waiting:
        node = waiting.pop()
        if node.name not in found:
            found[node.name] = None
            waiting += [maker[name] for name in node.input if name in maker]
    return list(found)
