"""The two halves of a separable convolution, fitted to what the layer really sees.

Alternating least squares: given one half, what the pair makes is linear in the other. Neither
needs more of the inputs than the products of what the kernel's taps see, summed over positions
once, so that a round is one or two solves. No gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compress.phases import phase_taps, reason_to_leave
from compress.refit import can_be_fitted, patches, products, surroundings
from compress.splitting import Convolution, Factors

RIDGE = 1e-4
"""Of the mean squared input: keeps factors near what they were where inputs say nothing."""
ROUNDS = 4
"""Of fitting one half and then the other. On realesr-animevideov3, all layers, SSIM 0.910 after
one, 0.919 after four, 0.922 after ten."""
WORK = 5e10
"""Floating-point operations of a layer's solves, about: large layers get fewer rounds."""
SUMS = 2e11
"""Operations of summing up what a layer sees, about: of a large layer, fewer positions."""
LARGEST = 5000
"""Taps of all inputs together at most; a layer with more keeps the factors that it has."""


@dataclass(frozen=True)
class Phase:
    """Positions of the output that see the same taps of the kernel, and what is known of them.

    A convolution has one phase; a transposed one has one for each place within a stride.
    """

    taps: Tensor
    """Which taps of the kernel, flat, int64 ``(T,)``."""
    gram: Tensor
    """Summed products of what the taps see, less the means, ``(C, T, C, T)``."""
    cross: Tensor
    """Summed products of that with what the layer should make, less the means, ``(C, T, O)``."""
    energy: Tensor
    """Summed squares of what it should make, less the means, ``(O,)``."""
    mean_in: Tensor
    """``(C, T)``."""
    mean_out: Tensor
    """``(O,)``."""
    rows: int


def has_phases(layer: nn.Module) -> bool:
    """Whether :func:`phases_of` can sum up what a layer sees."""
    if isinstance(layer, nn.ConvTranspose2d):
        return reason_to_leave(layer) is None
    return isinstance(layer, nn.Conv2d) and layer.groups == 1 and can_be_fitted(layer)


def phases_of(layer: Convolution, x: Tensor, target: Tensor, positions: Tensor) -> list[Phase]:
    """What is known of a layer's input and of what it should make at some positions.

    Args:
        layer: one that :func:`has_phases`.
        x: its input, ``(N, C, H, W)``.
        target: as :func:`compress.refit.rows_of` gives it.
        positions: flat, int64.
    """
    has_bias = layer.bias is not None
    phases, seen = size_of(layer)
    most = max(2 * layer.in_channels, int(SUMS / (phases * seen**2)))
    if len(positions) > most:
        random = torch.Generator().manual_seed(len(positions))
        some = torch.randperm(len(positions), generator=random)[:most].sort().values
        positions, target = positions[some], target[some]
    if isinstance(layer, nn.Conv2d):
        rows = patches(layer, x, positions).view(len(positions), x.shape[1], -1)
        return [phase_of(rows, target, range(rows.shape[2]), has_bias)]
    reach, taps = phase_taps(layer)
    size, s = 2 * reach + 1, layer.stride[0]
    around = surroundings(x, reach, positions)
    found = []
    for row in range(s):
        for column in range(s):
            ys = [(t, tap) for (phase, t), tap in taps.items() if phase == row]
            xs = [(t, tap) for (phase, t), tap in taps.items() if phase == column]
            where = [(reach + dy) * size + reach + dx for dy, _ in ys for dx, _ in xs]
            own = [i * layer.kernel_size[1] + j for _, i in ys for _, j in xs]
            found.append(phase_of(around[:, :, where], target[:, :, row, column], own, has_bias))
    return found


def phase_of(seen: Tensor, target: Tensor, taps: Sequence[int], has_bias: bool) -> Phase:
    """Sum up what taps see, ``(rows, C, T)``, and what should come of it, ``(rows, O)``."""
    rows, channels, count = seen.shape
    flat = seen.flatten(1)
    mean_in = flat.mean(0) if has_bias else torch.zeros(flat.shape[1])
    mean_out = target.mean(0) if has_bias else torch.zeros(target.shape[1])
    flat, left = flat - mean_in, target - mean_out
    return Phase(
        torch.tensor(taps),
        products(flat).view(channels, count, channels, count),
        (flat.T @ left).view(channels, count, -1),
        left.square().sum(0),
        mean_in.view(channels, count),
        mean_out,
        rows,
    )


