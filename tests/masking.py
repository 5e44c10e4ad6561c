"""An oracle for cuts that knows nothing of labels: NaN is put in what went, and followed."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from genslim.generator import Generator
from genslim.signature import BATCH, Input, Output, Prior, Signature

CONSUMERS = (nn.modules.conv._ConvNd, nn.Linear)


def generator_of(module: nn.Module, *shapes: tuple[int, ...], name: str = "small") -> Generator:
    """A generator of ``module``, which takes normal inputs of ``shapes`` without the batch."""
    module.eval()
    inputs = tuple(Input(f"x{i}", (BATCH, *s), Prior()) for i, s in enumerate(shapes))
    with torch.no_grad():
        made = module(*(torch.randn(2, *shape) for shape in shapes))
    output = Output("images", (BATCH, *made.shape[1:]), (-1.0, 1.0))
    return Generator(name, Signature(inputs, (output,)), {}, module)


@torch.no_grad()
def masked(
    module: nn.Module, kept: Mapping[str, Tensor], *inputs: Tensor, fill: float = float("nan")
) -> Tensor:
    """What ``module`` makes where only the channels of ``kept`` are there.

    All others are NaN from the layer on that makes them. A layer that takes them in reads zeros,
    which is to have no weights for them; whatever else looks at them becomes NaN, and shows.

    Args:
        module: whole.
        kept: for each layer that lost output channels those it kept.
        inputs: of the module.
        fill: what is put in place of NaN.
    """
    module = copy.deepcopy(module)
    own = {name.rpartition(".")[0] for name, _ in module.named_parameters() if name in kept}
    for name, layer in module.named_modules():
        if isinstance(layer, CONSUMERS) or name in own - {""}:
            layer.register_forward_pre_hook(lambda m, a: tuple(read(m, x) for x in a))
        if name in kept:
            layer.register_forward_hook(lambda m, a, out, k=kept[name]: without(m, out, k, fill))
    for name, parameter in module.named_parameters():
        if name in kept:  # a tensor of a module of one's own is named by itself
            gone = torch.ones(len(parameter), dtype=torch.bool)
            gone[kept[name]] = False
            parameter[gone] = fill
    result: Tensor = module(*(x.clone() for x in inputs))
    return result


def channel_axis(layer: nn.Module, x: Tensor) -> int:
    """The axis of a layer's channels in what goes in or comes out."""
    return x.ndim - 1 if isinstance(layer, nn.Linear) else min(1, x.ndim - 1)


def read(layer: nn.Module, x: Tensor) -> Tensor:
    """``x`` with zeros in every channel that holds a NaN."""
    axis = channel_axis(layer, x)
    gone = x.isnan().transpose(0, axis).flatten(1).any(1)
    return x.index_fill(axis, gone.nonzero()[:, 0], 0.0)


def without(layer: nn.Module, out: Tensor, kept: Tensor, fill: float) -> Tensor:
    """``out`` with ``fill`` in the channels that went."""
    axis = channel_axis(layer, out)
    return torch.full_like(out, fill).index_copy(axis, kept, out.index_select(axis, kept))


class Net(nn.Module):
    """Layers by name, and how they are run: ``Net(lambda m, x: m.last(m.first(x)), first=…)``."""

    def __init__(self, run: Any, **parts: Any) -> None:
        super().__init__()
        self.run = run
        for name, part in parts.items():
            if isinstance(part, Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, *inputs: Tensor) -> Tensor:
        result: Tensor = self.run(self, *inputs)
        return result
