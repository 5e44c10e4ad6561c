"""The signature of an ONNX model that does not say it: read off the graph and off one run.

Names and types of inputs stand in the graph. What they are does not, nor which values a picture
takes: that is assumed, and said in a line of warning.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genslim.console import SILENT
from genslim.errors import MissingDependency, UserError
from genslim.signature import BATCH, Images, Input, Output, Prior, Shape, Signature
from genslim.sources.base import SourceOptions
from genslim.sources.sizes import sized
from genslim.sources.weights import SIDE, first_line

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

GREY_OR_RGB = (1, 3)
"""Channels of an input that is taken for a picture."""
COLOURED = (1, 3, 4)
"""Channels of an output that is taken for the picture, where there is a choice."""
TRIAL_BATCH = 2
TRIAL_VALUE = 0.5
"""Of all inputs in the run that shows the outputs."""


@dataclass(frozen=True)
class Made:
    """An output of the graph, as one run showed it."""

    name: str
    declared: list[Any]
    """Its sides as the graph has them: numbers, names, None."""
    value: NDArray[Any]


def adopted(model: onnx.ModelProto, path: Path, options: SourceOptions) -> tuple[bytes, Signature]:
    """The model with its picture as the one output, serialised, and a signature for it.

    Image-like inputs, ``(N, 1 or 3, H, W)``, are drawn from a folder of images in [0, 1], others
    from the normal prior. The picture is the first output ``(N, C, H, W)``, of 1, 3 or 4 channels
    if there is one; in [0, 1] where an input is a picture, else in [-1, 1], unless the options say
    otherwise. The assumptions are shown as a warning.

    Raises:
        UserError: an input is of a type or shape that genslim does not draw, the model does not
            run, or it makes no picture.
        MissingDependency: ONNX Runtime is not installed.
    """
    without_constant_inputs(model)
    inputs = tuple(input_of(value, path, options) for value in model.graph.input)
    signature = with_usual_sides(sized(Signature(inputs, ()), options.input, str(path)), path)
    batch = fixed_batch(model, path)
    made = run_once(model, signature, batch or TRIAL_BATCH, path)
    picture = picture_of(made, batch or TRIAL_BATCH, path)
    usual = (0.0, 1.0) if signature.takes_images else (-1.0, 1.0)
    output = Output(picture.name, shape_of(picture, signature), options.value_range or usual)
    keep_alone(model, output)
    signature = Signature(signature.inputs, (output,))
    warn(path, signature, [m.name for m in made if m is not picture])
    return model.SerializeToString(), signature


def keep_alone(model: onnx.ModelProto, output: Output) -> None:
    """Let one output be the model's only one, with its shape, which ONNX requires."""
    import onnx

    (kept,) = (value for value in model.graph.output if value.name == output.name)
    if not kept.type.tensor_type.HasField("shape"):
        batch = model.graph.input[0].type.tensor_type.shape.dim[0]
        shape = [batch.dim_value or batch.dim_param or BATCH, *output.shape[1:]]
        kind = kept.type.tensor_type.elem_type
        kept = onnx.helper.make_tensor_value_info(output.name, kind, shape)
    del model.graph.output[:]
    model.graph.output.append(kept)


def warn(path: Path, signature: Signature, dropped: list[str]) -> None:
    """Say what was assumed, in one line."""
    inputs = [
        f"{i.name} ({', '.join(map(str, i.shape))}) "
        + ("is a picture in 0 to 1" if i.pictured else "is drawn from the normal prior")
        for i in signature.inputs
    ]
    low, high = signature.images.value_range
    rest = f"; not used: {', '.join(dropped)}" if dropped else ""
    SILENT.warn(
        f"{path} does not say how it is used. Assumed: {', '.join(inputs)}; "
        f"{signature.images.name} lies in {low:g} to {high:g} (--value-range LOW HIGH){rest}"
    )


def without_constant_inputs(model: onnx.ModelProto) -> None:
    """Let constants be constants alone: before the fourth version of ONNX's IR all were inputs."""
    constants = {tensor.name for tensor in model.graph.initializer}
    kept = [value for value in model.graph.input if value.name not in constants]
    if len(kept) < len(model.graph.input):
        del model.graph.input[:]
        model.graph.input.extend(kept)
        model.ir_version = max(model.ir_version, 4)


def input_of(value: onnx.ValueInfoProto, path: Path, options: SourceOptions) -> Input:
    """An input as the signature has it; sizes of free sides are still unknown.

    Raises:
        UserError: it is of a type or shape that genslim does not draw.
    """
    import onnx

    kind = value.type.tensor_type.elem_type
    if kind not in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16):
        called = onnx.TensorProto.DataType.Name(kind).lower() if kind else "no tensor"
        raise UserError(
            f"input {value.name!r} of {path} is {called}, and only float inputs can be drawn",
            hint="export the part of the network that takes float inputs, without the rest",
        )
    dims = value.type.tensor_type.shape.dim
    if not dims:
        raise UserError(
            f"input {value.name!r} of {path} has no shape with the batch first",
            hint="export it with shapes; a side may be free, their number may not",
        )
    likely = len(dims) == 4 and dims[1].dim_value in GREY_OR_RGB
    pictured = likely and all(dim.dim_value != 1 for dim in dims[2:])
    shape: list[int | str] = [BATCH]
    for axis, dim in enumerate(dims[1:], 1):
        usual = ("height", "width")[axis - 2] if pictured else f"{value.name}_{axis}"
        shape.append(dim.dim_value or dim.dim_param or usual)
    draw = Images(options.images) if pictured else Prior("normal")
    return Input(value.name, tuple(shape), draw)


