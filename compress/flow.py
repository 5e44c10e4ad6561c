"""Which sums a layer's output ends in: the residual connections of a network, read off one run.

A layer whose output is scaled and added to a stream can make up for what the stream has lost, if
it is fitted to the sum instead of to its own output alone. For each layer this finds the last sum
that its output reaches through nothing but constant factors, batch norms and additions, and that
nothing else has looked at before: ``sum = gain * output + rest``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from compress.channels.operations import short_name, tensors_in
from compress.channels.watching import Watching

SAME = frozenset({"view", "_unsafe_view", "alias", "detach", "clone", "contiguous"})
"""Operations whose result is their argument, where the shape stays."""
NORMS = frozenset(
    {"native_batch_norm", "_native_batch_norm_legit_no_training", "_batch_norm_no_update"}
)


@dataclass(frozen=True)
class Rest:
    """A tensor that is added to a layer's scaled output."""

    call: int
    """The operation that made it, by its place in the run."""
    gain: float | Tensor
    """What it is multiplied by until the sum: a number, or one for each channel."""


@dataclass
class Sum:
    """Where a layer's output ends: ``gain * output + sum of rests``."""

    gain: float | Tensor = 1.0
    rests: list[Rest] = field(default_factory=list)


@dataclass
class Call:
    """One operation of the run."""

    name: str
    sources: list[int]
    """The operations that made its tensors; -1 for weights and inputs."""
    args: Sequence[Any]
    shape: torch.Size


class Watch(Watching):
    """Reports each operation of a run."""

    def __init__(self, on_call: Callable[[int, Any, Sequence[Any], Any], None]) -> None:
        super().__init__()
        self.on_call = on_call

    def look(
        self, index: int, func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any
    ) -> None:
        """Report the operation."""
        self.on_call(index, func, args, out)


def sums_of(module: nn.Module, run: Callable[[], object]) -> dict[str, Sum]:
    """For each convolution and linear layer the sum that its output ends in.

    Args:
        module: in evaluation mode.
        run: runs it once, on a small input.
    """
    calls: list[Call] = []
    made_by: Any = WeakIdKeyDictionary()
    outputs: dict[str, int] = {}
    uses: Counter[int] = Counter()

    def on_call(index: int, func: Any, args: Sequence[Any], out: Any) -> None:
        tensors = tensors_in(args)
        sources = [made_by.get(t, -1) for t in tensors]
        made = tensors_in(out)
        plain = [a if not isinstance(a, Tensor) else None for a in args]
        if short_name(func) in NORMS:
            plain = [scale_of(args), *plain[1:]]
        uses.update(s for s in sources if s >= 0)
        calls.append(
            Call(short_name(func), sources, plain, made[0].shape if made else torch.Size())
        )
        for tensor in made[:1]:
            made_by[tensor] = index

    def note(name: str, out: Tensor) -> None:
        if name in outputs or holders[layers[name].weight] > 1:
            outputs[name] = -1  # its weight is used more than once: no one sum
        else:
            outputs[name] = made_by.get(out, -1)

    layers = {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)
    }
    holders = Counter(layer.weight for layer in layers.values())
    handles = [
        layer.register_forward_hook(lambda m, a, out, name=name: note(name, out))
        for name, layer in layers.items()
    ]
    with Watch(on_call), torch.no_grad():
        run()
    for handle in handles:
        handle.remove()
    users: dict[int, int] = {}
    for index, call in enumerate(calls):
        for source in call.sources:
            users[source] = index
    return {
        name: follow(index, calls, users, uses) for name, index in outputs.items() if index >= 0
    }


def scale_of(args: Sequence[Any]) -> Tensor | None:
    """What a batch norm in evaluation multiplies each channel by."""
    weight: Tensor | None = args[1]
    variance: Tensor | None = args[4]
    eps = args[-1] if isinstance(args[-1], float) else 1e-5
    if variance is None:
        return None
    scale = (variance + eps).rsqrt()
    return scale if weight is None else weight * scale


def follow(
    start: int, calls: Sequence[Call], users: Mapping[int, int], uses: Mapping[int, int]
) -> Sum:
    """The sum that the result of one operation ends in."""
    found, here = Sum(), start
    while uses.get(here) == 1:
        call = calls[users[here]]
        if call.shape != calls[here].shape:
            break
        own = call.sources.index(here)
        others = [source for i, source in enumerate(call.sources) if i != own]
        factor: float | Tensor | None = None
        rest: Rest | None = None
        numbers = [a for a in call.args if isinstance(a, int | float)]
        if call.name in SAME:
            factor = 1.0
        elif call.name in ("mul", "div") and not others and len(numbers) == 1:
            factor = float(numbers[0]) if call.name == "mul" else 1 / float(numbers[0])
        elif call.name in NORMS and isinstance(call.args[0], Tensor):
            factor = call.args[0]
        elif call.name == "add" and not others:
            factor = 1.0
        elif call.name == "add" and not numbers and len(others) == 1:
            if others[0] < 0 or others[0] == here or calls[others[0]].shape != call.shape:
                break
            # What is made later is not known yet when this layer runs.
            if others[0] < start:
                factor, rest = 1.0, Rest(others[0], 1.0)
        if factor is None:
            break
        found.gain = times(found.gain, factor)
        found.rests = [Rest(r.call, times(r.gain, factor)) for r in found.rests]
        found.rests += [rest] if rest else []
        here = users[here]
    return found


def times(a: float | Tensor, b: float | Tensor) -> float | Tensor:
    """The product of two gains."""
    return a * b
