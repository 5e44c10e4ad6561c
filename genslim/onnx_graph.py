"""A generator as an ONNX graph, and what can be read off such a graph.

Exported with PyTorch's own exporter at opset 20, one file, symbolic dimensions as the signature
has them. onnx itself is imported where it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from genslim.errors import GenslimError
from genslim.graph_rewrites import rewritten
from genslim.quiet import quiet
from genslim.signature import BATCH, Signature

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

    from genslim.generator import Generator

OPSET = 20
"""What the exporter writes by default and every runtime here reads."""

Sides = dict[int, str]
"""The free sides of an input: their names by their axes."""


def onnx_of(generator: Generator) -> bytes:
    """The generator's graph: the one it has, or its module exported and rewritten now.

    Raises:
        GenslimError: PyTorch can't export the module; the reason is in the message.
    """
    if generator.onnx is not None:
        return generator.onnx
    assert generator.module is not None, "a generator has a module, a graph, or both"
    return rewritten(export_module(generator.module, generator.signature), generator.rewrites)


def export_module(module: nn.Module, signature: Signature) -> bytes:
    """Export ``module`` in its own floating-point type; return the serialised ONNX model.

    Sides that the module's code counts on are of fixed size in the graph, a batch of one among
    them: it would be wrong at any other size.
    """
    import torch

    try:
        with quiet():
            program, free = capture(module.eval(), signature)
            graph = torch.onnx.export(
                program,
                input_names=[spec.name for spec in signature.inputs],
                output_names=[spec.name for spec in signature.outputs],
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
            assert graph is not None
            for index, sides in enumerate(free):
                shape = graph.model.graph.inputs[index].shape
                assert shape is not None
                graph.rename_axes({str(shape[axis]): name for axis, name in sides.items()})
    except Exception as error:  # the exporter raises whatever stage failed
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[0] if lines else type(error).__name__
        raise GenslimError(
            f"PyTorch can't export this module to ONNX: {reason}",
            hint="the module's forward must be traceable by torch.export",
        ) from error
    blob: bytes = graph.model_proto.SerializeToString()
    return blob


def capture(module: nn.Module, signature: Signature) -> tuple[ExportedProgram, list[Sides]]:
    """Capture ``module`` with as many free sides as its code allows, and say which they are."""
    import torch

    dtype = next((p.dtype for p in module.parameters()), torch.float32)
    wanted: list[Sides] = [
        {axis: side for axis, side in enumerate(spec.shape) if isinstance(side, str)}
        for spec in signature.inputs
    ]

    def captured(free: list[Sides], batch: int, *, auto: bool) -> ExportedProgram:
        example = tuple(torch.zeros(i.concrete(batch), dtype=dtype) for i in signature.inputs)
        dims: dict[str, Any] = {}
        dynamic: tuple[Any, ...] = tuple(
            {
                axis: torch.export.Dim.AUTO if auto else dims.setdefault(n, torch.export.Dim(n))
                for axis, n in sides.items()
            }
            for sides in free
        )
        return torch.export.export(module, example, dynamic_shapes=dynamic, strict=False)

    try:
        return captured(wanted, 2, auto=False), wanted
    except torch._dynamo.exc.UserError:  # its code counts on some of the sides: which?
        program = captured(wanted, 2, auto=True)
    found = free_sides(program, wanted)
    if found == wanted:
        return program, found
    batch = 2 if any(BATCH in sides.values() for sides in found) else 1
    program = captured(found, batch, auto=True)
    return program, free_sides(program, found)


def free_sides(program: ExportedProgram, wanted: list[Sides]) -> list[Sides]:
    """Which of the sides that should be free are, in a program that was captured."""
    inputs = set(program.graph_signature.user_inputs)
    shapes = [
        node.meta["val"].shape
        for node in program.graph.nodes
        if node.op == "placeholder" and node.name in inputs
    ]
    return [
        {axis: name for axis, name in sides.items() if not str(shape[axis]).isdigit()}
        for sides, shape in zip(wanted, shapes, strict=True)
    ]
