"""A generator as an ONNX graph, and what can be read off such a graph.

Exported with PyTorch's own exporter at opset 20, one file, symbolic dimensions as the signature
has them. onnx itself is imported where it is used.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from genslim.errors import GenslimError, UserError
from genslim.signature import BATCH, Signature

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from genslim.generator import Generator

OPSET = 20
"""What the exporter writes by default and every runtime here reads."""


def onnx_of(generator: Generator) -> bytes:
    """The generator's graph: the one it has, or its module exported now.

    Raises:
        GenslimError: PyTorch can't export the module; the reason is in the message.
    """
    if generator.onnx is not None:
        return generator.onnx
    assert generator.module is not None, "a generator has a module, a graph, or both"
    return export_module(generator.module, generator.signature)


def export_module(module: nn.Module, signature: Signature) -> bytes:
    """Export ``module`` in its own floating-point type; return the serialised ONNX model."""
    import torch

    dtype = next((p.dtype for p in module.parameters()), torch.float32)
    example = tuple(torch.zeros(i.concrete(2), dtype=dtype) for i in signature.inputs)
    dims: dict[str, Any] = {}
    dynamic = tuple(
        {
            axis: dims.setdefault(side, torch.export.Dim(side))
            for axis, side in enumerate(spec.shape)
            if isinstance(side, str) and (side == BATCH or spec.multiple_of == 1)
        }
        for spec in signature.inputs
    )
    try:
        with without_chatter():
            program = torch.onnx.export(
                module.eval(),
                example,
                None,
                input_names=[spec.name for spec in signature.inputs],
                output_names=[spec.name for spec in signature.outputs],
                dynamic_shapes=dynamic,
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # the exporter raises whatever stage failed
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[0] if lines else type(error).__name__
        raise GenslimError(
            f"PyTorch can't export this module to ONNX: {reason}",
            hint="the module's forward must be traceable by torch.export",
        ) from error
    assert program is not None
    blob: bytes = program.model_proto.SerializeToString()
    return blob


def load_model(blob: bytes) -> onnx.ModelProto:
    """Parse a serialised model.

    Raises:
        UserError: it is damaged, or no ONNX model.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load_model_from_string(blob)
    except DecodeError as error:
        raise UserError(
            f"the ONNX model is damaged or cut short ({len(blob)} bytes)", hint="export it again"
        ) from error
    if not model.graph.input or not model.graph.output:
        raise UserError(
            "this is no ONNX model: it has no inputs or outputs", hint="export it again"
        )
    return model


def float_type(blob: bytes) -> str:
    """``float16`` or ``float32``: the type of the graph's first input."""
    import onnx

    kind = load_model(blob).graph.input[0].type.tensor_type.elem_type
    return "float16" if kind == onnx.TensorProto.FLOAT16 else "float32"


@contextlib.contextmanager
def without_chatter() -> Iterator[None]:
    """Keep the exporter's progress lines and its deprecation warnings off the screen."""
    quieted = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in quieted]
    try:
        for logger in quieted:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(quieted, levels, strict=True):
            logger.setLevel(level)
