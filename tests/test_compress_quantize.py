"""Quantization: what the graph holds, what runs it, and that recovery never makes it worse."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from compress.fake_quant import fake_quantized
from compress.qdq import before_decisions, products
from compress.quantize import Quantize
from genslim.errors import UserError
from genslim.generator import Generator
from genslim.inputs import Inputs
from genslim.loading import load
from genslim.metrics import ssim
from genslim.onnx_graph import load_model
from genslim.runtimes import runtime
from genslim.size import size_of
from genslim.target import Target


@pytest.fixture(scope="module")
def quantized() -> Generator:
    """The shipped DCGAN in int8, recovered for two seconds."""
    return Quantize("int8", seconds=2)(load("dcgan-mnist"))


def test_every_product_is_int8(quantized: Generator) -> None:
    assert quantized.onnx is not None
    assert quantized.module is None
    rounded, whole = products(quantized.onnx)
    assert len(rounded) == 4
    assert whole == []


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_the_graph_runs_and_keeps_the_picture(quantized: Generator, name: str) -> None:
    inputs = Inputs(quantized.signature, "quality").draw(64)
    target = Target(name, batch=64, threads=1)
    with runtime(name).open(quantized, target) as session:
        # ONNX Runtime computes a quantized transposed convolution in fp32, and says so.
        assert session.execution.precision == ("int8" if name == "openvino" else "fp32")
        arrays = session.run({n: t.numpy() for n, t in inputs.items()})
    images = torch.from_numpy(arrays["images"])
    expected = quantized.original(inputs)
    assert float(ssim(images, expected, data_range=2.0).mean()) > 0.95


def test_the_better_of_both_results_is_kept(quantized: Generator) -> None:
    report = quantized.steps[-1].report
    assert report["ssim"] == max(report["ssim_before_recovery"], report["ssim_after_recovery"])


def test_macs_stay_and_a_graph_is_no_longer_trainable(quantized: Generator) -> None:
    assert size_of(quantized).macs == size_of(quantized.original).macs
    with pytest.raises(UserError, match="ONNX graph"):
        quantized.trainable()
    with pytest.raises(UserError, match="ONNX graph"):
        Quantize("int8")(quantized)


def test_half_precision_keeps_the_picture(tiny_gan: Generator) -> None:
    half = Quantize("fp16")(tiny_gan)
    assert half.dtype == torch.float16
    assert half.steps[-1].report["ssim"] > 0.999
    with pytest.raises(UserError, match=r"float16 already"):
        Quantize("int8")(half)


def test_rounding_in_training_is_rounding_and_leaves_no_trace() -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.ConvTranspose2d(4, 6, 4, 2, 1), nn.ReLU(), nn.Conv2d(6, 3, 3))
    x = torch.randn(2, 4, 5, 5)
    plain = layers(x)
    keys = set(layers.state_dict())
    with fake_quantized(layers) as hooks:
        layers(x)
        for hook in hooks:
            hook.learning = False
        weight = layers[0].weight.detach()
        levels = [len(np.unique(weight[:, channel].numpy())) for channel in range(6)]
        assert max(levels) <= 255
        rounded = layers(x)
        rounded.square().mean().backward()
        assert not torch.equal(rounded, plain)
        assert torch.allclose(rounded, plain, atol=0.1)
    assert set(layers.state_dict()) == keys
    assert torch.allclose(layers(x), plain)
    assert layers[0].weight.requires_grad


def test_what_decides_is_left_exact(quantized: Generator) -> None:
    """The class is read off the latent by a comparison: rounded latents would change it."""
    assert quantized.onnx is not None
    graph = load_model(quantized.onnx).graph
    names = set(before_decisions(load_model(quantized.onnx)))
    feeding = [node for node in graph.node if node.name in names]
    assert {node.op_type for node in feeding} >= {"Equal", "ReduceMax", "Slice"}
    assert not any("Quantize" in node.op_type for node in feeding)
