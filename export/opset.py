"""The same graph at another opset: what an older, or newer, runtime reads.

onnx's own converter does the work: it goes both ways, while onnxscript's goes up alone (and hands
the way down to onnx's). Three things stop it where nothing has to: attributes that older operators
lack and that hold what is the default anyway; operators that it knows no way back for, although
their older forms take the node as it stands; and operators that are newer than the opset, although
the standard spells them out in older ones. These are cleared away before.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from functools import cache
from math import prod
from typing import TYPE_CHECKING

from export.parity import untimed
from genslim.errors import GenslimError, UserError
from genslim.generator import Generator
from genslim.graph_rewrites.constants import fold
from genslim.onnx_model import drop_dead, load_model
from genslim.quiet import quiet
from genslim.runtimes import runtime
from genslim.signature import Signature

if TYPE_CHECKING:
    import onnx
    from onnx.defs import OpSchema

STANDARD = ("", "ai.onnx")
"""The names of the domain of ONNX's own operators."""
KEPT = "genslim.kept"
"""A domain that hides a node from the converter, which then leaves it as it is."""
AS_BEFORE = (
    *("Add", "Sub", "Mul", "Div", "Pow", "Relu", "Identity", "BatchNormalization", "Where"),
    *("LeakyRelu", "PRelu", "Reshape", "Shape", "ConstantOfShape", "Pad", "Split", "GridSample"),
)
"""Operators without a way back to every opset from 13 on, though what was added to them since are
types and attributes alone: an older form that takes a node computes the same."""
CHANGED_AT = {"GroupNormalization": 21}
"""Operators that mean something else from an opset on: their scales are for channels, and were for
groups. onnx's converter passes them on as they are."""
RENAMED_AT = 20
"""From this opset on the modes of GridSample have other names."""
OLDER_MODES = {b"linear": b"bilinear", b"cubic": b"bicubic"}
LARGE = 1024
"""Elements of a constant that no conversion looks at."""


def check_opset(opset: int) -> None:
    """Check that there is such an opset and that parity can be measured at it.

    Raises:
        UserError: there is none, or ONNX Runtime does not read it.
    """
    import onnx
    import onnxruntime

    newest = int(onnx.defs.onnx_opset_version())
    if not 1 <= opset <= newest:
        raise UserError(
            f"there is no opset {opset}: onnx {onnx.__version__} knows 1 to {newest}",
            hint="leave --opset out, or ask for 17, which nearly every program reads",
        )
    if not is_read(opset):
        read = next(older for older in range(opset, 0, -1) if is_read(older))
        raise UserError(
            f"ONNX Runtime {onnxruntime.__version__} reads no opset {opset}, "
            "so parity can't be measured",
            hint=f"ask for {read} at most",
        )


@cache
def is_read(opset: int) -> bool:
    """Whether the installed ONNX Runtime opens a graph of this opset; it has no list of them."""
    import onnxruntime
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    imports = [helper.make_opsetid("", opset)]
    model = helper.make_model(
        helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "probe", [x], [y]),
        opset_imports=imports,
        ir_version=helper.find_min_ir_version_for(imports),
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception:  # onnxruntime's exceptions share no public base
        return False
    return True


def at_opset(graph: bytes, opset: int) -> bytes:
    """Write a graph at another opset, in the oldest file format that has it.

    Names of inputs, outputs, nodes and constants stay; free sides and numbers too.

    Raises:
        UserError: an operator has no form there; it is named, and the nearest opset that works.
    """
    model = load_model(graph)
    current = opset_of(model)
    if current == opset:
        return graph
    try:
        return bytes(converted(model, opset).SerializeToString())
    except refusals() as error:
        light = without_weights(load_model(graph))
        towards = 1 if opset < current else -1
        between = range(opset + towards, current, towards)
        nearest = next((other for other in between if reaches(light, other)), current)
        raise UserError(
            f"this graph, of opset {current}, can't be written at opset {opset}: "
            + reason(light, opset, error),
            hint=f"ask for --opset {nearest}",
        ) from error


def check_runs(graph: bytes, opset: int, signature: Signature) -> None:
    """Check that ONNX Runtime runs a graph that was written at another opset.

    1.31 fails from opset 21 on where it moves a signed pair past a Slice or an Unsqueeze: it makes
    the pair unsigned and forgets an attribute.

    Raises:
        UserError: it does not.
    """
    alone = Generator("probe", signature, {}, onnx=graph)
    try:
        runtime("onnxruntime").open(alone, untimed("onnxruntime", signature)).close()
    except GenslimError as error:
        raise UserError(
            f"opset {opset} is none for this graph: {error.message}",
            hint="ask for an older one, or leave --opset out",
        ) from error


def refusals() -> tuple[type[Exception], ...]:
    """What onnx raises where a model has no form at an opset."""
    import onnx

    return (
        RuntimeError,  # the converter's
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
    )


def reaches(model: onnx.ModelProto, opset: int) -> bool:
    """Whether a model can be written at an opset."""
    try:
        converted(copy.deepcopy(model), opset)
    except refusals():
        return False
    return True


