"""An fp32 graph as an fp16 one: the same pictures, fp16 wherever it can be, and clear refusals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import SHARED
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

import genslim
from genslim.errors import GenslimError
from genslim.generator import Generator
from genslim.half import to_fp16
from genslim.metrics import compare
from genslim.onnx_graph import onnx_of
from genslim.signature import BATCH, Images, Input, Output, Prior, Signature

Array = NDArray[np.float32]


class Upsampling(nn.Module):
    """What broke other converters: Resize in two modes, and layers around it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.PReLU(8),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.InstanceNorm2d(8, affine=True),
            nn.LeakyReLU(0.2),
            nn.Upsample(scale_factor=2, mode="nearest"),
            nn.ConvTranspose2d(8, 12, 4, 2, 1),
            nn.PixelShuffle(2),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Images ``(N, 3, H, W)`` to images 16 times as large."""
        images: Tensor = self.net(x)
        return images


def upsampling_generator() -> Generator:
    torch.manual_seed(0)
    sizes = {"height": 12, "width": 16}
    taken = Input("x", (BATCH, 3, "height", "width"), Prior("uniform"), sizes)
    made = Output("images", (BATCH, 3, "16*height", "16*width"), (0.0, 1.0))
    return Generator("upsampling", Signature((taken,), (made,)), {}, Upsampling().eval())


@dataclass(frozen=True)
class Case:
    """A graph, inputs for it, and the width of its value range."""

    graph: bytes
    inputs: Array
    data_range: float
    ssim: float = 0.999


MADE: dict[str, Case] = {}
"""Exporting takes seconds, so each case is made once."""


@pytest.fixture(params=["gan", "upsampling", "compact", "realesr", "quantized"])
def case(request: pytest.FixtureRequest) -> Case:
    name = request.param
    if name not in MADE:
        MADE[name] = make(name, request)
    return MADE[name]


def make(name: str, request: pytest.FixtureRequest) -> Case:
    random = np.random.default_rng(1)
    latents = random.standard_normal((3, 32), np.float32)
    pictures = random.random((2, 3, 24, 32), np.float32)
    if name == "gan":
        return Case(onnx_of(request.getfixturevalue("graph_gan")), latents, 2.0)
    if name == "upsampling":
        return Case(onnx_of(upsampling_generator()), pictures, 1.0)
    if name == "quantized":
        graph = onnx_of(request.getfixturevalue("quantized_gan"))
        # Values that fall to the other side of a rounding boundary move by a whole step.
        return Case(graph, latents, 2.0, ssim=0.99)
    if find_spec("spandrel") is None:
        pytest.skip("spandrel is not installed")
    if name == "compact":
        return Case(
            onnx_of(genslim.load(request.getfixturevalue("compact_weights"))), pictures, 1.0
        )
    weights = SHARED / "models" / "realesr-animevideov3-x4.safetensors"
    if not weights.is_file():
        pytest.skip(f"{weights.name} is not in ../shared")
    return Case(onnx_of(genslim.load(weights)), pictures, 1.0)


def on_onnxruntime(graph: bytes, inputs: Array) -> Array:
    options = onnxruntime.SessionOptions()
    # ONNX Runtime merges Q/DQ pairs into operators of its own that take no fp16 scales.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    taken = session.get_inputs()[0]
    kind = np.float16 if taken.type == "tensor(float16)" else np.float32
    return np.asarray(session.run(None, {taken.name: inputs.astype(kind)})[0], np.float32)


def on_openvino(graph: bytes, inputs: Array) -> Array:
    import openvino

    compiled = openvino.Core().compile_model(
        openvino.Core().read_model(graph), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    kind = compiled.inputs[0].element_type.to_dtype()
    return np.asarray(compiled(inputs.astype(kind))[0], np.float32)


@pytest.mark.parametrize("run", [on_onnxruntime, on_openvino])
def test_same_pictures(case: Case, run: Callable[[bytes, Array], Array]) -> None:
    expected = torch.from_numpy(run(case.graph, case.inputs))
    images = torch.from_numpy(run(to_fp16(case.graph), case.inputs))
    assert float(expected.std()) > 0.01 * case.data_range, "a blank picture proves nothing"
    assert not torch.equal(images, expected), "nothing was rounded"
    assert min(compare(images, expected, data_range=case.data_range).ssim) > case.ssim


def test_everything_is_half_but_what_may_not_be(case: Case) -> None:
    before = onnx.load_model_from_string(case.graph)
    after = onnx.load_model_from_string(to_fp16(case.graph))
    onnx.checker.check_model(after, full_check=True)
    for value in (*after.graph.input, *after.graph.output):
        assert value.type.tensor_type.elem_type == TensorProto.FLOAT16
    assert [v.name for v in after.graph.input] == [v.name for v in before.graph.input]
    assert [v.name for v in after.graph.output] == [v.name for v in before.graph.output]
    scales = {node.input[2] for node in after.graph.node if node.op_type == "Resize"}
    floats = {t.name for t in after.graph.initializer if t.data_type == TensorProto.FLOAT}
    assert floats <= scales
    assert [n.op_type for n in after.graph.node] == [n.op_type for n in before.graph.node]


def test_half_comes_back_as_it_is(graph_gan: Generator) -> None:
    half = to_fp16(onnx_of(graph_gan))
    assert to_fp16(half) == half


def test_tensorrt_builds_it(case: Case) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    from export.engine.building import build
    from genslim.runtimes.tensorrt import find_tensorrt

    model = onnx.load_model_from_string(case.graph)
    taken, made = model.graph.input[0], model.graph.output[0]
    shape = tuple(d.dim_param or d.dim_value for d in taken.type.tensor_type.shape.dim)
    images = len(shape) == 4
    sizes = {"height": 24, "width": 32} if images else None
    draw = Images() if images else Prior()
    signature = Signature(
        (Input(taken.name, shape, draw, sizes),), (Output(made.name, (BATCH,), (0.0, 1.0)),)
    )
    built = build(find_tensorrt(), to_fp16(case.graph), signature)
    assert len(built.plan) > 10_000
    integer = any(node.op_type == "QuantizeLinear" for node in model.graph.node)
    assert set(built.network) == {"int8" if integer else "fp16"}


def graph_with(
    nodes: list[onnx.NodeProto], constants: dict[str, Array], shape: list[int | str]
) -> bytes:
    """A graph from ``x`` to ``y``, both float."""
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "test",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * len(shape))],
            [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 20), helper.make_opsetid("com.example", 1)],
        ir_version=10,
    )
    return bytes(model.SerializeToString())


def test_a_weight_beyond_half_is_named() -> None:
    node = helper.make_node("Mul", ["x", "enormous.weight"], ["y"])
    graph = graph_with([node], {"enormous.weight": np.float32([1.0, -7e4])}, [2])
    with pytest.raises(GenslimError, match=r"enormous\.weight.*7e\+04.*65504"):
        to_fp16(graph)


def test_a_scale_that_would_become_zero_is_named() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "tiny.scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "tiny.scale", "zero"], ["y"]),
    ]
    constants = {"tiny.scale": np.float32(1e-9), "zero": np.int8(0)}
    with pytest.raises(GenslimError, match=r"tiny\.scale.*zero in fp16"):
        to_fp16(graph_with(nodes, constants, [2]))


def test_sizes_beyond_2048_stay_exact() -> None:
    """4099 is no fp16 number: a size computed in floats must not pass through fp16."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Cast", ["shape"], ["as_float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["as_float", "factor"], ["larger"]),
        helper.make_node("Cast", ["larger"], ["sizes"], to=TensorProto.INT64),
        helper.make_node("Resize", ["x", "", "", "sizes"], ["wide"], mode="nearest"),
        helper.make_node("Mul", ["wide", "factor_of_images"], ["y"]),
    ]
    constants = {
        "factor": np.float32([1, 1, 1, 1]),
        "factor_of_images": np.float32([2.0]),
    }
    graph = graph_with(nodes, constants, ["n", 1, 1, "w"])
    images = on_onnxruntime(to_fp16(graph), np.ones((1, 1, 1, 4099), np.float32))
    assert images.shape == (1, 1, 1, 4099)
    assert (images == 2).all()


