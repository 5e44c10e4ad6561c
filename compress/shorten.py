"""Depth pruning: whole blocks are left out, and the network becomes shorter instead of thinner.

What remains keeps its width, which matrix units like (:mod:`compress.depth` says how blocks are
chosen). Networks of residual blocks are robust to it before any training: Veit et al. 2016,
"Residual Networks Behave Like Ensembles of Relatively Shallow Networks", arXiv 1605.06431.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from compress.step import Outcome, Step
from genslim.errors import UserError

if TYPE_CHECKING:
    from genslim.console import Console
    from genslim.generator import Generator

WORTH = 0.5
"""Of the SSIM that was lost, what a refit must win back to be distilled from. Where it wins little
it has moved the weights far for little, and distillation from where they were gets further:
Real-ESRGAN x4plus-anime without a block won back 0.16 and ended lower, animevideov3 0.95 and ended
higher."""


@dataclass(frozen=True)
class Shorten(Step):
    """Leave out the blocks that are missed least."""

    name: ClassVar[str] = "shorten"

    ratio: float = 0.3
    """How much to leave out at most, between 0 and 1."""
    of: Literal["macs", "params"] = "macs"
    """What the ratio is of."""
    keep: tuple[str, ...] = ()
    """Modules whose names match one of these patterns stay: body.0*"""
    recover: Literal["none", "closed-form", "distill"] = "distill"
    """How quality is won back: not at all; the layers that are left refitted by least squares; or
    that, where it wins back half, and then data-free distillation of the whole."""
    seconds: float = 60.0
    """How long distillation takes."""
    steps: int | None = None
    """How many steps it takes, instead of a time."""
    schedule: Literal["linear", "cosine"] = "linear"
    """How its learning rate falls."""
    rate: float = 1.0
    """Where it falls from, as a part of what is usual for generators of images, or of latents; a
    network that lost little may learn more with a fifth."""

    def check(self, generator: Generator) -> None:
        """Check the ratio, the time and the patterns."""
        from compress.patterns import check_patterns

        if not 0 < self.ratio < 1:
            raise UserError(f"ratio {self.ratio} is not between 0 and 1", hint="try --ratio 0.3")
        if not self.seconds > 0 or (self.steps is not None and self.steps < 1):
            raise UserError(
                "distillation needs seconds, or steps, above 0", hint="or use --recover none"
            )
        if not self.rate > 0:
            raise UserError(f"rate {self.rate} is no learning rate", hint="try --rate 0.2")
        check_patterns(generator.trainable(), self.keep, "module")
        super().check(generator)

    def apply(self, generator: Generator, console: Console) -> Outcome:
        """Choose and leave out, then recover."""
        from compress.depth import Depth

        depth = Depth(generator, of=self.of, keep=self.keep, seed=self.seed, console=console)
        sizes = depth.sizes()
        depth.cut(self.ratio)
        if not depth.removed:
            least = min((sizes[n] / depth.whole for n in depth.blocks if sizes[n]), default=None)
            note = (
                "nothing could be left out: no block gives what it takes"
                if least is None
                else f"nothing could be left out: the smallest block is {least:.0%} of {self.of}"
            )
            return Outcome({"module": depth.module}, figures={"note": note})
        shorter = generator.variant(module=depth.module)
        figures: dict[str, Any] = {"ssim_before_recovery": round(self.ssim_of(shorter), 4)}
        figures["ssim"] = figures["ssim_before_recovery"]
        if self.recover != "none":
            figures |= self.refit(generator, shorter, depth.removed, figures["ssim"], console)
        if self.recover == "distill":
            figures |= self.distill(shorter, not figures["layers_refitted"], console)
        changed = [
            f"{n}: left out, {sizes[n] / depth.whole:.1%} of {self.of}" for n in depth.removed
        ]
        return Outcome({"module": depth.module}, changed=changed, figures=figures)

    def refit(
        self,
        generator: Generator,
        shorter: Generator,
        removed: Sequence[str],
        ssim: float,
        console: Console,
    ) -> dict[str, Any]:
        """Let the layers that are left make up for those that are gone, in place.

        Args:
            generator: before anything was left out.
            shorter: without ``removed``; changed in place.
            removed: names of the blocks that are left out.
            ssim: of ``shorter`` as it comes; where too little comes out, it stays so.
            console: shows progress.
        """
        from compress.refit import refit
        from compress.skipping import skipping

        module, original = shorter.module, generator.module
        assert module is not None
        assert original is not None
        least = ssim
        if self.recover == "distill":
            least += WORTH * (self.ssim_of(generator) - ssim)
        before = copy.deepcopy(module.state_dict())
        with skipping(module, original, removed):
            fitted = refit(module, generator, {}, self.seed, console)
        after = round(self.ssim_of(shorter), 4)
        if after < least:
            module.load_state_dict(before)
        return {
            "ssim_after_closed_form": after,
            "layers_refitted": len(fitted) if after >= least else 0,
            "ssim": after if after >= least else ssim,
        }

    def distill(self, shorter: Generator, adapt_norms: bool, console: Console) -> dict[str, Any]:
        """Win quality back by training, in place."""
        from compress.batches import usual_rate
        from compress.checkpoint import current
        from compress.distill import distill

        assert shorter.module is not None
        done = distill(
            shorter.module,
            shorter.original,
            seconds=self.seconds if self.steps is None else None,
            steps=self.steps,
            schedule=self.schedule,
            seed=self.seed,
            learning_rate=self.rate * usual_rate(shorter.signature),
            adapt_norms=adapt_norms,
            checkpoint=current(),
            console=console,
        )
        return {
            "recovery_steps": done.steps,
            "recovery_seconds": done.seconds,
            "ssim": round(done.ssim_after, 4),
        }
