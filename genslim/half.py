"""An fp32 ONNX graph as an fp16-typed one, inputs and outputs included.

What TensorRT builds an fp16 engine from: its networks are strongly typed, so the types in the
graph are the types that execute. Works on float graphs and on graphs with Q/DQ pairs, whose float
part and scales become fp16.

What can't be fp16 is read from ONNX's own operator schemas (the scales of Resize, for one): it
stays fp32, with a Cast in front. So does arithmetic on sizes, because fp16 is not exact above
2048. ``onnxruntime.transformers.float16`` knows neither rule and breaks models that upsample.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from genslim.errors import GenslimError

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray
    from onnx.defs import OpSchema

Type = Literal["float", "float16"]

GREATEST = 65504.0
"""The greatest finite fp16 number."""
SIZES = ("Shape", "Size")
"""Operators that turn a tensor into its dimensions."""
SCALES = {"QuantizeLinear": 1, "DequantizeLinear": 1}
"""Which input is a scale: it must not become zero."""


def to_fp16(model: bytes, whole: Collection[str] = ()) -> bytes:
    """Turn a serialised fp32 ONNX model into an fp16-typed one.

    Args:
        model: standard operators, one file, no control flow. One that takes fp16 already comes
            back as it is.
        whole: names of tensors and constants that fp16 can't hold; what makes or reads them is
            computed in fp32.

    Returns:
        The same graph under the same names; its inputs and outputs of type float are float16.

    Raises:
        GenslimError: a weight or a scale does not fit into fp16, or the graph has an operator of
            unknown types, control flow, or a defect.
    """
    import onnx
    from onnx import inliner

    from genslim.onnx_model import float_type, load_model

    if float_type(model) == "float16":
        return model
    try:
        converted = Conversion(inliner.inline_local_functions(load_model(model)), whole).run()
        onnx.checker.check_model(converted, full_check=True)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as error:
        raise GenslimError(
            f"the graph is not valid ONNX: {' '.join(str(error).split())[:300]}",
            hint="export it again",
        ) from error
    return bytes(converted.SerializeToString())


class Conversion:
    """One model on its way to fp16: nodes in order, each given the types that it takes."""

    def __init__(self, model: onnx.ModelProto, whole: Collection[str] = ()) -> None:
        import onnx
        from onnx import numpy_helper

        self.model = model
        self.graph = model.graph
        self.whole = frozenset(whole)
        self.opsets = {o.domain: o.version for o in model.opset_import}
        inferred = onnx.shape_inference.infer_shapes(model).graph
        self.floats: set[str] = {
            v.name
            for v in (*inferred.value_info, *inferred.input, *inferred.output)
            if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        }
        self.constants: dict[str, NDArray[Any]] = {}
        for tensor in self.graph.initializer:
            if tensor.data_type == onnx.TensorProto.FLOAT:
                self.constants[tensor.name] = numpy_helper.to_array(tensor)
        self.fixed = {t.name for t in self.graph.initializer} - set(self.constants)
        self.types: dict[str, Type] = {}
        self.sizes: set[str] = set()
        self.nodes: list[onnx.NodeProto] = []
        self.casts: dict[tuple[str, Type], str] = {}

    def run(self) -> onnx.ModelProto:
        """Convert the model in place and return it."""
        for value in self.graph.input:
            if value.name in self.floats:
                self.types[value.name] = "float16"
        for node in self.graph.node:
            self.convert(node)
        for value in self.graph.output:
            self.finish(value.name)
        kept = [t for t in self.graph.initializer if t.name not in self.constants]
        del self.graph.node[:], self.graph.value_info[:], self.graph.initializer[:]
        self.graph.node.extend(self.nodes)
        self.graph.initializer.extend([*kept, *self.initializers()])
        for value in (*self.graph.input, *self.graph.output):
            if value.name in self.floats:
                value.type.tensor_type.elem_type = number("float16")
        return self.model

    def convert(self, node: onnx.NodeProto) -> None:
        """Give one node inputs of the types it takes, and note the types it makes."""
        import onnx

        if any(a.type in (a.GRAPH, a.GRAPHS) for a in node.attribute):
            raise GenslimError(
                f"{node.op_type} {node.name!r} holds a subgraph, which has no fp16 form here",
                hint="export the generator without branches, or keep fp32",
            )
        if node.op_type == "Constant" and node.output[0] in self.floats:
            self.constants[node.output[0]] = constant_value(node)
            return
        if node.op_type == "Constant":
            self.fixed.add(node.output[0])
        schema = self.schema(node)
        on_sizes = self.computes_sizes(node)
        if on_sizes:
            self.sizes.update(node.output)
        in_float = on_sizes or not self.whole.isdisjoint((*node.input, *node.output))
        taken = onnx.NodeProto()
        taken.CopyFrom(node)
        for index, name in enumerate(node.input):
            if name in self.types or name in self.constants:
                formal = schema.inputs[min(index, len(schema.inputs) - 1)]
                want: Type = "float" if in_float or not takes_half(schema, formal) else "float16"
                taken.input[index] = self.cast(name, want, node, index)
        for index, name in enumerate(node.output):
            if name in self.floats:
                formal = schema.outputs[min(index, len(schema.outputs) - 1)]
                self.types[name] = (
                    "float" if in_float or not takes_half(schema, formal) else "float16"
                )
        if any(self.types.get(name) == "float16" for name in node.output):
            halve_attributes(taken)
        self.nodes.append(taken)

    def computes_sizes(self, node: onnx.NodeProto) -> bool:
        """Whether everything a node computes comes from dimensions and constants alone."""
        if node.op_type in SIZES:
            return True
        used = [name for name in node.input if name]
        known = self.sizes | self.fixed | set(self.constants)
        return any(name in self.sizes for name in used) and all(name in known for name in used)

    def cast(self, name: str, want: Type, node: onnx.NodeProto, index: int) -> str:
        """The name under which ``name`` has the type ``want``; makes a Cast where needed."""
        import onnx

        if name in self.constants:
            self.casts[name, want] = name if want == "float16" else f"{name}.float32"
            if want == "float16":
                self.check_scale(node, index)
            return self.casts[name, want]
        if self.types[name] == want:
            return name
        if (name, want) not in self.casts:
            self.casts[name, want] = f"{name}.{want}"
            self.nodes.append(
                onnx.helper.make_node(
                    "Cast", [name], [f"{name}.{want}"], f"{name}.{want}", to=number(want)
                )
            )
        return self.casts[name, want]

    def check_scale(self, node: onnx.NodeProto, index: int) -> None:
        """Raise GenslimError where a quantization scale would become zero."""
        if SCALES.get(node.op_type) != index:
            return
        scale = self.constants[node.input[index]]
        if bool((scale.astype(np.float16) == 0).any()):
            raise GenslimError(
                f"the scale {node.input[index]!r} of {node.op_type} {node.name!r} "
                f"({scale.min():.2g}) is zero in fp16",
                hint="keep fp32, or quantize again with symmetric min-max ranges",
            )

    def finish(self, name: str) -> None:
        """Make a float output of the graph fp16, under the name it has."""
        import onnx

        if name in self.constants:
            self.casts[name, "float16"] = name
        if self.types.get(name) != "float":
            return
        inner = f"{name}.float32"
        for node in self.nodes:
            for names in (node.input, node.output):
                for index, used in enumerate(names):
                    if used == name:
                        names[index] = inner
        self.nodes.append(
            onnx.helper.make_node("Cast", [inner], [name], f"{name}.float16", to=number("float16"))
        )

    def initializers(self) -> list[onnx.TensorProto]:
        """Every float constant in each type that it is used in."""
        from onnx import numpy_helper

        return [
            numpy_helper.from_array(
                halved(self.constants[name], name) if want == "float16" else self.constants[name],
                used,
            )
            for (name, want), used in self.casts.items()
            if name in self.constants
        ]

    def schema(self, node: onnx.NodeProto) -> OpSchema:
        """What ONNX says about a node's operator."""
        import onnx

        try:
            return onnx.defs.get_schema(node.op_type, self.opsets.get(node.domain, 1), node.domain)
        except onnx.defs.SchemaError:
            raise GenslimError(
                f"{node.op_type} {node.name!r} is no standard ONNX operator "
                f"({node.domain or 'ai.onnx'}), so its types are unknown",
                hint="export with standard operators alone, or keep fp32",
            ) from None


