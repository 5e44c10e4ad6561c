"""Groups of channels that can be removed, and what a network is without them.

An *atom* is a set of channels that go together: united labels. Atoms that appear in the same
places make a group: the channels of a layer, or of all layers along a residual stream. Within a
group any atoms may go; how many is for the caller to say.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import gcd

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from compress.channels.labels import Ids
from compress.channels.rules.registry import whole_groups
from compress.channels.tracing import Slot, Trace, trace
from genslim.generator import Generator
from genslim.inputs import Inputs
from genslim.signature import BATCH, Signature

Kept = Mapping[str, int]
"""How many atoms of each group stay, by the group's name."""


@dataclass(frozen=True)
class Group:
    """Channels of which any may go."""

    name: str
    """The first layer that makes them."""
    layers: tuple[str, ...]
    """All layers that make them, in the order in which they run."""
    atoms: Ids
    """Labels, one for each set of channels that go together, in the order of the first layer."""
    slots: Mapping[Slot, int]
    """Where they appear, and how many channels an atom has there."""
    exact: bool
    """Whether to remove some is the same as to mask them: nothing is computed over them."""

    @property
    def width(self) -> int:
        """Channels that an atom has where it has the fewest."""
        return min(self.slots.values())

    def counts(self, round_to: int) -> list[int]:
        """How many atoms may stay: all, and what makes multiples of ``round_to``; the most first.

        Where they are narrowest, as long as that leaves a choice: heads are few and wide.
        """
        whole = len(self.atoms)
        for width in sorted(set(self.slots.values())):
            step = round_to // gcd(round_to, width)
            if found := [k for k in range(whole - 1, 0, -1) if k % step == 0]:
                return [whole, *found]
        return [whole]


@dataclass(frozen=True)
class Term:
    """A part of a size: a factor times the lengths of some axes."""

    factor: float
    axes: tuple[tuple[int, Mapping[str, int]], ...]
    """Of each axis its whole length, and how many channels an atom of each group has on it."""

    def __call__(self, gone: Mapping[str, int]) -> float:
        """Its value where so many atoms of groups are gone."""
        value = self.factor
        for length, widths in self.axes:
            value *= length - sum(width * gone.get(name, 0) for name, width in widths.items())
        return value


class Volume:
    """A size of the network as a function of what is gone: MACs, parameters, channels."""

    def __init__(self, terms: Sequence[Term]) -> None:
        self.terms = terms
        self.of: dict[str, list[Term]] = defaultdict(list)
        for term in terms:
            for name in {name for _, widths in term.axes for name in widths}:
                self.of[name].append(term)

    def __call__(self, gone: Mapping[str, int]) -> float:
        """The size where so many atoms of groups are gone."""
        return sum(term(gone) for term in self.terms)

    def saved(self, name: str, more: int, gone: Mapping[str, int]) -> float:
        """How much smaller it gets when ``more`` atoms of one group go."""
        after = {**gone, name: gone.get(name, 0) + more}
        return sum(term(gone) - term(after) for term in self.of[name])