def converted(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """The model at another opset, checked; ``model`` itself is used up.

    Raises:
        Exception: one of :func:`refusals`.
    """
    import onnx
    from onnx import helper, version_converter

    model = prepared(model, opset)
    hide(model, opset)
    made = version_converter.convert_version(model, opset)
    show(made)
    made.ir_version = helper.find_min_ir_version_for(made.opset_import, ignore_unknown=True)
    onnx.checker.check_model(made, full_check=True)
    return made


def prepared(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """The model, at its own opset still, in words that the other opset has."""
    model = spelt_out(model, opset)
    to_older_words(model, opset)
    return model


def spelt_out(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """The model with operators that the other opset lacks, or means otherwise, spelt out.

    What they are spelt out as is the standard's own definition of them.
    """
    import onnx
    from onnx import helper, inliner

    current = opset_of(model)
    foreign = {
        node.op_type
        for node in model.graph.node
        if node.domain in STANDARD
        and (
            schema_of(node.op_type, opset) is None
            or (current < CHANGED_AT.get(node.op_type, 0))
            != (opset < CHANGED_AT.get(node.op_type, 0))
        )
    }
    if not foreign:
        return model
    shapes = onnx.shape_inference.infer_shapes(model)
    shown = {value.name for value in shapes.graph.value_info}
    shapes.graph.value_info.extend(  # the definition hangs on types, those of constants too
        helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        for tensor in shapes.graph.initializer
        if tensor.name not in shown
    )
    spelt = inliner.inline_selected_functions(
        shapes, [("", kind) for kind in sorted(foreign)], inline_schema_functions=True
    )
    with quiet():
        fold(spelt)  # their constants are made and cast in nodes
    drop_dead(spelt)
    return spelt


def to_older_words(model: onnx.ModelProto, opset: int) -> None:
    """Change attributes that older operators lack, or call otherwise, where it says the same."""
    from onnx import helper

    current = opset_of(model)
    if opset > current:
        return
    shapes = {value.name: value for value in (*model.graph.input, *model.graph.value_info)}
    for node in model.graph.node:
        now, then = schema_of(node.op_type, current), schema_of(node.op_type, opset)
        if node.domain not in STANDARD or now is None or then is None:
            continue
        for attribute in list(node.attribute):
            value = helper.get_attribute_value(attribute)
            if node.op_type == "GridSample" and opset < RENAMED_AT and value in OLDER_MODES:
                attribute.s = OLDER_MODES[value]
            if attribute.name not in then.attributes and (
                is_usual(now, attribute.name, value)
                or (attribute.name == "num_outputs" and divides(node, shapes, value))
            ):
                node.attribute.remove(attribute)


def is_usual(schema: OpSchema, name: str, value: object) -> bool:
    """Whether an attribute has the value that it has where it is left out."""
    from onnx import helper

    known = schema.attributes.get(name)
    if known is None or not known.default_value.type:
        return False
    return bool(helper.get_attribute_value(known.default_value) == value)


def divides(split: onnx.NodeProto, shapes: Mapping[str, onnx.ValueInfoProto], parts: int) -> bool:
    """Whether a tensor is split into parts of one size, as it is where their number is not said."""
    if split.input[0] not in shapes:
        return False
    sides = shapes[split.input[0]].type.tensor_type.shape.dim
    axis = next((attribute.i for attribute in split.attribute if attribute.name == "axis"), 0)
    size = sides[axis].dim_value if -len(sides) <= axis < len(sides) else 0
    return size > 0 and size % parts == 0


def hide(model: onnx.ModelProto, opset: int) -> None:
    """Hide nodes from the converter whose older forms take them as they stand."""
    back = opset < opset_of(model)
    for node in model.graph.node:
        then = schema_of(node.op_type, opset)
        if (
            back
            and node.domain in STANDARD
            and node.op_type in AS_BEFORE
            and then is not None
            and then.min_input <= len(node.input) <= then.max_input
            and all(attribute.name in then.attributes for attribute in node.attribute)
        ):
            node.domain = KEPT
    model.opset_import.add(domain=KEPT, version=1)


def show(model: onnx.ModelProto) -> None:
    """Undo :func:`hide`."""
    for node in model.graph.node:
        if node.domain == KEPT:
            node.domain = ""
    for entry in [entry for entry in model.opset_import if entry.domain == KEPT]:
        model.opset_import.remove(entry)


def reason(model: onnx.ModelProto, opset: int, error: Exception) -> str:
    """Which operators prevent an opset, and what onnx says of one of them.

    The converter's messages do not always name one, so each type is tried alone.
    """
    from onnx import version_converter

    text = " ".join(str(error).split())
    if named := re.search(r"(?:op_type:|OpType: )(\w+)", text):
        return f"{named[1]} does not fit it ({text[:160]})"
    why = text.rpartition("failed: ")[2].replace("$", "")[:160]
    try:
        model = prepared(model, opset)
    except refusals():
        return why
    refused = []
    for kind in sorted({node.op_type for node in model.graph.node if node.domain in STANDARD}):
        alone = copy.deepcopy(model)
        hide(alone, opset)
        for node in alone.graph.node:
            if node.op_type != kind:
                node.domain = KEPT
        try:
            version_converter.convert_version(alone, opset)
        except RuntimeError:
            refused.append(kind)
    return f"onnx has no way there for {', '.join(refused) or 'an operator'} ({why})"


def without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model to try conversions on, quick to copy: its large constants are inputs."""
    from onnx import helper

    constants = list(model.graph.initializer)
    del model.graph.initializer[:]
    for tensor in constants:
        if prod(tensor.dims) <= LARGE:
            model.graph.initializer.append(tensor)
        else:
            value = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            model.graph.input.append(value)
    return model


def schema_of(kind: str, opset: int) -> OpSchema | None:
    """What ONNX says about one of its own operators at an opset; None where there was none."""
    import onnx

    try:
        schema = onnx.defs.get_schema(kind, opset, "")
    except onnx.defs.SchemaError:
        return None
    return None if schema.deprecated else schema


def opset_of(model: onnx.ModelProto) -> int:
    """The opset of ONNX's own operators that a model is written at."""
    return max(int(entry.version) for entry in model.opset_import if entry.domain in STANDARD)
