"""Depthwise-separable substitution: a k x k convolution becomes a depthwise and a pointwise one.

The pair starts in closed form (:mod:`compress.splitting`) and is fitted to what the layer sees
(:mod:`compress.factors`); then the whole is distilled from the original. A layer is swapped only
where the generator was measured faster for it on the target, and swaps stay only where quality
holds after recovery.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, ClassVar

from compress.step import Outcome, Step
from genslim.errors import UserError

if TYPE_CHECKING:
    from torch import nn

    from compress.separating import Separator
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
        if not self.seconds > 0 or self.trials < 1:
            raise UserError("seconds and trials must be more than 0", hint="try --seconds 30")
        from compress.splitting import Convolution

        convolutions = [
            n for n, m in generator.trainable().named_modules() if isinstance(m, Convolution)
        ]
        if not convolutions:
            raise UserError(
                f"{generator.label} has no convolution", hint="try compress prune or quantize"
            )
        if not any(fnmatchcase(name, self.layers) for name in convolutions):
            raise UserError(
                f"no convolution matches {self.layers!r}",
                hint="there are "
                + ", ".join(convolutions[:12])
                + (", …" if convolutions[12:] else ""),
            )
        super().check(generator)

    def apply(self, generator: Generator, console: Console) -> Outcome:
        """Time swaps, recover with those that gained, drop the costliest until SSIM holds."""
        from compress.separating import Separator

        separator = Separator(generator, self.layers, self.seed, console)
        trials = separator.race(self.settled_target(generator))
        figures = {name: said(trial, separator, name) for name, trial in trials.items()}
        outcome = Outcome({"module": separator.module})
        outcome.left = [{"what": n, "reason": r} for n, r in separator.left.items()]
        outcome.figures["latency_ratio_alone"] = {
            alike[0]: round(trials[alike[0]].ratio, 3) for alike in separator.shapes
        }
        chosen = separator.names
        if self.revert:
            outcome.left += [
                {
                    "what": n,
                    "reason": f"not faster on {self.target}: {figures[n]}",
                }
                for n in chosen
                if not trials[n].gained
            ]
            chosen = [n for n in chosen if trials[n].gained]
        search = Search(self, generator, separator, trials, console)
        best = search.run(chosen) if chosen else None
        if best is not None:
            outcome.changes["module"] = best.module
            outcome.changed = [f"{n}: depthwise and pointwise, {figures[n]}" for n in best.layers]
            outcome.figures |= best.figures
        else:
            outcome.figures["note"] = "no swap was kept"
        if search.tries:
            tries = [{"layers": t.layers, **t.figures} for t in search.tries]
            outcome.figures["tries"] = tries
        outcome.left += search.left(best, chosen)
        return outcome


def said(trial: Trial, separator: Separator, name: str) -> str:
    """What the race says of a layer."""
    alike = next(alike for alike in separator.shapes if name in alike)
    return str(trial) + (f" with all {len(alike)} alike" if len(alike) > 1 else "")


@dataclass
class Try:
    """A set of layers, swapped together and recovered."""

    layers: list[str]
    module: nn.Module
    figures: dict[str, Any] = field(default_factory=dict)
    fault: str = ""
    """Why it can't stay; empty where it can."""


