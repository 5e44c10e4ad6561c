"""Separable substitution: the closed-form start, and gain or revert."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from compress import trial
from compress.separable import Separable
from compress.splitting import Convolution, pointwise_first, split
from compress.swap import with_swapped
from compress.trial import Trial
from genslim.errors import UserError
from genslim.generator import Generator

shapes = st.fixed_dictionaries(
    {
        "inside": st.sampled_from([8, 12, 16]),
        "outside": st.sampled_from([8, 12, 16]),
        "kernel": st.sampled_from([2, 3, 4, 5]),
        "stride": st.sampled_from([1, 2]),
        "bias": st.booleans(),
        "transposed": st.booleans(),
    }
)


def layer_of(
    inside: int, outside: int, kernel: int, stride: int, bias: bool, transposed: bool
) -> Convolution:
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    return kind(inside, outside, kernel, stride=stride, padding=1, bias=bias)


@settings(max_examples=40, deadline=None)
@given(shape=shapes)
def test_the_pair_has_the_shape_of_the_layer(shape: dict[str, Any]) -> None:
    layer = layer_of(**shape)
    x = torch.randn(2, shape["inside"], 9, 11)
    assert split(layer)(x).shape == layer(x).shape


@settings(max_examples=40, deadline=None)
@given(shape=shapes, seed=st.integers(0, 100))
def test_a_layer_that_is_separable_is_split_exactly(shape: dict[str, Any], seed: int) -> None:
    torch.manual_seed(seed)
    layer = layer_of(**shape)
    first = pointwise_first(layer)
    channels = shape["outside"] if first else shape["inside"]
    mixing = torch.randn(shape["outside"], shape["inside"], 1, 1)
    kernels = torch.randn(channels, shape["kernel"], shape["kernel"])
    weight = mixing * (kernels[:, None] if first else kernels[None])
    with torch.no_grad():
        layer.weight.copy_(weight.transpose(0, 1) if shape["transposed"] else weight)
        x = torch.randn(2, shape["inside"], 9, 11)
        assert torch.allclose(split(layer)(x), layer(x), atol=1e-3)


def test_the_pointwise_half_stands_where_it_is_cheaper() -> None:
    assert pointwise_first(nn.ConvTranspose2d(64, 32, 4, 2, 1))
    assert not pointwise_first(nn.Conv2d(32, 64, 4, 2, 1))


def test_a_swap_that_is_not_faster_is_reverted_with_the_figure(
    tiny_gan: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = lambda g, candidates, *_: {name: Trial(9.0, 1.25) for name in candidates}  # noqa: E731
    monkeypatch.setattr(trial, "race", slow)
    result = Separable(seconds=1)(tiny_gan)
    report = result.steps[-1].report
    assert report["changed"] == []
    assert any("1.25x the latency" in item["reason"] for item in report["left"])
    names = [type(m) for m in result.trainable().modules()]
    assert names == [type(m) for m in tiny_gan.trainable().modules()]


def test_a_swap_that_costs_too_much_is_reverted_with_the_figure(
    tiny_gan: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = lambda g, candidates, *_: {name: Trial(1.0, 0.5) for name in candidates}  # noqa: E731
    monkeypatch.setattr(trial, "race", fast)
    result = Separable(seconds=0.2, trials=1, min_ssim=1.0)(tiny_gan)
    report = result.steps[-1].report
    assert report["changed"] == []
    assert any("SSIM" in item["reason"] for item in report["left"])


def test_what_the_user_names_is_swapped_regardless(tiny_gan: Generator) -> None:
    result = Separable(layers="net.6", revert=False, seconds=0.5)(tiny_gan)
    report = result.steps[-1].report
    assert [line.partition(":")[0] for line in report["changed"]] == ["net.6"]
    assert report["macs"][1] < report["macs"][0]
    assert {"latency_ratio", "ssim", "ssim_before_recovery"} <= report.keys()


def test_a_pattern_that_matches_nothing_is_refused(tiny_gan: Generator) -> None:
    with pytest.raises(UserError, match=r"body\.\*.*net\.0"):
        Separable(layers="body.*")(tiny_gan)


def test_other_layers_stay_as_they_were(tiny_gan: Generator) -> None:
    module = tiny_gan.trainable()
    result = with_swapped(module, ["net.3"], split)
    assert type(result.get_submodule("net.3")) is nn.Sequential
    assert torch.equal(result.get_parameter("net.6.weight"), module.get_parameter("net.6.weight"))
