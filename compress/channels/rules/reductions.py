"""Sums, means, softmax, pooling: what is computed over several elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from compress.channels.labels import Plane, Planes, ids, varying
from compress.channels.operations import first_tensor, tensors_in
from compress.channels.rules.pointwise import pointwise
from compress.channels.rules.registry import State, rule


@rule(
    "mean", "sum", "amax", "amin", "var", "std", "var_mean", "std_mean", "max", "min", "prod",
    "logsumexp", "argmax", "argmin", "norm", "linalg_vector_norm", "any", "all",
)  # fmt: skip
def reduction(
    state: State, func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any
) -> list[Planes]:
    """What is summed up is gone; what goes whole was never there."""
    x = args[0]
    if len(args) > 1 and isinstance(args[1], Tensor):
        return pointwise(state, func, args, kwargs, out)
    names = [a.name for a in func._schema.arguments]
    values = {**dict(zip(names, args, strict=False)), **kwargs}
    dims = values.get("dim")
    if dims is None or (isinstance(dims, list | tuple) and not dims):
        dims = list(range(x.ndim))
    gone = {d % x.ndim for d in ([dims] if isinstance(dims, int) else dims)}
    keep = bool(values.get("keepdim", False))
    planes: Planes = []
    for plane in (state.labels.compact(p) for p in state.planes_of(x)):
        axes = set(varying(plane))
        if axes <= gone:
            state.labels.mix(ids(plane))
            continue
        rest = state.labels.unite_across(plane, tuple(sorted(axes - gone)))
        for axis in sorted(gone, reverse=True):
            rest = rest.narrow(axis, 0, 1) if keep else rest.select(axis, 0)
        planes.append(rest)
    return [planes if t.shape == first_tensor(out).shape else [] for t in tensors_in(out)]


@rule("_softmax", "_log_softmax", "softmax", "log_softmax", "cumsum")
def along_an_axis(
    state: State, func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any
) -> list[Planes]:
    """Each element hangs on all along the axis."""
    axis = args[1] % args[0].ndim
    planes = [state.labels.compact(p) for p in state.planes_of(args[0])]
    for plane in planes:
        if axis in varying(plane):
            state.labels.mix(ids(plane))
    return [planes]


@rule(
    "max_pool2d_with_indices", "avg_pool2d", "avg_pool1d", "_adaptive_avg_pool2d",
    "adaptive_max_pool2d", "adaptive_avg_pool2d", "max_pool2d", "mkldnn_max_pool2d",
    "upsample_bilinear2d", "upsample_bicubic2d", "_upsample_bilinear2d_aa",
    "_upsample_bicubic2d_aa", "upsample_linear1d", "grid_sampler_2d",
)  # fmt: skip
def spatial(
    state: State, func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any
) -> list[Planes]:
    """Each channel by itself, its places mixed."""
    over = (args[0].ndim - 2, args[0].ndim - 1)
    results: list[Planes] = []
    for made in tensors_in(out):
        planes = []
        for plane in (state.labels.compact(p) for p in state.planes_of(args[0])):
            mixed = mixed_along(state, plane, over, made.shape)
            if varying(mixed):
                planes.append(mixed)
        results.append(planes)
    return results


def mixed_along(state: State, plane: Plane, over: Sequence[int], shape: torch.Size) -> Plane:
    """The plane of ``shape`` where everything along the axes ``over`` hangs on everything."""
    keep = tuple(axis for axis in range(plane.ndim) if axis not in over)
    rest = state.labels.unite_across(plane, keep)
    for axis in over:
        rest = rest.narrow(axis, 0, 1)
    return rest.expand(shape)
