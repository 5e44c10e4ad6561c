"""Weights that are computed at each run are computed once."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from genslim.folding import fold


def old(wrap: str) -> nn.Module:
    with warnings.catch_warnings():  # deprecated; checkpoints made with them are not
        warnings.simplefilter("ignore")
        layer: nn.Module = getattr(nn.utils, wrap)(nn.Conv2d(3, 4, 3))
    return layer


@pytest.mark.parametrize(
    "layer",
    [
        lambda: parametrizations.weight_norm(nn.Conv2d(3, 4, 3)),
        lambda: parametrizations.spectral_norm(nn.Conv2d(3, 4, 3)),
        lambda: old("weight_norm"),
        lambda: old("spectral_norm"),
    ],
    ids=["weight-norm", "spectral-norm", "old-weight-norm", "old-spectral-norm"],
)
def test_norms_of_weights_are_folded(layer: object) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(layer(), nn.ReLU(), nn.Conv2d(4, 2, 1))  # type: ignore[operator]
    x = torch.randn(2, 3, 8, 8)
    module.train()(x)  # a step of the power iteration
    module.eval()
    with torch.no_grad():
        expected = module(x)
    assert fold(module) == ["0"]
    assert {name for name, _ in module.named_parameters()} == {
        f"{place}.{kind}" for place in "02" for kind in ("weight", "bias")
    }
    assert not list(module.named_buffers())
    with torch.no_grad():
        torch.testing.assert_close(module(x), expected)
    assert fold(module) == []


class Merged(nn.Module):
    """Two branches in training, whose sum's weights are copied into one layer for evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.skip = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.merged = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return self.wide(x) + self.skip(x)  # type: ignore[no-any-return]
        weight = self.wide.weight + nn.functional.pad(self.skip.weight, (1, 1, 1, 1))
        assert self.wide.bias is not None
        assert self.skip.bias is not None
        self.merged.weight.data = weight
        self.merged.bias.data = self.wide.bias + self.skip.bias  # type: ignore[union-attr]
        return self.merged(x)  # type: ignore[no-any-return]


def test_branches_are_merged_for_good() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 1), Merged(), nn.Conv2d(4, 3, 1)).eval()
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        expected = module(x)
        assert fold(module, lambda: module(x)) == ["1"]
        assert type(module[1]) is nn.Conv2d
        torch.testing.assert_close(module(x), expected)


def test_a_plain_network_is_left_alone() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 3, 1)).eval()
    before = dict(module.named_modules())
    with torch.no_grad():
        assert fold(module, lambda: module(torch.randn(1, 3, 4, 4))) == []
    assert dict(module.named_modules()) == before
