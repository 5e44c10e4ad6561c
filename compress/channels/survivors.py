"""What a module makes of the channels that stay, told from the whole module.

Where something is computed over channels (a norm, a mean, a softmax), masking those that go to
zero is not the same as removing them. Here such operations are run on what stays alone and their
results laid back, with zeros in the places that went: what a right cut must make, whatever the
code around it counts on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compress.channels.labels import Labels, Planes, ids, thin
from compress.channels.operations import short_name, tensors_in
from compress.channels.watching import Watching


@dataclass(frozen=True)
class Mixing:
    """An operation that computes something over channels."""

    name: str
    sources: Sequence[Planes]
    """The planes of each tensor that goes in."""
    results: Sequence[Planes]
    """The planes of each tensor that comes out."""


class Survivors(Watching):
    """Runs the operations that mix channels on those that stay."""

    def __init__(
        self, mixing: Mapping[int, Mixing], labels: Labels, gone: NDArray[np.bool_]
    ) -> None:
        """Take what :class:`compress.channels.tracing.Tracer` saw of the same code.

        Args:
            mixing: operations, by their place in the run.
            labels: of their planes.
            gone: for each label whether it goes.
        """
        super().__init__()
        self.mixing, self.labels, self.gone = mixing, labels, gone

    def look(
        self, index: int, func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any
    ) -> None:
        """Run the operation again, where it mixes channels, on what stays of them."""
        if (mixing := self.mixing.get(index)) is None:
            return
        assert mixing.name == short_name(func), "the code runs otherwise than before"
        stays = [self.stays(planes, t.shape) for planes, t in self.pairs(mixing.sources, args)]
        if all(place is None for places in stays for place in places):
            return
        parts = (taken(t, places) for t, places in zip(tensors_in(args), stays, strict=True))
        few = [next(parts) if isinstance(a, Tensor) else a for a in args]
        if mixing.name == "native_layer_norm":
            few[1] = list(few[0].shape[-len(few[1]) :])
        elif mixing.name == "native_group_norm":
            few[3:6] = [*few[0].shape[:2], prod(few[0].shape[2:])]
        for small, (planes, whole) in zip(
            tensors_in(func(*few, **kwargs)), self.pairs(mixing.results, out), strict=True
        ):
            put(whole, small, self.stays(planes, whole.shape))

    def pairs(self, planes: Sequence[Planes], values: Any) -> list[tuple[Planes, Tensor]]:
        """The planes of each tensor in ``values``, and the tensor."""
        return list(zip(planes, tensors_in(values), strict=True))

    def stays(self, planes: Planes, shape: torch.Size) -> list[Tensor | None]:
        """Which places stay along each axis of a tensor; None where all do."""
        result: list[Tensor | None] = [None] * len(shape)
        for plane in planes:
            labels = self.labels.find(ids(thin(plane)))
            dead, alive = self.gone[labels], ~self.gone[labels] & (labels > 0)
            left = dead
            for axis in range(len(shape)):
                others = tuple(a for a in range(len(shape)) if a != axis)
                goes = np.atleast_1d(dead.any(others) & ~alive.any(others))
                if goes.any():
                    assert len(goes) == shape[axis]
                    assert result[axis] is None
                    result[axis] = torch.from_numpy(np.flatnonzero(~goes))
                    left = left & ~np.expand_dims(goes, others)
            assert not left.any(), "what goes is no box"
        return result


def taken(tensor: Tensor, places: Sequence[Tensor | None]) -> Tensor:
    """The elements of ``tensor`` at some places of each axis."""
    for axis, index in enumerate(places):
        tensor = tensor if index is None else tensor.index_select(axis, index)
    return tensor


def put(whole: Tensor, small: Tensor, places: Sequence[Tensor | None]) -> None:
    """Lay ``small`` at some places of each axis of ``whole``, zeros elsewhere; in place."""
    assert tuple(small.shape) == tuple(
        n if index is None else len(index) for n, index in zip(whole.shape, places, strict=True)
    )
    for axis, index in reversed(list(enumerate(places))):
        if index is not None:
            shape = (*small.shape[:axis], whole.shape[axis], *small.shape[axis + 1 :])
            small = small.new_zeros(shape).index_copy(axis, index, small)
    whole.copy_(small)
