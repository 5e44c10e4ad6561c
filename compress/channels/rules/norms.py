"""Norms: what they learned of each channel goes with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from compress.channels.labels import Ids, Planes, varying
from compress.channels.rules.pointwise import meet
from compress.channels.rules.products import pair, vector
from compress.channels.rules.registry import State, rule, whole_groups


def with_scale(state: State, channels: Ids | None, learned: Sequence[Any], what: str) -> None:
    """What a norm has learned of each channel goes with it."""
    for tensor in learned:
        if tensor is not None:
            pair(state, channels, vector(state, state.planes_of(tensor), 0), what)


def carried(state: State, planes: Planes) -> Planes:
    """What a norm carries on: all that still varies."""
    return [p for p in (state.labels.compact(q) for q in planes) if varying(p)]


@rule(
    "native_batch_norm",
    "_native_batch_norm_legit",
    "_native_batch_norm_legit_no_training",
    "_batch_norm_with_update",
    "_batch_norm_no_update",
    "cudnn_batch_norm",
)
def batch_norm(
    state: State, func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any
) -> list[Planes]:
    """Each channel by itself."""
    planes = state.planes_of(args[0])
    channels = vector(state, planes, 1)
    learned = [a for a in args[1:5] if isinstance(a, Tensor)]
    with_scale(state, channels, learned, "a batch norm")
    return [carried(state, planes)]


@rule("native_group_norm")
def group_norm(
    state: State, func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any
) -> list[Planes]:
    """Of many groups whole ones go, which changes nothing for the others."""
    planes, groups = state.planes_of(args[0]), args[6]
    channels = vector(state, planes, 1)
    with_scale(state, channels, args[1:3], "a group norm")
    if channels is not None and groups < len(channels):
        blocks = channels.reshape(groups, -1)
        if whole_groups(groups):
            state.labels.unite(blocks, blocks[:, :1])
        else:
            state.labels.unite(blocks, blocks[:1])
            state.labels.mix(channels)
    return [carried(state, planes)]


@rule("native_layer_norm", "_fused_rms_norm", "rms_norm", "_fused_rms_norm_composite")
def layer_norm(
    state: State, func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any
) -> list[Planes]:
    """Computed over the last axes: what goes changes the rest a little."""
    x, shape = args[:2]
    planes = state.planes_of(x)
    for axis in range(x.ndim - len(shape), x.ndim):
        labels = vector(state, planes, axis)
        if labels is not None:
            state.labels.mix(labels)
    for learned in args[2:4]:
        if isinstance(learned, Tensor):
            meet(
                state,
                [(planes, x.shape), (state.planes_of(learned), learned.shape)],
                x.shape,
                "a layer norm",
            )
    return [carried(state, planes)]
