"""Which channels a generator misses least: by what others can't make up for, not by their scale.

The optimal brain surgeon (Hassibi, Stork 1993, NeurIPS 5) for channels: the cost of one is the
error that its removal leaves in the layers it feeds, after what is left of their inputs has stood
in for it by least squares. A channel that resembles others is cheap however large its weights are,
which magnitudes don't see. Channels go one after another, and the costs of the rest follow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from compress.distill import in_batches, usual_calibration
from genslim.generator import Generator, run_module
from genslim.inputs import Inputs

PRODUCTS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
RIDGE = 1e-3
"""Of the mean squared activation: no channel is trusted to stand in for others exactly."""
ROUNDS = 96
"""A group is emptied in about so many rounds; costs are renewed after each."""
TINY = 1e-12
"""Keeps what is never active from being divided by."""


@torch.no_grad()
def input_moments(generator: Generator, seed: int = 0) -> dict[str, Tensor]:
    """The mean products of the input channels, ``(C, C)`` float32, of every layer, by its name."""
    assert generator.module is not None
    module, signature = generator.module, generator.signature
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}

    def record(name: str, layer: nn.Module, x: Tensor) -> None:
        channels = x.flatten(0, -2).T if isinstance(layer, nn.Linear) else x.transpose(0, 1)
        rows = channels.flatten(1)  # (C, positions)
        sums[name] = sums.get(name, torch.zeros(())) + rows @ rows.T
        counts[name] = counts.get(name, 0) + rows.shape[1]

    handles = [
        layer.register_forward_pre_hook(lambda m, x, name=name: record(name, m, x[0]))
        for name, layer in module.named_modules()
        if isinstance(layer, PRODUCTS) and getattr(layer, "groups", 1) == 1
    ]
    inputs = Inputs(signature, "calibration", seed).draw(usual_calibration(signature))
    in_batches(lambda part: run_module(module, signature, part), inputs)
    for handle in handles:
        handle.remove()
    return {name: total / counts[name] for name, total in sums.items()}


@dataclass
class Consumer:
    """A layer that a group of channels feeds, while they are taken out."""

    inverse: Tensor
    """Of its inputs' moments, ``(C, C)``."""
    energy: Tensor
    """Products of its weights over all outputs and taps, ``(C, C)``."""
    columns: Tensor
    """Which of its inputs the group's channels are, int64."""
    scale: float
    """Mean square of its output, so that several layers weigh alike."""

    def costs(self) -> Tensor:
        """What the removal of each of the group's channels costs, as a share of the output."""
        own = self.columns
        return self.energy.diagonal()[own] / self.inverse.diagonal()[own] / self.scale

    def remove(self, gone: Tensor) -> None:
        """Take channels of the group out, the rest standing in for them."""
        out = self.columns[gone]
        share = torch.linalg.solve(self.inverse[out][:, out], self.inverse[out]).T  # (C, gone)
        mixed = share @ self.energy[out]
        self.energy += share @ self.energy[out][:, out] @ share.T - mixed - mixed.T
        self.inverse -= share @ self.inverse[out]
        for matrix in (self.inverse, self.energy):
            matrix[out] = 0.0
            matrix[:, out] = 0.0


class Surgeon:
    """Importance of channels, as torch-pruning asks for it: the round in which they would go."""

    def __init__(self, moments: Mapping[nn.Module, Tensor], otherwise: Any) -> None:
        """Keep what the layers see.

        Args:
            moments: of :func:`input_moments`, by layer instead of by name.
            otherwise: the importance of groups that feed no layer in a way that is understood.
        """
        self.moments = moments
        self.otherwise = otherwise

    @torch.no_grad()
    def __call__(self, group: Any) -> Tensor | None:
        """The rank of each channel of the group's root; the lowest go first."""
        consumers = self.consumers_of(group)
        if not consumers:
            rank: Tensor | None = self.otherwise(group)
            return rank
        count = len(consumers[0].columns)
        rank, alive = torch.zeros(count), torch.arange(count)
        position = 0
        while len(alive):
            costs = sum(consumer.costs() for consumer in consumers)
            assert isinstance(costs, Tensor)
            gone = alive[costs[alive].argsort()[: max(1, count // ROUNDS)]]
            rank[gone] = torch.arange(position, position + len(gone), dtype=torch.float32)
            position += len(gone)
            for consumer in consumers:
                consumer.remove(gone)
            alive = alive[~torch.isin(alive, gone)]
        return rank

    def consumers_of(self, group: Any) -> list[Consumer]:
        """The layers that take the group's channels in, one input for each channel."""
        from torch_pruning import prune_conv_in_channels, prune_linear_in_channels

        found = []
        for member in group:
            layer = member.dep.target.module
            takes_in = member.dep.pruning_fn in (prune_conv_in_channels, prune_linear_in_channels)
            if takes_in and layer in self.moments and len(member.idxs) == len(group[0].idxs):
                columns = torch.tensor(member.idxs)[torch.tensor(member.root_idxs).argsort()]
                found.append(consumer_of(layer, self.moments[layer], columns))
        return found


@torch.no_grad()
def consumer_of(layer: nn.Module, moments: Tensor, columns: Tensor) -> Consumer:
    """A convolution or linear layer before any of its inputs is taken out."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    by_input = weight if isinstance(layer, nn.ConvTranspose2d) else weight.transpose(0, 1)
    rows = by_input.flatten(1)  # (C, outputs and taps)
    energy = rows @ rows.T
    ridge = RIDGE * float(moments.diagonal().mean()) + TINY
    inverse = torch.linalg.inv(moments + ridge * torch.eye(len(moments)))
    return Consumer(inverse, energy, columns, float((moments * energy).sum()) + TINY)
