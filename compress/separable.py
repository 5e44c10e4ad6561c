"""Depthwise-separable substitution: a k x k convolution becomes a depthwise and a pointwise one.

The pair starts in closed form (:mod:`compress.splitting`). A layer is swapped only where the whole
generator was measured faster for it on the target, and swaps stay only where quality holds after
recovery.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, ClassVar

from compress.step import Outcome, Step
from genslim.errors import UserError

if TYPE_CHECKING:
    from torch import nn

    from compress.trial import Trial
    from genslim.console import Console
    from genslim.generator import Generator


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
            raise UserError(
                f"SSIM {self.min_ssim} is not between 0 and 1", hint="try --min-ssim 0.95"
            )
        if self.seconds <= 0 or self.trials < 1:
            raise UserError("seconds and trials must be more than 0", hint="try --seconds 30")
        from compress.splitting import Convolution

        convolutions = [
            n for n, m in generator.trainable().named_modules() if isinstance(m, Convolution)
        ]
        if not any(fnmatchcase(name, self.layers) for name in convolutions):
            raise UserError(
                f"no convolution matches {self.layers!r}",
                hint="there are "
                + ", ".join(convolutions[:12])
                + (", …" if convolutions[12:] else ""),
            )
        super().check(generator)

    def apply(self, generator: Generator, console: Console) -> Outcome:
        """Time each swap, recover with those that gained, drop the costliest until SSIM holds."""
        from compress.checkpoint import current
        from compress.distill import distill
        from compress.splitting import Convolution, reason_to_leave, split
        from compress.swap import with_swapped
        from compress.trial import race

        module, target = generator.trainable(), self.settled_target(generator)
        outcome = Outcome({"module": module})
        candidates: dict[str, nn.Module] = {}
        for name, layer in module.named_modules():
            if isinstance(layer, Convolution) and fnmatchcase(name, self.layers):
                if reason := reason_to_leave(layer):
                    outcome.left.append({"what": name, "reason": reason})
                else:
                    candidates[name] = with_swapped(module, [name], split)
        trials = race(generator, candidates, target, console)
        chosen = set(candidates)
        if self.revert:
            chosen = {name for name, trial in trials.items() if trial.gained}
            outcome.left += [
                {"what": name, "reason": f"not faster on {self.target}: {trial}"}
                for name, trial in trials.items()
                if name not in chosen
            ]
        outcome.figures["latency_ratio_alone"] = {n: round(t.ratio, 3) for n, t in trials.items()}
        tries: list[dict[str, Any]] = []
        for _ in range(self.trials):
            if not chosen:
                break
            student = with_swapped(module, chosen, split)
            together = race(generator, {"all": student}, target, console)["all"]
            done = distill(
                student,
                generator.original,
                seconds=self.seconds,
                seed=self.seed,
                least=self.min_ssim if self.revert else 0.0,
                checkpoint=current(),
                console=console,
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
            worst = max(chosen, key=lambda name: self.damage(generator, candidates[name]))
            why = (
                f"SSIM {done.ssim_after:.4f} < {self.min_ssim} after recovery"
                if done.ssim_after < self.min_ssim
                else f"together not faster on {self.target}: {together}"
            )
            outcome.left.append(
                {"what": worst, "reason": f"with {', '.join(sorted(chosen))}: {why}"}
            )
            chosen = chosen - {worst}
        outcome.left += [
            {"what": n, "reason": "no trial was left to try it alone"} for n in sorted(chosen)
        ]
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
        import copy

        from compress.norms import recalibrate_norms

        trial = copy.deepcopy(candidate)
        recalibrate_norms(trial, generator, self.seed)
        return 1 - self.ssim_of(generator.variant(module=trial))
