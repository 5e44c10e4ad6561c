"""Rewritten graphs compute what they did before."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from genslim.graph_rewrites import KINDS, rewritten, sites
from genslim.onnx_graph import export_module
from genslim.onnx_model import load_model
from genslim.signature import BATCH, Input, Output, Prior, Signature


class Wrapped(nn.Module):
    """Any function as a module."""

    def __init__(self, call: Callable[[Tensor], Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.call = call
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.call(x)


def exported(module: nn.Module, x: Tensor) -> bytes:
    """The graph of a module, with free batch and sides."""
    y = module(x)
    scale = y.shape[-1] / x.shape[-1]
    sides = (BATCH, x.shape[1], "height", "width")
    large = tuple(f"{scale:g}*{side}" if scale != 1 else side for side in ("height", "width"))
    signature = Signature(
        (Input("image", sides, Prior(), {"height": x.shape[2], "width": x.shape[3]}),),
        (Output("images", (BATCH, y.shape[1], *large), (-1.0, 1.0)),),
    )
    return export_module(module.eval(), signature)


def run(graph: bytes, x: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])


def operators(graph: bytes) -> list[str]:
    return [node.op_type for node in load_model(graph).graph.node]


def all_rewritten(graph: bytes, kind: str) -> bytes:
    """Every site of a kind rewritten."""
    found = [rewrite for rewrite in sites(graph) if rewrite.kind == kind]
    assert found, operators(graph)
    return rewritten(graph, found)


def compare(graph: bytes, result: bytes) -> None:
    """Check that two graphs make the same of images of two sizes."""
    for x in (torch.randn(2, 3, 6, 7), torch.randn(3, 3, 9, 6)):
        expected, images = run(graph, x), run(result, x)
        assert images.shape == expected.shape
        span = float(expected.max() - expected.min())
        assert float((images - expected).abs().max()) <= 1e-5 * span


def check(module: nn.Module, kind: str) -> bytes:
    """Every site of a kind rewritten in a module's graph, which computes what it did."""
    graph = exported(module, torch.randn(2, 3, 6, 7))
    result = all_rewritten(graph, kind)
    compare(graph, result)
    return result


KINDS_OF_ENLARGING = ("transposed convolution", "convolution for each phase")


def graph_of(*nodes: NodeProto, **weights: NDArray[np.float32]) -> bytes:
    """Nodes from "x" to "y", with free sides: exporting takes seconds."""
    free = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", channels, "h", "w"])
        for name, channels in (("x", 3), ("y", 4))
    ]
    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(list(nodes), "graph", free[:1], free[1:], constants)
    opset = [helper.make_opsetid("", 20)]
    return bytes(helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString())


def random(*shape: int) -> NDArray[np.float32]:
    return torch.randn(shape).numpy()