class ChannelGraph:
    """The channels of a module: what can go, what must go together, what stays and why."""

    def __init__(self, module: nn.Module, found: Trace) -> None:
        self.trace = found
        self.makers = makers(module)
        self.made = made(module, self.makers, found)
        """The label of each channel that a layer makes, by the layer's name."""
        self.sizes = {n: tuple(t.shape) for n, t in module.named_parameters()}
        reasons = found.labels.reasons()
        self.groups = self._groups(reasons)
        self.left = self._left(reasons)

    def _groups(self, reasons: Mapping[int, str]) -> list[Group]:
        """Atoms by where they appear."""
        places: dict[int, dict[Slot, int]] = defaultdict(dict)
        for slot, labels in self.trace.slots.items():
            for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
                places[int(label)][slot] = int(count)
        outputs = {slot: layer for layer, slot in reversed(self.makers.items())}  # first of tied
        order = {slot: place for place, slot in enumerate(self.trace.slots)}
        atoms: dict[frozenset[tuple[Slot, int]], list[int]] = defaultdict(list)
        for label, where in places.items():
            if label not in reasons and where.keys() & outputs.keys():
                atoms[frozenset(where.items())].append(label)
        mixed = self.trace.labels.mixed()
        groups = []
        for where_set, members in atoms.items():
            slots = dict(sorted(where_set, key=lambda item: order[item[0]]))
            layers = tuple(outputs[slot] for slot in slots if slot in outputs)
            first = self.trace.slots[self.makers[layers[0]]]
            position = {int(label): i for i, label in reversed(list(enumerate(first)))}
            members.sort(key=lambda label: position[label])
            exact = not mixed.intersection(members)
            groups.append(Group(layers[0], layers, np.array(members), slots, exact))
        groups.sort(key=lambda g: (order[next(iter(g.slots))], int(g.atoms[0])))
        return uniquely_named(groups)

    def _left(self, reasons: Mapping[int, str]) -> dict[str, str]:
        """The layers none of whose channels can go, with the reason."""
        left = {}
        for layer in self.makers:
            if layer not in self.made:
                left[layer] = "did not run, or makes one channel"
                continue
            found = [reasons.get(int(label)) for label in self.made[layer]]
            if all(found):
                left[layer] = str(found[0])
        return left

    @cached_property
    def _owner(self) -> dict[int, str]:
        return {int(label): g.name for g in self.groups for label in g.atoms}

    def widths(self, labels: Ids) -> dict[str, int]:
        """How many of ``labels`` an atom of each group has."""
        counts: dict[str, int] = defaultdict(int)
        for label in labels:
            if name := self._owner.get(int(label)):
                counts[name] += 1
        sizes = {g.name: len(g.atoms) for g in self.groups}
        return {name: -(-count // sizes[name]) for name, count in counts.items()}

    def places(self, dead: Ids, *, alive: bool) -> dict[Slot, Tensor]:
        """Of every axis that loses something, the places that stay or those that go, int64."""
        goes = self.flags(dead)
        found = {slot: goes[labels] for slot, labels in self.trace.slots.items()}
        return {
            slot: torch.from_numpy(np.flatnonzero(gone != alive))
            for slot, gone in found.items()
            if gone.any()
        }

    def alive(self, labels: Ids, dead: Ids) -> int:
        """How many of ``labels`` stay."""
        return int((~self.flags(dead)[labels]).sum())

    def flags(self, dead: Ids) -> NDArray[np.bool_]:
        """For each label whether it is in ``dead``."""
        flags = np.zeros(self.trace.labels.count, bool)
        flags[dead] = True
        return flags

    @cached_property
    def macs(self) -> Volume:
        """Multiply-accumulate operations."""
        terms = []
        for p in self.trace.products:
            sides = [side for side in (p.inside, p.outside) if len(side)]
            axes = tuple((len(side), self.widths(side)) for side in sides)
            terms.append(Term(p.macs / np.prod([len(s) for s in sides], initial=1.0), axes))
        return Volume(terms)

    @cached_property
    def params(self) -> Volume:
        """Parameters."""
        terms = []
        for name, shape in self.sizes.items():
            slots = [s for s in self.trace.slots if s[0] == name]
            axes = tuple((shape[a], self.widths(self.trace.slots[name, a])) for _, a in slots)
            terms.append(Term(np.prod(shape) / np.prod([n for n, _ in axes], initial=1.0), axes))
        return Volume(terms)

    @cached_property
    def channels(self) -> Volume:
        """Output channels of all layers that can lose some."""
        terms = []
        for layer, labels in self.made.items():
            if layer not in self.left:
                terms.append(Term(1.0, ((len(labels), self.widths(labels)),)))
        return Volume(terms)

    def channels_of(self, layer: str) -> int:
        """How many channels a layer makes."""
        return len(self.made[layer])

    def kept(self, dead: Ids) -> dict[str, Tensor]:
        """For each layer that loses output channels those that it keeps, int64."""
        goes = self.flags(dead)
        found = {layer: goes[labels] for layer, labels in self.made.items()}
        return {
            n: torch.from_numpy(np.flatnonzero(~gone)) for n, gone in found.items() if gone.any()
        }


def makers(module: nn.Module) -> dict[str, Slot]:
    """The layers that make channels, and the axis of their weight that lies along them."""
    first = {id(tensor): name for name, tensor in module.named_parameters()}  # of tied weights
    found: dict[str, Slot] = {}
    for name, layer in module.named_modules():
        prefix = f"{name}." if name else ""
        for own, tensor in layer.named_parameters(recurse=False):
            if tensor.ndim < 2 or min(tensor.shape[:2]) < 1:
                continue
            slot = first[id(tensor)], 0
            if isinstance(layer, nn.modules.conv._ConvNd | nn.Linear):
                if own == "weight":
                    found[name] = (slot[0], 1) if makes_by_second_axis(layer) else slot
            elif tensor.shape[0] > 1 and own not in found:
                found[f"{prefix}{own}"] = slot
    return found


def makes_by_second_axis(layer: nn.Module) -> bool:
    """Whether a layer's output channels lie along the second axis of its weight."""
    return isinstance(layer, nn.modules.conv._ConvTransposeNd) and not whole_groups(layer.groups)


def made(module: nn.Module, slots: Mapping[str, Slot], found: Trace) -> dict[str, Ids]:
    """The label of each channel that a layer makes; of a grouped kernel, which holds fewer."""
    result, layers = {}, dict(module.named_modules())
    for name, slot in slots.items():
        if slot not in found.slots:
            continue
        labels, layer = found.slots[slot], layers.get(name)
        if isinstance(layer, nn.modules.conv._ConvTransposeNd) and layer.groups > 1:
            if makes_by_second_axis(layer):
                labels = np.tile(labels, layer.groups)
            else:  # whole groups go: their inputs stand for them
                blocks = labels.reshape(layer.groups, -1)
                labels = np.repeat(blocks[:, 0], layer.out_channels // layer.groups)
        result[name] = labels
    return result


def uniquely_named(groups: Sequence[Group]) -> list[Group]:
    """Groups that begin in the same layer get numbers."""
    from dataclasses import replace

    total: dict[str, int] = defaultdict(int)
    for group in groups:
        total[group.name] += 1
    seen: dict[str, int] = defaultdict(int)
    result = []
    for group in groups:
        if total[group.name] > 1:
            seen[group.name] += 1
            result.append(replace(group, name=f"{group.name}#{seen[group.name]}"))
        else:
            result.append(group)
    return result


def channel_graph(generator: Generator, module: nn.Module | None = None) -> ChannelGraph:
    """Read the channels of ``module`` (the generator's own by default) off one small run."""
    module = module or generator.module
    assert module is not None
    error: Exception | None = None
    for inputs in small_inputs(generator.signature):
        try:
            return ChannelGraph(module, trace(generator, module, inputs))
        except (RuntimeError, ValueError, AssertionError, IndexError) as failure:
            error = failure  # too small for this network: take the next size
    assert error is not None
    raise error


def small_inputs(signature: Signature) -> list[dict[str, Tensor]]:
    """One input of each size to try, the smallest first: labels need no resolution."""
    from dataclasses import replace

    tries = []
    for side in (16, 32, 48, 64, None):
        specs = []
        for spec in signature.inputs:
            sizes = dict(spec.sizes or {})
            for key, usual in sizes.items():
                least = -(-(side or usual) // spec.multiple_of) * spec.multiple_of
                if key != BATCH:
                    sizes[key] = min(usual, least)
            specs.append(replace(spec, sizes=sizes or None))
        small = replace(signature, inputs=tuple(specs))
        if small not in tries:
            tries.append(small)
    return [Inputs(small, "calibration").draw(1) for small in tries]
