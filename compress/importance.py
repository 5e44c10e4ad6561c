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
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from compress.channels.groups import ChannelGraph, Group
from compress.observation import Seen, differentiable
from compress.selection import Ranking, consumers_of, rank
from genslim.generator import Generator, run_module
from genslim.inputs import Inputs

Importance = Literal["reconstruction", "l1", "l2", "activation", "taylor", "bn-scale", "random"]


@dataclass(frozen=True)
class Ranker:
    """Ranks the channels of one network."""

    importance: Importance
    generator: Generator
    """Says what goes into the network."""
    module: nn.Module
    graph: ChannelGraph
    seen: Seen
    """What was seen of the network at work."""
    seed: int = 0

    def ranking(self, group: Group) -> Ranking:
        """The order in which a group's atoms go, with what it costs to follow it."""
        consumers = consumers_of(self.module, self.graph, group, self.seen)
        count = len(group.atoms)
        if self.importance == "reconstruction" and consumers:
            return rank(consumers, count)
        order = self.scores(group).argsort()
        if not consumers:
            return Ranking(order, torch.full((count + 1,), float("nan"), dtype=torch.float64))
        return rank(consumers, count, order)

    def scores(self, group: Group) -> Tensor:
        """How important each atom is, ``(atoms,)``; only the order means something.

        Where the measure says nothing of a group (no batch norm, no gradient), its L2 norm.
        """
        found: Tensor | None = None
        if self.importance == "random":
            own = torch.Generator().manual_seed(self.seed + zlib.crc32(group.name.encode()))
            found = torch.rand(len(group.atoms), generator=own)
        elif self.importance == "bn-scale":
            found = self.summed(group, lambda n, t: t.abs() if n in self.scales else None)
        elif self.importance == "taylor":
            by = self.gradients
            found = self.summed(group, lambda n, t: (t * by[n]).abs() if n in by else None)
        elif self.importance == "activation":
            found = self.activities(group)
        if found is None:
            power = 1 if self.importance == "l1" else 2
            found = self.summed(group, lambda _, t: t.abs() ** power)
        assert found is not None
        return found

    @cached_property
    def scales(self) -> frozenset[str]:
        """The names of the weights by which norms multiply channels."""
        norms = (_NormBase, nn.GroupNorm, nn.LayerNorm)
        return frozenset(
            f"{name}.weight" for name, m in self.module.named_modules() if isinstance(m, norms)
        )

    @cached_property
    def gradients(self) -> dict[str, Tensor]:
        """Gradients of the picture's mean square by every weight."""
        signature, module = self.generator.signature, self.module
        inputs = Inputs(signature, "calibration", self.seed).draw(
            1 if signature.takes_images else 32
        )
        named = dict(module.named_parameters())
        wanted = {name: p.requires_grad for name, p in named.items()}

        def run() -> dict[str, Tensor]:
            module.requires_grad_(True)
            with torch.enable_grad():
                loss = run_module(module, signature, inputs).square().mean()
                found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
            return {n: g for n, g in zip(named, found, strict=True) if g is not None}

        try:
            return differentiable(module, run) or {}
        finally:
            for name, parameter in named.items():
                parameter.requires_grad_(wanted[name])

    def activities(self, group: Group) -> Tensor | None:
        """Squared weights of the layers that take an atom in, times its mean square."""
        total = torch.zeros(len(group.atoms), dtype=torch.float64)
        for consumer in consumers_of(self.module, self.graph, group, self.seen):
            # Before anything is removed the energies are those of the weights.
            energy = consumer.energy.diagonal()[consumer.columns].sum(1)
            moments: Tensor = torch.linalg.inv(consumer.inverse).diagonal()
            total += energy * moments[consumer.columns].sum(1)
        return total if bool(total.any()) else None

    def summed(self, group: Group, value: Callable[[str, Tensor], Tensor | None]) -> Tensor | None:
        """The sum of ``value(name, weight)`` over all weights that an atom has; None of none."""
        named = dict(self.module.named_parameters())
        place = {int(atom): i for i, atom in enumerate(group.atoms)}
        total = torch.zeros(len(group.atoms), dtype=torch.float64)
        any_found = False
        for name, axis in group.slots:
            amounts = value(name, named[name].detach()) if name in named else None
            if amounts is None:
                continue
            channels = amounts.transpose(0, axis).flatten(1).sum(1) if amounts.ndim > 1 else amounts
            labels = self.graph.trace.slots[name, axis]
            index = torch.tensor([place.get(int(label), -1) for label in labels])
            total.index_add_(0, index[index >= 0], channels.double()[index >= 0])
            any_found = True
        return total if any_found else None
