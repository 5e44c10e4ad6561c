"""What the pytest fixture ``genslim_benchmark`` does: measure two generators, and assert.

The fixture itself stands in :mod:`genslim.pytest_plugin`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.formats.pytest_json import extra_info
from bench.harness.measuring import measure
from bench.measurement import Measurement
from bench.verdicts import gate
from bench.verdicts.figures import Context
from bench.verdicts.gate import Threshold
from genslim import artifact
from genslim.errors import GateFailed, UserError
from genslim.generator import Generator
from genslim.loading import load
from genslim.run import Run, is_run
from genslim.target import Target

Source = str | Path | Generator
LEAST_ROUNDS = 3
"""Rounds where times are not asked for: the fewest that a measurement takes."""


class UndecidedWarning(UserWarning):
    """A time is too noisy to tell whether it meets its threshold."""


@dataclass(frozen=True)
class Benchmark:
    """Measures a compressed generator beside its original, and asserts what is asked.

    ::

        def test_speed(genslim_benchmark):
            genslim_benchmark("original.pth", "runs/00-mine", min_ssim=0.95, max_ratio=0.5)
    """

    timed: bool
    """False: assert quality and sizes alone, as under ``--benchmark-disable``."""
    record: Callable[[Sequence[float], Mapping[str, Any]], None]
    """Told the compressed generator's latencies in seconds a batch, and every other figure."""

    def __call__(
        self,
        original: Source,
        compressed: Source | None = None,
        *,
        min_ssim: float | None = None,
        max_ratio: float | None = None,
        require: Sequence[str] = (),
        target: str = "openvino",
        images: str | Path | None = None,
        count: int | None = None,
        rounds: int = 30,
        seconds: float = 60.0,
        seed: int = 0,
        confidence: float = 0.95,
        strict: bool = False,
    ) -> Measurement:
        """Measure both in the same rounds on one target, and compare with what is asked.

        Args:
            original: a generator, or anything that ``genslim.load`` opens; of a run its original.
            compressed: the same; of a run its newest artifact. May be left out if the first is a
                run.
            min_ssim: the least mean SSIM to the original in PyTorch, on inputs that no step was
                fitted on.
            max_ratio: the greatest latency by the original's on the same target. It is met when
                the whole confidence interval of the ratio is below, and missed when all of it is
                above; in between an :class:`UndecidedWarning` is given.
            require: more thresholds, as ``bench gate`` takes them: ``"ssim_p5 >= 0.9"``. Ratios
                are to the original on the same target.
            target: where both run: ``RUNTIME[:batch=N,threads=N,...]``.
            images: a folder of images, for generators that take images.
            count: inputs that quality is measured on; None: 256 latents or 16 images.
            rounds: rounds that latency is measured in.
            seconds: stop the rounds after this time, but never before the fifth.
            seed: of the inputs.
            confidence: of the ratio's interval.
            strict: fail where the interval leaves it undecided.

        Returns:
            The measurement; ``.report("report.html")`` writes it for people.

        Raises:
            GateFailed: what is asked is not met; one line says by how much.
            UserError: a source or a setting is none.
        """
        if compressed is None:
            if isinstance(original, Generator) or not is_run(Path(original)):
                raise UserError(
                    "there is no second generator to compare with",
                    hint="give the original and the compressed one, or a run",
                )
            compressed = original
        thresholds = [Threshold.parse(text) for text in require]
        if min_ssim is not None:
            thresholds.append(Threshold.parse(f"ssim_mean >= {min_ssim}"))
        if max_ratio is not None:
            thresholds.append(Threshold.parse(f"latency_ratio <= {max_ratio}"))
        place = Target.parse(target)
        measured = on_one_target(
            measure(
                [opened(original, images, first=True), opened(compressed, images, first=False)],
                place,
                runtimes=[place.runtime],
                count=count,
                rounds=rounds if self.timed else LEAST_ROUNDS,
                seconds=seconds,
                seed=seed,
                memory=any(t.figure.name == "memory_bytes" for t in thresholds),
            ),
            place.runtime,
        )
        newest = measured.artifacts[-1]
        reading = newest.reading(place.runtime)
        if reading is not None:
            facts = extra_info(Context(measured, newest, reading, confidence=confidence))
            self.record([ms / 1e3 for ms in reading.latency.milliseconds], facts)
        self.check(measured, thresholds, place.runtime, confidence, strict)
        return measured

    def check(
        self,
        measured: Measurement,
        thresholds: Sequence[Threshold],
        runtime: str,
        confidence: float,
        strict: bool,
    ) -> None:
        """Raise GateFailed where a threshold is not met; warn of what is undecided."""
        verdicts = gate.judge(
            measured,
            [
                replace(t, artifact=measured.artifacts[-1].name)
                for t in thresholds
                if self.timed or not t.figure.timed
            ],
            runtime=runtime,
            confidence=confidence,
            strict=strict,
        )
        for verdict in verdicts:
            if verdict.outcome == "undecided":
                warnings.warn(verdict.reason, UndecidedWarning, stacklevel=4)
        failed = [verdict.reason for verdict in verdicts if verdict.outcome == "failed"]
        if failed:
            raise GateFailed(f"{measured.artifacts[-1].name} on {runtime}: {'; '.join(failed)}")


def opened(source: Source, images: str | Path | None, *, first: bool) -> Generator:
    """The generator behind an argument of the fixture."""
    if isinstance(source, Generator):
        if images is None:
            return source
        folder = str(Path(images).resolve())
        return replace(source, signature=source.signature.with_images(folder))
    if first and is_run(Path(source)):
        source = Run(Path(source)).artifacts[0]
        if images is None:
            return artifact.load(source)
    return load(source, images=images)


def on_one_target(measured: Measurement, runtime: str) -> Measurement:
    """The same measurement with the original on ``runtime`` for its baseline.

    What PyTorch made of the original stays the reference of quality; no time is compared with it.

    Raises:
        UserError: the original does not run there.
    """
    first, *others = measured.artifacts
    reading = first.reading(runtime)
    if reading is None:
        reasons = "; ".join(r.reason for r in first.refusals if r.runtime == runtime)
        raise UserError(
            f"the original {first.name} does not run on {runtime} ({reasons or 'no such form'})",
            hint="name another target",
        )
    reading = replace(reading, distribution=measured.baseline.distribution)
    return replace(measured, artifacts=(replace(first, readings=(reading,)), *others))
