"""Convolutions, matrix products, attention: what is summed over goes on both sides."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import torch

from compress.channels.labels import Ids, Planes, ids, line, varying
from compress.channels.operations import first_tensor, short_name, tensors_in
from compress.channels.rules.pointwise import meet
from compress.channels.rules.registry import Product, State, rule, whole_groups


def vector(state: State, planes: Planes, axis: int) -> Ids | None:
    """The labels along ``axis``, united over every other axis; None where none goes by it."""
    found: Ids | None = None
    for plane in planes:
        if axis in varying(plane := state.labels.compact(plane)):
            labels = line(state.labels.unite_across(plane, (axis,)), axis)
            if found is None:
                found = labels
            else:
                state.labels.unite(found, labels)
    return found if found is None else state.labels.find(found)


def passing(state: State, planes: Planes, axis: int) -> Planes:
    """The planes that don't go by ``axis``."""
    compact = [state.labels.compact(p) for p in planes]
    return [p for p in compact if varying(p) and axis not in varying(p)]


def pair(state: State, a: Ids | None, b: Ids | None, what: str) -> None:
    """What is summed over goes on both sides, or not at all."""
    if a is not None and b is not None:
        state.labels.unite(a, b)
    elif a is not None or b is not None:
        labels = a if a is not None else b
        assert labels is not None
        state.labels.fix(labels, f"{what} sums it with a tensor of fixed size")


NONE: Ids = np.zeros(0, np.int64)


@rule("convolution", "_convolution", "convolution_overrideable", "mkldnn_convolution")
def convolution(
    state: State, func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any
) -> list[Planes]:
    """Every spatial place is treated alike; groups keep to themselves."""
    x, weight, bias = args[:3]
    transposed, groups = (args[6], args[8]) if len(args) > 8 else (False, args[6])
    unit, channel = x.ndim - weight.ndim, x.ndim - weight.ndim + 1
    assert unit == 0 or not transposed
    source = vector(state, state.planes_of(x), channel)
    kernel = state.planes_of(weight)
    for axis in range(2, weight.ndim):
        if (taps := vector(state, kernel, axis)) is not None:
            state.labels.fix(taps, "is a place in a kernel")
    axis_in, axis_out = (0, 1) if transposed else (1, 0)
    inside, outside = vector(state, kernel, axis_in), vector(state, kernel, axis_out)
    channels = out.shape[channel]
    summed = inside if groups == 1 else None  # what the cost grows with, beside the outputs
    if groups == 1:
        pair(state, source, inside, "a convolution")
    elif (inside if transposed else outside) is None:  # the kernel is computed, not learned
        for labels in (source, inside, outside):
            if labels is not None:
                state.labels.fix(labels, "meets a grouped kernel that is computed")
        outside = None
    else:
        # A grouped kernel holds all channels of one side and those of a single group of the other.
        own = None if whole_groups(groups) else inside
        all_in, all_out = grouped(
            state, source, inside, outside, x.shape[channel], channels, groups, transposed
        )
        summed = own if own is None or not transposed else all_in
        inside, outside = all_in, all_out
    if bias is not None:
        biases = vector(state, state.planes_of(bias), 0)
        pair(state, outside, biases, "a convolution's bias")
    spatial = prod(x.shape[channel + 1 :]) if transposed else prod(out.shape[channel + 1 :])
    state.products.append(
        Product(
            weight.numel() * spatial * (x.shape[0] if unit == 0 else 1),
            NONE if summed is None else summed,
            NONE if outside is None else outside,
        )
    )
    planes = [] if outside is None else [state.labels.along(out.shape, channel, outside)]
    for plane in passing(state, state.planes_of(x), channel):
        places = [a for a in varying(plane) if a > channel]
        if places:
            state.labels.fix(ids(plane), "is a place in the picture")
        elif varying(plane):
            units = line(plane, 0)
            planes.append(state.labels.along(out.shape, 0, units))
    return [planes]


