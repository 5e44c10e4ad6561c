"""The quantize step: what the graph holds, what runs it, and the promise that SSIM is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import Cli
from onnx import helper, numpy_helper
from torch import nn

from compress.half_guard import beyond_half
from compress.quantization.calibration import calibration
from compress.quantization.pairs import Pairs
from compress.quantization.placement import before_decisions
from compress.quantize import Quantize
from compress.step import Outcome
from genslim.errors import GateFailed, UserError
from genslim.generator import Generator
from genslim.half import to_fp16
from genslim.inputs import Inputs
from genslim.loading import load
from genslim.metrics import ssim
from genslim.onnx_graph import onnx_of
from genslim.onnx_model import float_type, load_model
from genslim.run import Run
from genslim.runtimes import runtime
from genslim.signature import Input, Output, Prior, Signature
from genslim.signs import signed
from genslim.size import size_of
from genslim.target import Target


@pytest.fixture(scope="module")
def quantized() -> Generator:
    """The shipped DCGAN in int8, trained for two seconds."""
    return Quantize("int8", seconds=2, explain=True, revert=False)(load("dcgan-mnist"))


def test_every_product_is_int8(quantized: Generator) -> None:
    assert quantized.onnx is not None
    assert quantized.module is None
    products = Pairs(quantized.onnx, quantized.onnx).products
    assert [product.rounded for product in products] == [True] * 4


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
    assert float(ssim(images, expected, data_range=2.0).mean()) > 0.99


def test_the_best_stage_is_kept_and_each_is_shown(quantized: Generator) -> None:
    report = quantized.steps[-1].report
    stages = ("ranges", "equalization", "training")
    assert report["ssim"] == max(report[f"ssim_after_{stage}"] for stage in stages)
    assert report["ssim"] >= report["ssim_with_whole_ranges"]
    assert report["quantizer"] in report["latency_ratio"]


def test_every_layer_is_explained(quantized: Generator) -> None:
    rows = quantized.steps[-1].report["layers"]
    assert [row["layer"] for row in rows] == ["net.0", "net.3", "net.6", "net.9"]
    for row in rows:
        assert row["precision"] == "int8"
        assert abs(row["ssim_cost"]) < 0.01
        assert row["int8_ms"] > 0
        assert row["float_ms"] > 0


def test_macs_stay_and_a_graph_is_no_longer_trainable(quantized: Generator) -> None:
    assert size_of(quantized).macs == size_of(quantized.original).macs
    with pytest.raises(UserError, match="ONNX graph"):
        quantized.trainable()
    with pytest.raises(UserError, match="ONNX graph"):
        Quantize("int8")(quantized)


def test_half_precision_keeps_the_picture(small_gan: Generator) -> None:
    half = Quantize("fp16")(small_gan)
    assert half.onnx is not None
    assert float_type(half.onnx) == "float16"
    report = half.steps[-1].report
    assert report["ssim"] > 0.999
    assert report["executed"] == "openvino fp32", "a CPU gains nothing by fp16, and that is said"
    assert report["left"] == []
    with pytest.raises(UserError, match="ONNX graph"):
        Quantize("int8")(half)


class Overflowing(nn.Module):
    """A norm by hand, as restoration networks have it: squares beyond fp16, a tiny epsilon."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 64)
        self.last = nn.Linear(64, 16 * 16)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        x = 3000 * self.first(z)
        x = x * torch.rsqrt(x.square().mean(1, keepdim=True) + 2e-8)
        return torch.tanh(self.last(x)).view(-1, 1, 16, 16)


def test_what_half_precision_cannot_hold_stays_whole() -> None:
    torch.manual_seed(0)
    signature = Signature(
        (Input("z", ("batch", 8), Prior("normal", 1.0)),),
        (Output("images", ("batch", 1, 16, 16), (-1.0, 1.0)),),
    )
    generator = Generator("norm", signature, {"kind": "test"}, Overflowing().eval())
    half = Quantize("fp16", target="onnxruntime")(generator)
    assert half.onnx is not None
    assert half.steps[-1].report["ssim"] > 0.99
    reasons = {item["reason"] for item in half.steps[-1].report["left"]}
    assert any("fp16 ends at 65504" in reason for reason in reasons)
    found = beyond_half(onnx_of(generator), calibration(signature, 0))
    assert any("nothing in fp16" in reason for reason in found.values()), "the epsilon"
    nodes = load_model(half.onnx).graph.node
    names = {item["what"] for item in half.steps[-1].report["left"]}
    assert 0 < len(names) < len(nodes)
    blind = to_fp16(onnx_of(generator))
    inputs = {"z": Inputs(signature, "quality").draw(4)["z"].numpy().astype(np.float16)}
    model = load_model(blind)
    shown = [n.output[0] for n in model.graph.node if n.op_type in ("Pow", "Mul", "ReduceMean")]
    model.graph.output.extend(helper.make_tensor_value_info(n, 10, None) for n in shown)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    assert not all(np.isfinite(array).all() for array in session.run(None, inputs))


