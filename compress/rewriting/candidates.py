"""What can be computed otherwise in a generator, and how it then would."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from compress.phases import as_convolution, reason_to_leave
from compress.rewriting.projection import projections
from compress.swap import with_swapped
from genslim.generator import Generator
from genslim.graph_rewrites import KINDS, rewritten, sites
from genslim.graph_rewrites.rewriting import Rewriting

if TYPE_CHECKING:
    from torch import nn


NORMS, MATRIX, SHUFFLE = "folded", "matrix product", "convolution and pixel shuffle"
NAMES = (NORMS, MATRIX, SHUFFLE, *KINDS)
"""What rewrites are called."""


@dataclass(frozen=True)
class Exact:
    """Another way to compute the same at one place."""

    place: str
    """A layer's name, as a rule."""
    what: str
    make: Callable[[Generator], Generator]
    """The generator, rewritten."""

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.place}: {self.what}"


def of_layers(generator: Generator) -> tuple[list[Exact], list[dict[str, str]]]:
    """The rewrites of a module's layers; and the layers that have none, with reasons."""
    from torch import nn

    module = generator.module
    assert module is not None
    found = [
        Exact(name, MATRIX, partial(with_module, make=projection))
        for name, projection in projections(module, generator).items()
    ]
    taken = {each.place for each in found}
    left = []
    for name, layer in module.named_modules():
        if not isinstance(layer, nn.ConvTranspose2d) or name in taken:
            continue
        if reason := reason_to_leave(layer):
            left.append({"what": name, "reason": reason})
        else:
            swap = partial(with_swapped, names=[name], make=as_convolution)
            found.append(Exact(name, SHUFFLE, partial(with_module, make=swap)))
    return found, left


def of_graph(graph: bytes) -> Iterator[Exact]:
    """The rewrites of a generator's graph."""
    for rewrite in sites(graph):
        yield Exact(rewrite.place, rewrite.kind, partial(with_rewriting, rewrite=rewrite))


def with_module(generator: Generator, make: Callable[[nn.Module], nn.Module]) -> Generator:
    """The generator with another module that computes the same."""
    assert generator.module is not None
    return generator.variant(module=make(generator.module))


def with_rewriting(generator: Generator, rewrite: Rewriting) -> Generator:
    """The generator with a rewrite of its graph: of the one it has, or whenever it is exported."""
    if generator.onnx is not None:
        return generator.variant(onnx=rewritten(generator.onnx, [rewrite]))
    return generator.variant(rewrites=(*generator.rewrites, rewrite))
