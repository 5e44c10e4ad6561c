"""Exact rewrites are exact, and kept only where they gained."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from compress import trial
from compress.phases import as_convolution, reason_to_leave
from compress.rewrite import Rewrite
from compress.trial import Trial
from genslim.generator import Generator
from genslim.inputs import Inputs


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


def test_only_what_was_faster_is_rewritten(
    tiny_gan: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    ratios = {"net.3": 1.2, "net.6": 1.1, "net.9": 0.7}
    monkeypatch.setattr(
        trial, "race", lambda g, candidates, *_: {n: Trial(1, ratios[n]) for n in candidates}
    )
    result = Rewrite()(tiny_gan)
    report = result.steps[-1].report
    assert [line.partition(":")[0] for line in report["changed"]] == ["net.9"]
    assert {item["what"] for item in report["left"]} == {"net.0", "net.3", "net.6"}
    inputs = Inputs(tiny_gan.signature, "quality").draw(8)
    assert torch.allclose(result(inputs), tiny_gan(inputs), atol=1e-5)


def test_rewrites_that_are_slower_together_leave_the_best(
    tiny_gan: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    ratios = {"net.3": 0.9, "net.6": 1.1, "net.9": 0.7, "all": 0.8}
    monkeypatch.setattr(
        trial, "race", lambda g, candidates, *_: {n: Trial(1, ratios[n]) for n in candidates}
    )
    report = Rewrite()(tiny_gan).steps[-1].report
    assert [line.partition(":")[0] for line in report["changed"]] == ["net.9"]
