"""Depth pruning: which blocks go, what is kept, and what a shorter network saves and opens as."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import Cli, settle_batch_norms
from torch import Tensor, nn

from compress import Shorten
from compress.commands import left_whole
from compress.depth import Depth, blocks_of
from genslim import artifact
from genslim.errors import UserError
from genslim.generator import Generator
from genslim.inputs import Inputs
from genslim.loading import load
from genslim.signature import BATCH, Input, Output, Prior, Signature
from genslim.size import size_of

QUIET = 1
"""Of the blocks, the one that adds nearly nothing."""


class Block(nn.Module):
    """Adds what two convolutions make, times a number."""

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)
        )
        self.strength = strength

    def forward(self, x: Tensor) -> Tensor:
        return x + self.strength * self.body(x)


class Residual(nn.Module):
    """Latents ``(N, 8)`` to grey 16x16 images through a group of four blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.ConvTranspose2d(8, 8, 8)
        self.blocks = nn.Sequential(*(Block(0.01 if i == QUIET else 1.0) for i in range(4)))
        self.image = nn.ConvTranspose2d(8, 1, 2, 2)

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(self.image(self.blocks(self.stem(z[..., None, None]))))


def residual() -> nn.Module:
    torch.manual_seed(0)
    module = Residual().eval()
    settle_batch_norms(module, torch.randn(4, 8))
    return module


@pytest.fixture
def generator() -> Generator:
    signature = Signature(
        inputs=(Input("z", (BATCH, 8), Prior("normal")),),
        outputs=(Output("images", (BATCH, 1, 16, 16), (-1.0, 1.0)),),
    )
    return Generator("residual", signature, {"kind": "test"}, residual())


BLOCK = 2 * 9 * 8 * 8 * 64
"""MACs of a block: two 3x3 convolutions of 8 channels on 8x8 places."""


def test_blocks_take_and_give_the_same_shape(generator: Generator) -> None:
    assert generator.module is not None
    names = blocks_of(generator.module, generator)
    assert "blocks" in names
    assert "blocks.0" in names
    assert "blocks.0.body" in names
    assert "blocks.0.body.0" in names
    assert not {"stem", "image", "", "blocks.0.body.1"} & set(names)


def test_the_block_that_adds_least_goes_first(generator: Generator) -> None:
    whole = size_of(generator).macs
    depth = Depth(generator)
    assert depth.whole == whole
    depth.cut(1.01 * BLOCK / whole)
    assert depth.removed in ([f"blocks.{QUIET}"], [f"blocks.{QUIET}.body"])
    assert whole - size_of(generator.variant(module=depth.module)).macs == BLOCK


@pytest.mark.parametrize("ratio", [0.1, 0.3, 0.5, 0.8])
def test_no_more_goes_than_was_asked(generator: Generator, ratio: float) -> None:
    before = size_of(generator).macs
    short = Shorten(ratio=ratio, recover="none")(generator)
    left = size_of(short).macs
    assert (1 - ratio) * before <= left
    assert left < (1 - ratio) * before + BLOCK / 2  # half a block is the least that fits


def test_parameters_are_counted_where_they_are_asked_of(generator: Generator) -> None:
    before = size_of(generator).parameters
    short = Shorten(ratio=0.4, of="params", recover="none")(generator)
    after = size_of(short).parameters
    assert 0.6 * before <= after < 0.85 * before


def test_a_block_takes_what_went_inside_it_along(generator: Generator) -> None:
    depth = Depth(generator)
    depth.take_out("blocks.0.body.0")
    depth.take_out("blocks.0")
    assert depth.removed == ["blocks.0"]
    assert not [n for n in depth.blocks if n.startswith("blocks.0")]


def test_what_is_kept_stays_with_all_that_holds_it(generator: Generator) -> None:
    depth = Depth(generator, keep=[f"blocks.{QUIET}.body.0"])
    assert "blocks" not in depth.blocks
    assert f"blocks.{QUIET}" not in depth.blocks
    assert f"blocks.{QUIET}.body.2" in depth.blocks


def test_the_input_is_left_as_it_was(generator: Generator) -> None:
    inputs = Inputs(generator.signature, "quality").draw(4)
    before = generator(inputs)
    Shorten(ratio=0.5, recover="none")(generator)
    assert torch.equal(generator(inputs), before)


