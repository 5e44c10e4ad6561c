"""Exact rewrites: the same function, computed in a way that the target is faster at.

A transposed convolution that enlarges s times is an ordinary convolution to s^2 times the
channels, one for each phase of the output grid, followed by a pixel shuffle (Shi et al. 2016,
arXiv 1609.07009). Some kernels are much faster for the one, some for the other, so each layer is
measured on the target and rewritten only where that gained.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from compress.step import Outcome, Step
from compress.trial import race
from genslim.console import Console
from genslim.generator import Generator


@dataclass(frozen=True)
class Rewrite(Step):
    """Rewrite layers exactly, where the target is faster for it."""

    name: ClassVar[str] = "rewrite"

    def apply(self, generator: Generator, console: Console) -> Outcome:
        """Time each rewrite, then all that gained together."""
        module = generator.trainable()
        outcome = Outcome({"module": module})
        candidates: dict[str, nn.Module] = {}
        for name, layer in module.named_modules():
            if isinstance(layer, nn.ConvTranspose2d):
                if reason := reason_to_leave(layer):
                    outcome.left.append({"what": name, "reason": reason})
                else:
                    candidates[name] = rewritten(module, {name})
        if not candidates:
            outcome.figures["note"] = "no layer can be rewritten"
            return outcome
        target = self.settled_target(generator)
        trials = race(generator, candidates, target, console)
        chosen = {name for name, trial in trials.items() if trial.gained}
        outcome.left += [
            {"what": name, "reason": f"not faster on {self.target}: {trial}"}
            for name, trial in trials.items()
            if name not in chosen
        ]
        if len(chosen) > 1:  # together they may gain less than the best of them alone
            best = min(chosen, key=lambda name: trials[name].ratio)
            together = race(generator, {"all": rewritten(module, chosen)}, target, console)["all"]
            if together.ratio > trials[best].ratio:
                outcome.left += [
                    {"what": name, "reason": f"faster alone, but not with {best}"}
                    for name in sorted(chosen - {best})
                ]
                chosen = {best}
        outcome.changes["module"] = rewritten(module, chosen)
        outcome.changed = [
            f"{name}: convolution and pixel shuffle, {trials[name]}" for name in sorted(chosen)
        ]
        if not chosen:
            outcome.figures["note"] = "no rewrite was faster"
        return outcome


def rewritten(module: nn.Module, names: set[str]) -> nn.Module:
    """A copy of ``module`` with the named transposed convolutions rewritten."""
    result = copy.deepcopy(module)
    for name in names:
        layer = result.get_submodule(name)
        assert isinstance(layer, nn.ConvTranspose2d)
        result.set_submodule(name, as_convolution(layer), strict=True)
    return result


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


@torch.no_grad()
def as_convolution(layer: nn.ConvTranspose2d) -> nn.Sequential:
    """The convolution and pixel shuffle that compute what ``layer`` computes.

    Output pixel s*q + r takes input pixel q + t through kernel tap r + p - s*t, where that tap
    exists: so phase r is a convolution whose tap at offset t is that one.
    """
    (k, _), (s, _), p = layer.kernel_size, layer.stride, int(layer.padding[0])
    taps = {(r, t): r + p - s * t for r in range(s) for t in range(-k, k + 1) if 0 <= r + p - s * t < k}
    reach = max(abs(t) for _, t in taps)
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
