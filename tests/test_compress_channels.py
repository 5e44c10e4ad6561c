"""Every way in which channels go from layer to layer: what is cut, and that the cut is right."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from connections import CASES, Case, conv, settled
from hypothesis import given, settings
from hypothesis import strategies as st
from masking import Net, generator_of, masked
from torch import Tensor, nn

from compress.channels.cutting import Cuttable
from compress.channels.groups import channel_graph
from compress.channels.labels import Labels
from compress.channels.trying import cuttable
from genslim.edits import difference, replay
from genslim.folding import fold
from genslim.size import size_of


def built(case: Case) -> nn.Module:
    torch.manual_seed(0)
    module = case.build().eval()
    fold(module, lambda: module(torch.randn(1, *case.shape)))
    return module


def halves(found: Cuttable) -> dict[str, np.ndarray]:
    return {g.name: np.arange(0, len(g.atoms) // 2 * 2, 2) for g in found.groups}


def some(found: Cuttable, seed: int) -> dict[str, np.ndarray]:
    """Any number of atoms of each group, but never all."""
    random = np.random.default_rng(seed)
    return {
        g.name: random.permutation(len(g.atoms))[: random.integers(0, len(g.atoms))]
        for g in found.groups
    }


def close(made: Tensor, expected: Tensor) -> bool:
    return float((made - expected).abs().max()) <= 1e-4 * float(expected.std()) + 1e-6


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_a_cut_is_the_same_as_masking(name: str) -> None:
    case = CASES[name]
    module = built(case)
    before = copy.deepcopy(module.state_dict())
    generator = generator_of(module, case.shape)
    found = cuttable(generator, module)
    x = torch.randn(2, *case.shape)
    whole = module(x)
    for gone in (halves(found), some(found, 1), some(found, 2)):
        small, kept = found.without(module, gone)
        made = small(x)
        assert made.shape == whole.shape
        assert bool(made.isfinite().all())
        if case.exact:
            assert close(made, masked(module, kept, x, fill=case.fill))
        edits = json.loads(json.dumps(difference(module, small)))
        again = replay(copy.deepcopy(module), edits).eval()
        again.load_state_dict(small.state_dict())
        assert torch.equal(again(x), made)
    assert all(torch.equal(module.state_dict()[key], value) for key, value in before.items())


@pytest.mark.parametrize("name", CASES)
def test_what_can_go_is_found_and_what_can_not_has_a_reason(name: str) -> None:
    case = CASES[name]
    module = built(case)
    found = cuttable(generator_of(module, case.shape), module)
    _, kept = found.without(module, halves(found))
    assert {layer: len(channels) for layer, channels in kept.items()} == dict(case.cut)
    assert found.graph.makers.keys() == kept.keys() | found.left.keys()
    assert all(found.left.values())
    for layer, word in case.left.items():
        assert word in found.left[layer]
    if case.cut:
        assert case.exact == all(group.exact for group in found.groups)


@pytest.mark.parametrize("name", CASES)
def test_sizes_are_predicted(name: str) -> None:
    case = CASES[name]
    module = built(case)
    generator = generator_of(module, case.shape)
    found = cuttable(generator, module)
    for gone in ({}, halves(found), some(found, 3)):
        small, kept = found.without(module, gone)
        counts = {group: len(atoms) for group, atoms in gone.items()}
        parameters = sum(p.numel() for p in small.parameters())
        assert found.graph.params(counts) == pytest.approx(parameters)
        lost = sum(found.graph.channels_of(layer) - len(kept[layer]) for layer in kept)
        assert found.graph.channels({}) - found.graph.channels(counts) == pytest.approx(lost)


@pytest.mark.parametrize(
    "name", ["convolutions", "transposed", "few groups", "depthwise", "linear", "dense block"]
)
def test_multiplications_are_predicted(name: str) -> None:
    case = CASES[name]
    module = built(case)
    generator = generator_of(module, case.shape)
    found = cuttable(generator, module)
    gone = some(found, 4)
    small, _ = found.without(module, gone)
    counts = {group: len(atoms) for group, atoms in gone.items()}
    share = found.graph.macs(counts) / found.graph.macs({})
    after = size_of(generator.variant(module=small)).macs
    assert share == pytest.approx(after / size_of(generator).macs, rel=1e-6)


# -- what masking can't tell -------------------------------------------------------------------


@torch.no_grad()
def test_a_layer_norm_is_computed_of_what_stays() -> None:
    module = built(CASES["layer norm"])
    found = cuttable(generator_of(module, (4, 8, 8)), module)
    small, kept = found.without(module, halves(found))
    x = torch.randn(2, 4, 8, 8)
    stays = kept["first"]
    norm = module.second
    features = module.first(x).permute(0, 2, 3, 1)[..., stays]
    normed = nn.functional.layer_norm(
        features, (len(stays),), norm.weight[stays], norm.bias[stays], norm.eps
    )
    images = nn.functional.conv2d(
        normed.relu().permute(0, 3, 1, 2), module.last.weight[:, stays], module.last.bias, padding=1
    )
    assert close(small(x), images)


@torch.no_grad()
def test_few_normed_groups_lose_channels_of_each() -> None:
    module = built(CASES["few normed groups"])
    found = cuttable(generator_of(module, (4, 8, 8)), module)
    small, kept = found.without(module, {found.groups[0].name: np.array([1, 2, 5])})
    assert kept["0"].tolist() == [0, 3, 4, 6, 7, 8, 11, 12, 14, 15]
    assert small[1].num_groups == 2
    x = torch.randn(2, 4, 8, 8)
    features, stays = module[0](x)[:, kept["0"]], kept["0"]
    normed = nn.functional.group_norm(
        features, 2, module[1].weight[stays], module[1].bias[stays], module[1].eps
    )
    weight = module[3].weight[:, stays]
    images = nn.functional.conv2d(normed * normed.sigmoid(), weight, module[3].bias, padding=1)
    assert close(small(x), images)


@pytest.mark.parametrize(
    ("scale", "right"), [("x.shape[1]", False), ("16", True)], ids=["by the width", "by a number"]
)
def test_what_is_computed_over_channels_must_stay_what_it_was(scale: str, right: bool) -> None:
    """A mean of fewer channels is no mean of zeros; a factor that their number tells is another."""

    def run(m: Net, x: Tensor) -> Tensor:
        x = m.first(x)
        total = x.mean(1, keepdim=True) * (x.shape[1] if scale.startswith("x") else 16)
        return m.last(x * total)

    torch.manual_seed(0)
    module = Net(run, first=conv(4, 16), last=conv(16, 3))
    found = cuttable(generator_of(module, (4, 8, 8)), module)
    assert bool(found.groups) == right
    assert right or "what is computed would change" in found.left["first"]


def test_what_only_goes_together_goes_together() -> None:
    """``view_as`` ties the sizes of two tensors of which no elements meet."""

    def run(m: Net, x: Tensor) -> Tensor:
        a = m.first(x)
        b = m.second(x).relu().view_as(a)
        return m.left(a) + m.right(b)

    torch.manual_seed(0)
    module = Net(run, first=conv(4, 16), second=conv(4, 16), left=conv(16, 3), right=conv(16, 3))
    found = cuttable(generator_of(module, (4, 8, 8)), module)
    assert [g.layers for g in found.groups] == [("first", "second")]
    for seed in range(4):
        small, kept = found.without(module, some(found, seed))
        x = torch.randn(1, 4, 8, 8)
        with torch.no_grad():
            assert close(small(x), masked(module, kept, x))


def test_numbers_that_code_counts_on_follow() -> None:
    module = built(CASES["channels by a stored split"])
    found = cuttable(generator_of(module, (4, 8, 8)), module)
    small, _ = found.without(module, {found.groups[0].name: np.arange(6)})
    assert small.part == 10
    assert module.part == 16
    module = built(CASES["channels by an uneven split"])
    found = cuttable(generator_of(module, (4, 8, 8)), module)
    small, _ = found.without(module, halves(found))
    assert small.parts == [4, 8]


class Recursive(nn.Module):
    """Runs its layer as often as its input says: no graph could be captured of it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.body, self.last = conv(4, 16), conv(16, 16), conv(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for _ in range(int(x.sum() > 0) + 1):
            x = self.body(x).relu()
        return self.last(x)


class Straight(torch.autograd.Function):
    """An activation with a gradient of its own."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:  # type: ignore[override]
        return x.sign()


def test_code_that_no_graph_holds_is_cut() -> None:
    torch.manual_seed(0)
    activated = Net(
        lambda m, x: m.last(Straight.apply(m.first(x))), first=conv(4, 16), last=conv(16, 3)
    )
    for module in (Recursive(), activated):
        found = cuttable(generator_of(module, (4, 8, 8)), module)
        _, kept = found.without(module, halves(found))
        assert {len(channels) for channels in kept.values()} == {8}


def test_the_graph_is_of_the_module_that_is_named() -> None:
    module = nn.Sequential(conv(4, 16), conv(16, 3))
    generator = generator_of(module, (4, 8, 8))
    other = nn.Sequential(conv(4, 24), conv(24, 3))
    assert [len(g.atoms) for g in channel_graph(generator).groups] == [16]
    assert [len(g.atoms) for g in channel_graph(generator, other).groups] == [24]


# -- random networks ---------------------------------------------------------------------------


class Residual(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.a, self.norm, self.b = conv(width, inner), nn.BatchNorm2d(inner), conv(inner, width)
        settled(self.norm)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.b(self.norm(self.a(x)).relu()) * 0.5


class Joined(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.a, self.b = conv(width, inner), conv(width + inner, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.cat([self.a(x).relu(), x], 1))


class Gate(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.a, self.b = conv(width, 2 * inner, 1), conv(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.a(x).chunk(2, 1)
        return self.b(left * right.sigmoid())


class Attended(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.up(self.down(x.mean((2, 3))).relu()).sigmoid()[:, :, None, None]


BLOCKS = {
    "convolution": lambda width, inner: nn.Sequential(conv(width, inner), conv(inner, width)),
    "residual": Residual,
    "join": Joined,
    "gate": Gate,
    "squeeze": Attended,
    "grouped": lambda width, inner: nn.Sequential(conv(width, width, groups=4), nn.GELU()),
    "depthwise": lambda width, inner: nn.Sequential(
        conv(width, width, groups=width), nn.PReLU(width), conv(width, width, 1)
    ),
    "shuffled": lambda width, inner: nn.Sequential(
        conv(width, 4 * inner), nn.PixelShuffle(2), nn.PReLU(inner), nn.AvgPool2d(2),
        conv(inner, width),
    ),
    "groups shuffled": lambda width, inner: nn.Sequential(
        conv(width, width, groups=2), nn.ChannelShuffle(2), conv(width, width, groups=2)
    ),
    "larger": lambda width, inner: nn.Sequential(
        nn.ConvTranspose2d(width, inner, 4, 2, 1), nn.LeakyReLU(0.1),
        nn.Conv2d(inner, width, 3, 2, 1),
    ),
    "normed": lambda width, inner: nn.Sequential(
        settled(nn.GroupNorm(width // 2, width)), conv(width, width, padding_mode="reflect")
    ),
}  # fmt: skip


@settings(max_examples=30)
@given(
    blocks=st.lists(st.sampled_from(sorted(BLOCKS)), min_size=1, max_size=5),
    width=st.sampled_from([16, 24, 32]),
    inner=st.sampled_from([4, 6, 16]),
    seed=st.integers(0, 1000),
)
@torch.no_grad()
def test_networks_of_any_blocks_are_cut_right(
    blocks: list[str], width: int, inner: int, seed: int
) -> None:
    torch.manual_seed(seed)
    parts = [BLOCKS[name](width, inner) for name in blocks]
    module = nn.Sequential(conv(4, width), *parts, conv(width, 3)).eval()
    found = cuttable(generator_of(module, (4, 8, 8)), module)
    assert found.left.keys() == {str(len(blocks) + 1)}  # the picture's own layer
    gone = some(found, seed)
    small, kept = found.without(module, gone)
    x = torch.randn(2, 4, 8, 8)
    made, expected = small(x), masked(module, kept, x)
    assert made.shape == expected.shape
    assert close(made, expected)
    edits = json.loads(json.dumps(difference(module, small)))
    again = replay(copy.deepcopy(module), edits).eval()
    again.load_state_dict(small.state_dict())
    assert torch.equal(again(x), made)
    counts = {name: len(atoms) for name, atoms in gone.items()}
    assert found.graph.params(counts) == sum(p.numel() for p in small.parameters())


# -- labels ------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), max_size=40),
    st.lists(st.integers(1, 30), max_size=3),
)
def test_labels_share_their_fate_with_all_they_were_united_with(
    pairs: list[tuple[int, int]], fixed: list[int]
) -> None:
    labels = Labels()
    every = labels.fresh(30)
    for label in fixed:
        labels.fix(np.array([label]), "stays")
    for a, b in pairs:
        labels.unite(np.array([a]), np.array([b]))
    sets = [{label} for label in range(31)]  # the same by hand
    for a, b in pairs:
        joint = sets[a] | sets[b]
        for label in joint:
            sets[label] = joint
    roots = labels.find(every)
    for label in every:
        assert {int(x) for x in every if roots[x - 1] == roots[label - 1]} == sets[label]
        assert (labels.reason(int(label)) is not None) == bool(sets[label] & set(fixed))


def test_padding_shares_no_fate() -> None:
    labels = Labels()
    one = labels.fresh(3)
    labels.unite(np.array([0, 0, 0]), one)
    labels.fix(np.array([0]), "is padding")
    assert len(set(labels.find(one))) == 3
    assert all(labels.reason(int(label)) is None for label in one)


def test_planes_that_meet_are_united_place_by_place() -> None:
    labels = Labels()
    a, b = labels.fresh(4), labels.fresh(4)
    labels.unite_planes(labels.along((2, 4, 3), 1, a), labels.along((2, 4, 3), 1, b))
    assert labels.find(a).tolist() == labels.find(b).tolist()
    assert len(set(labels.find(a))) == 4
