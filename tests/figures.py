"""A measurement with given latencies and qualities: what gates and files are tested on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.environment import environment
from bench.measurement import Artifact, Measurement, Memory, Reading, Refusal
from bench.quality import Quality
from genslim.runtimes.base import Execution
from genslim.target import Target
from genslim.timing import Samples

COUNT = 20


def reading(
    runtime: str,
    milliseconds: Sequence[float],
    ssim: Sequence[float | None] = (1.0,) * COUNT,
    *,
    precision: str = "fp32",
    memory: int | None = None,
) -> Reading:
    """A reading whose PSNR and MSE follow from its SSIM, as far as they are looked at."""
    return Reading(
        Execution(runtime, "1.0", "CPU", precision, 2),
        Samples(tuple(milliseconds)),
        Quality(
            tuple(ssim),
            tuple(None if s is None else 20 + 20 * s for s in ssim),
            tuple(None if s is None else (1 - s) / 10 for s in ssim),
            2.0,
        ),
        deployed_bytes=2_000_000 if precision == "fp32" else 500_000,
        memory=Memory(memory) if memory else None,
    )


def artifact(
    name: str, *readings: Reading, parent: str | None = None, refusals: Sequence[Refusal] = ()
) -> Artifact:
    """An artifact of 1,000 parameters and 2,000 MACs."""
    kind = "original" if parent is None else "step"
    return Artifact(name, kind, parent, (), 1000, 2000, readings, tuple(refusals), 2_000_000)


def measurement(*artifacts: Artifact, name: str = "gan") -> Measurement:
    """Artifacts measured here, on openvino with a batch of 4."""
    return Measurement(
        name=name,
        source={"kind": "test"},
        target=Target("openvino", batch=4, threads=2),
        artifacts=artifacts,
        environment=environment(),
        seed=0,
        image_shape=(1, 32, 32),
    )


def around(middle: float, spread: float, count: int = 30, seed: int = 0) -> tuple[float, ...]:
    """Latencies about ``middle``, their logarithms normal with a deviation of ``spread``."""
    noise = np.random.default_rng(seed).normal(0, spread, count)
    return tuple((middle * np.exp(noise)).tolist())


def usual() -> Measurement:
    """An original, a step at 0.8 of its latency, an int8 step at 0.5, and one that can't run."""
    baseline = around(10, 0.02)
    quicker = tuple(0.8 * v for v in around(10, 0.02, seed=1))
    quickest = tuple(0.5 * v for v in around(10, 0.02, seed=2))
    ssim = tuple(np.linspace(0.90, 0.99, COUNT).tolist())
    return measurement(
        artifact(
            "00-original", reading("torch", baseline), reading("openvino", around(9, 0.02, seed=3))
        ),
        artifact("01-prune", reading("openvino", quicker, ssim), parent="00-original"),
        artifact(
            "02-quantize",
            reading("onnxruntime", around(9, 0.02, seed=4), ssim, precision="int8"),
            reading("openvino", quickest, ssim, precision="int8", memory=300_000_000),
            parent="01-prune",
        ),
        artifact(
            "03-trt",
            parent="02-quantize",
            refusals=[Refusal("tensorrt", 'no <GPU> & no "driver"')],
        ),
    )
