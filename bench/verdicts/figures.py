"""Every figure that a threshold can be put on, by name: one table that all consumers look in.

``bench gate``, the JUnit XML, the pytest plugin and the pytest-benchmark file read the same table,
so that a name means the same everywhere. A new figure is one line here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from bench.measurement import Artifact, Measurement, Reading

CONFIDENCE = 0.95
"""How sure an interval of a time is, unless another confidence is asked for."""


@dataclass(frozen=True)
class Value:
    """A figure, and how far it can be trusted."""

    middle: float
    low: float
    """The lower end of the confidence interval; the figure itself where it has no noise."""
    high: float

    @classmethod
    def exact(cls, value: float) -> Value:
        """A figure that comes out the same each time."""
        return cls(value, value, value)

    @property
    def noisy(self) -> bool:
        """Whether it was measured with a clock."""
        return self.low != self.high

    @property
    def text(self) -> str:
        """The figure as people write it, with its interval where it has one."""
        if not self.noisy:
            return number(self.middle)
        return f"{number(self.middle)} ({number(self.low)} to {number(self.high)})"


def number(value: float) -> str:
    """Large whole numbers whole, everything else with five digits."""
    return f"{value:_.0f}" if value == int(value) and abs(value) >= 10 else f"{value:.5g}"


@dataclass(frozen=True)
class Context:
    """What a figure is read from."""

    measurement: Measurement
    artifact: Artifact
    reading: Reading
    """The artifact on one runtime."""
    base: Context | None = None
    """The same artifact in an older run, where a change is asked for."""
    confidence: float = CONFIDENCE


@dataclass(frozen=True)
class Figure:
    """One figure."""

    name: str
    better: Literal["lower", "higher"]
    meaning: str
    read: Callable[[Context], Value | None]
    """None: it was not measured."""
    compares: bool = False
    """Whether it needs an older run to be compared with."""

    @property
    def timed(self) -> bool:
        """Whether a clock read it."""
        return self.name.startswith("latency")


def of_reading(name: str) -> Callable[[Context], Value | None]:
    """A field of the reading."""
    return lambda context: exact(getattr(context.reading, name))


def of_quality(name: str) -> Callable[[Context], Value | None]:
    """A field of the reading's quality."""
    return lambda context: exact(getattr(context.reading.quality, name))


def of_distribution(name: str) -> Callable[[Context], Value | None]:
    """A field of the distribution of its images, where that was looked at."""

    def read(context: Context) -> Value | None:
        found = context.reading.distribution
        return exact(getattr(found, name)) if found else None

    return read


def diversity_ratio(context: Context) -> Value | None:
    """Diversity by the original's own, which tells a collapse of modes on any generator."""
    ours, theirs = context.reading.distribution, context.measurement.baseline.distribution
    if not (ours and theirs and theirs.diversity) or ours.diversity is None:
        return None
    return Value.exact(ours.diversity / theirs.diversity)


def of_artifact(name: str) -> Callable[[Context], Value | None]:
    """A field of the artifact."""
    return lambda context: exact(getattr(context.artifact, name))


def exact(value: Any) -> Value | None:
    """A figure without noise, if there is one."""
    return None if value is None else Value.exact(float(value))


def latency_ratio(context: Context) -> Value:
    """Latency by the baseline's in the same rounds, with its interval."""
    baseline = context.measurement.baseline
    if context.reading is baseline:
        return Value.exact(1.0)
    ours, theirs = context.reading.latency, baseline.latency
    low, high = ours.ratio_interval(theirs, confidence=context.confidence)
    return Value(ours.ratio_to(theirs), low, high)


def latency_ms(context: Context) -> Value:
    """Median latency of a batch, with the interval of the median that order statistics give."""
    ordered = sorted(context.reading.latency.milliseconds)
    low, high = median_ranks(len(ordered), context.confidence)
    return Value(context.reading.latency.median_ms, ordered[low], ordered[high])


def median_ranks(count: int, confidence: float) -> tuple[int, int]:
    """Which two of ``count`` ordered samples hold the true median between them.

    Whatever the distribution, each sample lies below the median with probability one half; the
    widest ranks are taken where even those are less sure than ``confidence`` (five samples or
    fewer at 95 %).

    Returns:
        Indices into the ordered samples, symmetric about the middle.
    """
    from math import comb

    rank = 0
    while rank < (count - 1) // 2:
        outside = 2 * sum(comb(count, k) for k in range(rank + 2)) / 2**count
        if outside > 1 - confidence:
            break
        rank += 1
    return rank, count - 1 - rank


