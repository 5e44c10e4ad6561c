"""Splitting a convolution into a depthwise and a pointwise one, in closed form.

Howard et al. 2017 (arXiv 1704.04861). The kernel of each channel is replaced by its best rank-one
approximation, by singular value decomposition.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

Convolution = nn.Conv2d | nn.ConvTranspose2d

LEAST_CHANNELS = 8
"""Convolutions from or to fewer channels (the colours) are left whole."""


def reason_to_leave(layer: Convolution) -> str | None:
    """Why a convolution can't or needn't be split; None where it can."""
    if layer.groups != 1:
        return "is grouped already"
    if max(layer.kernel_size) == 1:
        return "is pointwise already"
    if min(layer.in_channels, layer.out_channels) < LEAST_CHANNELS:
        return f"connects {layer.in_channels} to {layer.out_channels} channels: nothing to save"
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        return f"pads in a way that is not split ({layer.padding_mode}, {layer.padding})"
    return None


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


@torch.no_grad()
def split(layer: Convolution) -> nn.Sequential:
    """The separable pair that is nearest to ``layer``, channel by channel.

    With the pointwise half last, each input channel i has one kernel d_i and W[o, i] ~ p[o, i] d_i;
    with it first, each output channel has one and W[o, i] ~ p[o, i] d_o. Both are rank-one
    approximations of a matrix of one channel's kernels, found by SVD.
    """
    transposed = isinstance(layer, nn.ConvTranspose2d)
    weight = layer.weight.transpose(0, 1) if transposed else layer.weight  # (O, I, kh, kw)
    first = pointwise_first(layer)
    kernels = weight.flatten(2) if first else weight.flatten(2).transpose(0, 1)  # (C, other, kh kw)
    u, s, vh = torch.linalg.svd(kernels, full_matrices=False)
    root = s[:, :1].sqrt()
    mixing, shapes = u[:, :, 0] * root, vh[:, 0] * root  # (C, other), (C, kh kw)
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
    depthwise.weight.copy_(shapes.view_as(depthwise.weight))
    pointwise.weight.copy_((mixing if first else mixing.T)[:, :, None, None])
    pair = (pointwise, depthwise) if first else (depthwise, pointwise)
    if layer.bias is not None:
        bias = pair[1].bias
        assert isinstance(bias, Tensor)
        bias.copy_(layer.bias)
    return nn.Sequential(*pair).train(layer.training)
