"""A transposed convolution as a convolution for each phase of the output grid.

A transposed convolution that enlarges s times is an ordinary convolution to s^2 times the
channels, followed by a pixel shuffle (Shi et al. 2016, arXiv 1609.07009).
"""

from __future__ import annotations

import torch
from torch import nn


def reason_to_leave(layer: nn.ConvTranspose2d) -> str | None:
    """Why a transposed convolution has no such rewrite; None where it has."""
    (k, k_w), (s, s_w) = layer.kernel_size, layer.stride
    if k != k_w or s != s_w or layer.padding[0] != layer.padding[1]:
        return "is not square"
    if layer.groups != 1 or layer.dilation != (1, 1):
        return "is grouped or dilated"
    if s == 1:
        return "does not enlarge by a stride"
    if k + int(layer.output_padding[0]) != s + 2 * int(layer.padding[0]):
        return f"does not enlarge exactly {s} times"
    return None


def phase_taps(layer: nn.ConvTranspose2d) -> tuple[int, dict[tuple[int, int], int]]:
    """Which tap of the kernel each phase of the output grid sees at which offset, along one side.

    Output pixel s*q + r takes input pixel q + t through kernel tap r + p - s*t, where that tap
    exists: so phase r is a convolution whose tap at offset t is that one.

    Returns:
        How far the offsets reach, and the tap for each ``(phase, offset)``.
    """
    (k, _), (s, _), p = layer.kernel_size, layer.stride, int(layer.padding[0])
    places = ((r, t, r + p - s * t) for r in range(s) for t in range(-k, k + 1))
    taps = {(r, t): tap for r, t, tap in places if 0 <= tap < k}
    return max(abs(t) for _, t in taps), taps


@torch.no_grad()
def as_convolution(layer: nn.ConvTranspose2d) -> nn.Sequential:
    """The convolution and pixel shuffle that compute what ``layer`` computes."""
    s = layer.stride[0]
    reach, taps = phase_taps(layer)
    convolution = nn.Conv2d(
        layer.in_channels,
        layer.out_channels * s * s,
        2 * reach + 1,
        padding=reach,
        bias=layer.bias is not None,
    )
    phases = convolution.weight.zero_().unflatten(0, (layer.out_channels, s, s))
    for (row, dy), tap_y in taps.items():
        for (column, dx), tap_x in taps.items():
            phases[:, row, column, :, reach + dy, reach + dx] = layer.weight[:, :, tap_y, tap_x].T
    if layer.bias is not None and convolution.bias is not None:
        convolution.bias.copy_(layer.bias.repeat_interleave(s * s))
    return nn.Sequential(convolution, nn.PixelShuffle(s)).train(layer.training)
