"""The runtimes against each other, and what each says about what it really executes."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import openvino
import pytest
import torch
from torch import Tensor, nn

from genslim.errors import GenslimError, MissingDependency, UserError
from genslim.generator import Generator
from genslim.half import to_fp16
from genslim.inputs import Inputs
from genslim.onnx_graph import onnx_of
from genslim.runtimes import RUNTIMES, Arrays, runtime
from genslim.runtimes.openvino import executed_precision, require_bf16
from genslim.signature import BATCH, Input, Output, Prior, Signature
from genslim.target import Target

REAL = ("torch", "onnxruntime", "openvino")
GRAPHS = ("onnxruntime", "openvino")


class ImageToImage(nn.Module):
    """Images ``(N, 3, H, W)`` to images twice as large; height and width free."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1),
            nn.PReLU(16),
            nn.Conv2d(16, 12, 3, padding=1),
            nn.PixelShuffle(2),
        )

    def forward(self, x: Tensor) -> Tensor:
        images: Tensor = self.net(x)
        return (images + nn.functional.interpolate(x, scale_factor=2)).clamp(0, 1)


@pytest.fixture
def image_net(graphs: dict[str, bytes]) -> Generator:
    """A small net from images to images, with its module and its graph."""
    torch.manual_seed(0)
    sizes = {"height": 24, "width": 40}
    taken = Input("x", (BATCH, 3, "height", "width"), Prior("uniform"), sizes)
    made = Output("images", (BATCH, 3, "2*height", "2*width"), (0.0, 1.0))
    net = Generator("net", Signature((taken,), (made,)), {}, ImageToImage().eval())
    if "image_net" not in graphs:
        graphs["image_net"] = onnx_of(net)
    return replace(net, onnx=graphs["image_net"])


def arrays(generator: Generator, batch: int) -> Arrays:
    return {n: t.numpy() for n, t in Inputs(generator.signature, "parity").draw(batch).items()}


@pytest.mark.parametrize("name", REAL)
def test_same_pictures_of_latents(name: str, tiny_gan: Generator, graph_gan: Generator) -> None:
    both = replace(graph_gan, module=tiny_gan.module)
    with runtime(name).open(both, Target(name, threads=1)) as session:
        for batch in (1, 5):
            latents = Inputs(both.signature, "parity").draw(batch)
            images = session.run({"z": latents["z"].numpy()})["images"]
            assert images.dtype == np.float32
            assert images.shape == (batch, 1, 32, 32)
            assert np.abs(images - tiny_gan(latents).numpy()).max() < 1e-4


@pytest.mark.parametrize("name", REAL)
def test_same_pictures_of_any_height_and_width(name: str, image_net: Generator) -> None:
    with runtime(name).open(image_net, Target(name, threads=1, precision="fp32")) as session:
        for shape in ((1, 3, 24, 40), (2, 3, 17, 33), (1, 3, 64, 8)):
            pictures = torch.rand(shape)
            images = session.run({"x": pictures.numpy()})["images"]
            assert np.abs(images - image_net({"x": pictures}).numpy()).max() < 1e-5


@pytest.mark.parametrize("name", REAL)
def test_arrays_that_do_not_lie_in_a_row(name: str, image_net: Generator) -> None:
    """Crops of a larger picture share its memory."""
    picture = np.random.default_rng(0).random((1, 3, 60, 60), np.float32)
    crop = picture[:, :, 10:34, 3:43]
    expected = image_net({"x": torch.from_numpy(crop.copy())}).numpy()
    with runtime(name).open(image_net, Target(name, threads=1, precision="fp32")) as session:
        assert np.abs(session.run({"x": crop})["images"] - expected).max() < 1e-5


@pytest.mark.parametrize("name", REAL)
def test_a_result_is_the_callers_own(name: str, image_net: Generator) -> None:
    """A later run must not write into the pictures of an earlier one."""
    with runtime(name).open(image_net, Target(name, threads=1)) as session:
        first = session.run({"x": np.zeros((1, 3, 24, 40), np.float32)})["images"]
        before = first.copy()
        session.run({"x": np.ones((1, 3, 24, 40), np.float32)})
        assert np.array_equal(first, before)


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("threads", [1, 2])
def test_threads_are_those_of_the_target(name: str, threads: int, image_net: Generator) -> None:
    if threads > len(os.sched_getaffinity(0)):
        pytest.skip("this machine has one core")
    before = torch.get_num_threads()
    try:
        with runtime(name).open(image_net, Target(name, threads=threads)) as session:
            session.run(arrays(image_net, 1))
            assert session.execution.threads == threads
            if name == "torch":
                assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_precision_of_the_module(tiny_gan: Generator) -> None:
    for dtype, expected in ((torch.float32, "fp32"), (torch.float16, "fp16")):
        generator = replace(tiny_gan, module=tiny_gan.trainable().to(dtype))
        with runtime("torch").open(generator, Target("torch", threads=1)) as session:
            assert session.execution.precision == expected
            assert session.execution.provider == "eager"
            assert session.run(arrays(generator, 2))["images"].dtype == np.float32


