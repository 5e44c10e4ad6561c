"""A graph with Q/DQ pairs, to read and to change: ranges of activations, products, weights.

Activations are rounded to uint8 for a whole tensor; a range from ``low`` to ``high`` holds zero, so
that padding is exact. Tensors that meet in a concatenation share one range. Symmetric ranges have
their zero point at 128: the same numbers as int8 around zero, which TensorRT wants
(:func:`genslim.signs.signed`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from compress.quantization.placement import PRODUCTS
from genslim.onnx_model import drop_dead, drop_unused_constants, load_model, put_constants
from genslim.signs import MOVES, unsigned

if TYPE_CHECKING:
    import onnx

LEVELS = 255
"""Steps of an 8-bit range."""
EVEN = 0.8
"""How much of the longer side of zero the shorter has in a range that is as good as symmetric."""


@dataclass(frozen=True)
class Range:
    """What an activation is rounded between."""

    low: float
    """At most 0."""
    high: float
    """At least 0."""

    @property
    def scale(self) -> float:
        """The width of a step."""
        return max(self.high - self.low, 1e-12) / LEVELS

    @property
    def zero(self) -> int:
        """The uint8 value of 0."""
        return min(LEVELS, max(0, round(-self.low / self.scale)))

    def settled(self) -> Range:
        """The same, or the symmetric one where that is hardly wider, and costs little."""
        even = min(-self.low, self.high) >= EVEN * max(-self.low, self.high)
        return self.symmetric() if even else self

    def symmetric(self) -> Range:
        """The least range around zero that holds this one; its zero point is 128."""
        reach = max(-self.low, self.high)
        return Range(-reach * 128 / 127, reach)


@dataclass(frozen=True)
class Product:
    """A convolution or matrix product of the graph."""

    name: str
    group: str | None
    """The group of the activations that it reads; None where those are not rounded."""
    weight: str | None
    """The initializer of its weight in the graph before rounding; None where it has none."""
    kind: str = "Conv"
    """Its operator."""

    @property
    def label(self) -> str:
        """The layer's name in the module, where it is known, else the node's."""
        return (self.weight or self.name).partition(".weight")[0]

    @property
    def rounded(self) -> bool:
        """Whether it can run in int8."""
        return self.group is not None


class Pairs:
    """A Q/DQ graph beside the graph that it was made from.

    Args:
        graph: with pairs.
        original: without; its nodes and tensors have the same names.
    """

    def __init__(self, graph: bytes, original: bytes) -> None:
        self.graph = unsigned(graph)
        self.original = original

    @cached_property
    def model(self) -> onnx.ModelProto:
        """The graph, parsed; not to be changed."""
        return load_model(self.graph)

    @cached_property
    def before(self) -> onnx.ModelProto:
        """The original, parsed; not to be changed."""
        return load_model(self.original)

    @cached_property
    def constants(self) -> dict[str, onnx.TensorProto]:
        """The initializers of the graph."""
        return {tensor.name: tensor for tensor in self.model.graph.initializer}

    @cached_property
    def groups(self) -> dict[str, list[str]]:
        """The tensors that share a range, by the name of the first.

        Those that are concatenated must: OpenVINO computes convolutions of several zero points in
        floating point, and Real-ESRGAN x4plus-anime then takes three times as long.
        """
        by_range: dict[tuple[bytes, bytes], list[str]] = {}
        for node in self.model.graph.node:
            if node.op_type == "QuantizeLinear":
                scale, zero = (self.value(name) for name in node.input[1:3])
                by_range.setdefault((scale.tobytes(), zero.tobytes()), []).append(node.input[0])
        group = {tensor: tensors for tensors in by_range.values() for tensor in tensors}
        for node in self.model.graph.node:
            if node.op_type == "Concat":
                joined = [group[name] for name in map(self.rounds, node.input) if name in group]
                for other in joined[1:]:
                    if other is not joined[0]:
                        joined[0].extend(other)
                        group.update(dict.fromkeys(other, joined[0]))
        return {tensors[0]: tensors for tensors in {id(g): g for g in group.values()}.values()}

    def rounds(self, name: str) -> str:
        """What a tensor was before it was rounded; empty where it was not."""
        node = self.maker.get(name)
        while node is not None and node.op_type in MOVES and node.op_type != "Concat":
            node = self.maker.get(node.input[0])
        if node is None or node.op_type != "DequantizeLinear":
            return ""
        source = self.maker.get(node.input[0])
        return str(source.input[0]) if source is not None else ""

    @cached_property
    def maker(self) -> dict[str, onnx.NodeProto]:
        """The node that makes each tensor."""
        return {output: node for node in self.model.graph.node for output in node.output}

    @cached_property
    def ranges(self) -> dict[str, Range]:
        """The range of each group."""
        first = {
            node.input[0]: node
            for node in reversed(self.model.graph.node)
            if node.op_type == "QuantizeLinear"
        }
        found = {}
        for name in self.groups:
            scale, zero = (self.value(n).item() for n in first[name].input[1:3])
            found[name] = Range(-zero * scale, (LEVELS - zero) * scale)
        return found

    @cached_property
    def products(self) -> list[Product]:
        """Every product, in the graph's order."""
        maker = self.maker
        group_of = {tensor: name for name, tensors in self.groups.items() for tensor in tensors}
        weights = {tensor.name for tensor in self.before.graph.initializer}
        whole = {node.name: node for node in self.before.graph.node}

        def rounding(name: str) -> onnx.NodeProto | None:
            """The DequantizeLinear that a tensor comes out of, moved about at most."""
            while (node := maker.get(name)) and node.op_type in MOVES:
                name = node.input[0]
            return node if node is not None and node.op_type == "DequantizeLinear" else None

        found = []
        for node in self.model.graph.node:
            if node.op_type not in PRODUCTS:
                continue
            read, weighed = (rounding(name) for name in node.input[:2])
            source = maker.get(read.input[0]) if read else None
            group = group_of.get(source.input[0]) if source else None
            weight = whole[node.name].input[1] if node.name in whole else ""
            found.append(
                Product(
                    node.name,
                    group if weighed is not None else None,
                    weight if weight in weights else None,
                    node.op_type,
                )
            )
        return found

    def value(self, name: str) -> NDArray[np.generic]:
        """The value of an initializer."""
        from onnx import numpy_helper

        return numpy_helper.to_array(self.constants[name])

    def with_ranges(self, ranges: Mapping[str, Range]) -> Pairs:
        """The same graph with other ranges for the groups named."""
        model = load_model(self.graph)
        of = {tensor: name for name in ranges for tensor in self.groups[name]}
        renamed: dict[str, str] = {}  # what a QuantizeLinear makes, to its group
        for node in model.graph.node:
            if node.op_type == "QuantizeLinear" and node.input[0] in of:
                renamed[node.output[0]] = of[node.input[0]]
        for node in model.graph.node:
            if node.op_type == "QuantizeLinear":
                group = renamed.get(node.output[0])
            elif node.op_type == "DequantizeLinear":
                group = renamed.get(node.input[0])
            else:
                continue
            if group is not None:
                node.input[1], node.input[2] = f"{group}.scale", f"{group}.zero"
        news = {}
        for name, chosen in ranges.items():
            news[f"{name}.scale"] = np.array(chosen.scale, np.float32)
            news[f"{name}.zero"] = np.array(chosen.zero, np.uint8)
        put_constants(model, news)
        return self.remade(model)

    def with_tensors(self, tensors: Mapping[str, NDArray[np.float32]]) -> Pairs:
        """The same graph with other values for some of the original's initializers.

        Those that are stored in int8 are rounded anew, a scale for each output channel.

        Args:
            tensors: by their names in the original; of the shapes they have there.
        """
        model, news = load_model(self.graph), {}
        for name, values in tensors.items():
            if name in self.constants:
                news[name] = values
            if name in self.stored:
                stored = self.stored[name]
                scale = np.abs(values).max(stored.others(values.ndim), keepdims=True) / 127
                scale = np.maximum(scale, 1e-12).astype(np.float32)
                news[stored.values] = np.clip(np.rint(values / scale), -127, 127).astype(np.int8)
                news[stored.scale] = scale.reshape(self.value(stored.scale).shape)
        put_constants(model, news)
        before = load_model(self.original)
        put_constants(before, dict(tensors))
        return Pairs(self.saved(model), self.saved(before))

    def without(self, names: Collection[str]) -> Pairs:
        """The same graph with some of its products in floating point.

        They read what they read before: inputs that were not rounded, and their own weights.
        Pairs and constants that nothing reads any more are gone.
        """
        model = load_model(self.graph)
        maker = {output: node for node in model.graph.node for output in node.output}
        floats = {tensor.name: tensor for tensor in self.before.graph.initializer}
        whole = {node.name: node for node in self.before.graph.node}
        weights: dict[str, onnx.TensorProto] = {}
        nodes: list[onnx.NodeProto] = []
        moved: set[str] = set()

        def unrounded(name: str) -> str:
            """What a tensor would be without pairs before it; copies what only moves values."""
            node = maker.get(name)
            if node is None:
                return name
            if node.op_type == "DequantizeLinear":
                source = maker.get(node.input[0])
                return source.input[0] if source is not None else name
            if node.op_type not in MOVES or f"{name}.whole" in moved:
                return f"{name}.whole" if f"{name}.whole" in moved else name
            inputs = [unrounded(each) for each in node.input]
            if inputs == list(node.input):
                return name
            twin = type(node)()
            twin.CopyFrom(node)
            twin.name = f"{node.name}.whole"
            del twin.input[:], twin.output[:]
            twin.input.extend(inputs)
            twin.output.extend(f"{each}.whole" for each in node.output)
            nodes.append(twin)
            moved.update(twin.output)
            return f"{name}.whole"

        for node in model.graph.node:
            if node.name in names:
                for index, name in enumerate(node.input):
                    read = maker.get(name)
                    if read is not None and read.input[0] in self.constants:
                        source = whole[node.name].input[index]
                        if source in floats:  # a weight, rounded for good
                            weights[source] = floats[source]
                            node.input[index] = source
                            continue
                    node.input[index] = unrounded(name)
            nodes.append(node)
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        model.graph.initializer.extend(t for n, t in weights.items() if n not in self.constants)
        drop_dead(model)
        return self.remade(model)

    @cached_property
    def stored(self) -> dict[str, Stored]:
        """How the weights are stored that are rounded, by their names in the original."""
        whole = {node.name: node for node in self.before.graph.node}
        found = {}
        for node in self.model.graph.node:
            if node.op_type not in PRODUCTS or node.name not in whole:
                continue
            read = self.maker.get(node.input[1])
            if read is None or read.op_type != "DequantizeLinear":
                continue
            if read.input[0] in self.constants:
                axis = next((a.i for a in read.attribute if a.name == "axis"), 1)
                per_tensor = self.value(read.input[1]).size == 1
                found[whole[node.name].input[1]] = Stored(
                    read.input[0], read.input[1], None if per_tensor else axis
                )
        return found

    def remade(self, model: onnx.ModelProto) -> Pairs:
        """The pairs of a changed graph of the same original."""
        return Pairs(self.saved(model), self.original)

    @staticmethod
    def saved(model: onnx.ModelProto) -> bytes:
        """A changed model as bytes, without what is not true of it any more."""
        drop_unused_constants(model)
        del model.graph.value_info[:]
        return bytes(model.SerializeToString())


@dataclass(frozen=True)
class Stored:
    """A rounded weight: the names of its parts, and the axis that has scales."""

    values: str
    scale: str
    axis: int | None

    def others(self, dimensions: int) -> tuple[int, ...]:
        """The axes that share a scale."""
        return tuple(
            d for d in range(dimensions) if self.axis is None or d != self.axis % dimensions
        )
