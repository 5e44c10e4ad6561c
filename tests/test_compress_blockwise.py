"""Blocks learn, one by one, what the original's make."""

from __future__ import annotations

import torch
from masking import generator_of
from torch import Tensor, nn

from compress.blockwise import blocks_of, fit_blocks
from compress.cutting import Cutter
from genslim.inputs import Inputs


class Block(nn.Module):
    """A branch with a nonlinearity, added to what came in."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.out = nn.Conv2d(8, 32, 3, padding=1), nn.Conv2d(32, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.out(self.inside(x).relu())


class Blocks(nn.Module):
    """Two blocks, and a pair of layers that is none: what is between them is not kept."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 8, 3, padding=1)
        self.body = nn.Sequential(Block(), Block())
        self.tail = nn.Sequential(nn.Conv2d(8, 16, 1), nn.ReLU())
        self.last = nn.Conv2d(16, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        images: Tensor = self.last(self.tail(self.body(self.head(x))))
        return images


def test_the_smallest_modules_that_keep_their_outer_channels_are_blocks() -> None:
    torch.manual_seed(0)
    generator = generator_of(Blocks(), (3, 12, 12))
    pruned, cut = Cutter(generator).cut(0.5, allocation="uniform")
    assert set(cut.kept) >= {"body.0.inside", "body.1.inside", "tail.0"}
    assert "body.0.out" not in cut.kept  # eight channels are few enough
    assert blocks_of(pruned, generator, cut.kept) == ["body.0", "body.1"]


def test_blocks_that_lost_outer_channels_are_none() -> None:
    torch.manual_seed(0)
    generator = generator_of(Blocks(), (3, 12, 12))
    pruned, cut = Cutter(generator, round_to=2).cut(0.5, allocation="uniform")
    assert "body.0.out" in cut.kept
    assert blocks_of(pruned, generator, cut.kept) == []


def test_fitted_blocks_come_nearer_to_the_original() -> None:
    torch.manual_seed(0)
    generator = generator_of(Blocks(), (3, 12, 12))
    pruned, cut = Cutter(generator, keep=("tail.*",)).cut(0.5, allocation="uniform")
    others = {n: t.clone() for n, t in pruned.state_dict().items() if not n.startswith("body.")}
    inputs = Inputs(generator.signature, "quality").draw(32)
    wanted = generator(inputs)

    def error() -> float:
        return float((generator.variant(module=pruned)(inputs) - wanted).square().mean())

    before = error()
    fit_blocks(pruned, generator, blocks_of(pruned, generator, cut.kept), seconds=3, seed=0)
    assert error() < 0.7 * before
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in pruned.modules())
    assert all(torch.equal(t, pruned.state_dict()[n]) for n, t in others.items())
