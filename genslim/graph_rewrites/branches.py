"""Convolutions of one input, merged into one.

Those whose results are summed have a sum of kernels (Ding et al. 2021, RepVGG, arXiv 2101.03697);
those whose results go different ways have kernels one above the other, and the result is split.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from genslim.graph_rewrites.view import Sites, View, attributes, is_plain

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray


def summed(view: View) -> Sites:
    """Sums of two convolutions of one input, by the sum's name."""
    found = {}
    for node in view.of_type("Add"):
        makers = [view.maker.get(name) for name in node.input]
        pair = [maker for maker in makers if maker is not None and maker.op_type == "Conv"]
        if len(pair) != 2 or pair[0] is pair[1] or pair[0].input[0] != pair[1].input[0]:
            continue
        if any(view.alone(maker.output[0]) is None for maker in pair):
            continue
        kernels = [kernel for maker in pair if (kernel := centred(view, maker)) is not None]
        if len(kernels) == 2:
            found[node.output[0]] = partial(put_sum, view, node, pair, kernels)
    return found


def centred(view: View, node: onnx.NodeProto) -> NDArray[Any] | None:
    """The kernel (O, C, k, k) of a convolution that keeps the size; None for any other."""
    weight = view.constant(node, 1)
    if weight is None or weight.ndim != 4 or len(set(weight.shape[2:])) > 1:
        return None
    pad = weight.shape[2] // 2
    return weight if weight.shape[2] % 2 and is_plain(node, [1, 1], [pad] * 4) else None


def put_sum(
    view: View,
    node: onnx.NodeProto,
    pair: Sequence[onnx.NodeProto],
    kernels: Sequence[NDArray[Any]],
) -> None:
    """Let one convolution stand for the sum."""
    from onnx import helper

    side = max(kernel.shape[2] for kernel in kernels)
    rims = [(side - kernel.shape[2]) // 2 for kernel in kernels]
    total = sum(
        np.pad(kernel, [(0, 0), (0, 0), (rim, rim), (rim, rim)])
        for kernel, rim in zip(kernels, rims, strict=True)
    )
    names = [pair[0].input[0], view.put(f"{node.output[0]}.kernel", np.asarray(total))]
    biases = [bias for maker in pair if (bias := view.constant(maker, 2)) is not None]
    if biases:
        names.append(
            view.put(f"{node.output[0]}.bias", np.sum(biases, axis=0, dtype=biases[0].dtype))
        )
    merged = helper.make_node(
        "Conv",
        names,
        list(node.output),
        name=f"{node.output[0]}.merged",
        kernel_shape=[side, side],
        pads=[side // 2] * 4,
    )
    view.replace(node, merged)


def split(view: View) -> Sites:
    """Convolutions of one input and one geometry whose results go different ways."""
    groups: dict[tuple[str, str], list[onnx.NodeProto]] = defaultdict(list)
    for node in view.of_type("Conv"):
        weight = view.constant(node, 1)
        if weight is None or attributes(node).get("group", 1) != 1:
            continue
        geometry = str((weight.shape[1:], sorted(attributes(node).items()), len(node.input)))
        groups[node.input[0], geometry].append(node)
    return {
        nodes[0].input[1]: partial(put_split, view, nodes)
        for nodes in groups.values()
        if len(nodes) > 1
    }


def put_split(view: View, nodes: Sequence[onnx.NodeProto]) -> None:
    """Let one convolution stand for several."""
    from onnx import helper

    first = nodes[0]
    tensors = [[view.constant(node, i) for node in nodes] for i in range(1, len(first.input))]
    names = [first.input[0]]
    for source, arrays in zip(first.input[1:], tensors, strict=True):
        names.append(view.put(f"{source}.merged", np.concatenate(arrays)))  # type: ignore[arg-type]
    merged = type(first)()
    merged.CopyFrom(first)
    merged.name = made = f"{first.output[0]}.merged"
    del merged.input[:], merged.output[:]
    merged.input.extend(names)
    merged.output.append(made)
    sizes = np.array([len(weight) for weight in tensors[0] if weight is not None], np.int64)
    parts = helper.make_node(
        "Split",
        [made, view.put(f"{made}.sizes", sizes)],
        [node.output[0] for node in nodes],
        name=f"{made}.split",
        axis=1,
    )
    view.replace(first, merged, parts)
    for node in nodes[1:]:
        view.replace(node)
