"""A graph to rewrite: who makes a tensor, who reads it, what is constant."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from genslim.onnx_model import put_constants

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

Sites = Mapping[str, Callable[[], None]]
"""Places where a rewrite fits, by the name of a tensor there, with what rewrites them."""


class View:
    """What is known of a model until it is changed; look at it anew after each rewrite."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.nodes = list(model.graph.node)
        self.maker = {name: node for node in self.nodes for name in node.output}
        self.readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in self.nodes:
            for name in node.input:
                self.readers[name].append(node)
        self.outputs = {value.name for value in model.graph.output}
        self.initializers = {tensor.name: tensor for tensor in model.graph.initializer}

    def of_type(self, kind: str) -> list[onnx.NodeProto]:
        """The nodes of an operator type."""
        return [node for node in self.nodes if node.op_type == kind]

    def constant(self, node: onnx.NodeProto, index: int) -> NDArray[Any] | None:
        """An input of a node as an array; None where it is left out or computed."""
        from onnx import numpy_helper

        name = node.input[index] if index < len(node.input) else ""
        return numpy_helper.to_array(self.initializers[name]) if name in self.initializers else None

    def alone(self, name: str) -> onnx.NodeProto | None:
        """The one node that reads a tensor; None where others do, or the outside."""
        readers = self.readers[name]
        return readers[0] if len(readers) == 1 and name not in self.outputs else None

    def put(self, name: str, array: NDArray[Any]) -> str:
        """A new constant; its name. One of that name is there already where a weight is shared."""
        if name not in self.initializers:
            put_constants(self.model, {name: array})
        return name

    def replace(self, old: onnx.NodeProto, *new: onnx.NodeProto) -> None:
        """Let nodes stand where ``old`` stood."""
        nodes = list(self.model.graph.node)
        place = nodes.index(old)
        nodes[place : place + 1] = new
        del self.model.graph.node[:]
        self.model.graph.node.extend(nodes)


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """The attributes of a node by name; texts as ``str``."""
    from onnx import helper

    found = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return {name: v.decode() if isinstance(v, bytes) else v for name, v in found.items()}


def is_plain(node: onnx.NodeProto, strides: list[int], pads: list[int]) -> bool:
    """Whether a convolution has these strides and pads, and nothing else that is unusual."""
    usual = {"dilations": [1, 1], "group": 1, "auto_pad": "NOTSET"}
    asked = {"strides": strides, "pads": pads, **usual}
    given = {"strides": [1, 1], "pads": [0] * 4, **usual, **attributes(node)}
    return all(given[name] == value for name, value in asked.items())


def enlarging(view: View, node: onnx.NodeProto | None) -> int:
    """How many times a node enlarges both sides by repeating pixels; 0 where it does not."""
    if node is None or node.op_type != "Resize":
        return 0
    given = attributes(node)
    scales = view.constant(node, 2)
    if given.get("mode", "nearest") != "nearest" or scales is None or scales.shape != (4,):
        return 0
    floors = given.get("nearest_mode", "round_prefer_floor") == "floor"
    exact = given.get("coordinate_transformation_mode", "half_pixel") == "asymmetric" and floors
    factor = int(scales[3])
    alike = np.array_equal(scales, np.array([1, 1, factor, factor], scales.dtype))
    return factor if exact and alike and factor > 1 else 0
