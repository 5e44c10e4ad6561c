"""Closed-form recovery: what can be made up for is made up for."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from masking import generator_of
from torch import Tensor, nn

from compress import refit as refitting
from compress.cutting import Cutter
from compress.flow import Sum
from compress.refit import fit, places, refit, rows_of
from compress.skipping import skipping
from genslim.generator import Generator
from genslim.inputs import Inputs


def error(generator: Generator, module: nn.Module) -> float:
    """Squared error on inputs that nothing was fitted on, in shares of the output's variance."""
    inputs = Inputs(generator.signature, "quality").draw(64)
    wanted = generator(inputs)
    away = generator.variant(module=module)(inputs) - wanted
    return float(away.square().mean() / wanted.var())


class Repeats(nn.Module):
    """Sixteen channels of which eight repeat the others, so that eight can do all their work."""

    def __init__(self, transposed: bool = False) -> None:
        super().__init__()
        kind = nn.ConvTranspose2d if transposed else nn.Conv2d
        self.head, self.tail = nn.Conv2d(3, 16, 3, padding=1), kind(16, 3, 3, padding=1)
        with torch.no_grad():
            self.head.weight[8:] = self.head.weight[:8]
            self.head.bias[8:] = self.head.bias[:8]  # type: ignore[index]

    def forward(self, x: Tensor) -> Tensor:
        images: Tensor = self.tail(self.head(x).relu())
        return images


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("ridge", "left"), [(refitting.RIDGE, 1e-3), (1e-4, 1e-5)])
def test_what_others_can_stand_in_for_is_not_missed(
    transposed: bool, ridge: float, left: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refitting, "RIDGE", ridge)
    torch.manual_seed(0)
    generator = generator_of(Repeats(transposed), (3, 8, 8))
    pruned, cut = Cutter(generator).cut(0.5, allocation="uniform")
    assert error(generator, pruned) > 0.1
    assert refit(pruned, generator, cut.kept, 0) == ["head", "tail"]
    assert error(generator, pruned) < left


class Stream(nn.Module):
    """Two branches added to a stream; the second sees all that the first one makes of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.first = nn.Conv2d(3, 16, 1), nn.Conv2d(16, 3, 1)
        self.features, self.second = nn.Conv2d(3, 64, 1), nn.Conv2d(64, 3, 1)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        stream = x + self.first(self.wide(x).relu())
        return stream + 0.2 * self.norm(self.second(self.features(x).relu()))


def test_a_later_branch_makes_up_for_what_the_stream_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    generator = generator_of(Stream(), (3, 8, 8))
    bare, cut = Cutter(generator, keep=("features",)).cut(0.5, allocation="uniform")
    by_sums, alone = copy.deepcopy(bare), bare
    refit(by_sums, generator, cut.kept, 0)
    sums_of = refitting.sums_of
    monkeypatch.setattr(
        refitting, "sums_of", lambda *args: {name: Sum() for name in sums_of(*args)}
    )
    refit(alone, generator, cut.kept, 0)
    assert error(generator, by_sums) < 0.3 * error(generator, alone)


class Branch(nn.Module):
    """Adds to its input what it makes of it, and writes into what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Conv2d(3, 32, 1), nn.Conv2d(32, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        found = self.narrow(self.wide(x.relu_()).relu())
        return 0.5 * found + x


def test_layers_make_up_for_a_block_that_is_left_out() -> None:
    """The second branch sees what the first one read, and does the work of both."""
    torch.manual_seed(0)
    generator = generator_of(nn.Sequential(Branch(), Branch()), (3, 8, 8))
    short = generator.trainable()
    short[0] = nn.Identity()  # type: ignore[operator]
    bare = error(generator, short)
    assert generator.module is not None
    with skipping(short, generator.module, ["0"]):
        assert error(generator, short) == bare, "what a skipped block makes is dropped"
        assert refit(short, generator, {}, 0) == ["1.wide", "1.narrow"]
    assert isinstance(short[0], nn.Identity)  # type: ignore[index]
    assert error(generator, short) < 0.3 * bare


@given(data=st.data())
@torch.no_grad()
def test_weights_are_found_from_what_a_layer_does(data: st.DataObject) -> None:
    """Whatever the geometry: from its inputs and outputs alone a layer gets its weights back."""
    torch.manual_seed(data.draw(st.integers(0, 99)))
    kernel, stride = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
    padding, bias = data.draw(st.integers(0, kernel // 2)), data.draw(st.booleans())
    layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear
    kind = data.draw(st.sampled_from(["conv", "grouped", "dilated", "transposed", "linear"]))
    x = torch.randn(40, 4, 9, 10)
    if kind == "conv":
        layer = nn.Conv2d(4, 5, kernel, stride, padding, bias=bias, padding_mode="reflect")
    elif kind == "grouped":
        layer = nn.Conv2d(
            4, 8, kernel, stride, padding, groups=data.draw(st.sampled_from([2, 4])), bias=bias
        )
    elif kind == "dilated":
        layer = nn.Conv2d(4, 5, kernel, padding=padding, dilation=2, bias=bias)
    elif kind == "transposed":
        shape = data.draw(
            st.sampled_from(
                [
                    (4, 2, 1, 0),
                    (3, 2, 1, 1),
                    (2, 2, 0, 0),
                    (3, 1, 1, 0),
                    (4, 1, 0, 0),
                    (3, 2, 1, 0),
                    (5, 3, 0, 1),
                ]
            )
        )
        layer = nn.ConvTranspose2d(4, 5, *shape, bias=bias)
    else:
        layer, x = nn.Linear(4, 5, bias=bias), torch.randn(40, 7, 4)
    wanted = copy.deepcopy(layer.state_dict())
    positions = torch.arange(places(layer, layer(x)))
    target = rows_of(layer, layer(x), positions)
    for parameter in layer.parameters():
        parameter.add_(torch.randn_like(parameter))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(refitting, "RIDGE", 1e-6)
        fit(layer, x, target, positions)
    for name, tensor in layer.state_dict().items():
        torch.testing.assert_close(tensor, wanted[name], rtol=1e-2, atol=1e-2)


def test_a_layer_keeps_its_weights_where_inputs_say_nothing() -> None:
    layer = nn.Linear(4, 2)
    before = layer.weight.detach().clone()
    x = torch.zeros(30, 4)
    x[:, 0] = torch.randn(30)
    with torch.no_grad():
        fit(layer, x, torch.zeros(30, 2), torch.arange(30))
        assert torch.allclose(layer.weight[:, 1:], before[:, 1:], atol=1e-5)
        assert float(layer.weight[:, 0].abs().max()) < 1e-2
