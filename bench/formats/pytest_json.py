"""A measurement in pytest-benchmark's JSON, the common tongue of benchmarks in Python.

``pytest-benchmark compare``, github-action-benchmark (``tool: pytest``) and Bencher read it. Each
artifact on each runtime is a benchmark; its name stays the same from run to run, so that histories
line up. Statistics are those of pytest-benchmark 5, from raw samples in seconds a batch, and
everything else that was measured stands in ``extra_info``.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.measurement import Artifact, Measurement, Reading
from bench.verdicts.figures import Context, known
from genslim.storage import write_whole

FILE = "pytest-benchmark.json"
SCHEMA = "5.0.0"
"""The version of pytest-benchmark whose schema this is."""


def write(measurement: Measurement, folder: Path) -> Path:
    """Write ``pytest-benchmark.json`` into ``folder``.

    Raises:
        UserError: it can't be written there.
    """
    path = folder / FILE
    write_whole(path, json.dumps(document(measurement), indent=1, allow_nan=False) + "\n")
    return path


def document(measurement: Measurement) -> dict[str, Any]:
    """The whole file as plain JSON data."""
    return {
        "machine_info": machine_info(measurement),
        "commit_info": commit_info(measurement),
        "benchmarks": [benchmark(measurement, a, r) for a, r in measurement.all_readings()],
        "datetime": measurement.environment.date,
        "version": SCHEMA,
    }


def benchmark(measurement: Measurement, artifact: Artifact, reading: Reading) -> dict[str, Any]:
    """One artifact on one runtime."""
    target = measurement.target
    param = f"{artifact.name}-{reading.runtime}"
    name = f"{artifact.name}[{reading.runtime}]"
    return {
        "group": measurement.name,
        "name": name,
        "fullname": f"{measurement.name}::{name}",
        "params": {
            "artifact": artifact.name,
            "runtime": reading.runtime,
            "batch": target.batch,
            "threads": target.threads,
        },
        "param": param,
        "extra_info": extra_info(Context(measurement, artifact, reading)),
        "options": {
            "disable_gc": False,
            "timer": "perf_counter",
            "min_rounds": measurement.rounds,
            "warmup": True,
        },
        "stats": stats([ms / 1e3 for ms in reading.latency.milliseconds]),
    }


def extra_info(context: Context) -> dict[str, Any]:
    """Quality, sizes, precision and runtime, under the names that thresholds use."""
    execution = asdict(context.reading.execution)
    return {
        "artifact": context.artifact.name,
        **{key: value for key, value in execution.items() if value is not None},
        **figures(context),
    }


def figures(context: Context) -> dict[str, float | list[float]]:
    """Every figure by name, and ``NAME_interval`` of those that are noisy."""
    found: dict[str, float | list[float]] = {}
    for name, value in known(context).items():
        found[name] = value.middle
        if value.noisy:
            found[f"{name}_interval"] = [value.low, value.high]
    return found


def stats(seconds: Sequence[float]) -> dict[str, Any]:
    """What pytest-benchmark says of samples, with its definitions.

    Args:
        seconds: one or more samples, in the order of the rounds.
    """
    ordered, total = sorted(seconds), sum(seconds)
    mean = statistics.mean(seconds)
    stddev = statistics.stdev(seconds) if len(seconds) > 1 else 0
    q1, q3 = quartiles(ordered)
    iqr = q3 - q1
    fences = q1 - 1.5 * iqr, q3 + 1.5 * iqr
    within = [value for value in ordered if fences[0] <= value <= fences[1]]
    stddev_outliers = sum(not mean - stddev <= value <= mean + stddev for value in seconds)
    iqr_outliers = len(ordered) - len(within)
    return {
        "min": ordered[0],
        "max": ordered[-1],
        "mean": mean,
        "stddev": stddev,
        "rounds": len(seconds),
        "median": statistics.median(seconds),
        "iqr": iqr,
        "q1": q1,
        "q3": q3,
        "iqr_outliers": iqr_outliers,
        "stddev_outliers": stddev_outliers,
        "outliers": f"{stddev_outliers};{iqr_outliers}",
        "ld15iqr": within[0],
        "hd15iqr": within[-1],
        "ops": len(seconds) / total if total else 0,
        "total": total,
        "data": list(seconds),
        "iterations": 1,
    }


def quartiles(ordered: Sequence[float]) -> tuple[float, float]:
    """First and third quartile of sorted samples.

    Of an even number they are the medians of the halves; of an odd number the mean of those with
    and without the middle, weighted so that a quarter lies below.
    """
    count = len(ordered)
    if count == 1:
        return ordered[0], ordered[0]
    half = count // 2
    if count % 2 == 0:
        return statistics.median(ordered[:half]), statistics.median(ordered[half:])
    n = count // 4
    if count % 4 == 1:
        return (
            0.25 * ordered[n - 1] + 0.75 * ordered[n],
            0.75 * ordered[3 * n] + 0.25 * ordered[3 * n + 1],
        )
    return (
        0.75 * ordered[n] + 0.25 * ordered[n + 1],
        0.25 * ordered[3 * n + 1] + 0.75 * ordered[3 * n + 2],
    )


def machine_info(measurement: Measurement) -> dict[str, Any]:
    """Where it was measured: not the machine that writes the file."""
    environment = measurement.environment
    system, _, rest = environment.system.partition(" ")
    release, _, machine = rest.rpartition(" ")
    return {
        "node": "",
        "processor": environment.cpu,
        "machine": machine,
        "python_version": environment.python,
        "release": release,
        "system": system,
        "cpu": {
            "brand_raw": environment.cpu,
            "count": environment.cores,
            "flags": list(environment.cpu_flags),
        },
        "libraries": dict(environment.libraries),
    }


def commit_info(measurement: Measurement) -> dict[str, Any]:
    """The commit that was measured, as far as it was recorded."""
    environment = measurement.environment
    return {
        "id": environment.commit or "unversioned",
        "time": environment.date,
        "author_time": None,
        "dirty": bool(environment.dirty),
        "project": measurement.name,
        "branch": "(unknown)",
    }
