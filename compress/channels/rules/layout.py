"""Operations that lay elements out anew, and those that join tensors.

The first need no rule of their own: they are run on the planes themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from compress.channels.labels import Plane, Planes, ids, varying
from compress.channels.operations import short_name, tensors_in
from compress.channels.rules.pointwise import meet
from compress.channels.rules.registry import State, rule

IN_PIECES = frozenset({"split", "split_with_sizes", "unsafe_split", "unsafe_split_with_sizes"})


@rule(
    "view", "_unsafe_view", "reshape", "_reshape_alias", "permute", "transpose", "t", "numpy_T",
    "expand", "slice", "select", "unbind", "squeeze", "unsqueeze", "alias", "detach", "flip",
    "roll", "repeat", "repeat_interleave", "constant_pad_nd", "reflection_pad1d",
    "reflection_pad2d", "replication_pad1d", "replication_pad2d", "pixel_shuffle",
    "pixel_unshuffle", "channel_shuffle", "im2col", "unfold", "index", "index_select", "narrow",
    "movedim", "diagonal", "swapaxes", "view_as", "expand_as", "clone", "contiguous", "_to_copy",
    "to", "tril", "triu", "lift_fresh", "lift", "split_with_sizes", "split", "unsafe_split",
    "unsafe_split_with_sizes", "unsafe_chunk", "chunk", "upsample_nearest1d",
    "upsample_nearest2d", "_upsample_nearest_exact2d",
)  # fmt: skip
def layout(
    state: State, func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any
) -> list[Planes]:
    """Lay the labels out as the elements are."""
    kwargs = {k: v for k, v in kwargs.items() if k not in ("dtype", "layout", "memory_format")}
    results: list[Planes] = [[] for _ in tensors_in(out)]
    name = short_name(func)
    if name == "constant_pad_nd":
        args = args[:2]  # whatever it is that is laid around, it has no label
    for plane in state.planes_of(args[0]):
        if name in ("clone", "contiguous", "_to_copy", "to", "alias", "detach", "lift_fresh"):
            moved = [plane]
        else:
            moved = tensors_in(func(plane.contiguous(), *args[1:], **kwargs))
        pieces = [state.labels.compact(piece) for piece in moved]
        if name in IN_PIECES:
            align(state, pieces)
        elif name == "slice":
            align_slice(state, plane, args)
        for result, piece in zip(results, pieces, strict=True):
            if varying(piece):
                result.append(piece)
    return results


def align(state: State, pieces: Sequence[Plane]) -> None:
    """Let equal pieces lose the same places: what cuts them up again expects equal sizes."""
    if len({piece.shape for piece in pieces}) == 1 and not all(
        torch.equal(piece, pieces[0]) for piece in pieces[1:]
    ):
        for piece in pieces[1:]:
            state.labels.unite_planes(piece, pieces[0])


def align_slice(state: State, plane: Plane, args: Sequence[Any]) -> None:
    """Let the n-ths of an axis lose the same places, where one of them is taken."""
    axis = args[1] if len(args) > 1 else 0
    start = (args[2] if len(args) > 2 else None) or 0
    size = plane.shape[axis]
    end = min(size, args[3]) if len(args) > 3 and args[3] is not None else size
    start, end = (s + size if s < 0 else s for s in (start, end))
    length, step = end - start, args[4] if len(args) > 4 else 1
    if axis % plane.ndim not in varying(state.labels.compact(plane)) or length == size or step > 1:
        return
    if length > 0 and size % length == 0 and start % length == 0:
        align(state, list(plane.split(length, axis)))
    else:
        state.labels.fix(
            ids(plane.narrow(axis, 0, size)), f"is sliced from {start} to {end} of {size}"
        )


@rule("cat", "concat")
def cat(
    state: State, func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any
) -> list[Planes]:
    """Lay labels one after another; what never goes gets labels of its own."""
    parts = [t for t in args[0] if t.numel()]
    axis = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % out.ndim
    planes = [[state.labels.compact(p) for p in state.planes_of(t)] for t in parts]
    result: Planes = []
    if any(axis in varying(p) for group in planes for p in group):
        row = []
        for part, group in zip(parts, planes, strict=True):
            own = [p for p in group if varying(p) and axis in varying(p)]
            wild = [p for p in group if not bool(p.any())]
            if own or wild:
                row.append((own or wild)[0])
            else:
                kept = state.labels.fresh(part.shape[axis])
                state.labels.fix(kept, "stands beside what never goes")
                row.append(state.labels.along(part.shape, axis, kept))
        result.append(state.labels.compact(torch.cat(row, axis)))
    across = [[p for p in group if varying(p) and axis not in varying(p)] for group in planes]
    if any(across):
        thin = [
            ([p.narrow(axis, 0, 1) for p in group], part.narrow(axis, 0, 1).shape)
            for part, group in zip(parts, across, strict=True)
        ]
        shape = thin[0][1]
        result += [p.expand(out.shape) for p in meet(state, thin, shape, "cat")]
    return [result]


@rule("stack")
def stack(
    state: State, func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any
) -> list[Planes]:
    """A concatenation along a new axis."""
    axis = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % out.ndim
    operands = [(state.planes_of(t), t.shape) for t in args[0]]
    planes = meet(state, operands, args[0][0].shape, "stack")
    return [[p.unsqueeze(axis).expand(out.shape) for p in planes]]
