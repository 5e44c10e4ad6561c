"""Separable substitution: the closed-form start, and gain or revert."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from compress import trial
from compress.factors import bias_of, errors_of, fitted, has_phases, phases_of
from compress.refit import rows_of
from compress.separable import Separable
from compress.separating import Separator
from compress.splitting import Convolution, nearest, pair, pointwise_first, put, split
from compress.swap import with_swapped
from compress.trial import Trial
from genslim import artifact
from genslim.errors import UserError
from genslim.generator import Generator
from genslim.inputs import Inputs
from genslim.loading import load
from genslim.signature import BATCH, Input, Output, Prior, Signature

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


def raced(ratio: float) -> Callable[..., dict[str, Trial]]:
    """A race in which every candidate takes ``ratio`` of the time."""
    return lambda g, candidates, *_: {name: Trial(9.0, ratio) for name in candidates}


def deep() -> Generator:
    """Six equal convolutions that see smooth latents, and one to a single channel."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Unflatten(1, (1, 16, 16)), nn.Conv2d(1, 16, 3, padding=1)]
    for _ in range(6):
        layers += [nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1)]
    module = nn.Sequential(*layers, nn.ReLU(), nn.Conv2d(16, 1, 3, padding=1), nn.Sigmoid())
    with torch.no_grad():
        x = torch.randn(64, 256)
        for layer in module:
            y = layer(x)
            if isinstance(layer, nn.Conv2d):
                layer.weight /= y.std()
                assert layer.bias is not None
                layer.bias.zero_()
            x = layer(x)
    signature = Signature(
        inputs=(Input("z", (BATCH, 256), Prior("normal")),),
        outputs=(Output("images", (BATCH, 1, 16, 16), (0.0, 1.0)),),
    )
    return Generator("deep", signature, {"kind": "test"}, module.eval())


def test_a_swap_that_is_not_faster_is_reverted_with_the_figure(
    tiny_gan: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "race", raced(1.25))
    result = Separable(seconds=1)(tiny_gan)
    report = result.steps[-1].report
    assert report["changed"] == []
    assert any("1.25x the latency" in item["reason"] for item in report["left"])
    names = [type(m) for m in result.trainable().modules()]
    assert names == [type(m) for m in tiny_gan.trainable().modules()]


def test_a_swap_that_costs_too_much_is_reverted_with_the_figure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trial, "race", raced(0.5))
    report = Separable(seconds=0.1, trials=2, min_ssim=1.0)(deep()).steps[-1].report
    assert report["changed"] == []
    assert sum("SSIM" in item["reason"] for item in report["left"]) == 6


def test_what_the_user_names_is_swapped_regardless(
    tiny_gan: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "race", raced(1.25))
    result = Separable(layers="net.6", revert=False, min_ssim=1.0, seconds=0.1)(tiny_gan)
    report = result.steps[-1].report
    assert [line.partition(":")[0] for line in report["changed"]] == ["net.6"]
    assert report["macs"][1] < report["macs"][0]
    figures = {"latency_ratio", "ssim", "ssim_before_recovery", "ssim_after_closed_form"}
    assert figures <= report.keys()


def test_layers_alike_are_timed_once_and_together(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Generator]] = []

    def race(g: Generator, candidates: dict[str, Generator], *_: object) -> dict[str, Trial]:
        asked.append(candidates)
        return raced(0.5)(g, candidates)

    monkeypatch.setattr(trial, "race", race)
    Separable(seconds=0.1, min_ssim=0.0)(deep())
    assert [len(candidates) for candidates in asked] == [1], "six equal layers are one candidate"
    swapped = asked[0]["3"].module
    assert swapped is not None
    pairs = [m for m in swapped.children() if isinstance(m, nn.Sequential)]
    assert len(pairs) == 6


def test_swaps_that_hold_are_kept_where_not_all_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "race", raced(0.5))
    generator = deep()
    all_of_them = Separable(seconds=0.1, min_ssim=0.0)(generator).steps[-1].report
    assert len(all_of_them["changed"]) == 6
    least = (1 + all_of_them["ssim"]) / 2
    report = Separable(seconds=0.1, min_ssim=least)(generator).steps[-1].report
    assert 0 < len(report["changed"]) < 6
    assert report["ssim"] >= least
    whole = [item for item in report["left"] if "SSIM" in item["reason"]]
    assert len(whole) == 6 - len(report["changed"])
    assert len(report["tries"]) <= 3


def test_the_refit_brings_the_picture_nearer_than_the_kernels_alone() -> None:
    generator = deep()
    separator = Separator(generator)
    bare, refitted = separator.split(separator.names), separator.refitted(separator.names)
    inputs = Inputs(generator.signature, "quality").draw(32)
    expected = generator(inputs)

    def error(module: nn.Module) -> float:
        return float((generator.variant(module=module)(inputs) - expected).square().mean())

    assert error(refitted) < 0.6 * error(bare)