def test_what_decides_is_left_exact(quantized: Generator) -> None:
    """The class is read off the latent by a comparison: rounded latents would change it."""
    assert quantized.onnx is not None
    graph = load_model(quantized.onnx).graph
    names = set(before_decisions(load_model(quantized.onnx)))
    feeding = [node for node in graph.node if node.name in names]
    assert {node.op_type for node in feeding} >= {"Equal", "ReduceMax", "Slice"}
    assert not any("Quantize" in node.op_type for node in feeding)


def test_layers_are_given_up_until_ssim_holds(small_gan: Generator) -> None:
    settings: dict[str, Any] = {"recover": "none", "revert": False, "quantizer": "onnxruntime"}
    plain = Quantize(**settings)(small_gan).steps[-1].report
    assert not plain["left"]
    least = plain["ssim"] + 0.2 * (1 - plain["ssim"])
    report = Quantize(**settings, min_ssim=least)(small_gan).steps[-1].report
    assert report["ssim"] >= round(least, 4)
    whole = [item["what"] for item in report["left"]]
    assert 0 < len(whole) < 4
    assert all("costs too much" in item["reason"] for item in report["left"])


def test_what_cannot_be_held_fails_and_is_kept(small_gan: Generator) -> None:
    with pytest.raises(GateFailed, match=r"SSIM 0\.999999 can't be held in int8") as caught:
        Quantize(recover="none", quantizer="onnxruntime", min_ssim=0.999999)(small_gan)
    kept = caught.value.kept
    assert kept is not None
    assert kept.onnx is not None
    assert any(line.endswith("int8") for line in kept.steps[-1].report["changed"])


def test_a_rejected_result_has_its_own_name_and_is_not_gone_on_from(
    cli: Cli, graph_gan: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome_of_apply = Outcome({"module": None, "onnx": graph_gan.onnx}, failure="not good enough")
    monkeypatch.setattr(Quantize, "apply", lambda *_: outcome_of_apply)
    outcome = cli("compress", "quantize", "dcgan-mnist", "-o", "run", "--json")
    line = outcome.err.splitlines()[-1]
    assert outcome.status == 1
    assert "kept as run/01-quantize-rejected" in line
    assert json.loads(outcome.out.splitlines()[-1])["passed"] is False
    run = Run(Path("run"))
    assert run.artifacts[-1].name == "01-quantize-rejected"
    assert (run.artifacts[-1] / "model.onnx").is_file()
    assert run.newest.name == "00-original"


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"seconds": 0.0}, "seconds 0.0 is no time"),
        ({"rate": -1.0}, "rate -1.0 is no learning rate"),
        ({"min_ssim": 1.5}, "SSIM 1.5 is not between 0 and 1"),
        ({"target": "torch"}, "PyTorch runs no Q/DQ graph"),
    ],
)
def test_nonsense_is_refused(
    small_gan: Generator, settings: dict[str, object], reason: str
) -> None:
    with pytest.raises(UserError, match=reason):
        Quantize("int8", **settings)(small_gan)  # type: ignore[arg-type]


def test_a_quantizer_can_be_named(small_gan: Generator) -> None:
    step = Quantize(recover="none", quantizer="onnxruntime", target="onnxruntime")
    report = step(small_gan).steps[-1].report
    assert report["quantizer"] == "onnxruntime"
    assert report["ssim"] > 0.9


def test_for_tensorrt_ranges_are_symmetric(small_gan: Generator) -> None:
    made = Quantize(recover="none", target="tensorrt")(small_gan)
    assert made.onnx is not None
    assert made.steps[-1].report["quantizer"].startswith("nncf")
    graph = load_model(signed(made.onnx)).graph
    zeros = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    pairs = [node for node in graph.node if node.op_type == "QuantizeLinear"]
    assert pairs
    for node in pairs:
        zero = zeros[node.input[2]]
        assert zero.dtype == np.int8
        assert not zero.any()
    assert Pairs(made.onnx, made.onnx).ranges == Pairs(signed(made.onnx), made.onnx).ranges
