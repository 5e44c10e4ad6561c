"""Structured pruning: whole channels are removed, so that every runtime is faster for it.

Which channels go together is read off one run of the network (:mod:`compress.channels`), which of
them are missed least and where cutting costs least are measured (:mod:`compress.selection`,
:mod:`compress.allocation`). Quality is won back in two stages: each layer is refitted in closed
form (:mod:`compress.refit`), then the whole is distilled from the original
(:mod:`compress.distill`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from compress.step import Outcome, Step
from genslim.errors import GateFailed, UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from compress.cutting import Cut, Cutter
    from genslim.console import Console
    from genslim.generator import Generator

LARGEST = 0.9
"""A search for the largest cut goes no further."""
SEARCH = 5
"""Cuts that a search for the largest tries in closed form."""
STEPS_THAT_PAY = 200
"""Fewer steps of the whole network gain less than as many seconds on its blocks: 103 gained nothing
on Real-ESRGAN x4plus-anime."""


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
    blocks: float = 0.6
    """The share of the seconds in which blocks that keep their outer channels are fitted one by
    one first, where there are any; all, where the rest would be too few steps. 0 skips that."""

    def check(self, generator: Generator) -> None:
        """Check the ratio, the rounding, the patterns and the time."""
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
        if not 0 <= self.blocks < 1:
            raise UserError(f"blocks {self.blocks} is no share below 1", hint="try --blocks 0.6")
        self.check_patterns(generator)
        super().check(generator)

    def check_patterns(self, generator: Generator) -> None:
        """Check that every pattern of layers to keep names one."""
        from fnmatch import filter as matching

        names = [name for name, _ in generator.trainable().named_modules() if name]
        for pattern in self.keep:
            if not matching(names, pattern):
                shown = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
                raise UserError(f"no layer matches {pattern!r}", hint=f"there are {shown}")

    def apply(self, generator: Generator, console: Console) -> Outcome:
        """Cut, then recover."""
        from compress.cutting import Cutter

        cutter = Cutter(
            generator,
            round_to=self.round_to,
            importance=self.importance,
            keep=self.keep,
            seed=self.seed,
            console=console,
        )
        if self.min_ssim is not None:
            return self.largest(generator, cutter, self.min_ssim, console)
        pruned, cut = cutter.cut(self.ratio, self.of, self.allocation)
        outcome = Outcome({"module": pruned}, changed=cut.changed, left=cut.left)
        if cut.changed:
            figures = outcome.figures
            figures["ssim_before_recovery"] = figures["ssim"] = self.quality(generator, pruned)
            if self.recover != "none":
                self.refit(generator, pruned, cut, figures, console)
            if self.recover == "distill":
                self.distill(generator, pruned, cut, figures, console)
        else:
            outcome.figures["note"] = "nothing could be removed"
        return outcome

    def quality(self, generator: Generator, module: nn.Module) -> float:
        """Mean SSIM to the original on inputs that nothing is fitted on."""
        return round(self.ssim_of(generator.variant(module=module)), 4)

    def refit(
        self,
        generator: Generator,
        pruned: nn.Module,
        cut: Cut,
        figures: dict[str, Any],
        console: Console,
    ) -> None:
        """Refit ``pruned`` in closed form, in place, unless that did harm."""
        from compress.refit import refit

        fitted: list[str] = []
        better = self.unless_it_harms(
            generator,
            pruned,
            figures,
            "closed_form",
            lambda: fitted.extend(refit(pruned, generator, cut.kept, self.seed, console)),
        )
        # Not so where inputs say too little of what the network does.
        figures["layers_refitted"] = len(fitted) if better else 0

    def unless_it_harms(
        self,
        generator: Generator,
        pruned: nn.Module,
        figures: dict[str, Any],
        stage: str,
        fit: Callable[[], None],
    ) -> bool:
        """Change ``pruned`` in place and put down its quality; undo what made it worse."""
        import copy

        before = copy.deepcopy(pruned.state_dict())
        fit()
        after = self.quality(generator, pruned)
        figures[f"ssim_after_{stage}"] = after
        better = bool(after >= figures["ssim"])
        if better:
            figures["ssim"] = after
        else:
            pruned.load_state_dict(before)
        return better

    def fit_blocks(
        self,
        generator: Generator,
        pruned: nn.Module,
        cut: Cut,
        figures: dict[str, Any],
        console: Console,
    ) -> float:
        """Fit the blocks of ``pruned`` in place, unless that did harm; the seconds it may take."""
        from compress.blockwise import blocks_of, fit_blocks, step_seconds

        names = blocks_of(pruned, generator, cut.kept)
        if not names:
            return 0.0
        seconds = self.blocks * self.seconds
        if (self.seconds - seconds) / step_seconds(pruned, generator) < STEPS_THAT_PAY:
            seconds = self.seconds
        better = self.unless_it_harms(
            generator,
            pruned,
            figures,
            "blocks",
            lambda: fit_blocks(
                pruned, generator, names, seconds=seconds, seed=self.seed, console=console
            ),
        )
        figures["blocks_fitted"] = len(names) if better else 0
        return seconds

    def distill(
        self,
        generator: Generator,
        pruned: nn.Module,
        cut: Cut,
        figures: dict[str, Any],
        console: Console,
    ) -> None:
        """Fit blocks, distil the whole, both in place, and put down what came of it."""
        from compress.checkpoint import current
        from compress.distill import distill

        spent = 0.0
        if self.steps is None and self.blocks:  # so many steps are the same wherever they are made
            spent = self.fit_blocks(generator, pruned, cut, figures, console)
        if spent == self.seconds:
            figures |= {"recovery_steps": 0, "recovery_seconds": spent}
            return
        done = distill(
            pruned,
            generator.original,
            seconds=self.seconds - spent if self.steps is None else None,
            steps=self.steps,
            schedule=self.schedule,
            seed=self.seed,
            # The refit went by the norms as they are; only a bare cut needs new statistics.
            adapt_norms=not figures.get("layers_refitted"),
            checkpoint=current(),
            console=console,
        )
        figures |= {
            "ssim": round(done.ssim_after, 4),
            "recovery_steps": done.steps,
            "recovery_seconds": done.seconds,
        }

    def largest(
        self, generator: Generator, cutter: Cutter, least: float, console: Console
    ) -> Outcome:
        """The largest cut that holds an SSIM.

        Cuts are tried in closed form; where distillation follows, as far as it is expected to win
        back: first half of the error, then what it really won back of the first cut's.

        Raises:
            GateFailed: not even the smallest cut holds it.
        """
        tries: list[dict[str, float]] = []

        def attempt(ratio: float) -> tuple[nn.Module, Cut, dict[str, Any]]:
            pruned, cut = cutter.cut(ratio, self.of, self.allocation)
            figures: dict[str, Any] = {"ssim": self.quality(generator, pruned)}
            figures["ssim_before_recovery"] = figures["ssim"]
            if cut.changed and self.recover != "none":
                self.refit(generator, pruned, cut, figures, console)
            tries.append({"ratio": round(ratio, 4), "ssim_before_distillation": figures["ssim"]})
            return pruned, cut, figures

        def search(goal: float) -> float:
            low, high = 0.0, LARGEST
            for _ in range(SEARCH):
                middle = (low + high) / 2
                low, high = (middle, high) if attempt(middle)[2]["ssim"] >= goal else (low, middle)
            return low

        won_back = 0.5 if self.recover == "distill" else 0.0
        best: tuple[float, nn.Module, Cut, dict[str, Any]] | None = None
        for _ in range(2 if self.recover == "distill" else 1):
            ratio = search(1 - (1 - least) / (1 - won_back))
            pruned, cut, figures = attempt(ratio)
            if not cut.changed:
                continue
            before = figures["ssim"]
            if self.recover == "distill":
                self.distill(generator, pruned, cut, figures, console)
                won_back = min(0.9, max(0.0, 1 - (1 - figures["ssim"]) / (1 - before + 1e-9)))
                tries[-1]["ssim"] = figures["ssim"]
            if figures["ssim"] >= least and (best is None or ratio > best[0]):
                best = (ratio, pruned, cut, figures)
        if best is None:
            raise GateFailed(
                f"no cut was found that holds SSIM {least}: "
                + "; ".join(
                    f"{t['ratio']:.2f} reads {t.get('ssim', t['ssim_before_distillation']):.4f}"
                    for t in tries[-3:]
                ),
                hint="ask for less, allow more --seconds, or name a --ratio",
            )
        ratio, pruned, cut, figures = best
        figures |= {"ratio": round(ratio, 4), "tries": tries}
        return Outcome({"module": pruned}, changed=cut.changed, left=cut.left, figures=figures)
