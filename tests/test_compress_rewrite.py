"""Exact rewrites are exact, and kept only where they gained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from conftest import settle_batch_norms
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from compress import norm_folding, trial
from compress.phases import as_convolution, reason_to_leave
from compress.rewrite import Rewrite
from compress.rewriting import candidates
from compress.rewriting.candidates import Exact
from compress.rewriting.projection import Projection, projections
from compress.step import Outcome
from compress.trial import Trial
from genslim import artifact
from genslim.console import SILENT
from genslim.errors import GenslimError, UserError
from genslim.generator import Generator
from genslim.inputs import Inputs
from genslim.onnx_graph import onnx_of
from genslim.onnx_model import load_model
from genslim.signature import BATCH, Input, Output, Prior, Signature
from genslim.target import Target


@settings(max_examples=60, deadline=None)
@given(
    stride=st.integers(2, 4),
    padding=st.integers(0, 2),
    extra=st.integers(0, 1),
    bias=st.booleans(),
    seed=st.integers(0, 100),
)
def test_a_transposed_convolution_is_a_convolution_and_a_shuffle(
    stride: int, padding: int, extra: int, bias: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    kernel = stride + 2 * padding - extra  # enlarges exactly `stride` times
    layer = nn.ConvTranspose2d(3, 5, kernel, stride, padding, output_padding=extra, bias=bias)
    assert reason_to_leave(layer) is None
    x = torch.randn(2, 3, 5, 7)
    with torch.no_grad():
        assert torch.allclose(as_convolution(layer)(x), layer(x), atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    bias=st.booleans(),
    affine=st.booleans(),
    activation=st.sampled_from([nn.ReLU(inplace=True), nn.LeakyReLU(0.2), nn.Tanh()]),
    seed=st.integers(0, 100),
)
def test_a_transposed_convolution_of_one_pixel_is_a_matrix_product(
    kernel: int, stride: int, bias: bool, affine: bool, activation: nn.Module, seed: int
) -> None:
    torch.manual_seed(seed)
    module = nn.Sequential(
        nn.Unflatten(1, (6, 1, 1)),
        nn.ConvTranspose2d(6, 5, kernel, stride, bias=bias),
        nn.BatchNorm2d(5, affine=affine),
        activation,
        nn.Upsample(scale_factor=4),
        nn.ConvTranspose2d(5, 1, 1),
    )
    settle_batch_norms(module, torch.randn(32, 6))
    generator = Generator(
        "projecting",
        Signature(
            (Input("z", (BATCH, 6), Prior()),),
            (Output("images", (BATCH, 1, 4 * kernel, 4 * kernel), (-1.0, 1.0)),),
        ),
        {},
        module,
    )
    found = projections(module, generator)
    taken_along = None if isinstance(activation, nn.Tanh) else "3"
    assert found == {"1": Projection("1", norm="2", activation=taken_along)}
    rewritten = found["1"](module)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in rewritten.modules())
    z = torch.randn(7, 6)
    with torch.no_grad():
        assert torch.allclose(rewritten(z), module(z), atol=1e-4)


def test_what_is_used_elsewhere_too_is_not_taken_along() -> None:
    class Skipping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.project = nn.ConvTranspose2d(6, 5, 16)
            self.norm = nn.BatchNorm2d(5)
            self.relu = nn.ReLU()

        def forward(self, z: torch.Tensor) -> torch.Tensor:
            plain = self.project(z[:, :, None, None])
            return (self.relu(self.norm(plain)) + plain).mean(1, keepdim=True)

    module = Skipping()
    settle_batch_norms(module, torch.randn(32, 6))
    signature = Signature(
        (Input("z", (BATCH, 6), Prior()),), (Output("images", (BATCH, 1, 16, 16), (-1.0, 1.0)),)
    )
    found = projections(module, Generator("skipping", signature, {}, module))
    assert found == {"project": Projection("project")}
    z = torch.randn(7, 6)
    with torch.no_grad():
        assert torch.allclose(found["project"](module)(z), module(z), atol=1e-5)


def told(monkeypatch: pytest.MonkeyPatch, ratios: Mapping[str, float]) -> list[str]:
    """Let races come out so, as far as they are named, and at no gain; what was raced."""
    raced: list[str] = []

    def race(g: Generator, those: Mapping[str, Generator], *_: object) -> dict[str, Trial]:
        raced.extend(those)
        return {name: Trial(1, ratios.get(name, 1.0)) for name in those}

    monkeypatch.setattr(trial, "race", race)
    return raced


PHASES = "convolution for each phase"
SHUFFLE = "convolution and pixel shuffle"


def test_only_what_was_faster_is_rewritten(
    tiny_gan: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    ratios = {
        "net.0: matrix product": 0.9,
        f"net.3: {SHUFFLE}": 1.2,
        f"net.6: {PHASES}": 0.8,
        f"net.9: {SHUFFLE}": 0.7,
    }
    raced = told(monkeypatch, {**ratios, "all": 0.6})
    result = Rewrite()(tiny_gan)
    assert ratios.keys() <= set(raced)
    assert "batch norms: folded" in raced
    report = result.steps[-1].report
    # A layer that is another already has no other way in the graph.
    assert [line.partition(",")[0] for line in report["changed"]] == [
        f"net.9: {SHUFFLE}",
        "net.0: matrix product",
        f"net.6: {PHASES}",
    ]
    assert {item["what"] for item in report["left"]} == {"net.3", "net.6", "batch norms"}
    assert report["parity"] <= 1e-4
    assert [rewrite.place for rewrite in result.rewrites] == ["net.6"]
    inputs = Inputs(tiny_gan.signature, "quality").draw(8)
    assert torch.allclose(result(inputs), tiny_gan(inputs), atol=1e-5)
    operators = [node.op_type for node in load_model(onnx_of(result)).graph.node]
    assert operators.count("ConvTranspose") == 1, "net.3 alone"


def test_what_is_asked_for_is_made_without_a_race(
    tiny_gan: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for TensorRT, which is not at hand and has no int8 transposed convolution."""
    raced = told(monkeypatch, {})
    result = Rewrite(always=("matrix product", PHASES))(tiny_gan)
    assert not any(PHASES in name or "matrix product" in name for name in raced)
    assert "batch norms: folded" in raced
    assert set(result.steps[-1].report["changed"]) == {
        "net.0: matrix product, asked for",
        *(f"net.{index}: {PHASES}, asked for" for index in (3, 6, 9)),
    }
    operators = [node.op_type for node in load_model(onnx_of(result)).graph.node]
    assert "ConvTranspose" not in operators
    inputs = Inputs(tiny_gan.signature, "quality").draw(8)
    assert torch.allclose(result(inputs), tiny_gan(inputs), atol=1e-5)


