"""Random weights that act like trained ones, and random pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from conftest import settle_batch_norms
from torch import Tensor, nn
from torch.nn import functional as F

WEIGHTED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
COMPOSED = "Conv3XC"
"""SPAN's convolution, which is made of others."""


def settle(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    spread: float = 0.2,
    centre: float | None = None,
    last: tuple[str, ...] = (),
) -> None:
    """Scale random weights so that activations neither vanish nor explode, layer by layer.

    In the order in which they run, every layer gets weights with which its output has a standard
    deviation of 1 on ``inputs``, the last one (and those named ``last``) of ``spread``: about what
    a picture in [0, 1] has. Parameters that start as zeros, such as a residual branch's scale, get
    small random values. Where the output's mean is far from ``centre``, the last bias moves it.
    """
    module.eval()
    for name, parameter in module.named_parameters():
        if not parameter.any() and "bias" not in name.rpartition(".")[2]:
            nn.init.normal_(parameter, 0.0, 0.3)
    layers = scalable(module)
    order: list[nn.Module] = []
    run(module, inputs, layers, lambda layer, _, __: order.append(layer))
    ends = {order[-1], *(module.get_submodule(name) for name in last)}
    wanted: dict[nn.Module, float] = {}

    def adjust(layer: nn.Module, _: object, out: Tensor) -> Tensor | None:
        if layer not in wanted or out.numel() < 2:
            return None
        factor = wanted.pop(layer) / float(out.std().clamp_min(1e-6))
        for part in scaled_parts(layer):
            part.weight.mul_(factor)
            if part.bias is not None:
                part.bias.mul_(factor)
        return out * factor

    wanted |= dict.fromkeys(order, 1.0)
    run(module, inputs, layers, adjust)
    settle_batch_norms(module, *(x.clone() for x in inputs))
    wanted |= dict.fromkeys(ends, spread)
    run(module, inputs, layers, adjust)
    if centre is None or order[-1].bias is None:
        return
    if abs(away := centre - mean_of(module, inputs)) > 0.2:
        with torch.no_grad():
            before = mean_of(module, inputs)
            order[-1].bias.add_(away)
            effect = (mean_of(module, inputs) - before) / away
            order[-1].bias.add_(away / effect - away)


@torch.no_grad()
def run(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    layers: list[nn.Module],
    hook: Callable[[nn.Module, Any, Tensor], Tensor | None],
) -> None:
    """Run ``module`` once with a hook on each of ``layers``."""
    handles = [layer.register_forward_hook(hook) for layer in layers]
    module(*(x.clone() for x in inputs))
    for handle in handles:
        handle.remove()


@torch.no_grad()
def mean_of(module: nn.Module, inputs: tuple[Tensor, ...]) -> float:
    """The mean of the first output on ``inputs``."""
    made = module(*(x.clone() for x in inputs))
    return float((made[0] if isinstance(made, tuple) else made).mean())


def scalable(module: nn.Module) -> list[nn.Module]:
    """The layers whose outputs can be scaled by their weights."""
    whole = [m for m in module.modules() if type(m).__name__ == COMPOSED]
    inner = {part for m in whole for part in m.modules()}
    given = "MeanShift"  # RCAN's mean of all images, which is no layer to scale
    return whole + [
        m
        for m in module.modules()
        if isinstance(m, WEIGHTED) and m not in inner and type(m).__name__ != given
    ]


def scaled_parts(layer: nn.Module) -> list[Any]:
    """The layers to scale where the output of ``layer`` is to be scaled."""
    return [layer.sk, layer.conv[2]] if type(layer).__name__ == COMPOSED else [layer]


def pictures(shape: tuple[int, ...]) -> Tensor:
    """Smooth random pictures in [0, 1] of ``shape``, ``(N, C, H, W)``."""
    n, c, h, w = shape
    coarse = torch.rand(n, c, max(2, h // 8), max(2, w // 8))
    return F.interpolate(coarse, (h, w), mode="bicubic").clamp(0, 1)
