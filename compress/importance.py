"""By what the channels of a group are ranked.

``reconstruction``, the default, asks what the layers that a channel feeds can't make up for
(:mod:`compress.selection`). The others are the field's usual measures: magnitude (Li et al. 2016,
arXiv 1608.08710), magnitude by activation (Sun et al. 2023, arXiv 2306.11695, for channels), the
first-order Taylor expansion of the error (Molchanov et al. 2019, arXiv 1906.10771), the scale of
batch norms (Liu et al. 2017, arXiv 1708.06519), and chance as the control. What the first k
channels of a ranking cost is told by reconstruction for all of them, so that groups compare.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from compress.channels.groups import ChannelGraph, Group
from compress.observation import Seen
from compress.selection import Ranking, consumers_of, rank
from genslim.generator import Generator, run_module
from genslim.inputs import Inputs

Importance = Literal["reconstruction", "l1", "l2", "activation", "taylor", "bn-scale", "random"]


def ranking_by(
    importance: Importance,
    generator: Generator,
    module: nn.Module,
    graph: ChannelGraph,
    group: Group,
    *,
    seen: Seen,
    seed: int,
) -> Ranking:
    """The ranking of a group's atoms by one measure, with what it costs to follow it."""
    consumers = consumers_of(module, graph, group, seen)
    count = len(group.atoms)
    order: Tensor | None = None
    if importance != "reconstruction" or not consumers:
        order = scores(importance, generator, module, graph, group, seen=seen, seed=seed).argsort()
    if not consumers:
        assert order is not None
        return Ranking(order, torch.full((count + 1,), float("nan"), dtype=torch.float64))
    return rank(consumers, count, order)


def scores(
    importance: Importance,
    generator: Generator,
    module: nn.Module,
    graph: ChannelGraph,
    group: Group,
    *,
    seen: Seen,
    seed: int,
) -> Tensor:
    """How important each atom is, ``(atoms,)``; only the order means something."""
    if importance == "random":
        own = torch.Generator().manual_seed(seed + zlib.crc32(group.name.encode()))
        return torch.rand(len(group.atoms), generator=own)
    if importance == "bn-scale":
        norms = {
            f"{name}.weight"
            for name, layer in module.named_modules()
            if isinstance(layer, nn.modules.batchnorm._NormBase | nn.GroupNorm | nn.LayerNorm)
        }
        found = summed(module, graph, group, lambda name, t: t.abs() if name in norms else None)
        if found is not None:
            return found
    if importance == "taylor":
        gradients = gradients_of(generator, module, seed)
        found = summed(
            module,
            graph,
            group,
            lambda name, t: (t * gradients[name]).abs() if name in gradients else None,
        )
        if found is not None:
            return found
    if importance == "activation":
        total = torch.zeros(len(group.atoms), dtype=torch.float64)
        for consumer in consumers_of(module, graph, group, seen):
            # Before anything is removed the energies are those of the weights.
            energy = consumer.energy.diagonal()[consumer.columns].sum(1)
            total += energy * activity(consumer.inverse, consumer.columns)
        if bool(total.any()):
            return total
    power = 1 if importance == "l1" else 2
    found = summed(module, graph, group, lambda _, t: t.abs() ** power)
    assert found is not None
    return found


def activity(inverse: Tensor, columns: Tensor) -> Tensor:
    """The mean square of each atom's channels, from the inverse of their moments."""
    moments: Tensor = torch.linalg.inv(inverse).diagonal()
    return moments[columns].sum(1)


def summed(
    module: nn.Module,
    graph: ChannelGraph,
    group: Group,
    value: Callable[[str, Tensor], Tensor | None],
) -> Tensor | None:
    """The sum of ``value(name, weight)`` over all weights that an atom has; None where none."""
    named = dict(module.named_parameters())
    total = torch.zeros(len(group.atoms), dtype=torch.float64)
    any_found = False
    for name, axis in group.slots:
        if name not in named:
            continue
        amounts = value(name, named[name].detach())
        if amounts is None:
            continue
        by_channel = amounts.transpose(0, axis).flatten(1).sum(1) if amounts.ndim > 1 else amounts
        labels = graph.trace.slots[name, axis]
        place = {int(atom): i for i, atom in enumerate(group.atoms)}
        index = np.array([place.get(int(label), -1) for label in labels])
        mine = torch.from_numpy(np.flatnonzero(index >= 0))
        total.index_add_(0, torch.from_numpy(index)[mine], by_channel.double()[mine])
        any_found = True
    return total if any_found else None


def gradients_of(generator: Generator, module: nn.Module, seed: int) -> dict[str, Tensor]:
    """Gradients of the picture's mean square by every weight."""
    inputs = Inputs(generator.signature, "calibration", seed).draw(
        1 if generator.signature.takes_images else 32
    )
    named = dict(module.named_parameters())
    wanted = {name: p.requires_grad for name, p in named.items()}
    module.requires_grad_(True)
    try:
        with torch.enable_grad():
            loss = run_module(module, generator.signature, inputs).square().mean()
            found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    finally:
        for name, parameter in named.items():
            parameter.requires_grad_(wanted[name])
    return {n: g for n, g in zip(named, found, strict=True) if g is not None}
