"""Cutting channels: which must go together, which are the weakest, which must stay.

What goes together is torch-pruning's dependency graph (Fang et al. 2023, arXiv 2301.12900); which
of a group's channels go first is found by what they do (:mod:`compress.selection`). A group that
feeds no layer one by one is ranked by the L2 norm of its weights (Li et al. 2016,
arXiv 1608.08710).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from compress.selection import PRODUCTS, Surgeon, input_moments
from genslim.generator import Generator
from genslim.inputs import Inputs
from genslim.size import Size, size_of


@dataclass
class Cut:
    """Which layers lost channels and which did not."""

    changed: list[str] = field(default_factory=list)
    left: list[dict[str, str]] = field(default_factory=list)
    kept: dict[str, Tensor] = field(default_factory=dict)
    """For each layer that lost channels, the original's channels that it kept, int64."""


@dataclass(frozen=True)
class Survey:
    """What is known of a generator before it is cut, found once for any number of cuts."""

    protected: Mapping[str, str]
    """Layers that must keep their channels, with reasons."""
    moments: Mapping[str, Tensor]
    """What goes into each layer: see :func:`compress.selection.input_moments`."""


def survey(generator: Generator, round_to: int) -> Survey:
    """Look which layers can be cut, and at what goes into each."""
    return Survey(protected_layers(generator, round_to), input_moments(generator))


def cut_uniformly(
    generator: Generator, ratio: float, round_to: int, known: Survey | None = None
) -> tuple[nn.Module, Cut]:
    """Remove ``ratio`` of the channels of every group, those that are missed least.

    Args:
        generator: has a module, which is copied.
        ratio: in [0, 1).
        round_to: channel counts become multiples of this.
        known: what :func:`survey` found, where it is known already.

    Returns:
        The pruned copy, and what was cut: a layer a line, and the layers left whole with reasons.
    """
    import torch_pruning

    module = generator.trainable().eval().requires_grad_(True)
    known = known or survey(generator, round_to)
    names = {name: layer for name, layer in module.named_modules() if isinstance(layer, PRODUCTS)}
    name_of = {layer: name for name, layer in names.items()}
    before = {name: out_channels(layer) for name, layer in names.items()}
    removed: dict[str, set[int]] = {name: set() for name in names}
    if len(known.protected) < len(names):
        moments: dict[nn.Module, Tensor] = {
            names[name]: seen for name, seen in known.moments.items()
        }
        by_weight = torch_pruning.importance.GroupMagnitudeImportance(p=2)
        pruner = torch_pruning.pruner.BasePruner(
            module,
            example_of(generator),
            importance=Surgeon(moments, otherwise=by_weight),
            pruning_ratio=ratio,
            round_to=round_to,
            ignored_layers=[names[name] for name in known.protected],
        )
        for group in pruner.step(interactive=True):
            for dependency, channels in group:
                name = name_of.get(dependency.target.module)
                if name and pruner.DG.is_out_channel_pruning_fn(dependency.handler):
                    removed[name] |= set(channels)
            group.prune()
    cut = Cut(
        kept={
            name: torch.tensor(sorted(set(range(before[name])) - gone))
            for name, gone in removed.items()
            if gone
        }
    )
    for name, layer in names.items():
        channels, kept = before[name], out_channels(layer)
        if kept < channels:
            cut.changed.append(f"{name}: {channels} to {kept} channels")
        else:
            reason = known.protected.get(
                name, f"{channels} channels can't lose {ratio:.0%} in steps of {round_to}"
            )
            cut.left.append({"what": name, "reason": reason})
    return module, cut


def cut_to_size(
    generator: Generator, ratio: float, of: Literal["params", "macs"], round_to: int
) -> tuple[nn.Module, Cut]:
    """Cut so many channels of every group that ``ratio`` of the parameters or MACs is removed.

    Rounding makes some shares unreachable: the nearest one below ``ratio`` is taken.
    """

    def amount(size: Size) -> int:
        return size.parameters if of == "params" else size.macs

    whole = amount(size_of(generator))
    known = survey(generator, round_to)
    low, high = 0.0, 1.0
    best = cut_uniformly(generator, low, round_to, known)
    for _ in range(8):  # bisection: the share grows with the ratio of channels
        middle = (low + high) / 2
        module, cut = cut_uniformly(generator, middle, round_to, known)
        if 1 - amount(size_of(generator.variant(module=module))) / whole <= ratio:
            low, best = middle, (module, cut)
        else:
            high = middle
    return best


def protected_layers(generator: Generator, round_to: int) -> dict[str, str]:
    """The layers that must keep their channels, with reasons: found by cutting each, and looking.

    A cut that changes the shape of the output, or that the module can't run with, shows a layer
    whose channels are laid out in a fixed way: the colours, what feeds a pixel shuffle.
    """
    import torch_pruning

    assert generator.module is not None
    expected = generator(named_example(generator)).shape
    reasons: dict[str, str] = {}
    for name, original in generator.module.named_modules():
        if not isinstance(original, PRODUCTS):
            continue
        if out_channels(original) <= round_to:
            reasons[name] = f"has only {out_channels(original)} channels"
            continue
        trial = generator.trainable().eval().requires_grad_(True)
        layer = trial.get_submodule(name)
        linear = isinstance(layer, nn.Linear)
        cut = (
            torch_pruning.prune_linear_out_channels
            if linear
            else torch_pruning.prune_conv_out_channels
        )
        try:
            graph = torch_pruning.DependencyGraph().build_dependency(trial, example_of(generator))
            graph.get_pruning_group(layer, cut, list(range(round_to))).prune()
            shape = generator.variant(module=trial)(named_example(generator)).shape
        except Exception as error:  # torch-pruning and the module fail in ways of their own
            reasons[name] = (
                f"can't be cut alone ({type(error).__name__}): what follows has a fixed layout"
            )
            continue
        if shape != expected:
            reasons[name] = "its channels are the picture's"
    return reasons


def out_channels(layer: nn.Module) -> int:
    """How many channels a convolution or linear layer makes."""
    return int(layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels)  # type: ignore[arg-type]


def named_example(generator: Generator) -> dict[str, Tensor]:
    """One input of the usual size, drawn like any other."""
    return Inputs(generator.signature, "calibration").draw(1)


def example_of(generator: Generator) -> tuple[Tensor, ...]:
    """The same, in the order of ``forward``."""
    return tuple(named_example(generator).values())
