"""Exact rewrites are exact, and kept only where they gained."""

from __future__ import annotations

import pytest
import torch
from conftest import settle_batch_norms
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from compress import trial
from compress.phases import as_convolution, reason_to_leave
from compress.projection import Projection, projections
from compress.rewrite import Rewrite
from compress.trial import Trial
from genslim.generator import Generator
from genslim.inputs import Inputs
from genslim.signature import BATCH, Input, Output, Prior, Signature


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


def test_only_what_was_faster_is_rewritten(
    tiny_gan: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    ratios = {"net.0": 0.9, "net.3": 1.2, "net.6": 1.1, "net.9": 0.7, "all": 0.6}
    monkeypatch.setattr(
        trial, "race", lambda g, candidates, *_: {n: Trial(1, ratios[n]) for n in candidates}
    )
    result = Rewrite()(tiny_gan)
    report = result.steps[-1].report
    assert [line.partition(":")[0] for line in report["changed"]] == ["net.0", "net.9"]
    assert {item["what"] for item in report["left"]} == {"net.3", "net.6"}
    inputs = Inputs(tiny_gan.signature, "quality").draw(8)
    assert torch.allclose(result(inputs), tiny_gan(inputs), atol=1e-5)


def test_rewrites_that_are_slower_together_leave_the_best(
    tiny_gan: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    ratios = {"net.0": 1.0, "net.3": 0.9, "net.6": 1.1, "net.9": 0.7, "all": 0.8}
    monkeypatch.setattr(
        trial, "race", lambda g, candidates, *_: {n: Trial(1, ratios[n]) for n in candidates}
    )
    report = Rewrite()(tiny_gan).steps[-1].report
    assert [line.partition(":")[0] for line in report["changed"]] == ["net.9"]
