"""Closed-form recovery: each layer after a cut is fitted anew by ridge least squares.

A layer gets the weights with which what is left of its input comes nearest to what the original's
layer makes (He et al. 2017, arXiv 1707.06168; Luo et al. 2017, arXiv 1707.06342). All layers are
fitted while the pruned network runs once, each on the inputs that the layers fitted before it
really give; a layer whose output is added to a stream is fitted to the sum, so that it makes up
for what the stream has lost (:mod:`compress.flow`). No gradients; seconds.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.utils._python_dispatch import _disable_current_modes

from compress.batches import usual_calibration
from compress.channels.operations import tensors_in
from compress.flow import Sum, Watch, sums_of
from compress.hooks import hooked
from compress.phases import phase_taps
from compress.skipping import Skipped
from genslim.console import SILENT, Console
from genslim.generator import Generator, run_module
from genslim.inputs import Inputs

ROWS = 20_000, 150_000
"""Positions that a layer is fitted on: so many at least, where there are, and at most. Neighbours
say alike: with 20,000 of 430 inputs a layer of Real-ESRGAN fits its crops and not others."""
MULTIPLICATIONS = 1.2e10
"""What a layer's matrix of products may cost beyond that."""
RIDGE = 1e-2
"""Of the mean squared input: keeps weights near what they were where inputs say little. With a
hundredth of it other crops read a worse SSIM, by 0.004 on Real-ESRGAN."""

Layer = nn.Conv2d | nn.ConvTranspose2d | nn.Linear
Fit = Callable[[Any, Tensor, Tensor, Tensor], None]
"""Changes a layer in place, given its input, what it should make at some positions, and these."""


@dataclass
class Goal:
    """What a layer should make, at some positions."""

    positions: Tensor
    """Of its output (for a transposed convolution, of squares of its stride), flat, int64."""
    output: Tensor
    """The original's, ``(positions, O)``; of a transposed convolution ``(positions, O, s, s)``."""
    rests: dict[int, Tensor] = field(default_factory=dict)
    """What the original adds to it, by the operation that makes it, at the same positions."""


@torch.no_grad()
def refit(
    student: nn.Module,
    teacher: Generator,
    kept: Mapping[str, Tensor],
    seed: int,
    console: Console = SILENT,
    *,
    ways: Mapping[str, Fit] | None = None,
) -> list[str]:
    """Fit every convolution and linear layer that comes after a cut, in place.

    Args:
        student: the pruned module; blocks of it may be skipped (:mod:`compress.skipping`).
        teacher: what it was pruned from; has a module.
        kept: for each layer that lost output channels, those it kept, int64.
        seed: of the inputs.
        console: shows progress.
        ways: how to fit a layer, where not by :func:`fit`, by its name.

    Returns:
        The names of the layers that were fitted.
    """
    original, signature = teacher.module, teacher.signature
    assert original is not None
    inputs = Inputs(signature, "calibration", seed).draw(usual_calibration(signature))
    # Not one: a tensor with an axis of length one needs fewer copies, and operations are numbered.
    two = {name: tensor[:2] for name, tensor in inputs.items()}
    sums = sums_of(original, lambda: run_module(original, signature, two))
    names = [
        name
        for name, layer in student.named_modules()
        if name in sums and isinstance(layer, Layer) and can_be_fitted(layer)
    ]
    goals = goals_of(teacher, names, sums, inputs)
    fitted: list[str] = []
    with console.progress("refitting layers", len(names)) as bar:

        def fit_now(name: str, x: Tensor, seen: Mapping[int, Tensor]) -> None:
            layer = student.get_submodule(name)
            assert isinstance(layer, Layer)
            goal, target = goals[name], sums[name]
            channels = kept.get(name)
            wanted = goal.output if channels is None else goal.output[:, channels]
            drift: Tensor | float = 0.0
            for rest in target.rests:
                if rest.call not in goal.rests or rest.call not in seen:
                    continue
                before = goal.rests[rest.call]
                now = rows_of(layer, seen[rest.call], goal.positions)
                if channels is not None:
                    before = before[:, channels]
                if before.shape != now.shape:
                    continue
                drift = drift + ratio(rest.gain, target.gain, channels, now) * (before - now)
            way = (ways or {}).get(name, fit)
            way(layer, x, wanted + drift, goal.positions)
            fitted.append(name)
            bar.advance(note=name)

        wanted_calls = {rest.call for name in names for rest in sums[name].rests}
        watched_run(student, names, wanted_calls, teacher, inputs, before=fit_now)
    return fitted


