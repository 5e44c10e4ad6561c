"""An ONNX model in memory: parsed, asked and edited. onnx itself is imported where it is used."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from genslim.errors import UserError
from genslim.signature import Signature

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

STACK_TRACE = "pkg.torch.onnx.stack_trace"
"""Under this PyTorch's exporter keeps where in the Python code a node comes from."""
FRAME = re.compile(
    r'File "(?P<path>[^"\n]+)", line (?P<line>\d+), in (?P<function>[^\n]+)'
    r'(?:\n(?! *File ") *(?P<code>[^\n]*\S))?'
)
PACKAGES = re.compile(r"/(?:site|dist)-packages/")


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


def put_constants(model: onnx.ModelProto, values: Mapping[str, NDArray[Any]]) -> None:
    """Give a model initializers, in the place of those of the same names."""
    from onnx import numpy_helper

    kept = [tensor for tensor in model.graph.initializer if tensor.name not in values]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    model.graph.initializer.extend(
        # Not ascontiguousarray: it makes a scalar an array of one, which ONNX Runtime's QLinearAdd
        # refuses as a scale.
        numpy_helper.from_array(np.asarray(array, order="C"), name)
        for name, array in values.items()
    )


def drop_dead(model: onnx.ModelProto) -> None:
    """Remove nodes and initializers that no output depends on."""
    used = {value.name for value in model.graph.output}
    kept = []
    for node in reversed(model.graph.node):
        if used.intersection(node.output):
            kept.append(node)
            used.update(node.input)
    del model.graph.node[:]
    model.graph.node.extend(reversed(kept))
    drop_unused_constants(model)


def drop_unused_constants(model: onnx.ModelProto) -> None:
    """Remove initializers that nothing reads."""
    used = {name for node in model.graph.node for name in node.input}
    used |= {value.name for value in model.graph.output}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def fixed_sides(blob: bytes, signature: Signature) -> dict[str, int]:
    """Which symbolic dimensions of the signature a graph takes at one size alone, the batch too."""
    graph = load_model(blob).graph
    fixed = {}
    for spec, value in zip(signature.inputs, graph.input, strict=True):
        for side, dim in zip(spec.shape, value.type.tensor_type.shape.dim, strict=True):
            if isinstance(side, str) and dim.HasField("dim_value"):
                fixed[side] = int(dim.dim_value)
    return fixed


def float_type(blob: bytes) -> str:
    """``float16`` or ``float32``: the type of the graph's first input."""
    import onnx

    kind = load_model(blob).graph.input[0].type.tensor_type.elem_type
    return "float16" if kind == onnx.TensorProto.FLOAT16 else "float32"


def source_line(node: onnx.NodeProto) -> str | None:
    """The line of the generator's code that a node comes from, where the exporter kept it.

    ``dcgan.py:52 in forward: return self.net(z)``, the innermost outside of PyTorch's own files.
    An installed package's path begins at the package, any other is the file's name alone: no
    folder of the machine that exported the graph.
    """
    for entry in node.metadata_props:
        if entry.key == STACK_TRACE:
            for frame in reversed(list(FRAME.finditer(entry.value))):
                path, line, function, code = frame.groups()
                place = short_path(path)
                if not place.startswith("torch/"):
                    return f"{place}:{line} in {function}" + (f": {code}" if code else "")
    return None


def short_path(path: str) -> str:
    """The path of a file of code without the folders that only one machine has."""
    path = path.replace("\\", "/")
    *_, installed = PACKAGES.split(path)
    return path.rpartition("/")[2] if installed == path else installed
