"""Structured pruning: whole channels are removed, so that every runtime is faster for it.

Of every group the channels that are missed least go, by :mod:`compress.cutting`; groups that reach
the picture are left whole. Quality is won back in two stages: each layer is refitted in closed form
(:mod:`compress.refit`), then the whole is distilled from the original (:mod:`compress.distill`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from compress.step import Outcome, Step
from genslim.errors import UserError

if TYPE_CHECKING:
    from torch import nn

    from compress.cutting import Cut
    from genslim.console import Console
    from genslim.generator import Generator


@dataclass(frozen=True)
class Prune(Step):
    """Remove channels from every group of layers that can lose some."""

    name: ClassVar[str] = "prune"

    ratio: float = 0.5
    """How much to remove, between 0 and 1."""
    of: Literal["channels", "params", "macs"] = "channels"
    """What the ratio is of. Half of the channels is about three quarters of parameters and MACs."""
    round_to: int = 8
    """Channel counts become multiples of this, which kernels like; small groups are left whole."""
    recover: Literal["none", "closed-form", "distill"] = "distill"
    """How quality is won back: not at all; each layer refitted by least squares, which takes
    seconds; or that and then data-free distillation of the whole."""
    seconds: float = 60.0
    """How long recovery takes."""

    def check(self, generator: Generator) -> None:
        """Check the ratio, the rounding and the time."""
        if not 0 < self.ratio < 1:
            raise UserError(f"ratio {self.ratio} is not between 0 and 1", hint="try --ratio 0.5")
        if self.round_to < 1:
            raise UserError(f"round_to {self.round_to} is less than 1", hint="try --round-to 8")
        if self.seconds <= 0:
            raise UserError(f"seconds {self.seconds} is no time", hint="or use --recover none")
        super().check(generator)

    def apply(self, generator: Generator, console: Console) -> Outcome:
        """Cut, then recover."""
        from compress.cutting import cut_to_size, cut_uniformly

        if self.of == "channels":
            pruned, cut = cut_uniformly(generator, self.ratio, self.round_to)
        else:
            pruned, cut = cut_to_size(generator, self.ratio, self.of, self.round_to)
        outcome = Outcome({"module": pruned}, changed=cut.changed, left=cut.left)
        if cut.changed:
            self.win_back(generator, pruned, cut, outcome, console)
        else:
            outcome.figures["note"] = "nothing could be removed"
        return outcome

    def win_back(
        self,
        generator: Generator,
        pruned: nn.Module,
        cut: Cut,
        outcome: Outcome,
        console: Console,
    ) -> None:
        """Recover ``pruned``, in place, and put the SSIM before and after each stage down."""
        from compress.distill import distill
        from compress.refit import refit

        def quality() -> float:
            return round(self.ssim_of(generator.variant(module=pruned)), 4)

        figures = outcome.figures
        figures["ssim_before_recovery"] = figures["ssim"] = quality()
        if self.recover == "none":
            return
        refit(pruned, generator, cut.kept, self.seed)
        figures["ssim_after_closed_form"] = figures["ssim"] = quality()
        if self.recover == "distill":
            done = distill(
                pruned, generator.original, seconds=self.seconds, seed=self.seed, console=console
            )
            figures |= {
                "ssim": round(done.ssim_after, 4),
                "recovery_steps": done.steps,
                "recovery_seconds": done.seconds,
            }