def can_be_fitted(layer: Layer) -> bool:
    """Whether least squares has an answer for this kind of layer."""
    if isinstance(layer, nn.ConvTranspose2d):
        alike = all(len(set(v)) == 1 for v in (layer.kernel_size, layer.stride, layer.padding))
        return alike and layer.groups == 1 and layer.dilation == (1, 1)
    return not isinstance(layer, nn.Conv2d) or not isinstance(layer.padding, str)


def ratio(
    gain: float | Tensor, by: float | Tensor, channels: Tensor | None, like: Tensor
) -> float | Tensor:
    """``gain / by``, for each channel where one of them differs by channel."""
    quotient = gain / by
    if isinstance(quotient, Tensor):
        quotient = quotient if channels is None else quotient[channels]
        return quotient.view(1, -1, *[1] * (like.ndim - 2))
    return quotient


def watched_run(
    module: nn.Module,
    names: list[str],
    calls: set[int],
    generator: Generator,
    inputs: Mapping[str, Tensor],
    *,
    before: Callable[[str, Tensor, Mapping[int, Tensor]], None] | None = None,
    after: Callable[[str, Tensor, Tensor, Mapping[int, Tensor]], None] | None = None,
) -> None:
    """Run ``module`` once; call ``before`` and ``after`` each named layer with what it sees.

    Args:
        module: in evaluation mode.
        names: of layers that run once.
        calls: operations whose results are kept and handed on, by their place in the run.
        generator: says how the module is called.
        inputs: of the run.
        before: told a layer's name, what goes in, and the kept results so far.
        after: told what comes out as well.
    """
    seen: dict[int, Tensor] = {}
    latest = -1

    def on_call(index: int, func: Any, args: Any, out: Any) -> None:
        nonlocal latest
        latest = index
        if index in calls:
            # A copy, because what follows may write into it.
            seen[index] = tensors_in(out)[0].clone()

    def pass_on(out: Tensor) -> None:
        """In the place of what a skipped block made stands what it gives on."""
        if latest in calls:
            with _disable_current_modes():
                seen[latest] = out.clone()

    def tell_before(name: str, args: tuple[Any, ...]) -> None:
        if before is not None:
            with _disable_current_modes():
                before(name, args[0], seen)

    def tell_after(name: str, args: tuple[Any, ...], out: Any) -> None:
        if after is not None:
            with _disable_current_modes():
                after(name, args[0], out, seen)

    handles = [
        block.register_forward_hook(lambda _, __, out: pass_on(out))
        for block in module.modules()
        if isinstance(block, Skipped)
    ]
    try:
        with Watch(on_call):
            hooked(module, names, generator, inputs, before=tell_before, after=tell_after)
    finally:
        for handle in handles:
            handle.remove()


def goals_of(
    teacher: Generator, names: list[str], sums: Mapping[str, Sum], inputs: Mapping[str, Tensor]
) -> dict[str, Goal]:
    """What each layer of the original makes, and what is added to it."""
    assert teacher.module is not None
    goals: dict[str, Goal] = {}

    def after(name: str, x: Tensor, out: Tensor, seen: Mapping[int, Tensor]) -> None:
        layer = teacher.module.get_submodule(name)  # type: ignore[union-attr]
        assert isinstance(layer, Layer)
        total = places(layer, out)
        random = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        rows = enough_rows(layer)
        positions = (
            torch.randperm(total, generator=random)[:rows].sort().values
            if total > rows
            else torch.arange(total)
        )
        goal = Goal(positions, rows_of(layer, out, positions))
        for rest in sums[name].rests:
            if rest.call in seen:
                goal.rests[rest.call] = rows_of(layer, seen[rest.call], positions)
        goals[name] = goal

    calls = {rest.call for name in names for rest in sums[name].rests}
    watched_run(teacher.module, names, calls, teacher, inputs, after=after)
    return goals


