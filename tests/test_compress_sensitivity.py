"""Sensitivity: what each group is worth, the table, the figure, and what can't be asked."""

from __future__ import annotations

import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
import torch
from conftest import Cli
from torch import nn

from compress.channels.groups import Group
from compress.compensation import see, stand_in
from compress.cutting import Cutter
from compress.sensitivity import Curve, Point, Sensitivity, sensitivity
from compress.sensitivity_plot import plot
from genslim.errors import UserError
from genslim.generator import Generator
from genslim.inputs import Inputs
from genslim.signature import BATCH, Input, Output, Prior, Signature


def small(width: int = 16) -> Generator:
    """Two hidden layers between latents and grey 16x16 pictures."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Unflatten(1, (4, 8, 8)),
        nn.Conv2d(4, width, 3, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(width, width, 4, 2, 1),
        nn.ReLU(),
        nn.Conv2d(width, 1, 3, padding=1),
        nn.Sigmoid(),
    )
    signature = Signature(
        inputs=(Input("z", (BATCH, 256), Prior("normal")),),
        outputs=(Output("images", (BATCH, 1, 16, 16), (0.0, 1.0)),),
    )
    return Generator("small", signature, {"kind": "test"}, module.eval())


@pytest.fixture(scope="module")
def found() -> Sensitivity:
    return sensitivity(small(), (0.25, 0.5, 0.75), round_to=4)


def test_every_group_is_cut_alone_at_every_ratio(found: Sensitivity) -> None:
    assert [curve.group for curve in found.curves] == ["1", "3"]
    assert [[p.removed for p in c.points] for c in found.curves] == [[4, 8, 12], [4, 8, 12]]
    for curve in found.curves:
        assert all(p.ssim < found.ssim for p in curve.points)
        saved = [p.macs_saved for p in curve.points]
        assert saved == sorted(saved)
        assert saved[0] > 0
    assert "5" in found.left


def test_what_is_looked_at_stays_as_it_was() -> None:
    generator = small()
    assert generator.module is not None
    before = {name: t.clone() for name, t in generator.module.state_dict().items()}
    sensitivity(generator, (0.5,), round_to=4)
    assert all(torch.equal(before[n], t) for n, t in generator.module.state_dict().items())


def test_the_closed_form_keeps_more_than_the_bare_cut(found: Sensitivity) -> None:
    bare = sensitivity(small(), (0.25, 0.5, 0.75), round_to=4, recover="none")
    for ours, theirs in zip(found.curves, bare.curves, strict=True):
        assert sum(p.ssim for p in ours.points) > sum(p.ssim for p in theirs.points)


@pytest.mark.parametrize("name", ["1", "3"])
def test_channels_that_others_make_up_for_cost_nothing(name: str) -> None:
    """The oracle: what is gone is a sum of what is left, so that nothing is lost."""
    generator = small()
    module = generator.module
    assert module is not None
    layer = module.get_submodule(name)
    assert isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
    with torch.no_grad():
        weight = layer.weight if isinstance(layer, nn.Conv2d) else layer.weight.transpose(0, 1)
        assert layer.bias is not None
        for own in (weight, layer.bias):
            own[8:] = 2 * own[:8]
    cutter = Cutter(generator, round_to=8)
    group: Group = next(g for g in cutter.choice.groups if g.name == name)
    pruned, cut = cutter.remove({name: 8})
    assert len({int(c) % 8 for c in cut.kept[name]}) == 8, "one of each pair goes"
    following = str(int(name) + 2)
    inputs = Inputs(generator.signature, "quality").draw(8)
    expected = generator(inputs)
    bare = float((generator.variant(module=pruned)(inputs) - expected).abs().max())
    stand_in(pruned, cutter, group, 8, see(cutter.module, [following], generator, 0))
    left = float((generator.variant(module=pruned)(inputs) - expected).abs().max())
    assert left < 0.02 * bare


def test_a_pattern_chooses_groups() -> None:
    one = sensitivity(small(), (0.5,), groups="3", round_to=4)
    assert [curve.group for curve in one.curves] == ["3"]
    with pytest.raises(UserError, match=r"no group matches 'body\.\*'.*there are 1, 3"):
        sensitivity(small(), (0.5,), groups="body.*", round_to=4)


def test_groups_too_small_to_round_are_refused() -> None:
    with pytest.raises(UserError, match=r"no group of channels can be cut.*round-to"):
        sensitivity(small(), (0.5,), round_to=64)


@pytest.mark.parametrize("rows", [1, 8, 9, 40])
def test_the_figure_grows_with_the_groups(found: Sensitivity, rows: int) -> None:
    from PIL import Image

    points = (Point(0.25, 4, 0.99, 0.01, 1.0), Point(0.5, 8, 0.9, 0.02, None))
    curves = tuple(
        Curve(f"blocks.{i}.a_long_name.of_a_layer.in_a_deep_network.conv", (), 16, points)
        for i in range(rows)
    )
    many = replace(found, ratios=(0.25, 0.5), curves=curves)
    with Image.open(BytesIO(plot(many))) as picture:
        assert picture.format == "PNG"
        assert 500 < picture.width < 1600
        assert picture.height > (15 * rows if rows > 8 else 300)


def test_the_command_shows_and_writes(cli: Cli, compact_weights: Path, image_folder: Path) -> None:
    source = (compact_weights, "--images", image_folder, "--round-to", "4")
    words = ("--ratios", "0.5, 0.25", "--count", "2", "--groups", "body.[24]")
    outcome = cli("compress", "sensitivity", *source, *words, "--json")
    assert outcome.status == 0, outcome
    assert "body.2" in outcome.err
    facts = json.loads(outcome.out)
    assert facts["ratios"] == [0.25, 0.5]
    assert facts["wrote"] == "sensitivity-compact-x2"
    folder = Path("sensitivity-compact-x2")
    assert sorted(p.name for p in folder.iterdir()) == ["sensitivity.json", "sensitivity.png"]
    record = json.loads((folder / "sensitivity.json").read_text())
    assert record["curves"] == facts["curves"]
    assert [curve["group"] for curve in facts["curves"]] == ["body.2", "body.4"]
    assert not Path("runs").exists(), "nothing is changed, so there is no run"


def test_a_dry_run_says_what_it_would_do(cli: Cli) -> None:
    outcome = cli("compress", "sensitivity", "dcgan-mnist", "--dry-run")
    assert outcome.status == 0
    assert "would cut" in outcome.out
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--ratios", "0.5,half"), "'half' is no ratio"),
        (("--ratios", "1.5"), "ratio 1.5 is not between 0 and 1"),
        (("--ratios", "0"), "ratio 0.0 is not between 0 and 1"),
        (("--ratios", "nan"), "'nan' is no ratio"),
        (("--ratios", ","), "no ratio was named"),
        (("--count", "0"), "count 0 is less than 1"),
        (("--round-to", "0"), "round_to 0 is less than 1"),
        (("--recover", "distill"), "distill"),
    ],
)
def test_what_can_not_be_asked_is_refused(cli: Cli, flags: tuple[str, ...], said: str) -> None:
    assert said in cli("compress", "sensitivity", "dcgan-mnist", *flags).refused()


def test_a_folder_that_can_not_be_written_is_refused_at_once(
    cli: Cli, compact_weights: Path, image_folder: Path
) -> None:
    source = (compact_weights, "--images", image_folder)
    Path("taken").write_text("a file")
    assert "taken" in cli("compress", "sensitivity", *source, "-o", "taken").refused()
    words = ("--groups", "none.*", "-o", "fresh")
    assert "no group matches" in cli("compress", "sensitivity", *source, *words).refused()
    assert not Path("fresh").exists()


def test_images_must_be_named(cli: Cli, compact_weights: Path) -> None:
    assert "--images DIR" in cli("compress", "sensitivity", compact_weights).refused()
