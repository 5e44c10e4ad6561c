"""Pruning: what is cut, what is left, and that a cut of dead channels changes nothing."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from conftest import SHARED, settle_batch_norms
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from compress.cutting import Cutter
from compress.prune import Prune
from genslim.errors import GateFailed, UserError
from genslim.generator import Generator
from genslim.inputs import Inputs
from genslim.loading import load
from genslim.signature import BATCH, Input, Output, Prior, Signature
from genslim.size import size_of


def test_half_of_the_channels_is_half_of_each_layer(tiny_gan: Generator) -> None:
    pruned = Prune(0.5, allocation="uniform", recover="none")(tiny_gan)
    layers = [m for m in pruned.trainable().modules() if isinstance(m, nn.ConvTranspose2d)]
    assert [layer.out_channels for layer in layers] == [384, 64, 32, 1]
    report = pruned.steps[-1].report
    assert report["macs"][1] < 0.3 * report["macs"][0]
    assert report["macs"][1] == size_of(pruned).macs


def test_the_input_is_left_as_it_was(tiny_gan: Generator) -> None:
    assert tiny_gan.module is not None
    before = copy.deepcopy(tiny_gan.module.state_dict())
    Prune(0.5, seconds=0.5)(tiny_gan)
    after = tiny_gan.module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("allocation", ["global", "uniform"])
@pytest.mark.parametrize("of", ["params", "macs"])
def test_a_ratio_of_size_removes_about_as_much(
    tiny_gan: Generator, of: str, allocation: str
) -> None:
    pruned = Prune(0.4, of=of, allocation=allocation, recover="none")(tiny_gan)  # type: ignore[arg-type]
    report = pruned.steps[-1].report
    before, after = report["parameters" if of == "params" else "macs"]
    assert 0.3 < 1 - after / before < 0.5


def test_half_of_the_channels_go_wherever_they_cost_least(tiny_gan: Generator) -> None:
    pruned = Prune(0.5, recover="none")(tiny_gan)
    layers = [m for m in pruned.trainable().modules() if isinstance(m, nn.ConvTranspose2d)]
    kept = [layer.out_channels for layer in layers]
    assert kept[-1] == 1
    assert sum(kept[:-1]) == pytest.approx((768 + 128 + 64) / 2, abs=8)


@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_cutting_dead_channels_changes_nothing(data: st.DataObject) -> None:
    """The oracle of a correct cut: a channel that is masked to zero may as well not be there."""
    widths = data.draw(st.lists(st.sampled_from([16, 32, 48]), min_size=1, max_size=3))
    torch.manual_seed(data.draw(st.integers(0, 1000)))
    layers: list[nn.Module] = []
    inside = 4
    for width in widths:
        kind = data.draw(st.sampled_from([nn.Conv2d, nn.ConvTranspose2d]))
        layers += [kind(inside, width, 3, padding=1), nn.BatchNorm2d(width), nn.PReLU(width)]
        inside = width
    layers += [nn.Conv2d(inside, 3, 3, padding=1), nn.Sigmoid()]
    module = nn.Sequential(*layers)
    settle_batch_norms(module, torch.randn(8, 4, 12, 12))
    kill_half_of_the_channels(module)
    generator = small(module)
    pruned, cut = Cutter(generator).cut(0.5, allocation="uniform")
    assert len(cut.changed) == len(widths)
    x = torch.randn(2, 4, 12, 12)
    with torch.no_grad():
        assert torch.allclose(pruned(x), module(x), atol=1e-5)


@torch.no_grad()
def kill_half_of_the_channels(module: nn.Sequential) -> None:
    """Set half of each hidden layer's channels, chosen at random, to zero wherever they appear."""
    layers = list(module)
    for index in range(0, len(layers) - 2, 3):
        producer, norm, consumer = layers[index], layers[index + 1], layers[index + 3]
        assert isinstance(norm, nn.BatchNorm2d)
        dead = torch.randperm(norm.num_features)[: norm.num_features // 2]
        axis = 1 if isinstance(producer, nn.ConvTranspose2d) else 0
        for tensor, dim in (
            (producer.weight, axis),
            (producer.bias, 0),
            (norm.weight, 0),
            (norm.bias, 0),
            (consumer.weight, 0 if isinstance(consumer, nn.ConvTranspose2d) else 1),
        ):
            tensor.index_fill_(dim, dead, 0.0)


def small(module: nn.Module) -> Generator:
    signature = Signature(
        (Input("z", (BATCH, 4, 12, 12), Prior()),), (Output("images", (BATCH, 3, 12, 12), (0, 1)),)
    )
    return Generator("small", signature, {"kind": "factory", "name": "x:y"}, module.eval())


class Shuffled(nn.Module):
    """A pixel shuffle at the end: its 12 channels are laid out in a fixed way."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(4, 32, 3, padding=1)
        self.residual = nn.Conv2d(32, 32, 3, padding=1)
        self.tail = nn.Conv2d(32, 48, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.body(x)
        x = x + self.residual(x.relu())
        return nn.functional.pixel_shuffle(self.tail(x), 4)


def test_what_feeds_a_fixed_layout_is_left_whole_with_the_reason() -> None:
    torch.manual_seed(0)
    generator = small(Shuffled())
    pruned, cut = Cutter(generator).cut(0.5, allocation="uniform")
    assert {item["what"] for item in cut.left} == {"tail"}
    assert all(item["reason"] for item in cut.left)
    assert pruned.body.out_channels == pruned.residual.out_channels == 16  # type: ignore[union-attr]
    assert pruned(torch.randn(1, 4, 12, 12)).shape == (1, 3, 48, 48)


def test_layers_that_are_to_be_kept_are(tiny_gan: Generator) -> None:
    pruned = Prune(0.5, keep=("net.0", "net.6*"), recover="none")(tiny_gan)
    report = pruned.steps[-1].report
    assert [line.split(":")[0] for line in report["changed"]] == ["net.3"]
    reasons = {item["what"]: item["reason"] for item in report["left"]}
    assert reasons["net.0"] == reasons["net.6"] == "kept as asked"


def test_the_largest_cut_that_holds_an_ssim() -> None:
    pruned = Prune(min_ssim=0.6, recover="none")(load("dcgan-mnist"))
    report = pruned.steps[-1].report
    assert report["ssim"] >= 0.6
    worse = [t for t in report["tries"] if t["ssim_before_distillation"] < 0.6]
    assert all(t["ratio"] > report["ratio"] for t in worse)
    assert worse


def test_an_ssim_that_no_cut_holds_is_a_failed_gate(tiny_gan: Generator) -> None:
    with pytest.raises(GateFailed, match=r"0\.99999"):
        Prune(min_ssim=0.99999, recover="none")(tiny_gan)


def test_a_step_that_changed_nothing_says_so() -> None:
    module = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1))
    result = Prune(0.5)(small(module))
    report = result.steps[-1].report
    assert report["changed"] == []
    assert report["note"] == "nothing could be removed"


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"ratio": 0.0}, "ratio 0.0"),
        ({"ratio": 1.0}, "ratio 1.0"),
        ({"ratio": float("nan")}, "ratio nan"),
        ({"seconds": 0.0}, "seconds"),
        ({"round_to": 0}, "round_to"),
        ({"steps": 0}, "steps"),
        ({"min_ssim": 1.0}, "SSIM"),
        ({"blocks": 1.5}, "blocks"),
        ({"keep": ("nothing*",)}, "nothing"),
        ({"target": "abacus"}, "abacus"),
    ],
)
def test_parameters_out_of_range_are_refused(
    tiny_gan: Generator, settings: dict[str, float], word: str
) -> None:
    with pytest.raises(UserError, match=word):
        Prune(**settings)(tiny_gan)  # type: ignore[arg-type]


def test_nan_weights_are_refused_by_name(tiny_gan: Generator) -> None:
    module = tiny_gan.trainable()
    with torch.no_grad():
        module.net[3].weight[0, 0, 0, 0] = float("nan")  # type: ignore[union-attr,operator,index]
    with pytest.raises(UserError, match=r"net\.3\.weight"):
        Prune(0.5, recover="none")(replace(tiny_gan, module=module))


def test_recovery_brings_the_trained_generator_back() -> None:
    """Ten seconds on the shipped DCGAN: far from the end, and far better than the bare cut."""
    pruned = Prune(0.5, seconds=10, seed=3)(load("dcgan-mnist"))
    report = pruned.steps[-1].report
    assert report["ssim"] > report["ssim_before_recovery"] + 0.1
    inputs = Inputs(pruned.signature, "quality").draw(64)
    from genslim.metrics import ssim

    images, expected = pruned(inputs), pruned.original(inputs)
    unseen = float(ssim(images, expected, data_range=2.0).mean())
    assert abs(unseen - report["ssim"]) < 0.05


def test_real_super_resolution_weights_are_pruned(image_folder: object) -> None:
    path = SHARED / "models" / "realesr-animevideov3-x4.safetensors"
    if not path.is_file():
        pytest.skip(f"no {path.name} beside the repository")
    generator = load(path, images=str(image_folder), input="1,3,32,32")
    pruned = Prune(0.5, recover="none")(generator)
    assert size_of(pruned).parameters < 0.35 * size_of(generator).parameters