def size_of(layer: Convolution) -> tuple[int, int]:
    """How many phases a layer has, and how many numbers an output is made of."""
    phases = layer.stride[0] * layer.stride[1] if isinstance(layer, nn.ConvTranspose2d) else 1
    taps = -(-layer.kernel_size[0] * layer.kernel_size[1] // phases)
    return phases, layer.in_channels * taps


def rounds_for(layer: Convolution, first: bool) -> int:
    """How many rounds a layer gets; none where even one would take too much memory."""
    phases, seen = size_of(layer)
    if seen > LARGEST:
        return 0
    work = layer.out_channels * layer.in_channels**3 if first else phases * seen**3
    return max(1, min(ROUNDS, int(WORK / work)))


@torch.no_grad()
def fitted(start: Factors, phases: Sequence[Phase], rounds: int = ROUNDS) -> Factors:
    """Factors near ``start`` whose kernel comes nearest to what the layer should make."""
    factors = start.balanced()
    first = factors.pointwise_first
    for _ in range(rounds):
        if first:
            factors = Factors(mixing_by_output(factors, phases), factors.kernels, first).balanced()
            factors = Factors(factors.mixing, kernels_by_output(factors, phases), first)
        else:
            factors = Factors(factors.mixing, kernels_by_input(factors, phases), first).balanced()
            factors = Factors(mixing_by_input(factors, phases), factors.kernels, first)
    return factors


def bias_of(factors: Factors, phases: Sequence[Phase]) -> Tensor:
    """The bias that goes with factors, ``(O,)``: the mean of what they leave."""
    weight = factors.weight()
    left = [p.mean_out - torch.einsum("oct,ct->o", weight[:, :, p.taps], p.mean_in) for p in phases]
    return torch.stack(left).mean(0)


def errors_of(factors: Factors, phases: Sequence[Phase]) -> Tensor:
    """The mean squared error of each output with its best bias, ``(O,)``."""
    weight = factors.weight()
    total = torch.zeros(len(weight))
    for p in phases:
        own = weight[:, :, p.taps].flatten(1)  # (O, C T)
        gram, cross = p.gram.flatten(2).flatten(0, 1), p.cross.flatten(0, 1)
        total += p.energy - 2 * (own * cross.T).sum(1) + ((own @ gram) * own).sum(1)
    return total.clamp_min(0) / sum(p.rows for p in phases)


def ridged(gram: Tensor, cross: Tensor, start: Tensor) -> Tensor:
    """Solve ``gram @ x = cross`` near ``start``, ``(..., unknowns, right sides)``."""
    mean = gram.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
    ridge = (RIDGE * mean + 1e-12) * torch.eye(gram.shape[-1])
    change: Tensor = torch.linalg.solve(gram + ridge, cross - gram @ start)
    return start + change


def mixing_by_input(factors: Factors, phases: Sequence[Phase]) -> Tensor:
    """The pointwise half that fits best behind the depthwise one, ``(O, C)``."""
    gram = cross = torch.zeros(())
    for p in phases:
        d = factors.kernels[:, p.taps]
        gram = gram + torch.einsum("ct,cte->ce", d, torch.einsum("ctes,es->cte", p.gram, d))
        cross = cross + torch.einsum("ct,cto->co", d, p.cross)
    return ridged(gram, cross, factors.mixing.T).T


def kernels_by_input(factors: Factors, phases: Sequence[Phase]) -> Tensor:
    """The depthwise half that fits best before the pointwise one, ``(C, K)``."""
    mixing, kernels = factors.mixing, factors.kernels.clone()
    common = mixing.T @ mixing  # what two channels have in common in the outputs
    for p in phases:
        own = kernels[:, p.taps]
        gram = common[:, None, :, None] * p.gram
        cross = torch.einsum("oc,cto->ct", mixing, p.cross)
        size = own.numel()
        fit = ridged(gram.view(size, size), cross.reshape(size, 1), own.reshape(size, 1))
        kernels[:, p.taps] = fit.view_as(own)
    return kernels


def mixing_by_output(factors: Factors, phases: Sequence[Phase]) -> Tensor:
    """The pointwise half that fits best before the depthwise one, ``(O, C)``."""
    outputs, channels = factors.mixing.shape
    by_taps = [p.gram.permute(1, 3, 0, 2).flatten(0, 1).flatten(1) for p in phases]  # (T T, C C)
    parts = []
    for some in torch.arange(outputs).split(max(1, 2**25 // channels**2)):
        gram = cross = torch.zeros(())
        for p, products_of_taps in zip(phases, by_taps, strict=True):
            d = factors.kernels[some][:, p.taps]
            gram = gram + (d[:, :, None] * d[:, None]).flatten(1) @ products_of_taps
            cross = cross + torch.einsum("ot,cto->oc", d, p.cross[:, :, some])
        gram = gram.view(len(some), channels, channels)
        parts.append(ridged(gram, cross[:, :, None], factors.mixing[some][:, :, None])[:, :, 0])
    return torch.cat(parts)


def kernels_by_output(factors: Factors, phases: Sequence[Phase]) -> Tensor:
    """The depthwise half that fits best behind the pointwise one, ``(O, K)``."""
    mixing, kernels = factors.mixing, factors.kernels.clone()
    for p in phases:
        gram = torch.einsum("octs,oc->ots", torch.einsum("ctes,oe->octs", p.gram, mixing), mixing)
        cross = torch.einsum("oc,cto->ot", mixing, p.cross)
        own = kernels[:, p.taps]
        kernels[:, p.taps] = ridged(gram, cross[:, :, None], own[:, :, None])[:, :, 0]
    return kernels
