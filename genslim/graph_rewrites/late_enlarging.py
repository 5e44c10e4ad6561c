"""A sum of two enlarged images as the enlarged sum of small ones.

Super-resolution networks often add their result, interleaved from many channels, to the input
enlarged by repeating pixels (Real-ESRGAN's compact networks, Wang et al. 2021, arXiv 2107.10833).
Repeated pixels are an interleaving too, of repeated channels, so the sum can be taken before it: on
the small image, where runtimes fuse it into the convolution.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from genslim.graph_rewrites.view import Sites, View, attributes, enlarging

if TYPE_CHECKING:
    import onnx


def sums_before(view: View) -> Sites:
    """Sums of an interleaved and a repeated image, by the sum's name."""
    found = {}
    for node in view.of_type("Add"):
        for one, other in (node.input, reversed(node.input)):
            shuffle, resize = view.maker.get(one), view.maker.get(other)
            if shuffle is None or shuffle.op_type != "DepthToSpace" or view.alone(one) is None:
                continue
            factor = enlarging(view, resize)
            channels = channels_of(view, shuffle.input[0])
            if factor and attributes(shuffle)["blocksize"] == factor and channels:
                assert resize is not None
                found[node.output[0]] = partial(put_sum, view, node, shuffle, resize, channels)
    return found


def channels_of(view: View, name: str) -> int:
    """How many channels a convolution's result has; 0 where something else makes it."""
    node = view.maker.get(name)
    weight = None if node is None or node.op_type != "Conv" else view.constant(node, 1)
    return 0 if weight is None else len(weight)


def put_sum(
    view: View,
    node: onnx.NodeProto,
    shuffle: onnx.NodeProto,
    resize: onnx.NodeProto,
    channels: int,
) -> None:
    """Let the sum come before the interleaving."""
    from onnx import helper

    area = attributes(shuffle)["blocksize"] ** 2
    colours = np.arange(channels // area)
    columns_first = attributes(shuffle).get("mode", "DCR") == "CRD"
    order = colours.repeat(area) if columns_first else np.tile(colours, area)
    name = node.output[0]
    index = view.put(f"{name}.channels", order.astype(np.int64))
    repeated, added = f"{name}.repeated", f"{name}.small"
    late = type(shuffle)()
    late.CopyFrom(shuffle)
    late.input[0], late.output[0] = added, node.output[0]
    view.replace(
        node,
        helper.make_node("Gather", [resize.input[0], index], [repeated], name=repeated, axis=1),
        helper.make_node("Add", [shuffle.input[0], repeated], [added], name=added),
        late,
    )
