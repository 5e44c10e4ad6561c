"""Structured pruning: whole channels are removed, so that every runtime is faster for it.

The weakest channels of every group go, by :mod:`compress.cutting`; groups that reach the picture
are left whole. Quality is won back by distillation from the original.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from compress.step import Outcome, Step
from genslim.errors import UserError

if TYPE_CHECKING:
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
    recover: Literal["none", "distill"] = "distill"
    """How quality is won back: not at all, or by data-free distillation."""
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
        from compress.distill import distill

        if self.of == "channels":
            pruned, cut = cut_uniformly(generator, self.ratio, self.round_to)
        else:
            pruned, cut = cut_to_size(generator, self.ratio, self.of, self.round_to)
        outcome = Outcome({"module": pruned}, changed=cut.changed, left=cut.left)
        if not cut.changed:
            outcome.figures["note"] = "nothing could be removed"
        elif self.recover == "distill":
            done = distill(
                pruned, generator.original, seconds=self.seconds, seed=self.seed, console=console
            )
            outcome.figures |= {
                "ssim_before_recovery": round(done.ssim_before, 4),
                "ssim": round(done.ssim_after, 4),
                "recovery_steps": done.steps,
                "recovery_seconds": done.seconds,
            }
        return outcome
