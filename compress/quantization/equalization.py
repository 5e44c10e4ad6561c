"""Channels of unlike range made alike, exactly: what is rounded together then has finer steps.

A range is shared by all channels of a tensor, and the widest decides. Where what lies between two
layers keeps positive factors (a rectifier, a sum, a concatenation), a channel may be made larger by
the one and smaller again by the other (Nagel et al. 2019, "Data-Free Quantization Through Weight
Equalization and Bias Correction", arXiv 1906.04721). Which layers make a channel and which read it
is known from :mod:`compress.channels`; whether the network stays what it was is tried.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from compress.batches import usual_calibration
from compress.channels.cutting import FAILURES, first_that_runs
from compress.channels.groups import ChannelGraph, Group, channel_graph
from compress.hooks import hooked
from compress.norm_folding import LAYERS
from genslim.console import SILENT, Console
from genslim.generator import Generator, run_module
from genslim.inputs import Inputs

SHARE = 0.5
"""The power of the ratio of ranges that a channel is scaled by. With 1 all ranges would be alike,
but weights would differ as much: animevideov3 read an SSIM of 0.990 with 0.5, 0.986 with 1 and
0.987 without."""
MOST = 16.0
"""What a channel is scaled by at most."""
QUANTILE = 0.999
"""Of a channel's absolute values, taken for its range."""
TOLERANCE = 1e-4
"""How far the picture may move, as a part of its standard deviation: rounding in float32."""


@torch.no_grad()
def equalized(
    generator: Generator, module: nn.Module, seed: int = 0, console: Console = SILENT
) -> tuple[nn.Module, list[str]]:
    """A copy of ``module`` that computes the same with channels of more equal ranges.

    Args:
        generator: says how the module is called.
        module: in evaluation mode; left as it is.
        seed: of the inputs on which ranges are read.
        console: shows progress.

    Returns:
        The copy, and the names of the groups of channels that were scaled.
    """
    try:
        graph = channel_graph(generator, module)
    except FAILURES:
        return copy.deepcopy(module), []
    scaling = Scaling(module, graph)
    groups = scaling.exact(generator, console)
    reach = channel_ranges(generator, module, graph, seed)
    factors: dict[int, float] = {}
    for group in groups:
        for label in group.atoms:
            own, widest = reach.get(int(label), (0.0, 0.0))
            if own > 0:
                factors[int(label)] = float(min(MOST, (widest / own) ** SHARE))
    return scaling.scaled(factors), [group.name for group in groups]


class Scaling:
    """Scales channels where they are made, and scales them back where they are read."""

    def __init__(self, module: nn.Module, graph: ChannelGraph) -> None:
        self.module, self.graph = module, graph
        self.made: dict[str, tuple[str, int]] = {}
        """Tensors that make channels, and the axis along which."""
        self.read: dict[str, int] = {}
        """Weights that read channels, and the axis along which."""
        for name, layer in module.named_modules():
            if not isinstance(layer, LAYERS):
                continue
            prefix = f"{name}." if name else ""
            depthwise = getattr(layer, "groups", 1) > 1
            transposed = isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d)
            if not depthwise:  # a depthwise kernel makes of a channel what it reads of it
                self.made[f"{prefix}weight"] = f"{prefix}weight", int(transposed)
                self.read[f"{prefix}weight"] = 1 - int(transposed)
            if layer.bias is not None:
                self.made[f"{prefix}bias"] = f"{prefix}bias", 0

    def scaled(self, factors: Mapping[int, float]) -> nn.Module:
        """A copy of the module in which channels are larger by a factor, by their label."""
        result = copy.deepcopy(self.module)
        for (name, axis), labels in self.graph.trace.slots.items():
            along = torch.tensor([factors.get(int(label), 1.0) for label in labels])
            if not bool((along != 1).any()):
                continue
            holder, _, own = name.rpartition(".")
            tensor = getattr(result.get_submodule(holder), own).data
            shape = [-1 if d == axis else 1 for d in range(tensor.ndim)]
            if self.made.get(name) == (name, axis):
                tensor *= along.view(shape)
            elif self.read.get(name) == axis:
                tensor /= along.view(shape)
        return result

    def exact(self, generator: Generator, console: Console) -> list[Group]:
        """The groups whose channels can be scaled without moving the picture."""
        inputs = first_that_runs(generator, self.module)

        def images(module: nn.Module) -> Tensor:
            return run_module(module, generator.signature, inputs)

        whole = images(self.module)
        near = TOLERANCE * float(whole.std()) + 1e-7

        def works(groups: list[Group]) -> bool:
            """Whether every other channel of the groups can be doubled."""
            labels = np.concatenate([group.atoms[::2] for group in groups])
            made = images(self.scaled({int(label): 2.0 for label in labels}))
            return float((made - whole).abs().max()) <= near

        def fitting(groups: list[Group]) -> list[Group]:
            """Those of the groups that work, by halving."""
            if not groups or works(groups):
                return groups
            half = len(groups) // 2
            return fitting(groups[:half]) + fitting(groups[half:]) if half else []

        return fitting(list(self.graph.groups))


def channel_ranges(
    generator: Generator, module: nn.Module, graph: ChannelGraph, seed: int
) -> dict[int, tuple[float, float]]:
    """Of each channel how far it reaches where it is read, and how far the widest beside it."""
    layers = {n: layer for n, layer in module.named_modules() if isinstance(layer, LAYERS)}
    found: dict[int, tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))

    def note(name: str, arguments: tuple[object, ...]) -> None:
        x, layer = arguments[0], layers[name]
        transposed = isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d)
        labels = graph.trace.slots.get((f"{name}.weight", 1 - int(transposed)))
        assert isinstance(x, Tensor)
        axis = x.ndim - 1 if isinstance(layer, nn.Linear) else 1
        if labels is None or x.shape[axis] != len(labels):
            return
        values = x.abs().movedim(axis, 0).flatten(1)
        place = max(1, round(QUANTILE * values.shape[1]))
        reach = values.kthvalue(place, dim=1).values
        widest = float(reach.max())
        for label, own in zip(labels, reach.tolist(), strict=True):
            before = found[int(label)]
            found[int(label)] = max(before[0], own), max(before[1], widest)

    count = max(1, usual_calibration(generator.signature) // 2)
    inputs = Inputs(generator.signature, "calibration", seed).draw(count)
    hooked(module, list(layers), generator, inputs, before=note)
    return found
