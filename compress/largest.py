"""The largest cut that holds an SSIM, found in few recoveries, which take time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compress.recovery import Recovery
from genslim.errors import GateFailed

if TYPE_CHECKING:
    from compress.cutting import Cutter
    from compress.prune import Prune
    from genslim.console import Console
    from genslim.generator import Generator

LARGEST = 0.9
"""The search goes no further."""
CUTS = 5
"""How many cuts are tried in closed form."""


class Search:
    """Cuts of one generator, each recovered as far as the step says.

    They are tried in closed form; where distillation follows, as far as it is expected to win
    back: first half of the error, then what it really won back of the first cut's.
    """

    def __init__(self, step: Prune, generator: Generator, cutter: Cutter, console: Console) -> None:
        """Prepare to cut ``generator`` with ``cutter`` as ``step`` says."""
        self.step, self.generator = step, generator
        self.cutter, self.console = cutter, console
        self.tries: list[dict[str, float]] = []

    def run(self, least: float) -> tuple[float, Recovery]:
        """The largest ratio found with which SSIM is at least ``least``, and what is left.

        Raises:
            GateFailed: not even the smallest cut holds it.
        """
        distils = self.step.recover == "distill"
        won_back = 0.5 if distils else 0.0
        best: tuple[float, Recovery] | None = None
        for _ in range(2 if distils else 1):
            ratio = self.largest(1 - (1 - least) / (1 - won_back))
            found = self.attempt(ratio)
            if not found.cut.changed:
                continue
            if distils:
                before = found.ssim
                found.distill()
                won_back = min(0.9, max(0.0, 1 - (1 - found.ssim) / (1 - before + 1e-9)))
                self.tries[-1]["ssim"] = found.ssim
            if found.ssim >= least and (best is None or ratio > best[0]):
                best = ratio, found
        if best is None:
            raise GateFailed(
                f"no cut was found that holds SSIM {least}: "
                + "; ".join(
                    f"{t['ratio']:.2f} reads {t.get('ssim', t['ssim_before_distillation']):.4f}"
                    for t in self.tries[-3:]
                ),
                hint="ask for less, allow more --seconds, or name a --ratio",
            )
        return best

    def largest(self, goal: float) -> float:
        """The largest ratio that holds ``goal`` before distillation, by bisection."""
        low, high = 0.0, LARGEST
        for _ in range(CUTS):
            middle = (low + high) / 2
            low, high = (middle, high) if self.attempt(middle).ssim >= goal else (low, middle)
        return low

    def attempt(self, ratio: float) -> Recovery:
        """Cut, and refit in closed form."""
        pruned, cut = self.cutter.cut(ratio, self.step.of, self.step.allocation)
        found = Recovery(self.step, self.generator, pruned, cut, self.console)
        if cut.changed:
            found.refit()
        self.tries.append({"ratio": round(ratio, 4), "ssim_before_distillation": found.ssim})
        return found
