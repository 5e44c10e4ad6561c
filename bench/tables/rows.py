"""What every report says: the same rows.

Numbers are worked out here once; the terminal, JSON, Markdown and HTML only differ in dress.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.measurement import BASELINE, Artifact, Measurement, Reading
from bench.metrics.distribution import NEIGHBOURS

NOTHING = "–"


@dataclass(frozen=True)
class Row:
    """One line of a table. Latencies are of a batch; None: not measured, or not to be quoted."""

    step: str
    runtime: str | None
    precision: str | None
    """The types that products were really computed in."""
    latency_ms: float | None
    p95_ms: float | None
    speedup: float | None
    """Times as fast as the baseline, the median of paired rounds."""
    change: float | None
    """Times as fast as the best of the step before."""
    parameters: int | None
    macs: int | None
    disk_bytes: int | None
    memory_bytes: int | None
    ssim: float | None
    ssim_p5: float | None
    ssim_worst: float | None
    psnr_db: float | None
    mse: float | None
    provider: str | None
    version: str | None
    threads: int | None
    broken: int
    """Images that hold NaN or infinity."""
    ms_ssim: float | None = None
    lpips: float | None = None
    p5_ms: float | None = None
    p99_ms: float | None = None
    speedup_interval: tuple[float, float] | None = None
    """95 % confidence interval of ``speedup``; None for the baseline itself."""
    images_per_second: float | None = None
    """One batch after the other, at the median latency."""
    cold_ms: float | None = None
    """From a fresh process to the first batch."""
    load_ms: float | None = None
    first_ms: float | None = None
    gpu_bytes: int | None = None
    """Peak memory of the GPU."""


@dataclass(frozen=True)
class Column:
    """One column: which field of a row, its title, and how it is written."""

    key: str
    title: str
    write: Callable[[Any], str]

    def cell(self, row: Row | dict[str, Any]) -> str:
        """The text of the cell."""
        value = row[self.key] if isinstance(row, dict) else getattr(row, self.key)
        return NOTHING if value is None else self.write(value)


def milliseconds(value: float) -> str:
    """Three significant digits: 0.482 ms, 4.82 ms, 482 ms."""
    return f"{significant(value)} ms"


def significant(value: float) -> str:
    """Three significant digits without an exponent."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def times(value: float) -> str:
    """A factor: 12.9×, 0.85×."""
    return f"{value:.1f}×" if value >= 9.95 else f"{value:.2f}×"


def times_between(ends: Sequence[float]) -> str:
    """An interval of factors: 12.1–13.4×."""
    return f"{times(ends[0]).rstrip('×')}–{times(ends[1])}"


def quantity(value: int) -> str:
    """A count with its thousands, millions, thousand millions: 1.32 M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{significant(value / size)} {unit}"
    return str(value)


def file_size(value: int) -> str:
    """Bytes in decimal units, as disks have it."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{significant(value / size)} {unit}"
    return f"{value} B"


MAIN = (
    Column("step", "Step", str),
    Column("runtime", "Runtime", str),
    Column("precision", "Precision", str),
    Column("latency_ms", "Latency", milliseconds),
    Column("p95_ms", "p95", milliseconds),
    Column("speedup", "Speed-up", times),
    Column("speedup_interval", "95 %", times_between),
    Column("change", "Change", times),
    Column("parameters", "Params", quantity),
    Column("macs", "MACs", quantity),
    Column("disk_bytes", "Disk", file_size),
    Column("memory_bytes", "Memory", file_size),
    Column("cold_ms", "Cold start", milliseconds),
    Column("ssim", "SSIM", "{:.4f}".format),
    Column("ssim_p5", "SSIM p5", "{:.4f}".format),
    Column("psnr_db", "PSNR", "{:.1f} dB".format),
    Column("mse", "MSE", "{:.2g}".format),
)
"""One row an artifact, on its best runtime."""