def test_rewrites_that_do_not_exist_are_answered_with_those_that_do(tiny_gan: Generator) -> None:
    with pytest.raises(UserError, match="no rewrite 'faster'; there are folded, matrix product"):
        Rewrite(always=("faster",))(tiny_gan)


def test_rewrites_that_are_slower_together_leave_the_best(
    tiny_gan: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    ratios = {f"net.3: {SHUFFLE}": 0.9, f"net.9: {SHUFFLE}": 0.7, "all": 0.8}
    told(monkeypatch, ratios)
    report = Rewrite()(tiny_gan).steps[-1].report
    assert [line.partition(":")[0] for line in report["changed"]] == ["net.9"]


def test_what_a_runtime_refuses_takes_for_ever(small_gan: Generator) -> None:
    broken = small_gan.variant(module=None, onnx=onnx_of(small_gan)[:100])
    target = Target.parse("onnxruntime:threads=1").settled(small_gan.signature)
    trials = trial.race(small_gan, {"broken": broken, "same": small_gan}, target, SILENT)
    assert not trials["broken"].gained
    assert str(trials["broken"]) == "refused by the runtime"
    assert 0 < trials["same"].milliseconds < 1e6
    with pytest.raises(GenslimError):
        trial.race(broken, {"same": small_gan}, target, SILENT)


def test_what_is_not_exact_is_left(small_gan: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    def blurred(generator: Generator) -> Generator:
        module = generator.trainable()
        with torch.no_grad():
            module.get_submodule("1").weight.add_(0.01)
        return generator.variant(module=module)

    told(monkeypatch, {"1: blurred": 0.5, "4: itself": 0.9})
    outcome = Outcome({})
    ways = [Exact("1", "blurred", blurred), Exact("4", "itself", lambda g: g.variant())]
    Rewrite().best(small_gan, ways, outcome, SILENT)
    assert [line.partition(",")[0] for line in outcome.changed] == ["4: itself"]
    [left] = outcome.left
    assert "moves pictures by" in left["reason"]


def test_of_two_ways_the_faster_is_taken(
    small_gan: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (Exact("here", what, lambda g: g.variant()) for what in ("one", "other"))
    told(monkeypatch, {"here: one": 0.9, "here: other": 0.8})
    outcome = Outcome({})
    Rewrite().best(small_gan, [one, other], outcome, SILENT)
    assert [line.partition(",")[0] for line in outcome.changed] == ["here: other"]
    assert outcome.left == [{"what": "here", "reason": "other is faster there than one"}]


def test_pytorch_runs_no_graph(small_gan: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    raced = told(monkeypatch, {"batch norms: folded": 0.5})
    result = Rewrite(target="torch")(small_gan)
    assert not any(PHASES in name for name in raced)
    assert not result.rewrites
    assert result.module is not None
    assert not any(isinstance(m, nn.BatchNorm2d) for m in result.module.modules())


def test_it_is_raced_in_int8_and_lives_on_in_an_artifact(
    tiny_gan: Generator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[int] = []

    def race(g: Generator, those: Mapping[str, Generator], *_: object) -> dict[str, Trial]:
        for each in (g, *those.values()):
            operators = [node.op_type for node in load_model(onnx_of(each)).graph.node]
            seen.append(operators.count("QuantizeLinear"))
        return {name: Trial(1, 0.5 if PHASES in name else 1.0) for name in those}

    monkeypatch.setattr(trial, "race", race)
    monkeypatch.setattr(norm_folding, "without_batch_norms", lambda module, _: (module, []))
    monkeypatch.setattr(candidates, "of_layers", lambda _: ([], []))
    found = candidates.of_graph
    monkeypatch.setattr(candidates, "of_graph", lambda graph: list(found(graph))[:1])
    result = Rewrite(precision="int8")(tiny_gan)
    assert all(seen)
    assert result.rewrites
    saved = artifact.save(result, tmp_path / "01-rewrite", kind="step")
    assert saved.rewrites == result.rewrites
    assert onnx_of(saved) == onnx_of(result)
    graph = saved.variant(module=None, onnx=onnx_of(tiny_gan), rewrites=())
    again = Rewrite()(graph)  # a graph is rewritten itself
    assert again.onnx is not None
    assert again.rewrites == ()
    operators = [node.op_type for node in load_model(again.onnx).graph.node]
    assert "DepthToSpace" in operators


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (Rewrite(precision="int8", target="torch"), "PyTorch runs nothing in int8"),
        (Rewrite(precision="int8"), "is a graph"),
    ],
)
def test_what_can_t_run_in_int8_is_refused(
    small_gan: Generator, step: Rewrite, message: str
) -> None:
    graph = step.target != "torch"
    generator = small_gan.variant(module=None, onnx=onnx_of(small_gan)) if graph else small_gan
    with pytest.raises(UserError, match=message):
        step(generator)
