"""Training as if quantized: a module rounds where its Q/DQ graph does, and learns to live with it.

Gradients go straight through the rounding (Jacob et al. 2017, arXiv 1712.05877). The ranges of
activations are learned with the weights: what is clipped pulls at an end of its range, what is
within pulls the step (Choi et al. 2018, arXiv 1805.06085; Esser et al. 2020, arXiv 1902.08153).
What was learned goes back into the graph, so that what was trained is what runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils._python_dispatch import _disable_current_modes

from compress.norm_folding import LAYERS
from compress.quantization.pairs import LEVELS, Pairs, Range

PLACE = "rounded_input"
"""The name under which a layer holds what rounds its input."""


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


class Rounded(torch.autograd.Function):
    """Rounding to uint8 between two ends that are learned."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """``x`` rounded; the ends are scalars of at most and at least 0."""
        scale = max(float(high - low), 1e-12) / LEVELS
        zero = min(LEVELS, max(0, round(-float(low) / scale)))
        # In place: what fake_quantize_per_tensor_affine does, in a fifth of its time.
        y = (x * (1 / scale)).round_().clamp_(-zero, LEVELS - zero).mul_(scale)
        ctx.save_for_backward(x, y)
        ctx.ends = -zero * scale, (LEVELS - zero) * scale
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Straight through within the range; beyond it to the end that clipped."""
        x, y = ctx.saved_tensors
        low, high = ctx.ends
        passed = torch.ops.aten.hardtanh_backward(gradient, x, low, high)  # in one pass
        clipped = gradient - passed
        both = clipped.sum()
        below = clipped.mul_(x < 0).sum()
        step = (y - x).mul_(passed).sum() / max(high - low, 1e-12)
        return passed, below - step, both - below + step


class RoundedInput(nn.Module):
    """Rounds what a group of layers reads, between ends that are learned as factors of a first.

    A symmetric range stays symmetric: there one factor serves both ends.
    """

    def __init__(self, first: Range) -> None:
        super().__init__()
        self.low: Tensor
        self.high: Tensor
        self.register_buffer("low", torch.tensor(first.low), persistent=False)
        self.register_buffer("high", torch.tensor(first.high), persistent=False)
        self.factors = nn.Parameter(torch.zeros(1 if first == first.symmetric() else 2))

    def ends(self) -> tuple[Tensor, Tensor]:
        """The range as it is now."""
        low, high = self.factors.exp().expand(2).unbind()
        return self.low * low, self.high * high

    @property
    def range(self) -> Range:
        """The same as numbers."""
        low, high = self.ends()
        return Range(low.item(), high.item())

    def forward(self, x: Tensor) -> Tensor:
        """``x`` rounded."""
        rounded: Tensor = Rounded.apply(x, *self.ends())  # type: ignore[no-untyped-call]
        return rounded


class Rounding:
    """A module that rounds as its graph does, and the way of what it learns back into the graph.

    Args:
        module: changed in place while :meth:`applied` lasts; its graph was exported from it.
        pairs: the graph.
    """

    def __init__(self, module: nn.Module, pairs: Pairs) -> None:
        self.module, self.pairs = module, pairs
        self.inputs: dict[str, RoundedInput] = {}
        """By group."""
        self.tensors = shared_tensors(module, pairs)
        self.layers: dict[str, str | None] = {}
        """The rounded layers that the module and the graph have in common, and their groups."""
        for product in pairs.products:
            name = (product.weight or "").removesuffix(".weight")
            known = product.rounded and f"{name}.weight" in self.tensors
            if known and isinstance(module.get_submodule(name), LAYERS):
                self.layers[name] = product.group

    @contextmanager
    def applied(self, *, weights: bool = True) -> Iterator[nn.Module]:
        """Let the module round, and learn only what the graph has a place for.

        Args:
            weights: round them too, not inputs alone.
        """
        handles = []
        fixed = [
            tensor
            for name, tensor in self.module.named_parameters()
            if name not in self.tensors and tensor.requires_grad
        ]
        for tensor in fixed:
            tensor.requires_grad_(False)
        for name, group in self.layers.items():
            layer = self.module.get_submodule(name)
            transposed = isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d)
            axis = 1 if transposed and layer.groups == 1 else 0
            if weights:
                parametrize.register_parametrization(layer, "weight", RoundedWeight(axis))
            assert group is not None
            if group not in self.inputs:
                self.inputs[group] = RoundedInput(self.pairs.ranges[group])
            layer.add_module(PLACE, self.inputs[group])
            handles.append(layer.register_forward_pre_hook(round_input))
        try:
            yield self.module
        finally:
            for handle in handles:
                handle.remove()
            for name in self.layers:
                layer = self.module.get_submodule(name)
                delattr(layer, PLACE)
                if weights:
                    parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
            for tensor in fixed:
                tensor.requires_grad_(True)

    def learned(self) -> Pairs:
        """The graph with the weights and the ranges that the module has now."""
        state = self.module.state_dict()
        values = {
            name: state[name].detach().cpu().numpy().reshape(shape)
            for name, shape in self.tensors.items()
        }
        ranges = {group: rounded.range for group, rounded in self.inputs.items()}
        return self.pairs.with_tensors(values).with_ranges(ranges)


def round_input(layer: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """A forward pre-hook: the layer's first argument rounded."""
    x, *rest = arguments
    with _disable_current_modes():  # no operation of the network, to whom counts them
        return (layer.get_submodule(PLACE)(x), *rest)


def shared_tensors(module: nn.Module, pairs: Pairs) -> Mapping[str, tuple[int, ...]]:
    """The parameters that the graph holds under the same name, and their shapes there.

    An exporter may transpose a weight or fold a norm into it; such tensors are not shared.
    """
    from onnx import numpy_helper

    graph = {tensor.name: tensor for tensor in pairs.before.graph.initializer}
    found = {}
    for name, parameter in module.named_parameters():
        if name not in graph:
            continue
        theirs = numpy_helper.to_array(graph[name])
        ours = parameter.detach().cpu().numpy()
        alike = theirs.size == ours.size and theirs.dtype == ours.dtype
        if alike and np.array_equal(theirs.reshape(ours.shape), ours):
            found[name] = tuple(theirs.shape)
    return found
