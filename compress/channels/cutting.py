"""Removing channels from a module, and proving that what is left computes the same.

A weight loses the places whose labels are gone, whatever layer holds it; what a layer remembers
of its sizes follows. Code that counts on a number of channels which is written down elsewhere (a
number of heads, the sizes of a split) is found by trying: a cut is right if the smaller module
makes the same picture as the whole one with the same channels masked to zero. Where numbers that
a module keeps can be brought in line with its weights they are; where not, the group stays whole.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from compress.channels.groups import ChannelGraph, Group, channel_graph, small_inputs
from compress.channels.labels import Ids
from compress.channels.rules import whole_groups
from genslim.generator import Generator, run_module

TOLERANCE = 1e-3
"""Largest error of a cut against masking, as a part of the picture's standard deviation."""

Gone = Mapping[str, Ids]
"""Which atoms of each group go, by the group's name: indices into its ``atoms``."""
FAILURES = (RuntimeError, ValueError, IndexError, TypeError, AssertionError, AttributeError)
"""What code raises that meets sizes it did not count on."""


@dataclass(frozen=True, eq=False)
class Literal:
    """A number that a module keeps and its code counts on: the length of an axis of weights."""

    module: str
    attribute: str
    place: int | None
    """Which of several numbers; None where the attribute is a number itself."""
    labels: Ids
    """What lies along the axis."""


@dataclass
class Cuttable:
    """A module's channels, tried: every group that is listed here can really be cut."""

    graph: ChannelGraph
    groups: list[Group]
    left: dict[str, str]
    """Layers that keep all their channels, with the reason."""
    literals: dict[str, list[Literal]] = field(default_factory=dict)
    """Numbers that must follow when a group is cut, by its name."""

    def dead(self, gone: Gone) -> Ids:
        """The labels of what goes."""
        atoms = {group.name: group.atoms for group in self.groups}
        return np.concatenate(
            [np.zeros(0, np.int64), *(atoms[name][places] for name, places in gone.items())]
        )

    def without(self, module: nn.Module, gone: Gone) -> tuple[nn.Module, dict[str, Tensor]]:
        """A copy of ``module`` without some of its channels.

        Returns:
            The copy; and for each layer that lost output channels those that it kept, int64.
        """
        dead = self.dead(gone)
        literals = [literal for name in gone for literal in self.literals.get(name, ())]
        result = shrunk(module, self.graph, dead, literals)
        kept = {}
        places = self.graph.places(dead, alive=True)
        for layer, slot in self.graph.makers.items():
            if slot in places:
                kept[layer] = places[slot]
        return result, kept


def shrunk(
    module: nn.Module, graph: ChannelGraph, dead: Ids, literals: Sequence[Literal] = ()
) -> nn.Module:
    """A copy of ``module`` whose weights lack every place with a label in ``dead``."""
    result = copy.deepcopy(module)
    exchange(result, smaller_tensors(result, graph, dead))
    for literal in literals:
        set_number(result.get_submodule(literal.module), literal, graph.alive(literal.labels, dead))
    return result


def exchange(module: nn.Module, tensors: Mapping[int, Tensor]) -> list[nn.Module]:
    """Put other tensors in the place of weights, by their identity; the layers that hold them."""
    touched = []
    for layer in module.modules():
        held = False
        for store in (layer._parameters, layer._buffers):
            for own, tensor in store.items():
                if id(tensor) in tensors:  # by identity: tied weights stay tied
                    store[own], held = tensors[id(tensor)], True
        if held:
            remember_sizes(layer)
            touched.append(layer)
    return touched


def smaller_tensors(module: nn.Module, graph: ChannelGraph, dead: Ids) -> dict[int, Tensor]:
    """The smaller form of every weight that loses something, by the identity of the whole one."""
    named = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    small: dict[int, Tensor] = {}
    for (name, axis), places in graph.places(dead, alive=True).items():
        whole = named[name]
        cut = small.get(id(whole), whole.detach()).index_select(axis, places)
        small[id(whole)] = cut.contiguous()
    for tensor in named.values():
        if id(tensor) in small and isinstance(tensor, nn.Parameter):
            small[id(tensor)] = nn.Parameter(small[id(tensor)], tensor.requires_grad)
    return small


