"""What rounding gains each layer on the target, and the table of what it gains and costs."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from compress.quantization.pairs import Pairs, Product
from genslim.generator import Generator
from genslim.inputs import Inputs
from genslim.runtimes import runtime
from genslim.runtimes.base import Timed
from genslim.target import Target

ROUNDS = 9
Times = Mapping[str, tuple[float, float]]
"""Milliseconds of each product by its name: in floating point, and rounded."""


def layer_times(generator: Generator, pairs: Pairs, target: Target) -> Times:
    """How long each product takes before and after, where the target's runtime tells.

    The two graphs run in turn; medians over rounds.

    Args:
        generator: says how it is called.
        pairs: the graph, and the original that it is compared with.
        target: settled.
    """
    backend = runtime(target.runtime)
    assert target.batch is not None
    drawn = Inputs(generator.signature, "timing").draw(target.batch)
    inputs = {name: tensor.numpy() for name, tensor in drawn.items()}
    weights = {p.weight: p.name for p in pairs.products if p.weight}
    known = {stored.values: weights[name] for name, stored in pairs.stored.items()} | weights
    known |= {product.name: product.name for product in pairs.products}
    made = {name: node.name for node in pairs.before.graph.node for name in node.output}
    for node in pairs.before.graph.node:  # a factor that a kernel takes along has the last name
        if node.op_type == "Mul":
            for source in (made[name] for name in node.input if made.get(name) in known):
                known[node.name] = known[source]
    samples: list[dict[str, list[float]]] = [defaultdict(list), defaultdict(list)]
    variants = [generator.variant(module=None, onnx=g) for g in (pairs.original, pairs.graph)]
    with (
        backend.open(variants[0], target, profile=True) as before,
        backend.open(variants[1], target, profile=True) as after,
    ):
        for number in range(ROUNDS + 1):
            for session, found in zip((before, after), samples, strict=True):
                total: dict[str, float] = defaultdict(float)
                for timed in session.timed(inputs):
                    if product := owner(timed, known):
                        total[product] += timed.milliseconds
                for name, milliseconds in total.items() if number else ():  # the first warms up
                    found[name].append(milliseconds)
    middle = [{name: statistics.median(some) for name, some in each.items()} for each in samples]
    return {name: (middle[0][name], middle[1][name]) for name in middle[0] if name in middle[1]}


def owner(timed: Timed, known: Mapping[str, str]) -> str | None:
    """The product that an operation computes, by the names of what went into it."""
    for name in timed.names:
        if found := known.get(name) or known.get(name.partition("/")[0]):
            return found
    return None


def table(pairs: Pairs, costs: Mapping[str, float], times: Times) -> list[dict[str, Any]]:
    """A row for each product: precision, what rounding it costs, and what it gains."""
    return [row(product, costs, times) for product in pairs.products]


def row(product: Product, costs: Mapping[str, float], times: Times) -> dict[str, Any]:
    """One row of :func:`table`; None where a figure is not known."""
    before, after = times.get(product.name, (None, None))
    cost = costs.get(product.name)
    return {
        "layer": product.label,
        "node": product.name,
        "precision": "int8" if product.rounded else "float",
        "ssim_cost": None if cost is None else round(cost, 5),
        "float_ms": None if before is None else round(before, 4),
        "int8_ms": None if after is None else round(after, 4),
    }
