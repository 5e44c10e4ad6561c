"""Structured pruning: whole channels are removed, so that every runtime is faster for it.

Which channels go together is read off one run of the network (:mod:`compress.channels`), which of
them are missed least and where cutting costs least are measured (:mod:`compress.selection`,
:mod:`compress.allocation`). Quality is won back in stages (:mod:`compress.recovery`).
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
    """Remove the channels that are missed least."""

    name: ClassVar[str] = "prune"

    ratio: float = 0.5
    """How much to remove, between 0 and 1."""
    of: Literal["channels", "params", "macs"] = "channels"
    """What the ratio is of. Half of the channels is about three quarters of parameters and MACs."""
    min_ssim: float | None = None
    """Instead of a ratio: the largest cut whose mean SSIM to the original, after recovery, is at
    least this."""
    allocation: Literal["global", "uniform"] = "global"
    """Where to cut: where it costs least for what it saves, or the same share of every group."""
    keep: tuple[str, ...] = ()
    """Layers whose names match one of these patterns keep all their channels: head.*"""
    importance: Literal[
        "reconstruction", "l1", "l2", "activation", "taylor", "bn-scale", "random"
    ] = "reconstruction"
    """What tells which channels of a group are missed least; random is the control."""
    round_to: int = 8
    """Channel counts become multiples of this, which kernels like; small groups are left whole."""
    recover: Literal["none", "closed-form", "distill"] = "distill"
    """How quality is won back: not at all; each layer refitted by least squares, which takes
    seconds; or that and then data-free distillation of the whole."""
    seconds: float = 60.0
    """How long distillation takes."""
    steps: int | None = None
    """How many steps it takes, instead of a time."""
    schedule: Literal["linear", "cosine"] = "linear"
    """How its learning rate falls."""
    rate: float = 1.0
    """Where it falls from, as a part of what is usual for generators of images, or of latents; a
    network that lost little may learn more with a fifth."""
    blocks: float | None = None
    """The share of the seconds in which blocks that keep their outer channels are fitted one by
    one first. If left out: all, where a step of the whole takes too long, and else none."""

    def check(self, generator: Generator) -> None:
        """Check the ratio, the rounding, the patterns and the time."""
        from compress.patterns import check_patterns

        if not 0 < self.ratio < 1:
            raise UserError(f"ratio {self.ratio} is not between 0 and 1", hint="try --ratio 0.5")
        if self.min_ssim is not None and not 0 < self.min_ssim < 1:
            raise UserError(
                f"SSIM {self.min_ssim} is not between 0 and 1", hint="try --min-ssim 0.95"
            )
        if self.round_to < 1:
            raise UserError(f"round_to {self.round_to} is less than 1", hint="try --round-to 8")
        if not self.seconds > 0:
            raise UserError(f"seconds {self.seconds} is no time", hint="or use --recover none")
        if self.steps is not None and self.steps < 1:
            raise UserError(f"steps {self.steps} is less than 1", hint="or use --recover none")
        if not self.rate > 0:
            raise UserError(f"rate {self.rate} is no learning rate", hint="try --rate 0.2")
        if self.blocks is not None and not 0 <= self.blocks <= 1:
            raise UserError(f"blocks {self.blocks} is no share", hint="try --blocks 0.5")
        check_patterns(generator.trainable(), self.keep, "layer")
        super().check(generator)

    def apply(self, generator: Generator, console: Console) -> Outcome:
        """Cut, then recover."""
        from compress.cutting import Cutter
        from compress.largest import Search
        from compress.recovery import Recovery

        cutter = Cutter(
            generator,
            round_to=self.round_to,
            importance=self.importance,
            keep=self.keep,
            seed=self.seed,
            console=console,
        )
        if self.min_ssim is not None:
            search = Search(self, generator, cutter, console)
            ratio, found = search.run(self.min_ssim)
            found.figures |= {"ratio": round(ratio, 4), "tries": search.tries}
        else:
            pruned, cut = cutter.cut(self.ratio, self.of, self.allocation)
            if not cut.changed:
                note = {"note": "nothing could be removed"}
                return Outcome({"module": pruned}, left=cut.left, figures=note)
            found = Recovery(self, generator, pruned, cut, console)
            found.refit()
            found.distill()
        return Outcome(
            {"module": found.pruned},
            changed=found.cut.changed,
            left=found.cut.left,
            figures={**found.figures, "ssim": found.ssim},
        )
