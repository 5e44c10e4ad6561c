"""INT8 as a graph with QuantizeLinear and DequantizeLinear pairs, by NNCF's ONNX backend.

Weights are symmetric for each channel, activations asymmetric by their range on calibration
inputs. Every runtime here reads the result.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from genslim.generator import Generator
from genslim.inputs import Inputs
from genslim.onnx_graph import load_model, onnx_of

if TYPE_CHECKING:
    import onnx

MOVES = ("Reshape", "Unsqueeze", "Squeeze", "Transpose", "Flatten", "Concat", "Slice")
"""Operators that only move values about."""
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
CALIBRATION_BATCHES = 20


def calibration_batch(generator: Generator) -> int:
    """Inputs in a batch: an image holds many positions, a latent makes one picture."""
    return 4 if generator.signature.takes_images else 16


def quantized_graph(generator: Generator, seed: int) -> bytes:
    """The generator's graph with Q/DQ pairs, calibrated on inputs of the calibration stream."""
    with quiet_nncf() as nncf:
        stream = Inputs(generator.signature, "calibration", seed)
        size = calibration_batch(generator)
        batches = [
            {name: tensor.numpy() for name, tensor in stream.draw(size).items()}
            for _ in range(CALIBRATION_BATCHES)
        ]
        model = load_model(onnx_of(generator))
        exact = nncf.IgnoredScope(names=before_decisions(model))
        model = nncf.quantize(
            model, nncf.Dataset(batches), subset_size=CALIBRATION_BATCHES, ignored_scope=exact
        )
    return bytes(model.SerializeToString())


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


def products(graph: bytes) -> tuple[list[str], list[str]]:
    """The convolutions and matrix products of a Q/DQ graph: those in int8, and the others."""
    nodes = load_model(graph).graph.node
    maker = {output: node for node in nodes for output in node.output}

    def is_int8(name: str) -> bool:
        """Whether a tensor comes out of a DequantizeLinear, moved about at most."""
        while (node := maker.get(name)) and node.op_type in MOVES:
            name = node.input[0]
        return node is not None and node.op_type == "DequantizeLinear"

    found = [n for n in nodes if n.op_type in ("Conv", "ConvTranspose", "MatMul", "Gemm")]
    rounded = [n.name for n in found if all(is_int8(name) for name in n.input[:2])]
    return rounded, [n.name for n in found if n.name not in set(rounded)]


@contextlib.contextmanager
def quiet_nncf() -> Iterator[Any]:
    """NNCF without its log lines and progress bars."""
    import nncf

    nncf.set_log_level(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield nncf