def enough_rows(layer: Layer) -> int:
    """On how many positions to fit a layer: the fewer inputs, the cheaper each."""
    inputs = layer.weight.numel() // layer.weight.shape[isinstance(layer, nn.ConvTranspose2d)]
    least, most = ROWS
    return min(most, max(least, int(MULTIPLICATIONS / inputs**2)))


def places(layer: Layer, out: Tensor) -> int:
    """How many positions of what a layer makes there are; squares of a stride where it enlarges."""
    if isinstance(layer, nn.Linear):
        return out.numel() // out.shape[-1]
    s = layer.stride[0] if isinstance(layer, nn.ConvTranspose2d) else 1
    return len(out) * (out.shape[2] // s) * (out.shape[3] // s)


def rows_of(layer: Layer, out: Tensor, positions: Tensor) -> Tensor:
    """What a layer makes at ``positions``: ``(positions, O)``, or ``(positions, O, s, s)``."""
    if isinstance(layer, nn.Linear):
        return out.flatten(0, -2)[positions]
    if isinstance(layer, nn.Conv2d):
        return out.permute(0, 2, 3, 1).flatten(0, 2)[positions]
    s = layer.stride[0]
    whole = out[:, :, : out.shape[2] // s * s, : out.shape[3] // s * s]
    blocks: Tensor = whole.unflatten(3, (-1, s)).unflatten(2, (-1, s))  # (N, O, Q, s, Q, s)
    return blocks.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)[positions]


def fit(layer: Layer, x: Tensor, target: Tensor, positions: Tensor) -> None:
    """Set the weights with which ``layer`` maps ``x`` nearest to ``target`` at ``positions``."""
    has_bias = layer.bias is not None
    if isinstance(layer, nn.Linear):
        rows = x.flatten(0, -2)[positions]
        weight, bias = solve(rows, target, layer.weight, has_bias)
        layer.weight.copy_(weight)
    elif isinstance(layer, nn.Conv2d):
        bias = fit_convolution(layer, x, target, positions)
    else:
        bias = fit_transposed(layer, x, target, positions)
    if layer.bias is not None and bias is not None:
        layer.bias.copy_(bias)


def fit_convolution(
    layer: nn.Conv2d, x: Tensor, target: Tensor, positions: Tensor
) -> Tensor | None:
    """Fit a convolution, each group of its channels by itself; return the bias."""
    rows = patches(layer, x, positions)
    shares = zip(
        rows.chunk(layer.groups, 1),
        target.chunk(layer.groups, 1),
        layer.weight.flatten(1).chunk(layer.groups),
        strict=True,
    )
    solved = [solve(seen, goal, start, layer.bias is not None) for seen, goal, start in shares]
    layer.weight.copy_(torch.cat([weight for weight, _ in solved]).view_as(layer.weight))
    biases = [bias for _, bias in solved if bias is not None]
    return torch.cat(biases) if biases else None


def fit_transposed(
    layer: nn.ConvTranspose2d, x: Tensor, target: Tensor, positions: Tensor
) -> Tensor | None:
    """Fit a transposed convolution phase by phase of its output grid; return the bias.

    Each phase of the output is an ordinary convolution of the input with its own share of the
    kernel's taps (see :mod:`compress.phases`), so the shares are fitted one by one.
    """
    reach, taps = phase_taps(layer)
    s = layer.stride[0]
    grown = layer.kernel_size[0] - s - 2 * int(layer.padding[0])  # beyond so many times the input
    height, width = (
        n + (grown + more) // s for n, more in zip(x.shape[2:], layer.output_padding, strict=True)
    )
    more = max(height - x.shape[2], 0), max(width - x.shape[3], 0)
    around = pad(x, (reach, reach + more[1], reach, reach + more[0]))
    pixels = around.permute(0, 2, 3, 1).contiguous()  # (N, H, W, C)
    n, place = positions // (height * width), positions % (height * width)
    top, left = reach + place // width, reach + place % width
    biases = []
    for row in range(s):
        for column in range(s):
            ys = [(t, tap) for (phase, t), tap in taps.items() if phase == row]
            xs = [(t, tap) for (phase, t), tap in taps.items() if phase == column]
            if not ys or not xs:
                continue  # a kernel smaller than its stride leaves such places empty
            picked = torch.stack(
                [pixels[n, top + dy, left + dx] for dy, _ in ys for dx, _ in xs], 2
            )  # (positions, C, taps)
            own = torch.stack([layer.weight[:, :, i, j] for _, i in ys for _, j in xs], 2)
            start = own.transpose(0, 1).flatten(1)  # (O, C taps)
            goal = target[:, :, row, column]
            weight, bias = solve(picked.flatten(1), goal, start, layer.bias is not None)
            shares = weight.view(-1, x.shape[1], len(ys), len(xs))  # (O, C, taps y, taps x)
            for i, (_, tap_y) in enumerate(ys):
                for j, (_, tap_x) in enumerate(xs):
                    layer.weight[:, :, tap_y, tap_x] = shares[:, :, i, j].T
            if bias is not None:
                biases.append(bias)
    return torch.stack(biases).mean(0) if biases else None


def surroundings(x: Tensor, reach: int, positions: Tensor) -> Tensor:
    """Squares around ``positions`` of ``x``: ``(positions, C, (2 reach + 1)^2)``, zeros outside."""
    square = nn.Conv2d(1, 1, 2 * reach + 1, padding=reach)
    return patches(square, x, positions).view(len(positions), x.shape[1], -1)


def patches(layer: nn.Conv2d, x: Tensor, positions: Tensor) -> Tensor:
    """The patches that a convolution sees at ``positions``, a row each: ``(rows, C kh kw)``."""
    assert not isinstance(layer.padding, str)
    reach = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
    height, width = (
        (n + 2 * p - r - 1) // s + 1
        for n, p, r, s in zip(x.shape[2:], layer.padding, reach, layer.stride, strict=True)
    )
    (y, z), mode = layer.padding, layer.padding_mode
    padded = pad(x, (z, z, y, y), "constant" if mode == "zeros" else mode)
    pixels = padded.permute(0, 2, 3, 1).contiguous()  # (N, H, W, C)
    n, place = positions // (height * width), positions % (height * width)
    top, left = place // width * layer.stride[0], place % width * layer.stride[1]
    seen = [
        pixels[n, top + i * layer.dilation[0], left + j * layer.dilation[1]]
        for i in range(layer.kernel_size[0])
        for j in range(layer.kernel_size[1])
    ]
    return torch.stack(seen, 2).flatten(1)


def solve(
    rows: Tensor, goal: Tensor, start: Tensor, with_bias: bool
) -> tuple[Tensor, Tensor | None]:
    """Ridge least squares around ``start``: ``(outputs, inputs)`` weights, and the bias."""
    mean_in = rows.mean(0) if with_bias else torch.zeros(rows.shape[1])
    mean_out = goal.mean(0) if with_bias else torch.zeros(goal.shape[1])
    centred = rows - mean_in
    gram = products(centred)
    gram.diagonal().add_(RIDGE * float(gram.diagonal().mean()) + 1e-12)
    left = goal - mean_out - centred @ start.T
    weight = start + torch.linalg.solve(gram, centred.T @ left).T
    return weight, mean_out - weight @ mean_in if with_bias else None


def products(rows: Tensor, block: int = 192) -> Tensor:
    """``rows.T @ rows``, its upper half computed and mirrored."""
    parts = rows.split(block, 1)
    gram = rows.new_empty(rows.shape[1], rows.shape[1])
    for i, left in enumerate(parts):
        right = rows[:, i * block :]
        strip = left.T @ right
        gram[i * block : i * block + left.shape[1], i * block :] = strip
        gram[i * block :, i * block : i * block + left.shape[1]] = strip.T
    return gram
