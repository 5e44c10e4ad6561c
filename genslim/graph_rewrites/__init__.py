"""Exact rewrites of ONNX graphs: the same function, in operations that some runtimes are faster at.

A generator keeps its module and names the rewrites (:attr:`genslim.generator.Generator.rewrites`);
they are made whenever its graph is exported. Which of them pay depends on the runtime and the
precision, so :mod:`compress.rewrite` measures before it names any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from genslim.graph_rewrites import branches, constants, late_enlarging, phases
from genslim.graph_rewrites.rewriting import Rewriting
from genslim.graph_rewrites.view import Sites, View
from genslim.onnx_model import drop_dead, load_model

if TYPE_CHECKING:
    import onnx

KINDS: Mapping[str, Callable[[View], Sites]] = {
    "transposed convolution": phases.as_transposed,
    "convolution for each phase": phases.as_phases,
    "sum before enlarging": late_enlarging.sums_before,
    "sum of branches as one convolution": branches.summed,
    "branches as one convolution": branches.split,
    "constants folded": constants.folded,
}
"""Rewrites by name."""


def sites(graph: bytes) -> list[Rewriting]:
    """Every rewrite that fits somewhere in a graph, with the place."""
    view = View(load_model(graph))
    return [Rewriting(kind, at) for kind, find in KINDS.items() for at in find(view)]


def rewritten(graph: bytes, rewrites: Iterable[Rewriting]) -> bytes:
    """The graph with rewrites made, in their order; one that fits no more is left out."""
    rewrites = list(rewrites)
    if not rewrites:
        return graph
    model: onnx.ModelProto = load_model(graph)
    for rewrite in rewrites:
        if make := KINDS[rewrite.kind](View(model)).get(rewrite.at):
            make()
            drop_dead(model)
    del model.graph.value_info[:]  # some of it is of tensors that are gone
    return bytes(model.SerializeToString())
