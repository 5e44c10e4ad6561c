"""Removing channels from a module.

A weight loses the places whose labels are gone, whatever layer holds it; what a layer remembers
of its sizes follows, and so do numbers that a module keeps and its code counts on. Which groups can
really be cut is found in :mod:`compress.channels.trying`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compress.channels.groups import ChannelGraph, Group, small_inputs
from compress.channels.labels import Ids
from compress.channels.rules.registry import whole_groups
from genslim.generator import Generator, run_module

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
        return result, self.graph.kept(dead)


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
        stores: tuple[dict[str, Any], ...] = (layer._parameters, layer._buffers)
        for store in stores:
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
            blank[id(tensor)] = nn.Parameter(blank[id(tensor)], tensor.requires_grad)
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
