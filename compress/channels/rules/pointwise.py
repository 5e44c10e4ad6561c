"""Element by element."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from compress.channels.labels import Planes, ids, varying
from compress.channels.operations import first_tensor, tensors_in
from compress.channels.rules.registry import State, rule


@rule(
    "_prelu_kernel", "prelu", "copy", "where", "native_dropout", "clamp", "gelu", "complex", "polar"
)
def pointwise(
    state: State, func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any
) -> list[Planes]:
    """Elements that meet share their fate; what is spread over channels meets none of them."""
    tensors = [a for a in tensors_in((args, kwargs)) if a.ndim]
    shape = first_tensor(out).shape
    return [meet(state, [(state.planes_of(t), t.shape) for t in tensors], shape, str(func))]


def meet(
    state: State,
    operands: Sequence[tuple[Planes, torch.Size]],
    shape: torch.Size,
    what: str,
) -> Planes:
    """The planes of what is computed element by element from ``operands``.

    A plane that meets a tensor without labels can go along those axes alone on which that tensor
    is spread over it: the places of an attention head, but not one place of one head.
    """
    spread = [
        ([state.labels.compact(p.expand(shape)) for p in planes], broadcast(sides, shape))
        for planes, sides in operands
    ]
    result: Planes = []
    for own, (planes, _) in enumerate(spread):
        for plane in planes:
            for other, (theirs, sides) in enumerate(spread):
                axes = set(varying(plane))
                padding = any(not bool(p.any()) for p in theirs)
                if other == own or padding or any(axes & set(varying(p)) for p in theirs):
                    continue
                if blocked := {axis for axis in axes if sides[axis] > 1}:
                    if blocked == axes:
                        reason = f"meets a tensor of fixed size in {what}"
                        state.labels.fix(ids(plane), reason)
                        plane = plane.new_zeros(()).expand(shape)  # noqa: PLW2901
                        break
                    keep = tuple(sorted(axes - blocked))
                    plane = state.labels.unite_across(plane, keep)  # noqa: PLW2901
            axes = set(varying(plane))
            for known in result:
                if axes & set(varying(known)):
                    state.labels.unite_planes(plane, known)
                    break
            else:
                if axes:
                    result.append(plane)
    return [state.labels.compact(plane) for plane in result]


def broadcast(shape: torch.Size, to: torch.Size) -> tuple[int, ...]:
    """``shape`` with ones in front, as long as ``to``."""
    return (1,) * (len(to) - len(shape)) + tuple(shape)


@rule("glu")
def gated(
    state: State, func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any
) -> list[Planes]:
    """One half times the sigmoid of the other."""
    axis = args[1] if len(args) > 1 else -1
    planes = []
    for plane in (state.labels.compact(p) for p in state.planes_of(args[0])):
        halves = [state.labels.compact(half) for half in plane.chunk(2, axis)]
        state.labels.unite_planes(*halves)
        planes.append(state.labels.compact(halves[0]))
    return [planes]


@rule("zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like")
def made_alike(
    state: State, func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any
) -> list[Planes]:
    """A tensor that has whatever size the other has."""
    return [list(state.planes_of(args[0]))]