TERMINAL = (
    ("step", "runtime", "precision", "latency_ms", "speedup", "change"),
    ("step", "p95_ms", "speedup_interval", "memory_bytes", "cold_ms"),
    ("step", "parameters", "macs", "disk_bytes", "ssim", "ssim_p5", "psnr_db", "mse"),
)
"""The same columns as three tables that fit a terminal of 80 columns."""

EVERY = (
    Column("step", "Step", str),
    Column("runtime", "Runtime", str),
    Column("version", "Version", str),
    Column("provider", "Provider", str),
    Column("precision", "Precision", str),
    Column("threads", "Threads", str),
    Column("latency_ms", "Latency", milliseconds),
    Column("p5_ms", "p5", milliseconds),
    Column("p95_ms", "p95", milliseconds),
    Column("p99_ms", "p99", milliseconds),
    Column("images_per_second", "Images/s", significant),
    Column("speedup", "Speed-up", times),
    Column("speedup_interval", "95 %", times_between),
    Column("disk_bytes", "Disk", file_size),
    Column("ssim", "SSIM", "{:.4f}".format),
    Column("ssim_p5", "SSIM p5", "{:.4f}".format),
    Column("ssim_worst", "worst", "{:.4f}".format),
    Column("ms_ssim", "MS-SSIM", "{:.4f}".format),
    Column("lpips", "LPIPS", "{:.4f}".format),
    Column("psnr_db", "PSNR", "{:.1f} dB".format),
    Column("mse", "MSE", "{:.2g}".format),
)
"""One row for each artifact on each runtime."""

DISTRIBUTION = (
    Column("step", "Step", str),
    Column("runtime", "Runtime", str),
    Column("count", "Images", str),
    Column("diversity", "Diversity", "{:.3f}".format),
    Column("self_similarity", "Self-similarity", "{:.3f}".format),
    Column("feature_diversity", "Feature diversity", "{:.3g}".format),
    Column("coverage", "Coverage", "{:.3f}".format),
    Column("recall", "Recall", "{:.3f}".format),
    Column("density", "Density", "{:.3f}".format),
    Column("precision", "Precision", "{:.3f}".format),
    Column("fid", "FID", "{:.2f}".format),
    Column("kid", "KID", "{:.4f}".format),
)
"""All images of an artifact together, one row for each that a distribution was measured of."""


def row(measurement: Measurement, artifact: Artifact, reading: Reading | None, step: str) -> Row:
    """The figures of one reading; of an artifact that ran nowhere, those that need no run."""
    size = {"parameters": artifact.parameters, "macs": artifact.macs}
    disk = {"disk_bytes": reading.deployed_bytes if reading else artifact.disk_bytes}
    if reading is None:
        empty = dict.fromkeys(Row.__dataclass_fields__)
        return Row(**{**empty, **size, **disk, "step": step, "broken": 0})  # type: ignore[arg-type]
    before = measurement.artifact(artifact.parent)
    rival = before.best if before else measurement.baseline
    quality, execution = reading.quality, reading.execution
    return Row(
        step=step,
        runtime=reading.runtime,
        precision=execution.precision,
        latency_ms=reading.latency.median_ms,
        p95_ms=reading.latency.percentile_ms(95),
        speedup=1 / reading.latency.ratio_to(measurement.baseline.latency),
        change=1 / reading.latency.ratio_to(rival.latency) if rival else None,
        memory_bytes=reading.memory.peak_bytes if reading.memory else None,
        ssim=quality.ssim_mean,
        ssim_p5=quality.ssim_p5,
        ssim_worst=quality.ssim_worst,
        psnr_db=quality.psnr_db_mean,
        mse=quality.mse_mean,
        provider=execution.provider,
        version=execution.version,
        threads=execution.threads,
        broken=quality.broken,
        ms_ssim=quality.ms_ssim_mean,
        lpips=quality.lpips_mean,
        p5_ms=reading.latency.p5_ms,
        p99_ms=reading.latency.p99_ms,
        speedup_interval=speedup_interval(measurement, reading),
        images_per_second=reading.latency.throughput(measurement.target.batch or 1),
        cold_ms=reading.memory.cold_ms if reading.memory else None,
        load_ms=reading.memory.load_ms if reading.memory else None,
        first_ms=reading.memory.first_ms if reading.memory else None,
        gpu_bytes=reading.memory.gpu_peak_bytes if reading.memory else None,
        **size,
        **disk,
    )


