"""What is left of a layer's inputs stands in for what is gone, by least squares.

The closed form of :mod:`compress.refit` for a single cut: what a layer sees is summed up once, on
the whole network, and then answers for any of its inputs. No further runs; a solve a layer and cut.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from compress.batches import usual_calibration
from compress.channels.groups import Group
from compress.cutting import Cutter
from compress.factors import LARGEST, Phase, has_phases, phase_of, phases_of, size_of
from compress.refit import RIDGE, ROWS, Layer
from genslim.generator import Generator, run_module
from genslim.inputs import Inputs

MEMORY = 2**30
"""Bytes of sums that are held at a time, about; groups beyond that wait for another run."""

Seen = dict[str, list[Phase]]
"""What each layer sees, by its name."""


def fed_by(cutter: Cutter, group: Group) -> list[str]:
    """The layers that take a group's channels in and can make up for lost ones."""
    found = []
    for name, layer in cutter.module.named_modules():
        if isinstance(layer, nn.Linear) or has_phases(layer):
            fed = (f"{name}.weight", input_axis(layer)) in group.slots
            if fed and places_of(layer)[1] <= LARGEST:
                found.append(name)
    return found


def input_axis(layer: Layer) -> int:
    """The axis of a layer's weight that lies along its inputs."""
    return 0 if isinstance(layer, nn.ConvTranspose2d) else 1


def places_of(layer: Layer) -> tuple[int, int]:
    """How many phases a layer has, and how many numbers an output is made of."""
    return (1, layer.in_features) if isinstance(layer, nn.Linear) else size_of(layer)


def portions(
    cutter: Cutter, groups: Sequence[Group], generator: Generator, seed: int
) -> Iterator[tuple[list[Group], Seen]]:
    """The groups, as many at a time as memory allows, with what the layers they feed see."""
    waiting: list[Group] = []
    names: set[str] = set()
    held = 0
    for group in groups:
        fresh = set(fed_by(cutter, group)) - names
        size = sum(memory_of(cutter.module, name) for name in fresh)
        if waiting and held + size > MEMORY:
            yield waiting, see(cutter.module, names, generator, seed)
            waiting, names, held = [], set(), 0
            fresh = set(fed_by(cutter, group))
            size = sum(memory_of(cutter.module, name) for name in fresh)
        waiting.append(group)
        names |= fresh
        held += size
    if waiting:
        yield waiting, see(cutter.module, names, generator, seed)


def memory_of(module: nn.Module, name: str) -> int:
    """Bytes of what is summed up of a layer's inputs."""
    layer = module.get_submodule(name)
    assert isinstance(layer, Layer)
    phases, places = places_of(layer)
    return 4 * phases * places**2


@torch.no_grad()
def see(module: nn.Module, names: Collection[str], generator: Generator, seed: int) -> Seen:
    """Run ``module`` once and sum up what the named layers see."""
    seen: Seen = {}
    if not names:
        return seen

    def note(name: str, layer: Layer, x: Tensor, out: Tensor) -> None:
        if name not in seen:  # of a layer that runs several times, the first
            seen[name] = sums_of_input(name, layer, x, out)

    handles = []
    for name in names:
        layer = module.get_submodule(name)
        handles.append(
            layer.register_forward_hook(lambda m, a, out, name=name: note(name, m, a[0], out))
        )
    signature = generator.signature
    inputs = Inputs(signature, "calibration", seed).draw(usual_calibration(signature))
    try:
        run_module(module, signature, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def sums_of_input(name: str, layer: Layer, x: Tensor, out: Tensor) -> list[Phase]:
    """What a layer sees, at a random share of the positions."""
    grid = x if isinstance(layer, nn.ConvTranspose2d) else out
    total = grid.numel() // grid.shape[-1 if isinstance(layer, nn.Linear) else 1]
    random = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    count = min(ROWS[0], max(4000, 3 * places_of(layer)[1]))
    positions = torch.randperm(total, generator=random)[:count].sort().values
    # Nothing is asked of the outputs: there are none.
    if isinstance(layer, nn.Linear):
        rows = x.flatten(0, -2)[positions, :, None]
        return [phase_of(rows, torch.zeros(len(rows), 0), [0], layer.bias is not None)]
    sides = layer.stride if isinstance(layer, nn.ConvTranspose2d) else ()
    return phases_of(layer, x, torch.zeros(len(positions), 0, *sides), positions)


@torch.no_grad()
def stand_in(
    module: nn.Module, cutter: Cutter, group: Group, removed: int, seen: Mapping[str, list[Phase]]
) -> None:
    """Hand the weights of lost inputs on to those that are left, in ``module`` itself.

    Args:
        module: without the group's first ``removed`` atoms.
        cutter: that cut it.
        group: which was cut.
        removed: how many atoms.
        seen: of :func:`portions`; layers that are not in it are left as they are.
    """
    gone = {group.name: cutter.choice.rankings[group.name].order[:removed].numpy()}
    places = cutter.known.graph.places(cutter.known.dead(gone), alive=True)
    for name in fed_by(cutter, group):
        before, after = cutter.module.get_submodule(name), module.get_submodule(name)
        assert isinstance(before, Layer)
        assert isinstance(after, Layer)
        axis = input_axis(before)
        kept, outputs = (places.get((f"{name}.weight", side)) for side in (axis, 1 - axis))
        if kept is not None and name in seen:
            hand_on(before, after, axis, kept, outputs, seen[name])


def hand_on(  # noqa: PLR0917
    before: Layer,
    after: Layer,
    axis: int,
    kept: Tensor,
    outputs: Tensor | None,
    phases: Sequence[Phase],
) -> None:
    """Fit ``after``, which has the inputs ``kept`` of ``before`` and some of its outputs."""
    weight = before.weight if outputs is None else before.weight.index_select(1 - axis, outputs)
    by_input = weight.transpose(0, axis)
    by_input = by_input.reshape(*by_input.shape[:2], -1).transpose(1, 2)  # (inputs, taps, outputs)
    fit = by_input[kept].clone()
    lost = torch.ones(len(by_input), dtype=torch.bool)
    lost[kept] = False
    shifts = []
    for p in phases:
        own = by_input[lost][:, p.taps].flatten(0, 1)  # (lost places, outputs)
        size = len(kept) * len(p.taps)
        gram = p.gram[kept][:, :, kept].reshape(size, size)
        gram.diagonal().add_(RIDGE * float(gram.diagonal().mean()) + 1e-12)
        handed = torch.linalg.solve(gram, p.gram[kept][:, :, lost].reshape(size, -1) @ own)
        fit[:, p.taps] += handed.view(len(kept), len(p.taps), -1)
        shifts.append(p.mean_in[lost].flatten() @ own - p.mean_in[kept].flatten() @ handed)
    shape = after.weight.transpose(0, axis).shape
    after.weight.copy_(fit.transpose(1, 2).reshape(shape).transpose(0, axis))
    if after.bias is not None:
        after.bias += torch.stack(shifts).mean(0)
