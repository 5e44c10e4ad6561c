"""By what channels are ranked: each measure finds what it measures."""

from __future__ import annotations

import pytest
import torch
from masking import generator_of
from torch import Tensor, nn

from compress.cutting import Cutter
from compress.importance import Importance

GOOD = [1, 2, 5, 7, 8, 11, 14, 15]
"""The channels that stay in each of these tests."""


def kept(module: nn.Module, importance: Importance, seed: int = 0) -> list[int]:
    """Which channels of the first layer survive when half of them go."""
    cutter = Cutter(generator_of(module, (3, 8, 8)), importance=importance, seed=seed)
    _, cut = cutter.cut(0.5, allocation="uniform")
    channels: list[int] = cut.kept["0"].tolist()
    return channels


def network() -> nn.Sequential:
    """Sixteen channels of one size: nothing tells them apart by their weights."""
    torch.manual_seed(0)
    first, norm, last = nn.Conv2d(3, 16, 1), nn.BatchNorm2d(16), nn.Conv2d(16, 3, 1)
    with torch.no_grad():
        first.weight /= first.weight.norm(dim=1, keepdim=True)
        last.weight /= last.weight.norm(dim=0, keepdim=True)
        first.bias.zero_()  # type: ignore[union-attr]
    return nn.Sequential(first, norm, last)


@pytest.mark.parametrize("importance", ["l1", "l2"])
def test_magnitudes(importance: Importance) -> None:
    module = network()
    with torch.no_grad():
        module[0].weight[GOOD] *= 3.0  # type: ignore[operator,index]
    assert kept(module, importance) == GOOD


def test_scales_of_norms() -> None:
    module = network()
    with torch.no_grad():
        module[1].weight[GOOD] = 3.0  # type: ignore[operator,index]
        module[0].weight[[c for c in range(16) if c not in GOOD]] *= 9.0  # type: ignore[operator,index]
    assert kept(module, "bn-scale") == GOOD


def test_activity_is_seen_behind_the_norm() -> None:
    module = network()
    with torch.no_grad():
        # Dividing by a large spread makes channels quiet whose weights are large.
        quiet = [c for c in range(16) if c not in GOOD]
        module[0].weight[quiet] *= 3.0  # type: ignore[operator,index]
        module[1].running_var[quiet] = 1e6  # type: ignore[operator,index]
    assert kept(module, "activation") == GOOD
    assert kept(module, "l2") == quiet


def test_gradients_see_what_the_picture_does_not_hang_on() -> None:
    class Gated(nn.Sequential):
        def __init__(self, *layers: nn.Module) -> None:
            super().__init__(*layers)
            self.gate = nn.Buffer(torch.full((16, 1, 1), 1e-3))
            self.gate[GOOD] = 1.0

        def forward(self, x: Tensor) -> Tensor:
            images: Tensor = self[2](self[1](self[0](x)) * self.gate)
            return images

    assert kept(Gated(*network()), "taylor") == GOOD


def test_gradients_are_found_where_evaluation_writes_over_them() -> None:
    class InPlace(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            y = self[0](x).sigmoid()
            if not self.training:
                y[:] = y * 2  # what the sigmoid's gradient needs
            return self[2](self[1](y))

    cutter = Cutter(generator_of(InPlace(*network()), (3, 8, 8)), importance="taylor")
    assert not any(ranking.costs.isnan().any() for ranking in cutter.choice.rankings.values())
    assert cutter.cut(0.5)[1].changed


def test_chance_hangs_on_the_seed_alone() -> None:
    module = network()
    assert kept(module, "random", 0) == kept(module, "random", 0)
    assert len({tuple(kept(module, "random", seed)) for seed in range(5)}) > 1
