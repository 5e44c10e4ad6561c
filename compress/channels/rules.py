"""What each operation does to channels: which labels it unites, and which its result carries.

One function for each kind of operation, registered under the names that PyTorch's dispatcher has
for them; the operations that only lay elements out anew need none: they are run on the planes
themselves. An operation without a rule keeps every channel that reaches it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from compress.channels.labels import Ids, Labels, Plane, ids, line, varying

Planes = list[Plane]

LEAST_GROUPS = 8
"""Norms and convolutions with so many groups lose whole groups; with fewer, channels of each."""


@dataclass(frozen=True)
class Product:
    """A convolution or matrix product: what it costs, by the labels of its two sides."""

    macs: int
    inside: Ids
    """Labels of what it sums over; empty where nothing of that can go."""
    outside: Ids
    """Labels of what it makes; empty where nothing of that can go."""


@dataclass
class State:
    """What is known while a network runs."""

    labels: Labels
    planes_of: Callable[[Any], Planes]
    products: list[Product] = field(default_factory=list)


Rule = Callable[[State, Any, Sequence[Any], dict[str, Any], Any], list[Planes]]
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule for operations of ATen."""

    def register(function: Rule) -> Rule:
        for name in names:
            RULES[name] = function
        return function

    return register


def whole_groups(groups: int) -> bool:
    """Whether layers with so many groups of channels lose whole groups."""
    return groups >= LEAST_GROUPS


# -- pointwise ---------------------------------------------------------------------------------


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


# -- layout ------------------------------------------------------------------------------------

LAYOUT = frozenset(
    """view _unsafe_view reshape _reshape_alias permute transpose t numpy_T expand slice select
    unbind squeeze unsqueeze alias detach flip roll repeat repeat_interleave constant_pad_nd
    reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d pixel_shuffle
    pixel_unshuffle channel_shuffle im2col unfold index index_select narrow movedim diagonal
    swapaxes view_as expand_as clone contiguous _to_copy to tril triu lift_fresh lift
    split_with_sizes split unsafe_split unsafe_split_with_sizes unsafe_chunk chunk
    upsample_nearest1d upsample_nearest2d _upsample_nearest_exact2d""".split()  # noqa: SIM905
)
IN_PIECES = frozenset({"split", "split_with_sizes", "unsafe_split", "unsafe_split_with_sizes"})


def layout(
    state: State, func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any
) -> list[Planes]:
    """Lay the labels out as the elements are."""
    kwargs = {k: v for k, v in kwargs.items() if k not in ("dtype", "layout", "memory_format")}
    results: list[Planes] = [[] for _ in as_list(out)]
    name = short_name(func)
    if name == "constant_pad_nd":
        args = args[:2]  # whatever it is that is laid around, it has no label
    for plane in state.planes_of(args[0]):
        if name in ("clone", "contiguous", "_to_copy", "to", "alias", "detach", "lift_fresh"):
            moved = [plane]
        else:
            moved = as_list(func(plane.contiguous(), *args[1:], **kwargs))
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


# -- products ----------------------------------------------------------------------------------


def vector(state: State, planes: Planes, axis: int, other: tuple[int, ...] = ()) -> Ids | None:
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
    return [planes if t is first else [] for t in as_list(out)]


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


# -- norms -------------------------------------------------------------------------------------


def with_scale(state: State, channels: Ids | None, learned: Sequence[Any], what: str) -> None:
    """What a norm has learned of each channel goes with it."""
    for tensor in learned:
        if tensor is not None:
            pair(state, channels, vector(state, state.planes_of(tensor), 0), what)


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
    return [[p for p in (state.labels.compact(q) for q in planes) if varying(p)]]


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
    return [[p for p in (state.labels.compact(q) for q in planes) if varying(p)]]


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
    return [[p for p in (state.labels.compact(q) for q in planes) if varying(p)]]


# -- reductions --------------------------------------------------------------------------------


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
    return [planes if t.shape == first_tensor(out).shape else [] for t in as_list(out)]


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
    keep = tuple(range(args[0].ndim - 2))
    results: list[Planes] = []
    for made in as_list(out):
        planes = []
        for plane in (state.labels.compact(p) for p in state.planes_of(args[0])):
            if not set(varying(plane)) <= set(keep):
                plane = state.labels.unite_across(plane, keep)  # noqa: PLW2901
            if varying(plane):
                thin = plane.narrow(-1, 0, 1).narrow(-2, 0, 1)
                planes.append(thin.expand(made.shape))
        results.append(planes)
    return results


@rule("zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like")
def made_alike(
    state: State, func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any
) -> list[Planes]:
    """A tensor that has whatever size the other has."""
    return [list(state.planes_of(args[0]))]


# -- helpers -----------------------------------------------------------------------------------


def tensors_in(value: Any) -> list[Tensor]:
    """Every tensor in nested arguments, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, list | tuple):
        return [t for v in value for t in tensors_in(v)]
    if isinstance(value, dict):
        return [t for v in value.values() for t in tensors_in(v)]
    return []


def first_tensor(out: Any) -> Tensor:
    """The main result of an operation."""
    return tensors_in(out)[0]


def as_list(out: Any) -> list[Tensor]:
    """The results of an operation."""
    return tensors_in(out)


def short_name(func: Any) -> str:
    """``convolution`` for ``aten.convolution.default``; ``relu`` for ``aten.relu_.default``."""
    name: str = func._schema.name.partition("::")[2]
    return name.removesuffix("_") if name.endswith("_") and not name.startswith("__") else name