@settings(max_examples=40, deadline=None)
@given(
    factor=st.integers(2, 4),
    side=st.sampled_from([1, 3, 5]),
    bias=st.booleans(),
    kind=st.sampled_from(KINDS_OF_ENLARGING),
    seed=st.integers(0, 99),
)
def test_repeated_pixels_and_a_convolution_are_computed_on_the_small_image(
    factor: int, side: int, bias: bool, kind: str, seed: int
) -> None:
    torch.manual_seed(seed)
    names = ["large", "kernel", "bias"][: 2 + bias]
    graph = graph_of(
        helper.make_node(
            "Resize",
            ["x", "", "scales"],
            ["large"],
            mode="nearest",
            nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
        ),
        helper.make_node("Conv", names, ["convolved"], pads=[side // 2] * 4),
        helper.make_node("Tanh", ["convolved"], ["y"]),
        scales=np.array([1, 1, factor, factor], np.float32),
        kernel=random(4, 3, side, side),
        bias=random(4),
    )
    result = all_rewritten(graph, kind)
    compare(graph, result)
    assert "Resize" not in operators(result)
    if kind == "convolution for each phase":  # the activation comes first, on the small image
        assert operators(result) == ["Conv", "Tanh", "DepthToSpace", "Slice"]


@settings(max_examples=40, deadline=None)
@given(
    stride=st.integers(2, 3),
    side=st.integers(2, 6),
    begin=st.integers(0, 2),
    end=st.integers(0, 2),
    extra=st.integers(0, 1),
    bias=st.booleans(),
    seed=st.integers(0, 99),
)
def test_a_transposed_convolution_is_a_convolution_for_each_phase(
    stride: int, side: int, begin: int, end: int, extra: int, bias: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    node = helper.make_node(
        "ConvTranspose",
        ["x", "kernel", "bias"][: 2 + bias],
        ["y"],
        strides=[stride] * 2,
        pads=[begin] * 2 + [end] * 2,
        output_padding=[extra] * 2,
    )
    graph = graph_of(node, kernel=random(3, 4, side, side), bias=random(4))
    # Pixels beyond what any phase reaches hold the bias alone.
    if -(-side // stride) * stride - side + end - extra < 0:
        assert not sites(graph)
        return
    result = all_rewritten(graph, "convolution for each phase")
    assert operators(result) == ["Conv", "DepthToSpace", "Slice"]
    compare(graph, result)


@pytest.mark.parametrize("factor", [2, 4])
def test_a_sum_comes_before_enlarging(factor: int) -> None:
    convolution = nn.Conv2d(3, 3 * factor**2, 3, padding=1)
    module = Wrapped(
        lambda x: (
            functional.pixel_shuffle(convolution(x), factor)
            + functional.interpolate(x, scale_factor=factor, mode="nearest")
        ),
        convolution=convolution,
    )
    graph = check(module, "sum before enlarging")
    assert operators(graph)[-2:] == ["Add", "DepthToSpace"]


@pytest.mark.parametrize("bias", [True, False])
def test_summed_branches_are_one_convolution(bias: bool) -> None:
    wide, narrow = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 1, bias=bias)
    module = Wrapped(lambda x: wide(x) + narrow(x), wide=wide, narrow=narrow)
    graph = check(module, "sum of branches as one convolution")
    assert operators(graph) == ["Conv"]


def test_branches_that_part_are_one_convolution_and_a_split() -> None:
    one, other = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 6, 3, padding=1)
    module = Wrapped(
        lambda x: torch.cat([torch.relu(one(x)), torch.tanh(other(x))], 1), one=one, other=other
    )
    graph = check(module, "branches as one convolution")
    assert operators(graph).count("Conv") == 1


def test_large_constants_are_folded() -> None:
    class Tabled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table: Tensor
            self.register_buffer("table", torch.rand(3, 200, 200))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.table.permute(2, 1, 0).tanh().mean((0, 1))[:, None, None]

    graph = exported(Tabled(), torch.randn(2, 3, 6, 7))
    found = [rewrite for rewrite in sites(graph) if rewrite.kind == "constants folded"]
    result = rewritten(graph, found)
    assert operators(result) == ["Mul"]
    x = torch.randn(2, 3, 6, 7)
    assert torch.allclose(run(result, x), run(graph, x), atol=1e-6)


OTHERWISE: dict[str, Callable[[nn.Conv2d], Callable[[Tensor], Tensor]]] = {
    "smooth enlarging": lambda c: (
        lambda x: c(functional.interpolate(x, scale_factor=2, mode="bilinear"))
    ),
    "used elsewhere too": lambda c: (
        lambda x: c(big := functional.interpolate(x, scale_factor=2)) + big
    ),
    "sides that differ": lambda c: lambda x: c(functional.interpolate(x, scale_factor=(2, 1))),
}


@pytest.mark.parametrize("call", OTHERWISE.values(), ids=OTHERWISE)
def test_what_only_looks_alike_is_left(
    call: Callable[[nn.Conv2d], Callable[[Tensor], Tensor]],
) -> None:
    convolution = nn.Conv2d(3, 3, 3, padding=1)
    module = Wrapped(call(convolution), convolution=convolution)
    graph = export_module(
        module.eval(),
        Signature(
            (Input("image", (BATCH, 3, 6, 7), Prior()),),
            (Output("images", (BATCH, 3, 12, 14), (-1.0, 1.0)),),
        ),
    )
    assert not sites(graph)


def test_a_layer_that_is_used_twice_is_rewritten_twice() -> None:
    node = {"strides": [2, 2], "pads": [1, 1, 1, 1]}
    graph = graph_of(
        helper.make_node("ConvTranspose", ["x", "narrow"], ["large"], **node),
        helper.make_node("ConvTranspose", ["large", "narrow"], ["larger"], **node),
        helper.make_node("Conv", ["larger", "wide"], ["y"]),
        narrow=random(3, 3, 4, 4),
        wide=random(4, 3, 1, 1),
    )
    for left in (1, 0):
        [site] = [s for s in sites(graph) if s.kind == "convolution for each phase"]
        result = rewritten(graph, [site])
        compare(graph, result)
        assert operators(result).count("ConvTranspose") == left
        graph = result


def test_what_fits_no_more_is_left_out() -> None:
    layer = nn.ConvTranspose2d(3, 4, 4, 2, 1)
    graph = exported(nn.Sequential(layer), torch.randn(2, 3, 6, 7))
    [site] = sites(graph)
    assert site.kind in KINDS
    assert operators(rewritten(graph, [site, site])) == operators(rewritten(graph, [site]))
