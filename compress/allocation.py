"""How many channels each group loses: where they cost least for what they save.

Every group has a curve of what its first k channels cost (:mod:`compress.selection`). Uniformly,
each loses the same share. Globally, the group goes on losing channels whose next ones cost least
for each MAC, parameter or channel saved, until the whole is as small as asked: the greedy solution
of a knapsack whose items shrink each other. Steps can be large, such as 16 channels of all residual
blocks at once: what the last ones saved beyond the goal is given back where it is worth most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from compress.channels.groups import ChannelGraph, Group, Volume
from compress.selection import Ranking

Measure = Literal["channels", "params", "macs"]
Counts = dict[str, int]
"""How many atoms of each group go, by the group's name."""

MOST = 0.9
"""A group loses at most this share of its channels, so that none becomes a needle's eye."""


@dataclass(frozen=True)
class Choice:
    """What may be removed, and what it costs."""

    graph: ChannelGraph
    groups: Sequence[Group]
    rankings: Mapping[str, Ranking]
    round_to: int

    def volume(self, of: Measure) -> Volume:
        """The size that is to shrink."""
        return {"channels": self.graph.channels, "params": self.graph.params}.get(
            of, self.graph.macs
        )

    def allowed(self, group: Group, most: float = MOST) -> list[int]:
        """How many atoms may go, from none: what is left is a multiple that kernels like."""
        whole = len(group.atoms)
        return [whole - k for k in group.counts(self.round_to) if whole - k <= most * whole]


def uniform(choice: Choice, ratio: float) -> Counts:
    """The share ``ratio`` of every group, to the nearest count that is allowed."""
    counts = {}
    for group in choice.groups:
        wanted = ratio * len(group.atoms)
        counts[group.name] = nearest(choice.allowed(group, 1.0), wanted)
    return counts


def nearest(numbers: Sequence[int], wanted: float) -> int:
    """The number that is nearest to ``wanted``; the smaller of two."""
    return min(sorted(numbers), key=lambda number: abs(number - wanted))


def uniform_to_size(choice: Choice, ratio: float, of: Measure) -> Counts:
    """The same share of every group, so large that ``ratio`` of the whole size is gone.

    Rounding makes some sizes unreachable: the nearest smaller cut is taken.
    """
    volume = choice.volume(of)
    whole = volume({})
    best: Counts = {}
    low, high = 0.0, 1.0
    for _ in range(12):  # bisection: the size falls as the share grows
        middle = (low + high) / 2
        counts = uniform(choice, middle)
        if 1 - volume(counts) / whole <= ratio + 1e-9:
            low, best = middle, counts
        else:
            high = middle
    return best


def globally(choice: Choice, ratio: float, of: Measure) -> Counts:
    """As much from each group as costs least, until ``ratio`` of the whole size is gone.

    Groups of which no layer tells what they cost lose ``ratio`` of their channels.
    """
    volume = choice.volume(of)
    blind = [g for g in choice.groups if bool(torch.isnan(choice.rankings[g.name].costs).any())]
    gone = uniform(Choice(choice.graph, blind, choice.rankings, choice.round_to), ratio)
    seeing = [group for group in choice.groups if group not in blind]
    gone |= {group.name: 0 for group in seeing}
    whole, size = volume({}), volume(gone)
    goal = (1 - ratio) * whole
    steps = {group.name: choice.allowed(group) for group in seeing}
    offers: dict[str, Offer] = {}
    stale = set(steps)
    while size > goal + 1e-9 * whole:
        for name in stale:
            found = cheapest(
                name,
                steps[name],
                choice.rankings[name].costs,
                gone=gone,
                volume=volume,
                wanted=size - goal,
            )
            offers.pop(name, None)
            if found is not None:
                offers[name] = found
        if not offers:
            break
        name = min(offers, key=lambda name: offers[name].price)
        gone[name], size = offers[name].target, size - offers[name].saved
        # What a group saves hangs on those it meets in a layer; near the goal, on how near it is.
        stale = {n for term in volume.of[name] for _, widths in term.axes for n in widths}
        near = {n for n, offer in offers.items() if size - offer.saved < goal}
        stale = (stale | near | {name}) & steps.keys()
    return give_back(gone, goal + 1e-9 * whole, steps, choice, volume)


def give_back(
    gone: Counts, goal: float, steps: Mapping[str, list[int]], choice: Choice, volume: Volume
) -> Counts:
    """Keep channels after all, those that cost most for what they save, up to the size ``goal``."""
    gone, room = dict(gone), goal - volume(gone)

    def returned(name: str, target: int) -> Offer:
        costs, now = choice.rankings[name].costs, gone[name]
        size = volume.saved(name, now - target, {**gone, name: target})
        return Offer(target, size, float(costs[now] - costs[target]) / max(size, 1e-9))

    while True:
        offers = [
            (name, returned(name, target))
            for name, allowed in steps.items()
            for target in allowed
            if target < gone[name]
        ]
        fitting = [(name, o) for name, o in offers if o.saved <= room and o.price > 0]
        if not fitting:
            return gone
        name, best = max(fitting, key=lambda offer: offer[1].price)
        gone[name], room = best.target, room - best.saved


@dataclass(frozen=True)
class Offer:
    """Channels of a group, to be taken or given back: what they save, what a unit of it costs."""

    target: int
    saved: float
    price: float


def cheapest(
    name: str,
    allowed: Sequence[int],
    costs: Tensor,
    *,
    gone: Mapping[str, int],
    volume: Volume,
    wanted: float,
) -> Offer | None:
    """How many atoms of a group to take next, so that what they save costs least."""
    best, now = None, gone[name]
    for target in allowed:
        if target <= now:
            continue
        saved = volume.saved(name, target - now, gone)
        # What is saved beyond the goal is worth nothing.
        price = float(costs[target] - costs[now]) / max(min(saved, wanted), 1e-9)
        if best is None or price < best.price:
            best = Offer(target, saved, price)
    return best
