"""Closed-form recovery: each layer after a cut is fitted anew by ridge least squares.

A layer that lost input channels gets the weights with which what is left of its input comes
nearest to what the original's layer makes (He et al. 2017, arXiv 1707.06168; Luo et al. 2017,
arXiv 1707.06342). Layers are taken in the order in which they run, each on the inputs that the
layers fitted before it really give, so that errors do not add up unseen. No gradients; seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import unfold

from compress.distill import in_batches, usual_calibration
from compress.phases import phase_taps, reason_to_leave
from genslim.generator import Generator, run_module
from genslim.inputs import Inputs

ROWS = 40_000
"""Positions that a layer is fitted on at most: more than enough for a few thousand weights."""
RIDGE = 1e-4
"""Of the mean squared input: keeps weights small where inputs say nothing."""


@torch.no_grad()
def refit(
    student: nn.Module, teacher: Generator, kept: Mapping[str, Tensor], seed: int
) -> list[str]:
    """Fit every convolution and linear layer whose input lost channels, in place.

    Args:
        student: the pruned module.
        teacher: the original; has a module.
        kept: for each layer that lost output channels, those it kept, int64.
        seed: of the inputs.

    Returns:
        The names of the layers that were fitted.
    """
    assert teacher.module is not None
    count = usual_calibration(teacher.signature)
    inputs = Inputs(teacher.signature, "calibration", seed).draw(count)
    fitted = []
    for name in execution_order(student, teacher, inputs):
        layer, whole = student.get_submodule(name), teacher.module.get_submodule(name)
        if not isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            continue
        if inner(layer) == inner(whole) or getattr(layer, "groups", 1) != 1:
            continue
        if isinstance(layer, nn.ConvTranspose2d) and reason_to_leave(layer):
            continue
        x = captured(student, name, teacher, inputs)[0]
        target = captured(teacher.module, name, teacher, inputs)[1]
        if name in kept:
            target = target.index_select(1 if target.ndim == 4 else -1, kept[name])
        fit(layer, x, target)
        fitted.append(name)
    return fitted


def inner(layer: nn.Module) -> int:
    """How many channels go into a layer."""
    channels = layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels
    return int(channels)  # type: ignore[arg-type]


def execution_order(
    module: nn.Module, generator: Generator, inputs: Mapping[str, Tensor]
) -> list[str]:
    """Names of the leaf modules in the order in which they first run."""
    order: list[str] = []
    handles = [
        leaf.register_forward_pre_hook(lambda *_, name=name: order.append(name))
        for name, leaf in module.named_modules()
        if not list(leaf.children())
    ]
    run_module(module, generator.signature, {k: v[:1] for k, v in inputs.items()})
    for handle in handles:
        handle.remove()
    return list(dict.fromkeys(order))


def captured(
    module: nn.Module, name: str, generator: Generator, inputs: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """The input and the output of the layer ``name`` while ``module`` runs on ``inputs``."""
    found: list[tuple[Tensor, Tensor]] = []
    layer = module.get_submodule(name)
    handle = layer.register_forward_hook(lambda _, a, out: found.append((a[0], out)))
    in_batches(lambda part: run_module(module, generator.signature, part), dict(inputs), 64)
    handle.remove()
    return torch.cat([a for a, _ in found]), torch.cat([b for _, b in found])


def fit(layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear, x: Tensor, target: Tensor) -> None:
    """Set the weights with which ``layer`` maps ``x`` nearest to ``target``."""
    if isinstance(layer, nn.Linear):
        weight, bias = solve(x.flatten(0, -2), target.flatten(0, -2), layer.bias is not None)
        layer.weight.copy_(weight)
    elif isinstance(layer, nn.Conv2d):
        rows, goal = patches(layer, x), target.flatten(2).transpose(1, 2).flatten(0, 1)
        weight, bias = solve(rows, goal, layer.bias is not None)
        layer.weight.copy_(weight.view_as(layer.weight))
    else:
        bias = fit_transposed(layer, x, target)
    if layer.bias is not None and bias is not None:
        layer.bias.copy_(bias)


def fit_transposed(layer: nn.ConvTranspose2d, x: Tensor, target: Tensor) -> Tensor | None:
    """Fit a transposed convolution phase by phase of its output grid; return the bias.

    Each phase of the output is an ordinary convolution of the input with its own share of the
    kernel's taps (see :mod:`compress.phases`), so the shares are fitted one by one.
    """
    channels = x.shape[1]
    reach, taps = phase_taps(layer)
    size = 2 * reach + 1
    around = unfold(x, size, padding=reach)  # (N, C size size, H W)
    n, _, h, w = x.shape
    around = around.view(n, channels, size, size, h * w)
    s = layer.stride[0]
    biases = []
    for row in range(s):
        for column in range(s):
            ys = [(t, tap) for (phase, t), tap in taps.items() if phase == row]
            xs = [(t, tap) for (phase, t), tap in taps.items() if phase == column]
            picked = torch.stack(
                [around[:, :, reach + dy, reach + dx] for dy, _ in ys for dx, _ in xs], 2
            )  # (N, C, taps, H W)
            rows = picked.flatten(1, 2).transpose(1, 2).flatten(0, 1)
            goal = target[:, :, row::s, column::s].flatten(2).transpose(1, 2).flatten(0, 1)
            weight, bias = solve(rows, goal, layer.bias is not None)
            shares = weight.view(-1, channels, len(ys), len(xs))  # (O, C, taps y, taps x)
            for i, (_, tap_y) in enumerate(ys):
                for j, (_, tap_x) in enumerate(xs):
                    layer.weight[:, :, tap_y, tap_x] = shares[:, :, i, j].T
            if bias is not None:
                biases.append(bias)
    return torch.stack(biases).mean(0) if biases else None


def patches(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """The patches that a convolution sees, a row each: ``(N positions, C kh kw)``."""
    options: dict[str, Any] = {
        "dilation": layer.dilation,
        "padding": layer.padding,
        "stride": layer.stride,
    }
    columns = unfold(x, layer.kernel_size, **options)
    return columns.transpose(1, 2).flatten(0, 1)


def solve(rows: Tensor, goal: Tensor, with_bias: bool) -> tuple[Tensor, Tensor | None]:
    """Ridge least squares: ``(outputs, inputs)`` weights and the bias, where there is one."""
    if len(rows) > ROWS:
        chosen = torch.randperm(len(rows))[:ROWS]
        rows, goal = rows[chosen], goal[chosen]
    mean_in = rows.mean(0) if with_bias else torch.zeros(rows.shape[1])
    mean_out = goal.mean(0) if with_bias else torch.zeros(goal.shape[1])
    centred = rows - mean_in
    gram = centred.T @ centred
    gram.diagonal().add_(RIDGE * float(gram.diagonal().mean()))
    weight = torch.linalg.solve(gram, centred.T @ (goal - mean_out)).T
    return weight, mean_out - weight @ mean_in if with_bias else None
