"""Which channels a generator misses least, and how much it misses them.

The optimal brain surgeon (Hassibi, Stork 1993, NeurIPS 5) for channels: the cost of one is the
error that its removal leaves in the layers it feeds, after what is left of their inputs has stood
in for it by least squares. A channel that resembles others is cheap however large its weights are,
which magnitudes don't see. Channels go one after another, and the costs of the rest follow. Costs
are in units of the picture's squared error, so that those of different groups compare.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from compress.channels.groups import ChannelGraph, Group
from compress.observation import Seen

RIDGE = 1e-3
"""Of the mean squared activation: no channel is trusted to stand in for others exactly."""
ROUNDS = 16
"""A group is emptied in about so many rounds; costs are renewed after each."""
TINY = 1e-12
"""Keeps what is never active from being divided by."""


@dataclass(frozen=True)
class Ranking:
    """In which order a group's atoms go, and what that costs."""

    order: Tensor
    """Indices of the atoms, int64, the one that is missed least first."""
    costs: Tensor
    """What it costs to lose the first k of them, ``(atoms + 1,)`` float64, in units of the
    picture's squared error; NaN where no layer tells."""


@dataclass
class Consumer:
    """A layer that a group of channels feeds, while they are taken out."""

    inverse: Tensor
    """Of its inputs' moments, at the group's places: ``(places, places)`` float64."""
    energy: Tensor
    """Products of its weights at these places over all outputs and taps, each output weighted by
    how much the picture hangs on it."""
    columns: Tensor
    """Which of the places each atom has, ``(atoms, channels of an atom)`` int64."""

    def costs(self, atoms: Tensor) -> Tensor:
        """What the removal of each of ``atoms`` alone costs."""
        own = self.columns[atoms]
        if own.shape[1] == 1:
            index = own[:, 0]
            return self.energy.diagonal()[index] / self.inverse.diagonal()[index]
        rows, columns = own[:, :, None], own[:, None, :]
        solved = torch.linalg.solve(self.inverse[rows, columns], self.energy[rows, columns])
        each: Tensor = solved.diagonal(dim1=1, dim2=2).sum(1)
        return each

    def remove(self, atoms: Tensor) -> float:
        """Take atoms out, the rest standing in for them; return what that costs."""
        out = self.columns[atoms].flatten()
        share = torch.linalg.solve(self.inverse[out][:, out], self.inverse[out]).T  # (C, gone)
        cost = torch.linalg.solve(self.inverse[out][:, out], self.energy[out][:, out]).trace()
        mixed = share @ self.energy[out]
        self.energy += share @ self.energy[out][:, out] @ share.T - mixed - mixed.T
        self.inverse -= share @ self.inverse[out]
        for matrix in (self.inverse, self.energy):
            matrix[out] = 0.0
            matrix[:, out] = 0.0
        return float(cost)


@torch.no_grad()
def consumers_of(
    module: nn.Module, graph: ChannelGraph, group: Group, seen: Seen
) -> list[Consumer]:
    """The layers that take the group's channels in and sum over them."""
    found = []
    for name, moments in seen.moments.items():
        layer = module.get_submodule(name)
        axis = 0 if isinstance(layer, nn.ConvTranspose2d) else 1
        slot = (f"{name}.weight", axis)
        if slot not in group.slots:
            continue
        labels = graph.trace.slots[slot]
        places = np.stack([np.flatnonzero(labels == atom) for atom in group.atoms])
        weights = seen.weights.get(name)
        if weights is None:
            weights = by_output(layer, moments)
        found.append(consumer_of(layer, moments, torch.from_numpy(places), weights))
    return found


@torch.no_grad()
def by_output(layer: nn.Module, moments: Tensor) -> Tensor:
    """Where no gradient tells what an output counts, all layers' outputs count alike."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    by_input = weight if isinstance(layer, nn.ConvTranspose2d) else weight.transpose(0, 1)
    energy = by_input.flatten(1) @ by_input.flatten(1).T
    outputs = by_input.shape[1]
    return torch.full((outputs,), 1 / (float((energy * moments).sum()) + TINY))


@torch.no_grad()
def consumer_of(layer: nn.Module, moments: Tensor, columns: Tensor, weights: Tensor) -> Consumer:
    """A convolution or linear layer before any of its inputs is taken out."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    by_input = weight if isinstance(layer, nn.ConvTranspose2d) else weight.transpose(0, 1)
    scale = weights.sqrt().view(1, -1, *[1] * (weight.ndim - 2))
    rows = (by_input * scale).flatten(1).double()  # (C, outputs and taps)
    moments = moments.double()
    ridge = RIDGE * float(moments.diagonal().mean()) + TINY
    inverse = torch.linalg.inv(moments + ridge * torch.eye(len(moments)))
    # What stands in for a channel may be any input; what changes when it goes, and is asked for
    # again, are the group's own places alone.
    own = columns.flatten()
    rows = rows[own]
    return Consumer(inverse[own][:, own], rows @ rows.T, torch.arange(len(own)).view_as(columns))


@torch.no_grad()
def rank(consumers: list[Consumer], count: int, order: Tensor | None = None) -> Ranking:
    """Take the atoms out one after another.

    Args:
        consumers: of :func:`consumers_of`; used up.
        count: of atoms.
        order: in which they go; None: those that are missed least first.
    """
    alive = torch.ones(count, dtype=torch.bool)
    gone: list[int] = []
    costs, spent = [0.0], 0.0
    at_once = max(1, count // ROUNDS)
    while len(gone) < count:
        if order is None:
            left = alive.nonzero()[:, 0]
            prices = torch.stack([consumer.costs(left) for consumer in consumers]).sum(0)
            going = left[prices.argsort()[:at_once]]
        else:
            going = order[len(gone) : len(gone) + at_once]
        cost = sum(consumer.remove(going) for consumer in consumers)
        costs += [spent + cost * (i + 1) / len(going) for i in range(len(going))]
        spent += cost
        alive[going] = False
        gone += going.tolist()
    return Ranking(torch.tensor(gone), torch.tensor(costs, dtype=torch.float64))
