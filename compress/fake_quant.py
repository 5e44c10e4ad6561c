"""Training as if quantized: weights and activations are rounded to 8 bits in the forward pass.

Gradients go straight through the rounding (Jacob et al. 2017, arXiv 1712.05877). Weights are
rounded symmetrically for each output channel, activations for the whole tensor between the least
and the greatest value seen, as the quantizer will do it: what recovery learns is what will run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

PRODUCTS = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.Linear)
LEVELS = 255


class RoundedWeight(nn.Module):
    """A parametrization: the weight rounded to int8 in [-127, 127], a scale a channel."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, weight: Tensor) -> Tensor:
        """The rounded weight, float32."""
        others = [d for d in range(weight.ndim) if d != self.axis]
        scale = weight.detach().abs().amax(others).clamp_min(1e-12) / 127
        zero = torch.zeros_like(scale, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weight, scale, zero, self.axis, -127, 127)


class RoundedInput:
    """A forward pre-hook: learns the range of a layer's input, then rounds to it."""

    def __init__(self) -> None:
        self.low = 0.0
        self.high = 0.0
        self.learning = True

    def __call__(self, module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """The layer's arguments, the first rounded once its range is known."""
        x, *rest = arguments
        if self.learning:
            self.low = min(self.low, float(x.detach().min()))
            self.high = max(self.high, float(x.detach().max()))
            return arguments
        scale = max(self.high - self.low, 1e-12) / LEVELS
        zero = round(-self.low / scale)
        return (torch.fake_quantize_per_tensor_affine(x, scale, zero, 0, LEVELS), *rest)


@contextmanager
def fake_quantized(module: nn.Module) -> Iterator[list[RoundedInput]]:
    """Round weights and inputs of every product in ``module`` while the context lasts.

    The hooks first learn their ranges: run the module on calibration inputs, then set
    ``learning = False`` on each. On leaving, the trained float weights are back in place.
    """
    hooks: list[RoundedInput] = []
    handles = []
    layers = [m for m in module.modules() if isinstance(m, PRODUCTS)]
    for layer in layers:
        transposed = isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d)
        axis = 1 if transposed and layer.groups == 1 else 0
        parametrize.register_parametrization(layer, "weight", RoundedWeight(axis))
        hooks.append(RoundedInput())
        handles.append(layer.register_forward_pre_hook(hooks[-1]))
    try:
        yield hooks
    finally:
        for layer, handle in zip(layers, handles, strict=True):
            handle.remove()
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
