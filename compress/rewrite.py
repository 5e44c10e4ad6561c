"""Exact rewrites: the same function, computed in a way that the target is faster at.

A transposed convolution becomes a convolution and a pixel shuffle (:mod:`compress.phases`), or,
where all it sees is one pixel, a matrix product (:mod:`compress.projection`). Some kernels are much
faster for the one, some for the other, so each layer is measured on the target and rewritten only
where that gained.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
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
        from compress.trial import race

        module = generator.trainable()
        outcome = Outcome({"module": module})
        rewrites, outcome.left = rewrites_of(module, generator)
        if not rewrites:
            outcome.figures["note"] = "no layer can be rewritten"
            return outcome
        candidates = {
            name: generator.variant(module=rewrite.make(module))
            for name, rewrite in rewrites.items()
        }
        target = self.settled_target(generator)
        trials = race(generator, candidates, target, console)
        chosen = {name for name, trial in trials.items() if trial.gained}
        outcome.left += [
            {"what": name, "reason": f"not faster on {self.target}: {trial}"}
            for name, trial in trials.items()
            if name not in chosen
        ]
        result = module
        for name in chosen:
            result = rewrites[name].make(result)
        if len(chosen) > 1:  # together they may gain less than the best of them alone
            best = min(chosen, key=lambda name: trials[name].ratio)
            together = race(generator, {"all": generator.variant(module=result)}, target, console)[
                "all"
            ]
            if together.ratio > trials[best].ratio:
                outcome.left += [
                    {"what": name, "reason": f"faster alone, but not with {best}"}
                    for name in sorted(chosen - {best})
                ]
                chosen, result = {best}, rewrites[best].make(module)
        outcome.changes["module"] = result
        outcome.changed = [
            f"{name}: {rewrites[name].what}, {trials[name]}" for name in sorted(chosen)
        ]
        if not chosen:
            outcome.figures["note"] = "no rewrite was faster"
        return outcome


@dataclass(frozen=True)
class Exact:
    """Another way to compute a layer."""

    what: str
    make: Callable[[nn.Module], nn.Module]
    """A copy of a module in which the layer is rewritten."""


def rewrites_of(
    module: nn.Module, generator: Generator
) -> tuple[dict[str, Exact], list[dict[str, str]]]:
    """The rewrite of each layer that has one, by its name; and the layers left, with reasons."""
    from torch import nn

    from compress.phases import as_convolution, reason_to_leave
    from compress.projection import projections
    from compress.swap import with_swapped

    found: dict[str, Exact] = {
        name: Exact("matrix product", projection)
        for name, projection in projections(module, generator).items()
    }
    left = []
    for name, layer in module.named_modules():
        if not isinstance(layer, nn.ConvTranspose2d) or name in found:
            continue
        if reason := reason_to_leave(layer):
            left.append({"what": name, "reason": reason})
        else:
            swap = partial(with_swapped, names=[name], make=as_convolution)
            found[name] = Exact("convolution and pixel shuffle", swap)
    return found, left
