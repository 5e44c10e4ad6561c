"""Blocks learn, one by one, what the original's make."""

from __future__ import annotations

import pytest
import torch
from masking import generator_of
from torch import Tensor, nn

from compress.blockwise import blocks_of, fit_blocks
from compress.cutting import Cutter
from compress.prune import Prune
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


@pytest.mark.parametrize(
    ("blocks", "step_takes", "fitted", "whole"),
    [
        (0.5, 0.001, 2, True),
        (1.0, 0.001, 2, False),
        (0.0, 60.0, None, True),
        (None, 0.001, None, True),
        (None, 60.0, 2, False),  # not twenty steps of the whole fit into the time
    ],
)
def test_blocks_get_the_share_of_the_time_that_pays(
    blocks: float | None,
    step_takes: float,
    fitted: int | None,
    whole: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("compress.recovery.step_seconds", lambda *_: step_takes)
    torch.manual_seed(0)
    generator = generator_of(Blocks(), (3, 12, 12))
    step = Prune(0.5, allocation="uniform", keep=("tail.*",), seconds=1.0, blocks=blocks)
    report = step(generator).steps[-1].report
    assert report.get("blocks_fitted") == fitted
    assert (report["recovery_steps"] > 0) is whole
    assert report["ssim"] >= report["ssim_after_closed_form"]
    assert report["recovery_seconds"] <= 3