def test_a_shorter_network_saves_and_opens(tmp_path: Path, image_folder: Path) -> None:
    source = load("networks:cyclegan_resnet", images=image_folder, input="images:1,3,64,64")
    short = Shorten(ratio=0.3, recover="none")(source)
    assert short.steps[-1].report["changed"]
    saved = artifact.save(short, tmp_path / "short", kind="step")
    inputs = Inputs(source.signature, "quality").draw(2)
    assert torch.equal(saved(inputs), short(inputs))
    assert size_of(saved) == size_of(short)


def test_distillation_wins_quality_back(generator: Generator) -> None:
    report = Shorten(ratio=0.5, steps=60)(generator).steps[-1].report
    assert report["recovery_steps"] == 60
    assert report["ssim"] > report["ssim_before_recovery"] + 0.01


def test_layers_that_are_left_make_up_for_those_that_are_gone(generator: Generator) -> None:
    report = Shorten(ratio=0.5, recover="closed-form")(generator).steps[-1].report
    assert report["ssim"] == report["ssim_after_closed_form"]
    assert report["ssim"] > report["ssim_before_recovery"] + 0.01
    assert report["layers_refitted"] > 0
    assert "recovery_steps" not in report


def test_a_refit_that_wins_back_too_little_is_not_distilled_from(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Shorten(ratio=0.5, steps=1)(generator).steps[-1].report
    monkeypatch.setattr("compress.shorten.WORTH", 2.0)
    undone = Shorten(ratio=0.5, steps=1)(generator).steps[-1].report
    assert kept["ssim_after_closed_form"] == undone["ssim_after_closed_form"]
    assert kept["layers_refitted"] > undone["layers_refitted"] == 0
    assert kept["ssim"] > undone["ssim"] >= undone["ssim_before_recovery"]


def test_what_has_no_small_block_is_left_whole_and_says_so(generator: Generator) -> None:
    short = Shorten(ratio=0.001, recover="none")(generator)
    assert "smallest block" in short.steps[-1].report["note"]
    assert size_of(short) == size_of(generator)


def test_what_has_no_block_is_left_whole_and_says_so(tiny_gan: Generator) -> None:
    kept = Shorten(ratio=0.9, recover="none")(tiny_gan).steps[-1].report
    assert kept["changed"] == []
    assert "no block gives what it takes" in kept["note"]


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (Shorten(ratio=0), "ratio 0 is not between 0 and 1"),
        (Shorten(ratio=1.5), "ratio 1.5"),
        (Shorten(seconds=0), "needs seconds"),
        (Shorten(steps=0), "needs seconds"),
        (Shorten(keep=("nothing.*",)), "no module matches 'nothing.*'"),
    ],
)
def test_bad_settings_are_refused(generator: Generator, step: Shorten, message: str) -> None:
    with pytest.raises(UserError, match=message):
        step(generator)


def test_a_graph_is_refused(graph_gan: Generator) -> None:
    with pytest.raises(UserError, match="is an ONNX graph"):
        Shorten()(graph_gan)


def test_the_command_shortens_a_run(cli: Cli, image_folder: Path) -> None:
    source = ("networks:cyclegan_resnet", "--images", str(image_folder))
    flags = ("--input", "images:1,3,64,64", "--ratio", "0.4", "--recover", "none")
    outcome = cli("compress", "shorten", *source, *flags, "-o", "run", "--json")
    assert outcome.status == 0, outcome.err
    facts = json.loads(outcome.out.splitlines()[-1])
    before, after = facts["report"]["macs"]
    assert 0.6 <= after / before < 0.7
    assert load("run").steps[-1].name == "shorten"


def test_many_layers_left_whole_for_one_reason_are_counted() -> None:
    left = [{"what": f"body.{i}", "reason": "kept as asked"} for i in range(9)]
    left.append({"what": "tail", "reason": "is the picture's"})
    lines = ["9 from body.0 to body.8: kept as asked", "tail: is the picture's"]
    assert left_whole(left) == lines
    assert left_whole(left[:2]) == ["body.0: kept as asked", "body.1: kept as asked"]