def masked_tensors(module: nn.Module, graph: ChannelGraph, dead: Ids) -> dict[int, Tensor]:
    """The same weights whole, with zeros in the places that would go."""
    named = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    blank: dict[int, Tensor] = {}
    for (name, axis), places in graph.places(dead, alive=False).items():
        whole = named[name]
        blank[id(whole)] = blank.get(id(whole), whole.detach()).index_fill(axis, places, 0)
    for tensor in named.values():
        if id(tensor) in blank and isinstance(tensor, nn.Parameter):
            blank[id(tensor)] = nn.Parameter(blank[id(tensor)], requires_grad=False)
    return blank


def remember_sizes(layer: nn.Module) -> None:
    """Bring what a layer of PyTorch's remembers in line with its weights."""
    weight = getattr(layer, "weight", None)
    match layer:
        case nn.modules.conv._ConvTransposeNd():
            into, share = weight.shape[:2]  # type: ignore[union-attr]
            layer.groups = regrouped(layer.groups, layer.in_channels, into)
            layer.in_channels, layer.out_channels = into, share * layer.groups
        case nn.modules.conv._ConvNd():
            out, share = weight.shape[:2]  # type: ignore[union-attr]
            layer.groups = regrouped(layer.groups, layer.out_channels, out)
            layer.in_channels, layer.out_channels = share * layer.groups, out
        case nn.Linear():
            layer.out_features, layer.in_features = layer.weight.shape
        case nn.GroupNorm() if weight is not None:
            layer.num_groups = regrouped(layer.num_groups, layer.num_channels, len(weight))
            layer.num_channels = len(weight)
        case nn.modules.batchnorm._NormBase():
            held = weight if weight is not None else layer.running_mean
            layer.num_features = len(held) if held is not None else layer.num_features
        case nn.LayerNorm() if weight is not None:
            layer.normalized_shape = tuple(weight.shape)
        case nn.PReLU():
            layer.num_parameters = layer.weight.numel()


def regrouped(groups: int, before: int, after: int) -> int:
    """How many groups are left when so many channels are: whole ones went, or some of each."""
    return groups * after // before if whole_groups(groups) else groups


def plain_numbers(layer: nn.Module) -> dict[str, object]:
    """The attributes of a layer that are numbers, or rows of numbers."""
    return {name: v for name, v in vars(layer).items() if isinstance(v, int | list | tuple)}


def set_number(module: nn.Module, literal: Literal, value: int) -> None:
    """Write a number where code will read it."""
    if literal.place is None:
        setattr(module, literal.attribute, value)
        return
    numbers = getattr(module, literal.attribute)
    changed = [value if i == literal.place else n for i, n in enumerate(numbers)]
    setattr(module, literal.attribute, type(numbers)(changed))


# -- trying ------------------------------------------------------------------------------------