@pytest.mark.parametrize("name", GRAPHS)
def test_a_half_graph_is_computed_in_fp32_and_says_so(name: str, graph_gan: Generator) -> None:
    """Neither has half-precision kernels on a usual CPU; OpenVINO may have bf16 or fp16 ones."""
    assert graph_gan.onnx is not None
    half = replace(graph_gan, onnx=to_fp16(graph_gan.onnx))
    with (
        runtime(name).open(graph_gan, Target(name, threads=1, precision="fp32")) as whole,
        runtime(name).open(half, Target(name, threads=1, precision="fp32")) as session,
    ):
        assert whole.execution.precision == session.execution.precision == "fp32"
        expected, images = (s.run(arrays(half, 3))["images"] for s in (whole, session))
        assert 0 < np.abs(images - expected).max() < 2e-2


def test_openvino_computes_a_quantized_graph_in_int8(quantized_gan: Generator) -> None:
    """Transposed convolutions too."""
    with runtime("openvino").open(quantized_gan, Target(threads=1, precision="fp32")) as session:
        assert session.execution.precision == "int8"


def test_onnxruntime_says_where_quantized_layers_stay_float(
    quantized_gan: Generator, image_net: Generator, tmp_path: Path
) -> None:
    """It has no integer transposed convolution: Q/DQ pairs then stand around a float one."""
    with runtime("onnxruntime").open(quantized_gan, Target("onnxruntime", threads=1)) as session:
        assert session.execution.precision == "fp32"
    quantized = replace(image_net, onnx=quantize_for_onnxruntime(image_net, tmp_path))
    with runtime("onnxruntime").open(quantized, Target("onnxruntime", threads=1)) as session:
        assert "int8" in session.execution.precision


def quantize_for_onnxruntime(generator: Generator, folder: Path) -> bytes:
    """Q/DQ pairs where ONNX Runtime's own kernels want them: around each convolution."""
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        batches = iter([arrays(generator, 2)])

        def get_next(self) -> object:
            return next(self.batches, None)

    assert generator.onnx is not None
    (folder / "plain.onnx").write_bytes(generator.onnx)
    quantization.quantize_static(
        folder / "plain.onnx",
        folder / "int8.onnx",
        Reader(),
        quant_format=quantization.QuantFormat.QDQ,
        op_types_to_quantize=["Conv"],
    )
    return (folder / "int8.onnx").read_bytes()


@pytest.mark.parametrize("name", GRAPHS)
def test_quantized_pictures_agree(name: str, quantized_gan: Generator) -> None:
    """Integer kernels and float ones around Q/DQ pairs: steps apart at most, not pictures."""
    with (
        runtime("onnxruntime").open(quantized_gan, Target("onnxruntime", threads=1)) as one,
        runtime(name).open(quantized_gan, Target(name, threads=1, precision="fp32")) as other,
    ):
        inputs = arrays(quantized_gan, 4)
        assert np.abs(one.run(inputs)["images"] - other.run(inputs)["images"]).mean() < 5e-3


def test_bf16_is_executed_or_refused(graph_gan: Generator, image_net: Generator) -> None:
    """Never fp32 under the name of bf16."""
    capable = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    target = Target(threads=1, precision="bf16")
    if not capable:
        with pytest.raises(MissingDependency, match="this CPU has no bf16"):
            runtime("openvino").open(image_net, target)
    else:
        with runtime("openvino").open(image_net, target) as session:
            assert "bf16" in session.execution.precision
    for name in ("torch", "onnxruntime"):
        both = replace(image_net)
        with pytest.raises(UserError, match=r"bf16|as they are"):
            runtime(name).open(both, replace(target, runtime=name))


