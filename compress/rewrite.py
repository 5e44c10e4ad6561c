"""Exact rewrites: the same function, computed in a way that the target is faster at.

A transposed convolution becomes a convolution and a pixel shuffle (:mod:`compress.phases`). Some
kernels are much faster for the one, some for the other, so each layer is measured on the target
and rewritten only where that gained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from compress.step import Outcome, Step

if TYPE_CHECKING:
    from torch import nn

    from genslim.console import Console
    from genslim.generator import Generator


@dataclass(frozen=True)
class Rewrite(Step):
    """Rewrite layers exactly, where the target is faster for it."""

    name: ClassVar[str] = "rewrite"

    def apply(self, generator: Generator, console: Console) -> Outcome:
        """Time each rewrite, then all that gained together."""
        from torch import nn

        from compress.phases import as_convolution, reason_to_leave
        from compress.swap import with_swapped
        from compress.trial import race

        module = generator.trainable()
        outcome = Outcome({"module": module})
        candidates: dict[str, nn.Module] = {}
        for name, layer in module.named_modules():
            if isinstance(layer, nn.ConvTranspose2d):
                if reason := reason_to_leave(layer):
                    outcome.left.append({"what": name, "reason": reason})
                else:
                    candidates[name] = with_swapped(module, [name], as_convolution)
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
            everything = with_swapped(module, chosen, as_convolution)
            together = race(generator, {"all": everything}, target, console)["all"]
            if together.ratio > trials[best].ratio:
                outcome.left += [
                    {"what": name, "reason": f"faster alone, but not with {best}"}
                    for name in sorted(chosen - {best})
                ]
                chosen = {best}
        outcome.changes["module"] = with_swapped(module, chosen, as_convolution)
        outcome.changed = [
            f"{name}: convolution and pixel shuffle, {trials[name]}" for name in sorted(chosen)
        ]
        if not chosen:
            outcome.figures["note"] = "no rewrite was faster"
        return outcome