def test_costs_tell_a_layer_that_is_separable_already() -> None:
    generator = deep()
    assert generator.module is not None
    layer = generator.module.get_submodule("7")
    assert isinstance(layer, nn.Conv2d)
    put(layer, nearest(layer), None)
    costs = Separator(generator).costs()
    assert min(costs, key=lambda name: costs[name]) == "7"


@settings(max_examples=15, deadline=None)
@given(shape=shapes, seed=st.integers(0, 100))
def test_fitted_factors_leave_less_than_the_nearest(shape: dict[str, Any], seed: int) -> None:
    """The oracle of the sums: the error that they tell is the one that the pair makes."""
    torch.manual_seed(seed)
    layer = layer_of(**shape)
    if not has_phases(layer):
        return
    x = torch.randn(4, shape["inside"], 9, 11).cumsum(2) + torch.randn(4, 1, 9, 11)
    with torch.no_grad():
        y = layer(x)
        grid = x if isinstance(layer, nn.ConvTranspose2d) else y
        positions = torch.arange(grid.numel() // grid.shape[1])
        phases = phases_of(layer, x, rows_of(layer, y, positions), positions)
        start = nearest(layer)
        found = fitted(start, phases)
        assert errors_of(found, phases).sum() <= 1.001 * errors_of(start, phases).sum() + 1e-6
        whole = copy.deepcopy(layer)
        put(whole, found, bias_of(found, phases) if shape["bias"] else None)
        made = pair(whole, found)(x)
        assert torch.allclose(made, whole(x), atol=1e-2, rtol=1e-3)
        if isinstance(layer, nn.Conv2d):
            left = (made - y).square().mean((0, 2, 3))
            told = errors_of(found, phases)
            assert torch.allclose(left, told, rtol=0.02, atol=1e-3 * float(y.square().mean()))


class Reading(nn.Module):
    """A generator of 16x16 pictures whose layers are used in ways that a pair can't be."""

    def __init__(self) -> None:
        super().__init__()
        self.normed = parametrizations.spectral_norm(nn.Conv2d(8, 8, 3, padding=1))
        self.read = nn.Conv2d(8, 8, 3, padding=1)
        self.first = nn.Conv2d(8, 8, 3, padding=1)
        self.again = self.first
        self.idle = nn.Conv2d(8, 8, 3, padding=1)
        self.plain = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.normed(z.view(-1, 8, 16, 16))
        x = self.read(x) * self.read.weight.mean()
        x = self.again(self.first(x)).relu()
        images: Tensor = self.plain(x)[:, :1].sigmoid()
        return images


def test_layers_that_a_pair_can_not_stand_for_are_left_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trial, "race", raced(0.5))
    torch.manual_seed(0)
    signature = Signature(
        inputs=(Input("z", (BATCH, 2048), Prior("normal")),),
        outputs=(Output("images", (BATCH, 1, 16, 16), (0.0, 1.0)),),
    )
    generator = Generator("reading", signature, {"kind": "test"}, Reading().eval())
    report = Separable(seconds=0.1, revert=False)(generator).steps[-1].report
    assert [line.partition(":")[0] for line in report["changed"]] == ["plain"]
    reasons = {item["what"]: item["reason"] for item in report["left"]}
    assert "of its own" in reasons["normed"]
    assert "its code counts on" in reasons["read"]
    assert "several places" in reasons["first"]
    assert "did not run" in reasons["idle"]


def test_an_artifact_with_pairs_loads_as_it_was_saved(
    compact_weights: Path, image_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "race", raced(0.5))
    generator = load(compact_weights, images=image_folder)
    result = Separable(seconds=0.1, revert=False)(generator)
    saved = artifact.save(result, Path("00-original"), kind="original")
    assert saved.path is not None
    inputs = Inputs(generator.signature, "parity").draw(1)
    assert torch.equal(artifact.load(saved.path)(inputs), result(inputs))


def test_a_pattern_that_matches_nothing_is_refused(tiny_gan: Generator) -> None:
    with pytest.raises(UserError, match=r"body\.\*.*net\.0"):
        Separable(layers="body.*")(tiny_gan)


def test_other_layers_stay_as_they_were(tiny_gan: Generator) -> None:
    module = tiny_gan.trainable()
    result = with_swapped(module, ["net.3"], split)
    assert type(result.get_submodule("net.3")) is nn.Sequential
    assert torch.equal(result.get_parameter("net.6.weight"), module.get_parameter("net.6.weight"))