def grouped(  # noqa: PLR0917
    state: State,
    source: Ids | None,
    inside: Ids | None,
    outside: Ids | None,
    channels_in: int,
    channels_out: int,
    groups: int,
    transposed: bool,
) -> tuple[Ids | None, Ids | None]:
    """Unite what must go together in a grouped convolution; labels of all inputs and outputs.

    Of many groups, whole ones go: their inputs and outputs with them. Of few, each loses the same
    places, inputs and outputs apart.
    """
    labels = state.labels
    everything = inside if transposed else outside
    own = outside if transposed else inside
    assert everything is not None
    near, far = (
        (channels_in // groups, channels_out // groups)
        if transposed
        else (channels_out // groups, channels_in // groups)
    )
    blocks = everything.reshape(groups, near)
    if whole_groups(groups):
        labels.unite(blocks, blocks[:, :1])
        if own is not None:
            labels.fix(own, "is within a group that goes as a whole")
        if transposed:
            if source is not None:
                labels.unite(source, everything)
            return source, np.repeat(labels.find(blocks[:, 0]), far)
        if source is None:
            labels.fix(everything, "goes with inputs that never go")
        else:
            labels.unite(source.reshape(groups, far), blocks[:, :1])
        return source, labels.find(everything)
    labels.unite(blocks, blocks[:1])
    if transposed:
        pair(state, source, everything, "a grouped convolution")
        return source, None if own is None else np.tile(own, groups)
    if source is not None:
        if own is None:  # one input a group
            labels.unite(source.reshape(groups, far), blocks)
        else:
            labels.unite(source.reshape(groups, far), own[None])
    elif own is not None:
        labels.fix(own, "goes with inputs that never go")
    return source, labels.find(everything)


@rule("mm", "bmm", "matmul", "addmm", "baddbmm", "mv", "dot", "linear", "addmv")
def product(
    state: State, func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any
) -> list[Planes]:
    """A sum over the last axis of one factor and the last but one of the other."""
    name = short_name(func)
    added = name in ("addmm", "baddbmm", "addmv")
    a, b = args[1:3] if added else args[:2]
    planes_a, planes_b = state.planes_of(a), state.planes_of(b)
    axis_b = b.ndim - 1 if name == "linear" or b.ndim == 1 else b.ndim - 2
    left, right = vector(state, planes_a, a.ndim - 1), vector(state, planes_b, axis_b)
    pair(state, left, right, f"a product ({name})")
    rest_a = passing(state, planes_a, a.ndim - 1)
    rest_b = passing(state, planes_b, axis_b)
    result: Planes = []
    operands = []
    if a.ndim > 1:
        shape = (*a.shape[:-1], 1) if b.ndim > 1 else a.shape[:-1]
        planes = [p.narrow(-1, 0, 1) if b.ndim > 1 else p.select(-1, 0) for p in rest_a]
        operands.append((planes, torch.Size(shape)))
    if b.ndim > 1:
        turned = [p.transpose(-1, -2) if name == "linear" else p for p in rest_b]
        rows = (1,) if a.ndim > 1 else ()
        shape = (*b.shape[:-2], *rows, b.shape[-2] if name == "linear" else b.shape[-1])
        planes = [p.narrow(-2, 0, 1) if a.ndim > 1 else p.select(-2, 0) for p in turned]
        operands.append((planes, torch.Size(shape)))
    if added:
        operands.append((state.planes_of(args[0]), args[0].shape))
    if operands and out.ndim:
        result = meet(state, operands, out.shape, name)
    outside = vector(state, result, out.ndim - 1) if out.ndim else None
    state.products.append(
        Product(
            out.numel() * a.shape[-1],
            NONE if left is None else left,
            NONE if outside is None else outside,
        )
    )
    if name == "linear" and len(args) > 2 and args[2] is not None:
        bias = vector(state, state.planes_of(args[2]), 0)
        pair(state, outside, bias, "a linear layer's bias")
    return [result]


@rule(
    "_scaled_dot_product_flash_attention_for_cpu",
    "scaled_dot_product_attention",
    "_scaled_dot_product_attention_math",
    "_scaled_dot_product_efficient_attention",
)
def attention(
    state: State, func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any
) -> list[Planes]:
    """Heads go as a whole: the scale of the products hangs on how many places a head has."""
    query, key, value = args[:3]
    heads: Ids | None = None
    for tensor in (query, key, value):
        planes = state.planes_of(tensor)
        single = tensor.shape[1] == 1
        for plane in planes:
            if single:
                places = vector(state, [plane], 3)
                if places is not None:
                    state.labels.fix(places, "is all that the only head attends by")
                continue
            labels = vector(state, [plane], 1)
            if labels is None:
                state.labels.fix(ids(plane), "is within an attention head")
            elif heads is None:
                heads = labels
            else:
                state.labels.unite(heads, labels)
        if not planes and heads is not None:
            state.labels.fix(heads, "attends to heads that never go")
    masks = [t for t in tensors_in((args[3:], kwargs)) if t.ndim == 4 and t.shape[1] > 1]
    if masks and heads is not None:
        pair(state, heads, vector(state, state.planes_of(masks[0]), 1), "a mask of heads")
    first = first_tensor(out)
    state.products.append(Product(2 * first.numel() * key.shape[2], NONE, NONE))
    planes = [] if heads is None else [state.labels.along(first.shape, 1, state.labels.find(heads))]
    return [planes if t is first else [] for t in tensors_in(out)]


@rule("embedding")
def embedding(
    state: State, func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any
) -> list[Planes]:
    """Rows are looked up whole; columns are channels."""
    planes = state.planes_of(args[0])
    if (rows := vector(state, planes, 0)) is not None:
        state.labels.fix(rows, "is looked up by number")
    columns = vector(state, planes, 1)
    return [[] if columns is None else [state.labels.along(out.shape, out.ndim - 1, columns)]]
