"""Gain or revert: what is done for speed is measured on the target, and kept where it gained."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from math import inf

from genslim.console import Console
from genslim.errors import GenslimError
from genslim.generator import Generator
from genslim.inputs import Inputs
from genslim.processes import agreed
from genslim.runtimes import runtime
from genslim.target import Target
from genslim.timing import interleave

GAIN = 0.97
"""A candidate must take at most this share of the time: less is within the noise."""
ROUNDS = 15


@dataclass(frozen=True)
class Trial:
    """A candidate's latency on the target, beside the baseline's in the same rounds."""

    milliseconds: float
    ratio: float
    """Of its latency to the baseline's: less than 1 is faster."""

    @property
    def gained(self) -> bool:
        """Whether it is faster beyond the noise."""
        return self.ratio <= GAIN

    def __str__(self) -> str:
        if self.ratio == inf:
            return "refused by the runtime"
        return f"{self.ratio:.2f}x the latency"


def ratios(trials: Mapping[str, Trial]) -> dict[str, float]:
    """The ratios of those that ran, for a record."""
    return {name: round(t.ratio, 3) for name, t in trials.items() if t.ratio < inf}


def race(
    baseline: Generator, candidates: Mapping[str, Generator], target: Target, console: Console
) -> dict[str, Trial]:
    """Time every candidate beside the baseline. One that the runtime refuses takes for ever.

    Args:
        baseline: what they are compared with.
        candidates: generators with the same signature, by name.
        target: settled.
        console: shows progress.
    """
    backend = runtime(target.runtime)
    assert target.batch is not None
    inputs = Inputs(baseline.signature, "timing").draw(target.batch)
    arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
    with ExitStack() as stack, console.progress("timing candidates", len(candidates) + 1) as bar:
        sessions = {}
        for name, candidate in {"": baseline, **candidates}.items():
            try:
                sessions[name] = stack.enter_context(backend.open(candidate, target))
            except GenslimError:
                if not name:
                    raise
            bar.advance(note=name)
        samples = interleave(
            {name: lambda s=s: s.run(arrays) for name, s in sessions.items()},  # type: ignore[misc]
            rounds=ROUNDS,
        )
    base = samples.pop("")
    refused = dict.fromkeys(candidates, Trial(inf, inf))
    trials = refused | {n: Trial(s.median_ms, s.ratio_to(base)) for n, s in samples.items()}
    return agreed(trials)  # processes that train together must build the same