def test_a_number_made_of_sizes_joins_the_half_part() -> None:
    """The mean as the sum divided by the count: the count is float, the sum half."""
    nodes = [
        helper.make_node("Size", ["x"], ["count"]),
        helper.make_node("Cast", ["count"], ["as_float"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["x", "as_float"], ["y"]),
    ]
    graph = to_fp16(graph_with(nodes, {}, ["n"]))
    assert on_onnxruntime(graph, np.full(3, 6, np.float32)).tolist() == [2, 2, 2]


def test_constants_in_nodes_become_half() -> None:
    nodes = [
        helper.make_node("Constant", [], ["c"], value_floats=[1.0, 2.0]),
        helper.make_node("Add", ["x", "c"], ["sum"]),
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("Add", ["sum", "zeros"], ["y"]),
    ]
    graph = to_fp16(graph_with(nodes, {}, [2]))
    assert on_onnxruntime(graph, np.float32([1, 1])).tolist() == [2, 3]


def test_a_constant_used_in_both_types_is_kept_in_both() -> None:
    """The scales of Resize are float by its schema, though the same numbers are added as images."""
    nodes = [
        helper.make_node("Resize", ["x", "", "scales"], ["wide"], mode="nearest"),
        helper.make_node("Add", ["wide", "scales"], ["y"]),
    ]
    graph = to_fp16(graph_with(nodes, {"scales": np.float32([1, 1, 1, 2])}, [1, 1, 1, 2]))
    found = on_onnxruntime(graph, np.zeros((1, 1, 1, 2), np.float32))
    assert found.tolist() == [[[[1, 1, 1, 2]]]]


def test_operators_of_others_are_refused() -> None:
    node = helper.make_node("Secret", ["x"], ["y"], name="inner", domain="com.example")
    with pytest.raises(GenslimError, match=r"Secret 'inner' is no standard ONNX operator"):
        to_fp16(graph_with([node], {}, [2]))


def test_control_flow_is_refused() -> None:
    branch = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["inside"])],
        "branch",
        [],
        [helper.make_tensor_value_info("inside", TensorProto.FLOAT, [2])],
    )
    node = helper.make_node("If", ["which"], ["y"], then_branch=branch, else_branch=branch)
    with pytest.raises(GenslimError, match="subgraph"):
        to_fp16(graph_with([node], {"which": np.asarray(True)}, [2]))


def test_a_defective_graph_is_refused() -> None:
    node = helper.make_node("Relu", ["nothing"], ["y"])
    with pytest.raises(GenslimError, match="not valid ONNX"):
        to_fp16(graph_with([node], {}, [2]))
