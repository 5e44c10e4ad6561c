"""Recovery after a cut, in stages: closed form, blocks, the whole.

The quick stages come first. After each the quality is read, and one that did harm is undone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from compress.batches import usual_rate
from compress.blockwise import blocks_of, fit_blocks, step_seconds
from compress.checkpoint import current
from compress.distill import distill
from compress.refit import refit

if TYPE_CHECKING:
    from torch import nn

    from compress.cutting import Cut
    from compress.prune import Prune
    from genslim.console import Console
    from genslim.generator import Generator

STEPS_THAT_PAY = 20
"""Where fewer steps of the whole network fit into the time, its blocks get it. Forty steps gained
Real-ESRGAN x4plus-anime 0.006 of SSIM, and its blocks 0.002 in as many seconds."""


class Recovery:
    """A pruned network that is won back, and what each stage came to."""

    def __init__(
        self, step: Prune, generator: Generator, pruned: nn.Module, cut: Cut, console: Console
    ) -> None:
        """Read the quality after the cut alone.

        Args:
            step: says how to recover, and for how long.
            generator: that was cut.
            pruned: what is left of its module; changed in place.
            cut: what was removed.
            console: shows progress.
        """
        self.step, self.generator, self.console = step, generator, console
        self.pruned, self.cut = pruned, cut
        self.ssim = self.quality()
        """Of what ``pruned`` is now."""
        self.figures: dict[str, Any] = {"ssim_before_recovery": self.ssim}
        """What goes into the step's report."""

    def quality(self) -> float:
        """Mean SSIM to the original on inputs that nothing is fitted on."""
        return round(self.step.ssim_of(self.generator.variant(module=self.pruned)), 4)

    def unless_it_harms(self, stage: str, fit: Callable[[], object]) -> bool:
        """Change ``pruned`` in place and put down its quality; undo what made it worse."""
        before = copy.deepcopy(self.pruned.state_dict())
        fit()
        after = self.quality()
        self.figures[f"ssim_after_{stage}"] = after
        better = after >= self.ssim
        if better:
            self.ssim = after
        else:
            self.pruned.load_state_dict(before)
        return better

    def refit(self) -> None:
        """Refit all layers in closed form, unless the step says not to."""
        if self.step.recover == "none":
            return
        fitted: list[str] = []
        better = self.unless_it_harms(
            "closed_form",
            lambda: fitted.extend(
                refit(self.pruned, self.generator, self.cut.kept, self.step.seed, self.console)
            ),
        )
        # Not so where inputs say too little of what the network does.
        self.figures["layers_refitted"] = len(fitted) if better else 0

    def distill(self) -> None:
        """Fit blocks, where there are any, and distil the whole, where the step says so."""
        step = self.step
        if step.recover != "distill":
            return
        # So many steps are the same wherever they are made.
        spent = self.fit_blocks() if step.steps is None else 0.0
        if spent == step.seconds:
            self.figures |= {"recovery_steps": 0, "recovery_seconds": spent}
            return
        done = distill(
            self.pruned,
            self.generator.original,
            seconds=step.seconds - spent if step.steps is None else None,
            steps=step.steps,
            schedule=step.schedule,
            seed=step.seed,
            learning_rate=step.rate * usual_rate(self.generator.signature),
            # The refit went by the norms as they are; only a bare cut needs new statistics.
            adapt_norms=not self.figures.get("layers_refitted"),
            checkpoint=current(),
            console=self.console,
        )
        self.ssim = round(done.ssim_after, 4)
        self.figures |= {
            "recovery_steps": done.steps,
            "recovery_seconds": round(done.seconds + spent, 1),
        }

    def fit_blocks(self) -> float:
        """Fit the blocks; the seconds that it was given."""
        share = self.step.blocks
        if share is None:
            steps = self.step.seconds / step_seconds(self.pruned, self.generator)
            share = float(steps < STEPS_THAT_PAY)
        names = blocks_of(self.pruned, self.generator, self.cut.kept) if share else []
        if not names:
            return 0.0
        seconds = share * self.step.seconds
        better = self.unless_it_harms(
            "blocks",
            lambda: fit_blocks(
                self.pruned,
                self.generator,
                names,
                seconds=seconds,
                seed=self.step.seed,
                console=self.console,
            ),
        )
        self.figures["blocks_fitted"] = len(names) if better else 0
        return seconds