def test_a_cpu_without_bf16_is_named() -> None:
    def core(capabilities: list[str]) -> Any:
        known = {"OPTIMIZATION_CAPABILITIES": capabilities, "FULL_DEVICE_NAME": "An Old  CPU "}
        return SimpleNamespace(get_property=lambda device, key: known[key])

    require_bf16(core(["FP32", "BF16"]))
    with pytest.raises(MissingDependency, match=r"no bf16 \(An Old CPU\)"):
        require_bf16(core(["FP32", "INT8"]))


def test_bf16_that_openvino_ignores_is_refused(
    graph_gan: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for layers without a bf16 kernel: transposed convolutions, on this kind of CPU."""
    monkeypatch.setattr("genslim.runtimes.openvino.require_bf16", lambda core: None)
    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this CPU has bf16, and OpenVINO uses it")
    with pytest.raises(GenslimError, match="in fp32 although bf16 was asked for"):
        runtime("openvino").open(graph_gan, Target(threads=1, precision="bf16"))


def test_the_commonest_precision_stands_first() -> None:
    def op(kind: str, precision: str) -> Any:
        values = {"layerType": kind, "runtimePrecision": precision}
        info = {key: SimpleNamespace(value=value) for key, value in values.items()}
        return SimpleNamespace(get_rt_info=lambda: info)

    ops = [op("Convolution", "u8"), op("Deconvolution", "i8"), op("Convolution", "bf16")]
    ops += [op("Reorder", "f32"), op("Eltwise", "f32")]
    compiled = SimpleNamespace(get_runtime_model=lambda: SimpleNamespace(get_ops=lambda: ops))
    assert executed_precision(compiled) == "int8+bf16"


@pytest.mark.parametrize("name", GRAPHS)
def test_a_damaged_graph_is_refused_in_one_line(name: str, graph_gan: Generator) -> None:
    assert graph_gan.onnx is not None
    for blob in (graph_gan.onnx[: len(graph_gan.onnx) // 2], b"", b"no graph at all"):
        with pytest.raises(GenslimError) as caught:
            runtime(name).open(replace(graph_gan, onnx=blob), Target(name, threads=1))
        assert "\n" not in str(caught.value)


def test_a_runtime_says_what_it_can_not_run(graph_gan: Generator) -> None:
    with pytest.raises(UserError, match=r"torch can't run dcgan-mnist, which is graph alone"):
        runtime("torch").open(graph_gan, Target("torch", threads=1))
    engine = replace(graph_gan, onnx=None, files={"engine.plan": Path("engine.plan")})
    for name in REAL:
        assert not runtime(name).takes(engine)
        with pytest.raises(UserError, match=r"engine\.plan alone"):
            runtime(name).open(engine, Target(name, threads=1))


def test_an_unknown_runtime_is_answered_with_the_known() -> None:
    with pytest.raises(UserError, match="torch, onnxruntime, openvino, tensorrt"):
        runtime("tflite")
    assert [r.name for r in RUNTIMES] == [*REAL, "tensorrt"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("torch", GenslimError, "finds no CUDA GPU"),
        ("onnxruntime", GenslimError, "would run on CPUExecutionProvider"),
        ("openvino", UserError, "runs on no cuda device"),
    ],
)
def test_no_gpu_is_an_error_not_a_fallback(
    name: str, error: type[GenslimError], message: str, image_net: Generator
) -> None:
    target = Target.parse(f"{name}:device=cuda,threads=1")
    assert str(target) == f"{name}:threads=1,device=cuda"
    with pytest.raises(error, match=message):
        runtime(name).open(image_net, target)


def test_onnxruntime_takes_the_cuda_provider(
    image_net: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a fake provider: what is asked for, and what is said of it."""
    import onnxruntime

    asked: list[list[str]] = []

    class OnGpu(onnxruntime.InferenceSession):  # type: ignore[misc]
        def __init__(self, model: bytes, options: Any, providers: list[str]) -> None:
            asked.append(providers)
            super().__init__(model, options, providers=["CPUExecutionProvider"])

        def get_providers(self) -> list[str]:
            return asked[-1]

    monkeypatch.setattr(onnxruntime, "InferenceSession", OnGpu)
    target = Target("onnxruntime", threads=1, device="cuda")
    with runtime("onnxruntime").open(image_net, target) as session:
        pictures = torch.rand(1, 3, 24, 40)
        images = session.run({"x": pictures.numpy()})["images"]
        assert session.execution.provider == "CUDAExecutionProvider"
    assert asked == [["CUDAExecutionProvider", "CPUExecutionProvider"]]
    assert np.abs(images - image_net({"x": pictures}).numpy()).max() < 1e-5
