"""Depthwise-separable substitution: a k x k convolution becomes a depthwise and a pointwise one.

Howard et al. 2017 (arXiv 1704.04861). The pair starts in closed form: the kernel of each channel
is replaced by its best rank-one approximation, by singular value decomposition. A convolution
that enlarges or narrows is split with the pointwise half where it is cheaper.

A layer is swapped only where the whole generator was measured faster for it on the target, and
the swaps stay only where quality holds after recovery.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from compress.distill import distill, recalibrate_norms
from compress.step import Outcome, Step
from compress.trial import Trial, race
from genslim.console import Console
from genslim.errors import UserError
from genslim.generator import Generator

Convolution = nn.Conv2d | nn.ConvTranspose2d

LEAST_CHANNELS = 8
"""Convolutions from or to fewer channels (the colours) are left whole."""


@dataclass(frozen=True)
class Separable(Step):
    """Swap convolutions for depthwise-separable ones where that is faster and the picture holds."""

    name: ClassVar[str] = "separable"

    min_ssim: float = 0.95
    """Least mean SSIM to the original, after recovery, with which swaps are kept."""
    layers: str = "*"
    """Only layers whose name matches this pattern: net.6, body.*"""
    revert: bool = True
    """--no-revert keeps every swap, whatever it costs and gains."""
    seconds: float = 30.0
    """How long each recovery by data-free distillation takes."""
    trials: int = 3
    """How many sets of layers are recovered at most, each without the costliest of the last."""

    def check(self, generator: Generator) -> None:
        """Check the SSIM asked for and that a layer matches."""
        if not 0 <= self.min_ssim <= 1:
            raise UserError(f"SSIM {self.min_ssim} is not between 0 and 1", hint="try --min-ssim 0.95")
        if self.seconds <= 0 or self.trials < 1:
            raise UserError("seconds and trials must be more than 0", hint="try --seconds 30")
        convolutions = [n for n, m in generator.trainable().named_modules() if isinstance(m, Convolution)]
        if not any(fnmatchcase(name, self.layers) for name in convolutions):
            raise UserError(
                f"no convolution matches {self.layers!r}",
                hint="there are " + ", ".join(convolutions[:12]) + (", …" if convolutions[12:] else ""),
            )
        super().check(generator)

    def apply(self, generator: Generator, console: Console) -> Outcome:
        """Time each swap, recover with those that gained, and drop the costliest until SSIM holds."""
        module = generator.trainable()
        outcome = Outcome({"module": module})
        candidates: dict[str, nn.Module] = {}
        for name, layer in module.named_modules():
            if isinstance(layer, Convolution) and fnmatchcase(name, self.layers):
                if reason := reason_to_leave(layer):
                    outcome.left.append({"what": name, "reason": reason})
                else:
                    candidates[name] = swapped(module, {name})
        trials = race(generator, candidates, self.settled_target(generator), console)
        chosen = set(candidates)
        if self.revert:
            chosen = {name for name, trial in trials.items() if trial.gained}
            outcome.left += [
                {"what": name, "reason": f"not faster on {self.target}: {trial}"}
                for name, trial in trials.items()
                if name not in chosen
            ]
        outcome.figures["latency_ratio_alone"] = {n: round(t.ratio, 3) for n, t in trials.items()}
        cost = {name: self.damage(generator, candidates[name]) for name in chosen}
        tries: list[dict[str, Any]] = []
        for _ in range(self.trials):
            if not chosen:
                break
            student = swapped(module, chosen)
            together = race(generator, {"all": student}, self.settled_target(generator), console)["all"]
            done = distill(
                student, generator.original, seconds=self.seconds, seed=self.seed, console=console
            )
            tries.append(
                {
                    "layers": sorted(chosen),
                    "latency_ratio": round(together.ratio, 3),
                    "ssim_before_recovery": round(done.ssim_before, 4),
                    "ssim": round(done.ssim_after, 4),
                }
            )
            if not self.revert or (done.ssim_after >= self.min_ssim and together.gained):
                return self.kept(outcome, student, sorted(chosen), trials, tries)
            worst = max(chosen, key=lambda name: cost[name])
            why = (
                f"SSIM {done.ssim_after:.4f} < {self.min_ssim} after recovery"
                if done.ssim_after < self.min_ssim
                else f"together not faster on {self.target}: {together}"
            )
            outcome.left.append({"what": worst, "reason": f"with {', '.join(sorted(chosen))}: {why}"})
            chosen = chosen - {worst}
        outcome.left += [{"what": n, "reason": "no trial was left to try it alone"} for n in sorted(chosen)]
        outcome.figures |= {"tries": tries, "note": "no swap was kept"}
        return outcome

    def kept(
        self,
        outcome: Outcome,
        student: nn.Module,
        chosen: list[str],
        trials: dict[str, Trial],
        tries: list[dict[str, Any]],
    ) -> Outcome:
        """The outcome with the swaps that stay."""
        outcome.changes["module"] = student
        outcome.changed = [f"{n}: depthwise and pointwise, alone {trials[n]}" for n in chosen]
        last = {k: v for k, v in tries[-1].items() if k != "layers"}
        outcome.figures |= {**last, "tries": tries}
        return outcome

    def damage(self, generator: Generator, candidate: nn.Module) -> float:
        """How much SSIM one swap alone costs before any recovery."""
        trial = copy.deepcopy(candidate)
        recalibrate_norms(trial, generator, self.seed)
        return 1 - self.ssim_of(replace(generator, module=trial), count=32)


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


def swapped(module: nn.Module, names: set[str]) -> nn.Module:
    """A copy of ``module`` with the named convolutions split."""
    result = copy.deepcopy(module)
    for name in names:
        layer = result.get_submodule(name)
        assert isinstance(layer, Convolution)
        result.set_submodule(name, split(layer), strict=True)
    return result


def pointwise_first(layer: Convolution) -> bool:
    """Whether the pointwise half goes first: where that costs fewer operations.

    A transposed convolution makes its pixels in the depthwise half, so the pointwise half is
    cheaper before it; a strided one is cheaper after it.
    """
    area = layer.kernel_size[0] * layer.kernel_size[1]
    scale = layer.stride[0] * layer.stride[1]
    before, after = (1, scale) if isinstance(layer, nn.ConvTranspose2d) else (scale, 1)
    product = layer.in_channels * layer.out_channels
    return (
        product * before + layer.out_channels * area < layer.in_channels * area + product * after
    )


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
