"""How many channels each group loses: least for what they save, or alike."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from compress.allocation import Choice, globally, uniform, uniform_to_size
from compress.channels.groups import channel_graph
from compress.selection import Ranking
from genslim.generator import Generator
from genslim.signature import BATCH, Input, Output, Prior, Signature


def chain(*widths: int) -> Generator:
    """Convolutions in a row: each has a group of its own channels."""
    layers: list[nn.Module] = []
    inside = 3
    for width in widths:
        layers += [nn.Conv2d(inside, width, 1), nn.ReLU()]
        inside = width
    shape = (BATCH, 3, 8, 8)
    signature = Signature((Input("x", shape, Prior()),), (Output("images", shape, (-1.0, 1.0)),))
    module = nn.Sequential(*layers, nn.Conv2d(inside, 3, 1)).eval()
    return Generator("chain", signature, {}, module)


def choice_of(generator: Generator, prices: list[list[float] | None], round_to: int = 1) -> Choice:
    """What may go, where the next channel of each group costs so much more; None: no one knows."""
    graph = channel_graph(generator)
    rankings = {}
    for group, each in zip(graph.groups, prices, strict=True):
        count = len(group.atoms)
        costs = torch.full((count + 1,), float("nan"), dtype=torch.float64)
        if each is not None:
            steps = torch.tensor([0.0, *each], dtype=torch.float64)
            costs = steps.cumsum(0)
        rankings[group.name] = Ranking(torch.arange(count), costs)
    return Choice(graph, graph.groups, rankings, round_to)


def cost(choice: Choice, counts: dict[str, int]) -> float:
    return sum(float(choice.rankings[name].costs[count]) for name, count in counts.items())


def test_the_cheap_group_goes_first() -> None:
    choice = choice_of(chain(16, 16), [[1.0] * 16, [9.0] * 16])
    counts = list(globally(choice, 0.25, "channels").values())
    assert counts == [8, 0]


def test_no_group_becomes_a_needles_eye() -> None:
    choice = choice_of(chain(16, 16), [[1.0] * 16, [9.0] * 16])
    assert next(iter(globally(choice, 0.6, "channels").values())) == 14


def test_a_group_of_which_nothing_is_known_loses_the_ratio() -> None:
    choice = choice_of(chain(16, 16, 16), [None, [1.0] * 16, [9.0] * 16])
    blind, cheap, dear = globally(choice, 0.5, "channels").values()
    assert blind == 8
    assert cheap == 14
    assert dear == 2


@given(data=st.data())
def test_where_costs_rise_no_choice_is_cheaper(data: st.DataObject) -> None:
    """Greedy solves the knapsack where each next channel costs more and all save alike."""
    rising = st.lists(st.floats(0.1, 9.0), min_size=6, max_size=6).map(sorted)
    choice = choice_of(chain(6, 6), [data.draw(rising), data.draw(rising)])
    wanted = data.draw(st.integers(1, 10))
    counts = globally(choice, wanted / 12, "channels")
    names = list(counts)
    allowed = choice.allowed(choice.groups[0])
    possible = [
        cost(choice, dict(zip(names, pair, strict=True)))
        for pair in product(allowed, repeat=2)
        if sum(pair) >= wanted
    ]
    assert sum(counts.values()) >= wanted
    assert cost(choice, counts) == pytest.approx(min(possible))


def test_what_the_last_step_saved_too_much_is_given_back() -> None:
    """The wide group's cheap eight are not needed once the narrow one has lost half."""
    choice = choice_of(chain(64, 16), [[0.1] * 8 + [99.0] * 56, [1.0] * 16], round_to=8)
    assert list(globally(choice, 0.42, "macs").values()) == [0, 8]


@given(
    widths=st.lists(st.sampled_from([16, 32, 64]), min_size=2, max_size=4),
    ratio=st.floats(0.1, 0.7),
    seed=st.integers(0, 1000),
)
def test_no_group_could_keep_more(widths: list[int], ratio: float, seed: int) -> None:
    """What a large last step saved beyond the goal is given back, wherever it came from."""
    generator = torch.Generator().manual_seed(seed)
    prices = [torch.randn(width, generator=generator).mul(2).exp().tolist() for width in widths]
    choice = choice_of(chain(*widths), [*prices], round_to=8)
    volume = choice.volume("macs")
    counts = globally(choice, ratio, "macs")
    for group in choice.groups:
        for fewer in choice.allowed(group):
            if fewer < counts[group.name]:
                assert volume({**counts, group.name: fewer}) > (1 - ratio) * volume({})


@given(
    widths=st.lists(st.sampled_from([8, 16, 24, 40]), min_size=1, max_size=4),
    ratio=st.floats(0.05, 0.85),
    round_to=st.sampled_from([1, 4, 8]),
)
def test_alike_is_the_nearest_count_that_kernels_like(
    widths: list[int], ratio: float, round_to: int
) -> None:
    choice = choice_of(chain(*widths), [[1.0] * width for width in widths], round_to)
    for width, gone in zip(widths, uniform(choice, ratio).values(), strict=True):
        left = width - gone
        assert left == width or left % round_to == 0
        assert left >= 1
        possible = [width - k for k in range(1, width + 1) if k == width or k % round_to == 0]
        assert abs(gone - ratio * width) == min(abs(k - ratio * width) for k in possible)


@pytest.mark.parametrize("of", ["channels", "params", "macs"])
@pytest.mark.parametrize("ratio", [0.2, 0.5, 0.8])
def test_sizes_are_what_was_asked(of: str, ratio: float) -> None:
    widths = [32, 48, 24]
    choice = choice_of(chain(*widths), [[float(i) for i in range(w)] for w in widths])
    volume = choice.volume(of)  # type: ignore[arg-type]
    alike = uniform_to_size(choice, ratio, of)  # type: ignore[arg-type]
    assert ratio - 0.06 <= 1 - volume(alike) / volume({}) <= ratio + 1e-9
    cheapest = globally(choice, ratio, of)  # type: ignore[arg-type]
    assert ratio - 1e-9 <= 1 - volume(cheapest) / volume({}) <= ratio + 0.06


def test_what_is_saved_hangs_on_what_the_neighbours_lost() -> None:
    """The product of two widths shrinks by less once one of them is small."""
    choice = choice_of(chain(16, 16), [[1.0] * 16, [1.0] * 16])
    first, second = (group.name for group in choice.groups)
    whole = choice.volume("macs").saved(second, 4, {})
    assert choice.volume("macs").saved(second, 4, {first: 8}) < whole
