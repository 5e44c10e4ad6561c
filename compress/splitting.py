"""Splitting a convolution into a depthwise and a pointwise one, in closed form.

Howard et al. 2017 (arXiv 1704.04861). The kernel of each channel is replaced by its best rank-one
approximation, by singular value decomposition; :mod:`compress.factors` then fits the two halves to
what the layer really sees. Higher ranks (several kernels a channel) are not offered: depth
multipliers have no fast kernels, and all of realesr-animevideov3 at rank two takes 1.22 times the
latency of the original on OpenVINO, where rank one takes 0.27 times.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Convolution = nn.Conv2d | nn.ConvTranspose2d

LEAST_CHANNELS = 8
"""Convolutions from or to fewer channels (the colours) are left whole."""


def reason_to_leave(layer: Convolution) -> str | None:
    """Why a convolution can't or needn't be split; None where it can."""
    # A parametrised layer is of a class of its own, too.
    own_class = type(layer) not in (nn.Conv2d, nn.ConvTranspose2d)
    if own_class or layer._forward_pre_hooks or layer._forward_hooks:
        return "does more than to convolve: it has hooks, or is of a class of its own"
    if layer.groups != 1:
        return "is grouped already"
    if max(layer.kernel_size) == 1:
        return "is pointwise already"
    if min(layer.in_channels, layer.out_channels) < LEAST_CHANNELS:
        return f"connects {layer.in_channels} to {layer.out_channels} channels: nothing to save"
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        return f"pads in a way that is not split ({layer.padding_mode}, {layer.padding})"
    return None


def shared_layers(module: nn.Module) -> set[str]:
    """The layers that the module knows under several names, or whose weights it does."""
    held = list(module.named_parameters(remove_duplicate=False))
    uses = Counter(id(parameter) for _, parameter in held)
    return {name.rpartition(".")[0] for name, parameter in held if uses[id(parameter)] > 1}


def pointwise_first(layer: Convolution) -> bool:
    """Whether the pointwise half goes first: where that costs fewer operations.

    A transposed convolution makes its pixels in the depthwise half, so the pointwise half is
    cheaper before it; a strided one is cheaper after it.
    """
    area = layer.kernel_size[0] * layer.kernel_size[1]
    scale = layer.stride[0] * layer.stride[1]
    before, after = (1, scale) if isinstance(layer, nn.ConvTranspose2d) else (scale, 1)
    product = layer.in_channels * layer.out_channels
    return product * before + layer.out_channels * area < layer.in_channels * area + product * after


@dataclass(frozen=True)
class Factors:
    """The two halves of a kernel: ``W[o, c, k] = mixing[o, c] * kernels[o or c, k]``."""

    mixing: Tensor
    """The pointwise half, ``(O, C)``."""
    kernels: Tensor
    """The depthwise half: ``(O, K)`` where it comes last, ``(C, K)`` where it comes first."""
    pointwise_first: bool

    def weight(self) -> Tensor:
        """The kernel that they make together, ``(O, C, K)``."""
        kernels = self.kernels[:, None] if self.pointwise_first else self.kernels[None]
        return self.mixing[:, :, None] * kernels

    def balanced(self) -> Factors:
        """The same kernel with depthwise kernels of norm one."""
        norm = self.kernels.norm(dim=1).clamp_min(1e-12)
        scale = norm[:, None] if self.pointwise_first else norm
        return Factors(self.mixing * scale, self.kernels / norm[:, None], self.pointwise_first)


@torch.no_grad()
def nearest(layer: Convolution) -> Factors:
    """The factors whose kernel is nearest to a layer's, channel by channel, float32.

    With the pointwise half last, each input channel i has one kernel d_i and W[o, i] ~ p[o, i] d_i;
    with it first, each output channel has one and W[o, i] ~ p[o, i] d_o. Both are rank-one
    approximations of a matrix of one channel's kernels, found by SVD.
    """
    first = pointwise_first(layer)
    # A transposed convolution's weight has its inputs first.
    turned = first == isinstance(layer, nn.ConvTranspose2d)
    weight = layer.weight.float().flatten(2)
    u, s, vh = torch.linalg.svd(weight.transpose(0, 1) if turned else weight, full_matrices=False)
    root = s[:, :1].sqrt()
    mixing, kernels = u[:, :, 0] * root, vh[:, 0] * root  # (channels, other channels)
    return Factors(mixing if first else mixing.T, kernels, first)


@torch.no_grad()
def put(layer: Convolution, factors: Factors, bias: Tensor | None) -> None:
    """Give a whole layer the kernel that ``factors`` make, and a bias where it has one."""
    weight = factors.weight()
    turned = weight.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else weight
    layer.weight.copy_(turned.reshape(layer.weight.shape))
    if layer.bias is not None and bias is not None:
        layer.bias.copy_(bias)


@torch.no_grad()
def pair(layer: Convolution, factors: Factors) -> nn.Sequential:
    """The two layers that compute with ``factors`` in the place of ``layer``, with its bias."""
    transposed = isinstance(layer, nn.ConvTranspose2d)
    first = factors.pointwise_first
    channels = layer.out_channels if first else layer.in_channels
    spatial: dict[str, Any] = {
        "kernel_size": layer.kernel_size,
        "stride": layer.stride,
        "padding": layer.padding,
        "dilation": layer.dilation,
        "groups": channels,
    }
    if transposed:
        spatial["output_padding"] = layer.output_padding
    has_bias = layer.bias is not None
    depthwise = type(layer)(channels, channels, bias=has_bias and first, **spatial)
    pointwise = nn.Conv2d(layer.in_channels, layer.out_channels, 1, bias=has_bias and not first)
    depthwise.weight.copy_(factors.kernels.view_as(depthwise.weight))
    pointwise.weight.copy_(factors.mixing[:, :, None, None])
    halves = (pointwise, depthwise) if first else (depthwise, pointwise)
    if layer.bias is not None:
        bias = halves[1].bias
        assert isinstance(bias, Tensor)
        bias.copy_(layer.bias)
    return nn.Sequential(*halves).to(layer.weight.dtype).train(layer.training)


def split(layer: Convolution) -> nn.Sequential:
    """The separable pair that is nearest to ``layer``, channel by channel."""
    return pair(layer, nearest(layer))
