"""INT8 as a graph with QuantizeLinear and DequantizeLinear pairs, by NNCF's ONNX backend.

Weights are symmetric for each channel, activations asymmetric by their range on calibration
inputs. Every runtime here reads the result.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from typing import Any

from genslim.generator import Generator
from genslim.inputs import Inputs
from genslim.onnx_graph import load_model, onnx_of

MOVES = ("Reshape", "Unsqueeze", "Squeeze", "Transpose", "Flatten")
"""Operators that only move values about."""
CALIBRATION_BATCH = 16
CALIBRATION_INPUTS = 320


def quantized_graph(generator: Generator, seed: int) -> bytes:
    """The generator's graph with Q/DQ pairs, calibrated on inputs of the calibration stream."""
    with quiet_nncf() as nncf:
        stream = Inputs(generator.signature, "calibration", seed)
        count = CALIBRATION_INPUTS // CALIBRATION_BATCH
        batches = [
            {name: tensor.numpy() for name, tensor in stream.draw(CALIBRATION_BATCH).items()}
            for _ in range(count)
        ]
        model = nncf.quantize(
            load_model(onnx_of(generator)), nncf.Dataset(batches), subset_size=count
        )
    return bytes(model.SerializeToString())


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