class Search:
    """The largest set of layers that holds the SSIM: in few recoveries, which take time.

    Layers are ordered by what they cost, and the set is always the cheapest of them. How many are
    tried next follows from how much SSIM the last sets lost: losses add up, nearly.
    """

    def __init__(
        self,
        step: Separable,
        generator: Generator,
        separator: Separator,
        trials: Mapping[str, Trial],
        console: Console,
    ) -> None:
        self.step, self.generator, self.separator = step, generator, separator
        self.trials, self.console = trials, console
        self.tries: list[Try] = []
        self.costs: dict[str, float] = {}

    def run(self, chosen: list[str]) -> Try | None:
        """Try all, then fewer, then more again; the most that held, or None."""
        order, best = chosen, None
        low, high = 0, len(chosen) + 1
        count = len(chosen)
        for left in reversed(range(self.step.trials)):
            found = self.attempt(order[:count])
            if not found.fault:
                best, low = found, count
            elif found.figures.get("ssim") is None:
                low = count  # not faster together: neither are fewer
            else:
                high = count
            if high - low <= 1 or not left:
                break
            if not self.costs:
                self.costs = self.separator.costs()
                order = sorted(chosen, key=lambda name: self.costs[name])
            safe = best is None and left == 1
            count = self.sure(order, low, high) if safe else self.likely(order, low, high)
            if count == low:
                break
        return best

    def attempt(self, layers: list[str]) -> Try:
        """Swap and recover ``layers``, unless together they are not faster."""
        step = self.step
        module = self.separator.split(layers)
        together = self.together(module, layers)
        found = Try(layers, module, {"latency_ratio": round(together.ratio, 3)})
        self.tries.append(found)
        if step.revert and not together.gained:
            found.fault = f"together not faster on {step.target}: {together}"
            return found
        before = self.quality(module)
        found.module, after = self.refitted(layers)
        found.figures |= {"ssim_before_recovery": before, "ssim_after_closed_form": after}
        if was_fitted := after >= before:
            before = after
        else:  # inputs that say too little of what the network does
            found.module = module
        ssim = self.distil(found.module, adapt_norms=not was_fitted)
        found.figures["ssim"] = round(ssim, 4)
        if step.revert and ssim < step.min_ssim:
            found.fault = f"SSIM {ssim:.4f} < {step.min_ssim} after recovery"
        return found

    def together(self, module: nn.Module, layers: list[str]) -> Trial:
        """How fast the generator is with ``layers`` swapped."""
        from compress import trial

        if any(sorted(layers) == sorted(alike) for alike in self.separator.shapes):
            return self.trials[layers[0]]  # this very set was timed
        target = self.step.settled_target(self.generator)
        candidate = self.generator.variant(module=module)
        return trial.race(self.generator, {"all": candidate}, target, self.console)["all"]

    def quality(self, module: nn.Module) -> float:
        """Mean SSIM to the original on inputs that nothing is fitted on."""
        return round(self.step.ssim_of(self.generator.variant(module=module)), 4)

    def refitted(self, layers: list[str]) -> tuple[nn.Module, float]:
        """The module with ``layers`` swapped and fitted, and its SSIM."""
        module = self.separator.refitted(layers)
        return module, self.quality(module)

    def distil(self, student: nn.Module, *, adapt_norms: bool) -> float:
        """Recover ``student`` in place; the SSIM it then has."""
        from compress.checkpoint import current
        from compress.distill import distill

        done = distill(
            student,
            self.generator.original,
            seconds=self.step.seconds,
            seed=self.step.seed,
            # The refit went by the norms as they are; only bare swaps need new statistics.
            adapt_norms=adapt_norms,
            least=self.step.min_ssim if self.step.revert else 0.0,
            checkpoint=current(),
            console=self.console,
        )
        return done.ssim_after

    def likely(self, order: list[str], low: int, high: int) -> int:
        """How many layers, more than ``low`` and fewer than ``high``, will probably hold."""
        spent = self.spent(order)
        known = {len(t.layers): 1 - t.figures["ssim"] for t in self.tries if "ssim" in t.figures}
        allowed = 1 - self.step.min_ssim
        (x1, y1), (x2, y2) = (spent[low], known.get(low, 0.0)), (spent[high], known[high])
        share = min(1.0, max(0.0, (allowed - y1) / max(y2 - y1, 1e-9)))
        limit = x1 + share * (x2 - x1)
        return max([low + 1, *(n for n in range(low + 1, high) if spent[n] <= limit)])

    def sure(self, order: list[str], low: int, high: int) -> int:
        """How many layers hold before distillation even, by bisection; ``low`` where none."""
        while high - low > 1:
            middle = (low + high) // 2
            holds = self.refitted(order[:middle])[1] >= self.step.min_ssim
            low, high = (middle, high) if holds else (low, middle)
        return low

    def spent(self, order: list[str]) -> list[float]:
        """What the first so many layers cost together."""
        finite = [c for c in self.costs.values() if c < float("inf")]
        most = max(finite, default=1.0)
        spent = [0.0]
        for name in order:
            spent.append(spent[-1] + max(1e-12, min(self.costs[name], 10 * most)))
        return spent

    def left(self, best: Try | None, chosen: list[str]) -> list[dict[str, str]]:
        """The layers that gained and yet stay whole, with the reason."""
        kept = set(best.layers) if best else set()
        rows = []
        for name in chosen:
            if name in kept:
                continue
            failed = [t for t in self.tries if name in t.layers and t.fault]
            least = min(failed, key=lambda t: len(t.layers))
            others = len(least.layers) - 1
            among = f"with {others} other layers: " if others else ""
            rows.append({"what": name, "reason": f"{among}{least.fault}"})
        return rows