def speedup_interval(measurement: Measurement, reading: Reading) -> tuple[float, float] | None:
    """The 95 % confidence interval of how many times as fast as the baseline it is."""
    if reading is measurement.baseline:
        return None
    low, high = reading.latency.ratio_interval(measurement.baseline.latency)
    return 1 / high, 1 / low


def main_rows(measurement: Measurement) -> list[Row]:
    """The baseline, then each artifact on its best runtime."""
    original = measurement.artifacts[0]
    first = []
    if original.best is not measurement.baseline:
        first = [row(measurement, original, measurement.baseline, BASELINE)]
    return first + [row(measurement, a, a.best, a.name) for a in measurement.artifacts]


def every_row(measurement: Measurement) -> list[Row]:
    """Each artifact on each runtime."""
    return [row(measurement, a, r, a.name) for a, r in measurement.all_readings()]


def memory_reasons(measurement: Measurement) -> list[str]:
    """Why memory has no figure, a line each."""
    return [
        f"memory of {a.name} on {r.runtime} was not measured: {r.memory.reason}"
        for a, r in measurement.all_readings()
        if r.memory and r.memory.reason
    ]


def distribution_rows(measurement: Measurement) -> list[dict[str, Any]]:
    """The baseline, then each artifact on its best runtime; fields are those of ``Distribution``.

    Empty where none was measured: in old records, or where images hold NaN.
    """
    first = measurement.baseline
    return [
        {"step": BASELINE if r is first else a.name, "runtime": r.runtime, **asdict(r.distribution)}
        for a, r in measurement.all_readings()
        if r.distribution is not None
    ]


def distribution_method(measurement: Measurement) -> str | None:
    """What the distributions were compared with, in a sentence; None where there are none."""
    found = measurement.baseline.distribution
    if found is None:
        return None
    real = found.reference == "real"
    what = "real images" if real else "of the original's images of the same inputs"
    return (
        f"Compared with {found.reference_count} {what}, by {found.features}: coverage, recall, "
        f"density and precision with k = {NEIGHBOURS} on as many of both. Diversity is the mean "
        "RMSE of two images as a share of the value range, self-similarity how well an image's "
        "patches recur in it. FID is biased upwards by few images: compare within this table alone."
    )


def present(columns: Sequence[Column], table: Sequence[Row | dict[str, Any]]) -> list[Column]:
    """The columns that have a figure in some row."""
    return [c for c in columns if any(c.cell(line) != NOTHING for line in table)]


def cells(rows: Sequence[Row | dict[str, Any]], columns: Sequence[Column]) -> list[list[str]]:
    """The rows as text."""
    return [[column.cell(r) for column in columns] for r in rows]


def last_measured(measurement: Measurement) -> tuple[Artifact, Reading]:
    """The newest artifact that ran, and its best reading."""
    ran = [(a, a.best) for a in measurement.artifacts if a.best is not None]
    return ran[-1]


def baseline_name(measurement: Measurement) -> str:
    """What everything is compared with, in words."""
    execution = measurement.baseline.execution
    if execution.runtime == "torch":
        return f"PyTorch {execution.provider} {execution.precision}"
    return f"the original on {execution.runtime} {execution.precision}"


def in_words(threads: int | None) -> str:
    """``1 thread``, ``2 threads``."""
    return f"{threads} thread" if threads == 1 else f"{threads} threads"
