"""The same graph at other opsets: ONNX Runtime makes the same pictures, or one line says why."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F

from export.opset import at_opset, check_opset, check_runs
from genslim.errors import UserError
from genslim.generator import Generator
from genslim.half import to_fp16
from genslim.onnx_graph import onnx_of
from genslim.signature import BATCH, Input, Output, Prior, Signature

Array = NDArray[np.float32]


def pictures(graph: bytes, inputs: Array) -> Array:
    options = onnxruntime.SessionOptions()
    # ONNX Runtime merges Q/DQ pairs into operators of its own that take no fp16 scales.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    taken = session.get_inputs()[0]
    kind = np.float16 if taken.type == "tensor(float16)" else np.float32
    return np.asarray(session.run(None, {taken.name: inputs.astype(kind)})[0], np.float32)


def latents(count: int) -> Array:
    return np.random.default_rng(0).standard_normal((count, 32), np.float32)


def kinds(graph: bytes) -> list[str]:
    return [node.op_type for node in onnx.load_model_from_string(graph).graph.node]


class Upsampling(nn.Module):
    """What older opsets write otherwise, or not at all, around an enlargement of two."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(3, 8, 3), nn.GELU())
        self.norm = nn.LayerNorm(8)
        self.tail = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.Conv2d(8, 3, 3, padding=1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Images ``(N, 3, H, W)`` to images twice as high and wide."""
        x = self.norm(self.head(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        left, right = x.chunk(2, 1)
        x = torch.cat([left * right, right - x.mean((2, 3), keepdim=True)[:, :4]], 1)
        ends = torch.tensor([[[1.0, 0.1, 0.0], [0.0, 1.0, 0.1]]]).expand(x.shape[0], 2, 3)
        grid = F.affine_grid(ends, [x.shape[0], 8, 12, 16], align_corners=False)
        images: Tensor = self.tail(x + F.grid_sample(x, grid, align_corners=False))
        return images


@pytest.fixture
def upsampling(graphs: dict[str, bytes]) -> bytes:
    """The graph of ``Upsampling``, its batch free."""
    if "upsampling" not in graphs:
        torch.manual_seed(0)
        taken = Input("x", (BATCH, 3, 12, 16), Prior("uniform"))
        signature = Signature((taken,), (Output("images", (BATCH, 3, 24, 32), (0.0, 1.0)),))
        graphs["upsampling"] = onnx_of(Generator("upsampling", signature, {}, Upsampling().eval()))
    return graphs["upsampling"]


@pytest.mark.parametrize(
    ("opset", "file_format"), [(13, 7), (14, 7), (17, 8), (18, 8), (19, 9), (21, 10), (22, 10)]
)
def test_a_gan_is_the_same_at_every_opset(
    graph_gan: Generator, opset: int, file_format: int
) -> None:
    assert graph_gan.onnx is not None
    moved = at_opset(graph_gan.onnx, opset)
    model = onnx.load_model_from_string(moved)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]
    assert model.ir_version == file_format
    before = onnx.load_model_from_string(graph_gan.onnx).graph
    assert [value.name for value in model.graph.input] == [value.name for value in before.input]
    assert [node.name for node in model.graph.node] == [node.name for node in before.node]
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in dims] == [BATCH, 32]
    for count in (1, 5):
        expected = pictures(graph_gan.onnx, latents(count))
        np.testing.assert_array_equal(pictures(moved, latents(count)), expected)


def test_the_opset_that_it_has_changes_nothing(graph_gan: Generator) -> None:
    assert graph_gan.onnx is not None
    assert at_opset(graph_gan.onnx, 20) == graph_gan.onnx


@pytest.mark.parametrize("opset", [16, 17, 18, 21, 22])
def test_what_older_opsets_lack_is_written_otherwise(upsampling: bytes, opset: int) -> None:
    """The oracle: ONNX Runtime on the graph as PyTorch exported it."""
    assert {"Gelu", "Pad", "Split", "ReduceMean", "Resize", "GridSample"} <= set(kinds(upsampling))
    images = np.random.default_rng(0).random((3, 3, 12, 16), np.float32)
    expected = pictures(upsampling, images)
    assert expected.std() > 0.01, "a blank picture proves nothing"
    moved = at_opset(upsampling, opset)
    assert ("Gelu" in kinds(moved)) == (opset >= 20)
    assert ("LayerNormalization" in kinds(moved)) == (opset >= 17)
    assert "CastLike" not in kinds(moved), "its constants are folded"
    assert np.abs(pictures(moved, images) - expected).max() < 1e-5
    halves = pictures(to_fp16(moved), images)
    assert 0 < np.abs(halves - expected).max() < 1e-2


@pytest.mark.parametrize("opset", [13, 17, 18, 21, 22])
def test_a_quantized_graph_stays_quantized(quantized_gan: Generator, opset: int) -> None:
    assert quantized_gan.onnx is not None
    moved = at_opset(quantized_gan.onnx, opset)
    assert sorted(kinds(moved)) == sorted(kinds(quantized_gan.onnx))
    before = onnx.load_model_from_string(quantized_gan.onnx).graph.initializer
    after = {t.name: t for t in onnx.load_model_from_string(moved).graph.initializer}
    for tensor in before:
        np.testing.assert_array_equal(
            numpy_helper.to_array(after[tensor.name]), numpy_helper.to_array(tensor)
        )
    expected = pictures(quantized_gan.onnx, latents(3))
    np.testing.assert_array_equal(pictures(moved, latents(3)), expected)


def test_halves_are_rounded_only_where_an_opset_can(quantized_gan: Generator) -> None:
    """QuantizeLinear takes fp16 from 19 on: before, to_fp16 puts casts around it."""
    assert quantized_gan.onnx is not None
    expected = pictures(quantized_gan.onnx, latents(3))
    halves = to_fp16(at_opset(quantized_gan.onnx, 17))
    assert np.abs(pictures(halves, latents(3)) - expected).mean() < 5e-3
    with pytest.raises(UserError, match=r"at opset 17: \w*Linear does not fit it.*--opset 19"):
        at_opset(to_fp16(quantized_gan.onnx), 17)


def graph_with(
    nodes: list[onnx.NodeProto], constants: dict[str, NDArray[np.generic]], rank: int = 2
) -> bytes:
    """A graph from ``x``, rows of four numbers, to ``y``, both float."""
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "test",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * rank)],
            [numpy_helper.from_array(array, name) for name, array in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    return bytes(model.SerializeToString())


def split(taken: str, parts: int) -> bytes:
    """Rows of four numbers, or of eight, or five, cut into parts and joined in reverse."""
    names = [f"part{index}" for index in range(parts)]
    nodes = [
        helper.make_node("Concat", ["x", "x"], ["eight"], axis=1),
        helper.make_node("Slice", ["eight", "zero", "five", "one"], ["five_of_them"]),
        helper.make_node("Split", [taken], names, axis=-1, num_outputs=parts),
        helper.make_node("Concat", names[::-1], ["y"], axis=1),
    ]
    numbers = {"zero": np.int64([0]), "five": np.int64([5]), "one": np.int64([1])}
    return graph_with(nodes, numbers)


def test_parts_of_one_size_need_no_number() -> None:
    rows = np.float32([[0, 1, 2, 3]])
    assert pictures(at_opset(split("x", 2), 13), rows).tolist() == [[2, 3, 0, 1]]


def test_parts_of_unlike_size_are_refused() -> None:
    rows = np.float32([[0, 1, 2, 3]])
    graph = split("five_of_them", 2)
    assert pictures(at_opset(graph, 18), rows).tolist() == [[3, 0, 0, 1, 2]]
    with pytest.raises(UserError, match=r"no way there for Split .*; ask for --opset 18$"):
        at_opset(graph, 17)


def test_axes_that_are_computed_are_refused_by_the_operators_name() -> None:
    """The converter says that there is no initializer, and not of which node."""
    nodes = [
        helper.make_node("Shape", ["x"], ["rank"], start=1),
        helper.make_node("Sub", ["rank", "three"], ["axes"]),
        helper.make_node("ReduceMean", ["x", "axes"], ["y"]),
    ]
    graph = graph_with(nodes, {"three": np.int64([3])})
    with pytest.raises(UserError, match=r"no way there for ReduceMean \(.*--opset 18$"):
        at_opset(graph, 17)


def test_an_operator_that_an_opset_lacks_is_refused() -> None:
    """Images that are put together from columns, new in 18, are spelt out nowhere."""
    nodes = [
        helper.make_node("Reshape", ["x", "columns"], ["three"]),
        helper.make_node("Col2Im", ["three", "size", "block"], ["y"]),
    ]
    constants = {
        "columns": np.int64([-1, 4, 1]),
        "size": np.int64([2, 2]),
        "block": np.int64([2, 2]),
    }
    graph = graph_with(nodes, constants, rank=4)
    rows = np.float32([[0, 1, 2, 3]])
    assert pictures(at_opset(graph, 18), rows).tolist() == [[[[0, 1], [2, 3]]]]
    with pytest.raises(UserError, match=r"^this graph, of opset 20, .* Col2Im .*--opset 18$"):
        at_opset(graph, 17)


def test_an_operator_that_changed_its_meaning_keeps_it() -> None:
    """Group norm has a scale for each group up to 20, for each channel from 21 on."""
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["wide"]),
        helper.make_node("GroupNormalization", ["wide", "scale", "bias"], ["y"], num_groups=2),
    ]
    constants = {
        "shape": np.int64([-1, 4, 1, 1]),
        "scale": np.float32([1, 2]),
        "bias": np.float32([0, 3]),
    }
    rows = np.float32([[0, 1, 2, 6]])
    older = graph_with(nodes, constants, rank=4)
    expected = pictures(older, rows)
    for opset in (17, 19, 22):
        moved = at_opset(older, opset)
        np.testing.assert_allclose(pictures(moved, rows), expected, rtol=1e-5)


def test_the_largest_constants_come_along(graph_gan: Generator) -> None:
    """A refusal tries conversions without them, on a copy."""
    assert graph_gan.onnx is not None
    before = copy.copy(graph_gan.onnx)
    with pytest.raises(UserError, match=r"no way there for .*Tanh.*; ask for --opset 13$"):
        at_opset(graph_gan.onnx, 12)
    assert graph_gan.onnx == before


def test_an_opset_that_does_not_exist_is_refused() -> None:
    newest = onnx.defs.onnx_opset_version()
    for opset in (0, -3, newest + 1):
        with pytest.raises(UserError, match=rf"no opset {opset}: onnx .* knows 1 to {newest};"):
            check_opset(opset)
    check_opset(17)


def test_an_opset_that_onnxruntime_does_not_read_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("export.opset.is_read", lambda opset: opset <= 21)
    check_opset(21)
    with pytest.raises(UserError, match=r"reads no opset 23, .*; ask for 21 at most"):
        check_opset(23)


def test_a_graph_that_onnxruntime_does_not_run_is_refused(graph_gan: Generator) -> None:
    """As where it moves a signed pair past an operator from opset 21 on."""
    nodes = [helper.make_node("Pad", ["x", "pads"], ["y"], mode="sideways")]
    graph = graph_with(nodes, {"pads": np.int64([0, 1, 0, 1])})
    with pytest.raises(UserError, match=r"^opset 20 is none for this graph: ONNX Runtime refuses"):
        check_runs(graph, 20, graph_gan.signature)
    assert graph_gan.onnx is not None
    check_runs(graph_gan.onnx, 20, graph_gan.signature)