def with_usual_sides(signature: Signature, path: Path) -> Signature:
    """The signature with a size for each free side: of pictures 64, unless it was named.

    Raises:
        UserError: a side is free of which nothing is known.
    """
    known = {s: n for spec in signature.inputs for s, n in (spec.sizes or {}).items()}
    for spec in signature.inputs:
        if spec.pictured:
            known |= {s: SIDE for s in free(spec.shape) if s not in known}
    inputs = []
    for spec in signature.inputs:
        for side in free(spec.shape):
            if side not in known:
                shape = ", ".join(map(str, spec.shape))
                raise UserError(
                    f"input {spec.name!r} of {path} is ({shape}), and {side} may be anything",
                    hint=f"name a shape, the batch first: --input {spec.name}:1,...",
                )
        own = {side: known[side] for side in free(spec.shape)}
        inputs.append(replace(spec, sizes=own) if own else spec)
    return replace(signature, inputs=tuple(inputs))


def free(shape: Shape) -> list[str]:
    """The symbolic dimensions of a shape but the batch."""
    return [side for side in shape if isinstance(side, str) and side != BATCH]


def fixed_batch(model: onnx.ModelProto, path: Path) -> int | None:
    """The batch that a graph takes alone; None where it takes any.

    Raises:
        UserError: its inputs take unlike ones.
    """
    taken = {value.type.tensor_type.shape.dim[0].dim_value for value in model.graph.input}
    if len(taken) != 1:
        firsts = ", ".join(str(n) if n else "any" for n in sorted(taken))
        raise UserError(
            f"the inputs of {path} have unlike first sides ({firsts}): no batch",
            hint="export it so that the first side of each input is the batch",
        )
    return taken.pop() or None


def run_once(model: onnx.ModelProto, signature: Signature, batch: int, path: Path) -> list[Made]:
    """All outputs of one run at the usual sizes, in ONNX Runtime.

    Raises:
        UserError: ONNX Runtime refuses the model or these shapes.
        MissingDependency: it is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependency(
            f"{path} needs onnxruntime, which is not installed",
            hint="install it: pip install onnxruntime",
        ) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's exceptions share no public base
        raise UserError(
            f"ONNX Runtime refuses {path}: {first_line(error)}",
            hint="it is damaged, or has operators that are not ONNX's own: export it again",
        ) from error
    halves = {i.name for i in session.get_inputs() if i.type == "tensor(float16)"}
    shapes = {spec.name: spec.concrete(batch) for spec in signature.inputs}
    feed = {
        name: np.full(shape, TRIAL_VALUE, np.float16 if name in halves else np.float32)
        for name, shape in shapes.items()
    }
    try:
        values = session.run(None, feed)
    except Exception as error:  # as above
        tried = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
        raise UserError(
            f"{path} does not run on {tried}: {first_line(error)}",
            hint="name the shape it takes: --input [NAME:]SHAPE",
        ) from error
    return [
        Made(told.name, told.shape, np.asarray(value))
        for told, value in zip(session.get_outputs(), values, strict=True)
    ]


def picture_of(made: list[Made], batch: int, path: Path) -> Made:
    """The output that holds the pictures.

    Raises:
        UserError: there is none.
    """
    found = [
        m for m in made if m.value.ndim == 4 and len(m.value) == batch and m.value.dtype.kind == "f"
    ]
    if not found:
        shapes = ", ".join(f"{m.name} {list(m.value.shape)} {m.value.dtype}" for m in made)
        raise UserError(
            f"{path} makes no pictures: {shapes} for a batch of {batch}",
            hint="pictures are float, (N, C, H, W), one for each input",
        )
    return next((m for m in found if m.value.shape[1] in COLOURED), found[0])


def shape_of(picture: Made, signature: Signature) -> Shape:
    """The shape of the picture: free sides as multiples of an input's, ``2*height``."""
    sizes = {s: n for spec in signature.inputs for s, n in (spec.sizes or {}).items()}
    shape: list[int | str] = [BATCH, picture.value.shape[1]]
    for axis in (2, 3):
        size, declared = picture.value.shape[axis], picture.declared[axis]
        if isinstance(declared, int) or not sizes:
            shape.append(size)
            continue
        # A height follows from a height as a rule: sides at the same place come first.
        here = [s.shape[axis] for s in signature.inputs if len(s.shape) == 4]
        sides = [s for s in (*here, *sizes) if isinstance(s, str)]
        side = next((s for s in sides if size % sizes[s] == 0), None)
        factor = size // sizes[side] if side else 0
        if side is None:
            shape.append(str(declared or f"{picture.name}_{axis}"))
        else:
            shape.append(side if factor == 1 else f"{factor}*{side}")
    return tuple(shape)
