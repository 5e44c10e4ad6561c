"""Edits describe what changed between two architectures, as JSON, and replay it."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from genslim.edits import LAYERS, construct, describe, difference, replay
from genslim.errors import GenslimError, UserError

LAYERS_TO_DESCRIBE = [
    nn.Conv1d(4, 6, 3, stride=2, padding=1, bias=False),
    nn.Conv2d(4, 8, (3, 5), padding=(1, 2), groups=2, dilation=2, padding_mode="reflect"),
    nn.Conv2d(4, 4, 3, padding="same"),
    nn.Conv3d(1, 2, 3),
    nn.ConvTranspose1d(4, 2, 4, 2, 1),
    nn.ConvTranspose2d(4, 6, 4, 2, 1, output_padding=1, bias=False),
    nn.ConvTranspose3d(2, 2, 2),
    nn.Linear(5, 7, bias=False),
    nn.BatchNorm1d(3, eps=1e-3),
    nn.BatchNorm2d(6, affine=False),
    nn.InstanceNorm2d(6, affine=True, track_running_stats=True),
    nn.GroupNorm(2, 6),
    nn.LayerNorm((4, 5)),
    nn.PReLU(6),
    nn.LeakyReLU(0.2),
    nn.ReLU(inplace=True),
    nn.Flatten(),
    nn.Unflatten(1, (3, 2, 2)),
    nn.Identity(),
    nn.PixelShuffle(2),
    nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.Sequential(nn.Conv2d(4, 8, 1))),
]


def same_make(a: nn.Module, b: nn.Module) -> bool:
    """Whether two modules print alike and hold tensors of the same names and shapes."""
    shapes = [{k: v.shape for k, v in m.state_dict().items()} for m in (a, b)]
    return repr(a) == repr(b) and shapes[0] == shapes[1]


@pytest.mark.parametrize("layer", LAYERS_TO_DESCRIBE, ids=lambda m: type(m).__name__)
def test_a_described_layer_is_built_again(layer: nn.Module) -> None:
    spec = json.loads(json.dumps(describe(layer)))
    built = construct(spec)
    assert same_make(built, layer)
    built.load_state_dict(layer.state_dict())


def test_every_layer_in_the_list_is_tried() -> None:
    assert {type(m).__name__ for m in LAYERS_TO_DESCRIBE} >= LAYERS.keys()


def test_what_is_not_in_the_list_has_no_description() -> None:
    class Conv2d(nn.Conv2d):
        """A subclass may compute something else."""

    assert describe(Conv2d(3, 3, 3)) is None
    assert describe(nn.MultiheadAttention(8, 2)) is None
    assert describe(nn.Sequential(nn.CELU())) is None


class Block(nn.Module):
    """A residual block with a norm and a nested body."""

    def __init__(self, outer: int, inner: int, norm: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(outer, inner, 3, padding=1, bias=not norm),
            nn.BatchNorm2d(inner) if norm else nn.Identity(),
            nn.PReLU(inner),
            nn.Conv2d(inner, outer, 3, padding=1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x)


class Net(nn.Module):
    """A small image-to-image net, its widths given."""

    def __init__(self, outer: int, inners: list[int], norm: bool) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, outer, 3, padding=1)
        self.blocks = nn.ModuleList(Block(outer, inner, norm) for inner in inners)
        self.tail = nn.ConvTranspose2d(outer, 3, 4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.head(x)
        for block in self.blocks:
            x = block(x)
        return self.tail(x)


widths = st.integers(1, 9)
plans = st.tuples(widths, st.lists(widths, min_size=1, max_size=4), st.booleans())


@given(plans, st.data())
def test_replaying_the_difference_gives_the_edited_net(
    plan: tuple[int, list[int], bool], data: st.DataObject
) -> None:
    outer, inners, norm = plan
    original = Net(outer, inners, norm)
    lists = st.lists(widths, min_size=len(inners), max_size=len(inners))
    edited = Net(data.draw(widths), data.draw(lists), norm).eval()
    if data.draw(st.booleans()):  # a depthwise-separable replacement: one layer becomes two
        wide = edited.head.out_channels
        edited.head = nn.Sequential(nn.Conv2d(3, 3, 3, 1, 1, groups=3), nn.Conv2d(3, wide, 1))
    edits = json.loads(json.dumps(difference(original, edited)))
    rebuilt = replay(Net(outer, inners, norm), edits).eval()
    assert same_make(rebuilt, edited)
    rebuilt.load_state_dict(edited.state_dict())
    images = torch.rand(1, 3, 6, 5)
    with torch.no_grad():
        assert torch.equal(rebuilt(images), edited(images))


@given(plans)
def test_equal_architectures_need_no_edits(plan: tuple[int, list[int], bool]) -> None:
    assert difference(Net(*plan), Net(*plan)) == {}


def test_only_what_changed_is_named() -> None:
    original = Net(4, [4, 4], norm=True)
    edited = copy.deepcopy(original)
    edited.blocks[1].body[0] = nn.Conv2d(4, 4, 1)
    assert list(difference(original, edited)) == ["blocks.1.body.0"]


def test_a_whole_module_can_be_the_edit() -> None:
    edits = difference(nn.Linear(2, 2), nn.Linear(2, 3))
    assert list(edits) == [""]
    assert same_make(replay(nn.Linear(2, 2), edits), nn.Linear(2, 3))


class Scale(nn.Module):
    """A module of the user's own: a learned scale, a buffer, and numbers that its code reads."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(size))
        self.register_buffer("shift", torch.zeros(size))
        self.size, self.halves = size, [size // 2, size - size // 2]


def test_a_module_of_any_class_can_be_resized() -> None:
    original, edited = nn.Sequential(Scale(4)), nn.Sequential(Scale(6))
    edits = json.loads(json.dumps(difference(original, edited)))
    assert edits == {
        "0": {
            "tensors": {"factor": [6], "shift": [6]},
            "numbers": {"size": 6, "halves": [3, 3]},
        }
    }
    rebuilt = replay(nn.Sequential(Scale(4)), edits)
    rebuilt.load_state_dict(edited.state_dict())
    assert isinstance(rebuilt[0], Scale)
    assert (rebuilt[0].size, rebuilt[0].halves) == (6, [3, 3])
    assert isinstance(rebuilt[0].factor, nn.Parameter)


@pytest.mark.parametrize(
    "spec",
    [
        {"tensors": {"nothing": [3]}},
        {"tensors": {"factor": "large"}},
        {"tensors": {"factor": [2.5]}},
        {"numbers": {"nothing": 3}},
        {"numbers": {"size": "many"}},
        {"numbers": {"training": 1}},
        {"numbers": {"forward": 1}},
    ],
)
def test_resizing_what_is_not_there_is_refused(spec: dict[str, object]) -> None:
    with pytest.raises(UserError, match="which has no such"):
        replay(nn.Sequential(Scale(4)), {"0": spec})


def test_a_change_that_no_edit_can_say_is_an_error() -> None:
    with pytest.raises(GenslimError, match="can't be described"):
        difference(nn.Sequential(nn.CELU()), nn.Sequential(nn.SELU()))


def test_replay_names_a_module_that_is_not_there() -> None:
    with pytest.raises(UserError, match=r"'net\.7', which the architecture lacks"):
        replay(nn.Sequential(nn.ReLU()), {"net.7": {"class": "Identity"}})