def halve_attributes(node: onnx.NodeProto) -> None:
    """Make a node's attributes that name or hold the type float say fp16."""
    from onnx import helper, numpy_helper

    for attribute in node.attribute:
        if attribute.name in ("to", "dtype") and attribute.i == number("float"):
            attribute.i = number("float16")
        elif attribute.type == attribute.TENSOR and attribute.t.data_type == number("float"):
            array = halved(numpy_helper.to_array(attribute.t), node.output[0])
            attribute.t.CopyFrom(numpy_helper.from_array(array))
    if node.op_type == "ConstantOfShape" and not node.attribute:
        zero = numpy_helper.from_array(np.zeros(1, np.float16))
        node.attribute.append(helper.make_attribute("value", zero))


def takes_half(schema: OpSchema, formal: OpSchema.FormalParameter) -> bool:
    """Whether an operator's input or output may be fp16."""
    if formal.type_str == "tensor(float)":
        return False
    allowed = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
    return "tensor(float16)" in allowed.get(formal.type_str, ())


def constant_value(node: onnx.NodeProto) -> NDArray[np.float32]:
    """The value of a Constant node of type float."""
    from onnx import helper, numpy_helper

    attribute = node.attribute[0]
    value = helper.get_attribute_value(attribute)
    if attribute.name == "value":
        return numpy_helper.to_array(value)
    return np.asarray(value, np.float32)


def halved(values: NDArray[Any], name: str) -> NDArray[np.float16]:
    """``values`` in fp16.

    Raises:
        GenslimError: a finite one becomes infinite.
    """
    finite = values[np.isfinite(values)]
    greatest = float(np.abs(finite).max()) if finite.size else 0.0
    if greatest > GREATEST:
        raise GenslimError(
            f"{name!r} holds {greatest:.4g}; fp16 ends at {GREATEST:.0f}",
            hint="keep fp32, or use bf16 on a target that has it",
        )
    return values.astype(np.float16)


def number(kind: Type) -> int:
    """ONNX's number of an element type."""
    import onnx

    return int(onnx.TensorProto.FLOAT16 if kind == "float16" else onnx.TensorProto.FLOAT)