def memory_bytes(context: Context) -> Value | None:
    """Peak memory of a fresh process."""
    memory = context.reading.memory
    return exact(memory.peak_bytes) if memory else None


def latency_change(context: Context) -> Value | None:
    """This latency ratio by the one in the older run; see :func:`bench.verdicts.change.apart`."""
    if context.base is None:
        return None
    from bench.verdicts.change import apart

    base, control = context.base.reading, context.base.measurement.baseline
    found = apart(
        base.latency,
        control.latency,
        context.reading.latency,
        context.measurement.baseline.latency,
        confidence=context.confidence,
    )
    assert found.ratio is not None
    assert found.interval is not None
    return Value(found.ratio, *found.interval)


def ratio_to_base(read: Callable[[Context], Value | None]) -> Callable[[Context], Value | None]:
    """A figure by the same figure in the older run."""

    def change(context: Context) -> Value | None:
        now, then = read(context), read(context.base) if context.base else None
        return Value.exact(now.middle / then.middle) if now and then and then.middle else None

    return change


def difference_to_base(
    read: Callable[[Context], Value | None],
) -> Callable[[Context], Value | None]:
    """A figure less the same figure in the older run."""

    def change(context: Context) -> Value | None:
        now, then = read(context), read(context.base) if context.base else None
        return Value.exact(now.middle - then.middle) if now and then else None

    return change


FIGURES = {
    figure.name: figure
    for figure in (
        Figure(
            "latency_ratio", "lower", "latency by the baseline's in paired rounds", latency_ratio
        ),
        Figure("latency_ms", "lower", "median latency of a batch", latency_ms),
        Figure("size_bytes", "lower", "files that the runtime needs", of_reading("deployed_bytes")),
        Figure("parameters", "lower", "weights and biases", of_artifact("parameters")),
        Figure("macs", "lower", "multiply-accumulates of an image", of_artifact("macs")),
        Figure("memory_bytes", "lower", "peak memory of a fresh process", memory_bytes),
        Figure("ssim_mean", "higher", "mean SSIM", of_quality("ssim_mean")),
        Figure("ssim_p5", "higher", "SSIM that 95 % of images exceed", of_quality("ssim_p5")),
        Figure("ssim_worst", "higher", "least SSIM", of_quality("ssim_worst")),
        Figure("ms_ssim_mean", "higher", "mean MS-SSIM", of_quality("ms_ssim_mean")),
        Figure("psnr_db_mean", "higher", "mean PSNR in dB", of_quality("psnr_db_mean")),
        Figure("mse_mean", "lower", "mean squared error", of_quality("mse_mean")),
        Figure("lpips_mean", "lower", "mean LPIPS", of_quality("lpips_mean")),
        Figure("broken", "lower", "images that hold NaN or infinity", of_quality("broken")),
        Figure("diversity", "higher", "mean distance among images", of_distribution("diversity")),
        Figure("diversity_ratio", "higher", "diversity by the original's", diversity_ratio),
        Figure("coverage", "higher", "references with an image near", of_distribution("coverage")),
        Figure("recall", "higher", "references among the images", of_distribution("recall")),
        Figure("fid", "lower", "FID on a named extractor", of_distribution("fid")),
        Figure("kid", "lower", "KID on a named extractor", of_distribution("kid")),
        Figure("latency_change", "lower", "latency ratio by the older run's", latency_change, True),
        Figure(
            "size_change",
            "lower",
            "size by the older run's",
            ratio_to_base(of_reading("deployed_bytes")),
            True,
        ),
        Figure(
            "ssim_change",
            "higher",
            "mean SSIM less the older run's",
            difference_to_base(of_quality("ssim_mean")),
            True,
        ),
    )
}
"""By name, in the order in which they are shown."""


def known(context: Context) -> dict[str, Value]:
    """Every figure that was measured, by name."""
    found = {name: figure.read(context) for name, figure in FIGURES.items()}
    return {name: value for name, value in found.items() if value is not None}


def best_context(measurement: Measurement, artifact: Artifact) -> Context | None:
    """An artifact on its best runtime; None where it ran nowhere."""
    return Context(measurement, artifact, artifact.best) if artifact.best else None