class Trial:
    """Cuts a module in many ways and compares each with masking."""

    def __init__(self, generator: Generator, module: nn.Module, graph: ChannelGraph) -> None:
        self.generator, self.module, self.graph = generator, module, graph
        self.inputs = first_that_runs(generator, module)
        self.error = ""
        self.whole = self.images({})

    def images(
        self, tensors: Mapping[int, Tensor], numbers: Mapping[Literal, int] | None = None
    ) -> Tensor:
        """What the module makes of the small input with other tensors and numbers in it."""
        before = {id(new): old for old, new in self.own(tensors)}
        remembered = [(layer, plain_numbers(layer)) for layer in self.module.modules()]
        try:
            for literal, value in (numbers or {}).items():
                set_number(self.module.get_submodule(literal.module), literal, value)
            exchange(self.module, tensors)
            with torch.no_grad():
                return run_module(self.module, self.generator.signature, self.inputs)
        finally:
            exchange(self.module, before)
            for layer, values in remembered:
                vars(layer).update(values)

    def own(self, tensors: Mapping[int, Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Pairs of a weight of the module and what is put in its place."""
        held = (*self.module.parameters(), *self.module.buffers())
        return [(tensor, tensors[id(tensor)]) for tensor in held if id(tensor) in tensors]

    def works(self, groups: Sequence[Group], literals: Sequence[Literal] = ()) -> bool:
        """Whether half of the atoms of each group can go; if not, ``error`` says why."""
        gone = [g.atoms[np.arange(0, len(g.atoms), 2)] for g in groups if len(g.atoms) > 1]
        dead = np.concatenate([np.zeros(0, np.int64), *gone])
        numbers = {literal: self.graph.alive(literal.labels, dead) for literal in literals}
        try:
            made = self.images(smaller_tensors(self.module, self.graph, dead), numbers)
        except FAILURES as error:
            self.error = next(iter(str(error).strip().splitlines()), type(error).__name__)[:120]
            return False
        if made.shape != self.whole.shape:
            self.error = f"the output would be {list(made.shape)}"
            return False
        if any(not group.exact for group in groups):
            return True
        expected = self.images(masked_tensors(self.module, self.graph, dead))
        error = float((made - expected).abs().max())
        self.error = "what is computed would change"
        return error <= TOLERANCE * float(expected.std()) + 1e-6

    def failing(self, groups: Sequence[Group]) -> dict[str, str]:
        """The groups that can't be cut, with what went wrong, by halving."""
        if not groups or self.works(groups):
            return {}
        if len(groups) == 1:
            return {groups[0].name: self.error}
        half = len(groups) // 2
        return {**self.failing(groups[:half]), **self.failing(groups[half:])}


def first_that_runs(generator: Generator, module: nn.Module) -> dict[str, Tensor]:
    """The smallest usual input that the module takes."""
    for inputs in small_inputs(generator.signature):
        try:
            with torch.no_grad():
                run_module(module, generator.signature, inputs)
        except FAILURES:
            continue
        return inputs
    raise AssertionError("the module does not run on its own inputs")


def cuttable(generator: Generator, module: nn.Module) -> Cuttable:
    """Find the channels of ``module`` and try to cut each group."""
    graph = channel_graph(generator, module)
    trial = Trial(generator, copy.deepcopy(module), graph)
    exact = [g for g in graph.groups if g.exact]
    mixed = [g for g in graph.groups if not g.exact]
    bad = {**trial.failing(exact), **trial.failing(mixed)}
    found = Cuttable(graph, [], dict(graph.left))
    for group in graph.groups:
        if group.name not in bad:
            found.groups.append(group)
        elif literals := fitting_literals(trial, group):
            found.groups.append(group)
            found.literals[group.name] = literals
        else:
            for layer in group.layers:
                found.left.setdefault(
                    layer, f"its code counts on {len(group.atoms)} channels: {bad[group.name]}"
                )
    return found


def fitting_literals(trial: Trial, group: Group) -> list[Literal]:
    """Numbers kept by the modules around a group with which it can be cut; none where none fit."""
    numbers = candidates(trial.module, trial.graph, group)
    without_one = [[n for n in numbers if n is not number] for number in numbers]
    for attempt in ([n] for n in numbers):  # one is the rule
        if trial.works([group], attempt):
            return attempt
    for attempt in (numbers, *without_one):
        if len(attempt) > 1 and trial.works([group], attempt):
            return attempt
    return []


def candidates(module: nn.Module, graph: ChannelGraph, group: Group) -> list[Literal]:
    """Numbers that equal the length of an axis which the group lies along."""
    around: dict[str, None] = {}
    for name, _ in group.slots:
        place = name.rpartition(".")[0]
        around[place] = None
        around[place.rpartition(".")[0]] = None
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
