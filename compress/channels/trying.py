"""Trying cuts: which of the groups found can really go, whatever the code around them counts on.

A cut is right if the smaller module makes the same picture as the whole one with the same channels
masked. All groups are cut at once, each by another share, and those that fail are found by halving.
A group that fails is tried with numbers brought in line that modules keep, and together with others
that fail: code may take the size of one for another's.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import combinations, product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from compress.channels.cutting import (
    FAILURES,
    Cuttable,
    Literal,
    exchange,
    first_that_runs,
    masked_tensors,
    plain_numbers,
    set_number,
    smaller_tensors,
)
from compress.channels.groups import ChannelGraph, Group, channel_graph
from compress.channels.labels import Ids
from compress.channels.survivors import Survivors
from compress.channels.tracing import without_fast_paths
from genslim.generator import Generator, run_module

DIGITS = 3
"""So many times all groups are cut, each time other shares of each."""
TOLERANCE = 1e-3
"""Largest error of a cut against masking, as a part of the picture's standard deviation."""
MOST_HUBS = 3
"""So many groups are tried as what others are tied to."""
MOST_TIES = 16
"""So many groups are tried as tied to another one by one."""

MOST_NAMES = 2
"""So many attributes are tried at once in all modules that have them."""


class Trial:
    """Cuts a module in many ways and compares each with masking."""

    def __init__(self, generator: Generator, module: nn.Module, graph: ChannelGraph) -> None:
        self.generator, self.module, self.graph = generator, module, graph
        self.inputs = first_that_runs(generator, module)
        self.place = {group.name: i for i, group in enumerate(graph.groups)}
        self.error = ""
        self.whole = self.images({})

    def images(
        self,
        tensors: Mapping[int, Tensor],
        numbers: Mapping[Literal, int] | None = None,
        below: AbstractContextManager[object] | None = None,
    ) -> Tensor:
        """What the module makes of the small input with other tensors and numbers in it.

        Args:
            tensors: by the identity of those in whose place they are put.
            numbers: what literals are set to.
            below: a mode in which it runs.
        """
        before = {id(new): old for old, new in self.own(tensors)}
        remembered = [(layer, plain_numbers(layer)) for layer in self.module.modules()]
        try:
            for literal, value in (numbers or {}).items():
                set_number(self.module.get_submodule(literal.module), literal, value)
            exchange(self.module, tensors)
            with torch.no_grad(), without_fast_paths(), below or nullcontext():
                return run_module(self.module, self.generator.signature, self.inputs)
        finally:
            exchange(self.module, before)
            for layer, values in remembered:
                vars(layer).update(values)

    def own(self, tensors: Mapping[int, Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Pairs of a weight of the module and what is put in its place."""
        held = (*self.module.parameters(), *self.module.buffers())
        return [(tensor, tensors[id(tensor)]) for tensor in held if id(tensor) in tensors]

    def works(
        self, groups: Sequence[Group], literals: Sequence[Literal] = (), digit: int = 0
    ) -> bool:
        """Whether some of the atoms of each group can go; if not, ``error`` says why.

        Args:
            groups: of each a quarter, a half or three quarters go.
            literals: numbers that follow.
            digit: which digit to base 3 of a group's place in the graph tells which share.
        """
        gone = [g.atoms[self.places(g, digit)] for g in groups if len(g.atoms) > 1]
        dead = np.concatenate([np.zeros(0, np.int64), *gone])
        numbers = {literal: self.graph.alive(literal.labels, dead) for literal in literals}
        try:
            made = self.images(smaller_tensors(self.module, self.graph, dead), numbers)
            if made.shape != self.whole.shape:
                self.error = f"the output would be {list(made.shape)}"
                return False
            expected = self.expected(dead, exact=all(group.exact for group in groups))
        except FAILURES as error:
            self.error = next(iter(str(error).strip().splitlines()), type(error).__name__)[:120]
            return False
        self.error = "what is computed would change"
        worst = float((made - expected).abs().max())
        return worst <= TOLERANCE * float(expected.std()) + 1e-6

    def places(self, group: Group, digit: int) -> NDArray[np.int64]:
        """Which atoms of a group to try without: not as many of any two that are near."""
        share = 1 + self.place[group.name] // 3**digit % 3
        count = len(group.atoms)
        places: NDArray[np.int64] = np.arange(max(1, count * share // 4)) * 4 // share % count
        return places

    def expected(self, dead: Ids, *, exact: bool) -> Tensor:
        """What the whole module makes with ``dead`` channels masked."""
        masked = masked_tensors(self.module, self.graph, dead)
        if exact:
            return self.images(masked)
        found = self.graph.trace
        mode = Survivors(found.mixing, found.labels, self.graph.flags(dead))
        return self.images(masked, below=mode)

    def failing(self, groups: Sequence[Group], digit: int = 0) -> dict[str, str]:
        """The groups that can't be cut, with what went wrong, by halving."""
        if not groups or self.works(groups, (), digit):
            return {}
        if len(groups) == 1:
            return {groups[0].name: self.error}
        half = len(groups) // 2
        first = self.failing(groups[:half], digit)
        second = self.failing(groups[half:], digit)
        return {**first, **second}

    def all_failing(self, groups: Sequence[Group]) -> dict[str, str]:
        """The groups that can't be cut, each as far as it likes, whatever goes of the others."""
        bad: dict[str, str] = {}
        together = True
        for digit in range(DIGITS):
            left = [g for g in groups if g.name not in bad]
            if not self.works(left, (), digit):
                together = False
                bad |= self.failing(left, digit)
        if together:
            return bad
        left = [g for g in groups if g.name not in bad]
        if not all(self.works(left, (), digit) for digit in range(DIGITS)):
            good: list[Group] = []
            for group in left:  # each can be cut by itself, but not with all others
                if all(self.works([*good, group], (), digit) for digit in range(DIGITS)):
                    good.append(group)
                else:
                    bad[group.name] = self.error
        return bad


def cuttable(
    generator: Generator, module: nn.Module, graph: ChannelGraph | None = None
) -> Cuttable:
    """Find the channels of ``module`` and try to cut each group."""
    graph = graph or channel_graph(generator, module)
    trial = Trial(generator, copy.deepcopy(module), graph)
    bad = trial.all_failing(graph.groups)
    found = Cuttable(graph, [g for g in graph.groups if g.name not in bad], dict(graph.left))
    stuck = []
    for group in (g for g in graph.groups if g.name in bad):
        if literals := fitting_literals(trial, found, group):
            found.groups.append(group)
            found.literals[group.name] = literals
        else:
            stuck.append(group)
    if (joined := tied(trial, stuck)) is not None:
        return cuttable(generator, module, joined)
    for group in stuck:
        for layer in group.layers:
            found.left.setdefault(
                layer, f"its code counts on {len(group.atoms)} channels: {bad[group.name]}"
            )
    return found


def fitting_literals(trial: Trial, found: Cuttable, group: Group) -> list[Literal]:
    """Numbers kept by the modules around a group with which it can be cut, beside all that can.

    Returns:
        Nothing where none fit.
    """
    numbers = candidates(trial.module, trial.graph, group, places_around(group))
    without_one = [[n for n in numbers if n is not number] for number in numbers]
    several = [attempt for attempt in (numbers, *without_one) if len(attempt) > 1]
    every = [name for name, _ in trial.module.named_modules()]
    anywhere = candidates(trial.module, trial.graph, group, every)
    named = [
        [n for n in anywhere if n.attribute in some]
        for count in range(1, MOST_NAMES + 1)
        for some in combinations(names_of(anywhere), count)
    ]
    known = [literal for literals in found.literals.values() for literal in literals]
    # One is the rule; where blocks share a stream, the same few of each.
    for attempt in (*([n] for n in numbers), *several, *named, anywhere):
        if trial.works([group], attempt) and all(
            trial.works([*found.groups, group], [*known, *attempt], digit)
            for digit in range(DIGITS)
        ):
            return attempt
    return []


def names_of(literals: Sequence[Literal]) -> list[str]:
    """The attributes that numbers are kept under, each once."""
    return list(dict.fromkeys(literal.attribute for literal in literals))


def places_around(group: Group) -> list[str]:
    """The modules that hold weights of a group, and those that these are parts of."""
    holders = dict.fromkeys(name.rpartition(".")[0] for name, _ in group.slots)
    return [*dict.fromkeys(x for name in holders for x in (name, name.rpartition(".")[0]))]


def candidates(
    module: nn.Module, graph: ChannelGraph, group: Group, around: Sequence[str]
) -> list[Literal]:
    """Numbers that equal the length of an axis which the group lies along, of modules around."""
    found = []
    for place in around:
        layer = module.get_submodule(place)
        if type(layer).__module__.startswith("torch.nn"):
            continue
        nearest_first = sorted(group.slots, key=lambda slot: not slot[0].startswith(f"{place}."))
        lengths: dict[int, Ids] = {}
        for slot in nearest_first:
            labels = graph.trace.slots[slot]
            lengths.setdefault(len(labels), labels)
        lengths.setdefault(len(group.atoms), group.atoms)
        for attribute, value in vars(layer).items():
            if isinstance(value, bool) or attribute.startswith("_"):
                continue
            if isinstance(value, int) and value in lengths:
                found.append(Literal(place, attribute, None, lengths[value]))
            elif isinstance(value, list | tuple) and all(type(v) is int for v in value):
                found += [
                    Literal(place, attribute, i, lengths[v])
                    for i, v in enumerate(value)
                    if v in lengths
                ]
    return found


def tied(trial: Trial, stuck: Sequence[Group]) -> ChannelGraph | None:
    """The graph in which groups that only go together do; None where there are none.

    Code that takes the size of one tensor for another's, ``y.view(x.shape)``, ties what lies along
    them though no element of one meets one of the other. What all hangs on one residual stream is
    tried with it at once, then one by one.
    """
    hubs = sorted(stuck, key=lambda g: -len(g.slots))[:MOST_HUBS]
    for hub in hubs:
        others = [group for group in stuck if group is not hub]
        for attempt in (others, *([other] for other in others[:MOST_TIES] if len(others) > 1)):
            graph = joined(trial.module, trial.graph, hub, attempt)
            if graph is None:
                continue
            joint = [g for g in graph.groups if set(g.slots) & set(hub.slots)]
            again = Trial(trial.generator, trial.module, graph)
            if all(again.works(joint, (), digit) for digit in range(DIGITS)):
                return graph
            if len(joint) == 1 and fitting_literals(again, Cuttable(graph, [], {}), joint[0]):
                return graph
    return None


def joined(
    module: nn.Module, graph: ChannelGraph, hub: Group, others: Sequence[Group]
) -> ChannelGraph | None:
    """The graph in which others that are as long as ``hub`` go with it; None where none is."""
    labels = copy.deepcopy(graph.trace.labels)
    line = lines_of(graph, hub)[0]
    waiting, before = list(others), -1
    while before != len(waiting):
        before = len(waiting)
        for group in list(waiting):
            for mine, own in product((line, distinct(labels.find(line))), lines_of(graph, group)):
                if len(mine) % len(own) == 0:  # a head's places lie in each of its heads
                    labels.unite(mine, np.tile(own, len(mine) // len(own)))
                    waiting.remove(group)
                    break
    if len(waiting) == len(others):
        return None
    return ChannelGraph(module, graph.trace.with_labels(labels))


def lines_of(graph: ChannelGraph, group: Group) -> tuple[Ids, Ids]:
    """The labels of a group as its first layer holds them, and each once."""
    labels = graph.trace.slots[graph.makers[group.layers[0]]]
    return labels[np.isin(labels, group.atoms)], group.atoms


def distinct(labels: Ids) -> Ids:
    """Each of ``labels`` once, in order."""
    return labels[np.sort(np.unique(labels, return_index=True)[1])]
