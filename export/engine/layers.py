"""What was really built: the layers of an engine and the types that they compute in.

On a machine with a GPU TensorRT's engine inspector tells it. Without one an engine can't be loaded,
but the builder writes the same list into its log as it finishes, and that is read instead.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from genslim.runtimes.inspector import OTHER, layers_told, type_in, types_of

PRODUCTS = ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY")
"""Layers of a network that are convolutions and matrix products."""
MOVES = ("CONCATENATION", "SHUFFLE", "SLICE", "SQUEEZE", "UNSQUEEZE")
"""Layers of a network that only move values."""
REFORMATS = re.compile(r"reformat|^__myl_(?:Move|Tran|Repl|Resh|Cast|Conc|Slic)+_", re.IGNORECASE)
"""Names of layers that only change types or the order of values in memory."""
LISTED = "Layers:"
"""The builder's list of layers begins with it."""


@dataclass(frozen=True)
class Layer:
    """A layer of an engine."""

    name: str
    kind: str
    """TensorRT's word for it: ``correlation``, ``gemm``, ``kgen``, ``runtime_fusion``."""
    taken: tuple[str, ...]
    """The types of its inputs."""
    made: tuple[str, ...]
    """The types of its outputs."""
    nodes: tuple[str, ...]
    """The nodes of the ONNX graph that went into it."""

    @property
    def reformats(self) -> bool:
        """Whether it only changes types or the order of values in memory."""
        return bool(REFORMATS.search(self.name)) or "reformat" in self.kind.lower()


@dataclass(frozen=True)
class Engine:
    """What is known of an engine's layers."""

    layers: tuple[Layer, ...]
    read_from: str
    """``the builder's log`` or ``the engine``."""

    def products(self, nodes: Collection[str]) -> dict[str, str]:
        """The type that each of the convolutions and products ``nodes`` computes in, by its name.

        A product computes in the type of its first input. Its node stands in the metadata of what
        quantizes before it and adds a bias behind it too: the layer with a kernel of its own says
        it, and generated code only where there is none. One that no layer names is left out.
        """
        found: dict[str, str] = {}
        for generated in (False, True):
            told: dict[str, set[str]] = {}
            for layer in self.layers:
                if layer.taken and (layer.kind in GENERATED) == generated:
                    for node in layer.nodes:
                        told.setdefault(node, set()).add(layer.taken[0])
            for node in nodes:
                if node in told and node not in found:
                    found[node] = min(told[node], key=NARROWEST.index)
        return found

    def types(self) -> dict[str, int]:
        """How many layers make values of each type."""
        return dict(Counter(layer.made[0] for layer in self.layers if layer.made))

    @property
    def reformats(self) -> int:
        """How many layers only change types or the order of values in memory."""
        return sum(layer.reformats for layer in self.layers)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {
            "layers": len(self.layers),
            "types": self.types(),
            "reformats": self.reformats,
            "read_from": self.read_from,
        }


GENERATED = ("kgen", "runtime_function", "shape_call", "Reformat", "NoOp")
"""Kinds of layers around the kernels for products."""
NARROWEST = ("int8", "fp8", "fp16", "bf16", "fp32", OTHER)


def logged(lines: Iterable[str]) -> Engine | None:
    """The layers in the builder's log; None where it lists none."""
    texts = [line for line in lines if line.startswith(LISTED)]
    if not texts:
        return None
    listed, _, _ = texts[-1].partition("\nI/O Tensors:")
    return Engine(
        tuple(layer_in(line) for line in listed.splitlines() if line.startswith("Name: ")),
        "the builder's log",
    )


def layer_in(line: str) -> Layer:
    """A layer from a line of the log: ``Name: x, LayerType: kgen, Inputs: [ { Name: ...``."""
    name = line.removeprefix("Name: ").partition(", LayerType: ")[0]
    kind = between(line, "LayerType: ", ",")
    return Layer(
        name,
        kind,
        types_in(between(line, ", Inputs: [", "], Constants: [")),
        types_in(between(line, "], Outputs: [", "], TacticName: ")),
        nodes_in(line.rpartition(", Metadata: ")[2]),
    )


def between(text: str, start: str, end: str) -> str:
    """What stands between two marks; nothing where the first is missing."""
    return text.partition(start)[2].partition(end)[0]


def types_in(text: str) -> tuple[str, ...]:
    """The types of the tensors in a list: ``Datatype: Half``."""
    return tuple(type_in(word) for word in re.findall(r"Datatype: (\w+)", text))


def nodes_in(text: str) -> tuple[str, ...]:
    """ONNX nodes in a layer's metadata: ``[ONNX Layer: node_Conv_1][ONNX Layer: node_relu]``."""
    return tuple(re.findall(r"\[ONNX Layer: ([^\]]*)\]", text))


def inspected(trt: Any, engine: Any) -> Engine:
    """The layers of a loaded engine, as TensorRT's inspector tells them."""
    return Engine(tuple(layer_told(each) for each in layers_told(trt, engine)), "the engine")


def layer_told(facts: Mapping[str, Any]) -> Layer:
    """A layer from the inspector's JSON."""
    return Layer(
        str(facts.get("Name", "")),
        str(facts.get("LayerType", "")),
        types_of(facts.get("Inputs", [])),
        types_of(facts.get("Outputs", [])),
        nodes_in(str(facts.get("Metadata", ""))),
    )


def product_types(network: Any) -> dict[str, int]:
    """Count a network's convolutions and matrix products by the type that they compute in.

    What was asked for, before it is built. One whose input comes from a DequantizeLinear, directly
    or through layers that only move values, is int8: that is what Q/DQ means to TensorRT.
    """
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    made_by = {
        layer.get_output(index).name: layer
        for layer in layers
        for index in range(layer.num_outputs)
    }

    @cache
    def quantized(name: str) -> bool:
        layer = made_by.get(name)
        if layer is None or layer.type.name not in MOVES:
            return layer is not None and layer.type.name == "DEQUANTIZE"
        many = layer.type.name == "CONCATENATION"  # the others' further inputs are shapes
        return all(
            quantized(layer.get_input(index).name)
            for index in range(layer.num_inputs if many else 1)
        )

    found: Counter[str] = Counter()
    for layer in layers:
        if layer.type.name in PRODUCTS:
            taken = layer.get_input(0)
            found["int8" if quantized(taken.name) else type_in(taken.dtype.name)] += 1
    return dict(found)


def listed(counts: Mapping[str, int]) -> str:
    """``17 fp16, 1 fp32``, the commonest first."""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{count} {kind}" for kind, count in ordered) or "none"
