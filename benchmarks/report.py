"""How long a report takes, and how large its page is: 8 artifacts with 16 photographs each.

    python -m benchmarks.report [-o report/]

Latencies are drawn; the photographs, what is done to them, and their quality are real. Only the
writing of the report is timed, all formats together.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.environment import environment
from bench.harness.showing import displayed
from bench.measurement import Artifact, Measurement, Memory, Pictures, Reading
from bench.metrics.distribution import Yardstick
from bench.quality import judge
from bench.sweep import Point
from genslim.runtimes.base import Execution
from genslim.target import Target
from genslim.timing import Samples

RUNTIMES = ("torch", "onnxruntime", "openvino")
ROUNDS = 60


def photographs(count: int, side: int) -> NDArray[np.float32]:
    """Centres of photographs that scikit-image and others install, ``(count, 3, side, side)``."""
    from PIL import Image

    from benchmarks.photos import collect

    found = []
    with tempfile.TemporaryDirectory() as folder:
        for path in collect(Path(folder)):
            with Image.open(path) as opened:
                width, height = opened.size
                if min(width, height) < side or opened.mode not in ("RGB", "L"):
                    continue
                left, top = (width - side) // 2, (height - side) // 2
                cut = opened.crop((left, top, left + side, top + side)).convert("RGB")
            found.append(np.asarray(cut, np.float32).transpose(2, 0, 1) / 255)
    enough = [found[i % len(found)] for i in range(count)]
    return np.stack(enough)


def worn(images: NDArray[np.float32], share: float, seed: int) -> NDArray[np.float32]:
    """What a compressed generator might make: a little blurred, and with a little noise."""
    random = np.random.default_rng(seed)
    blurred = (images + np.roll(images, 1, 2) + np.roll(images, 1, 3)) / 3
    noise = random.normal(0, 0.02, images.shape)
    mixed: NDArray[np.float32] = (images + share * (blurred - images + noise)).astype(np.float32)
    return mixed.clip(0, 1)


def quantized(layers: int) -> dict[str, Any]:
    """A step's record as ``compress quantize --explain`` leaves it."""
    rows = [
        {
            "layer": f"body.{i}.conv",
            "node": f"node_{i}",
            "precision": "float" if i % 9 == 8 else "int8",
            "ssim_cost": 0.0001 * (i % 7),
            "float_ms": 0.4 + 0.05 * (i % 5),
            "int8_ms": 0.2 + 0.02 * (i % 5),
        }
        for i in range(layers)
    ]
    left = [
        {"what": row["layer"], "reason": "slower in int8 on openvino"}
        for row in rows
        if row["precision"] == "float"
    ]
    changed = [f"{row['layer']}: int8" for row in rows if row["precision"] == "int8"]
    report = {"changed": changed, "left": left, "seconds": 60.0, "layers": rows}
    return {"name": "quantize", "parameters": {"precision": "int8", "seed": 0}, "report": report}


def example(images: NDArray[np.float32], artifacts: int, layers: int = 60) -> Measurement:
    """A measurement of so many artifacts, the first the original and the last quantized.

    Args:
        images: what the original makes, ``(N, C, H, W)`` in [0, 1].
        artifacts: how many.
        layers: of the quantized one.
    """
    random = np.random.default_rng(0)
    drift = random.lognormal(0, 0.03, ROUNDS)  # every candidate of a round meets the same machine
    yardstick = Yardstick(images, (0.0, 1.0))
    made, pictures, sweep = [], {}, []
    for number in range(artifacts):
        is_last = number == artifacts - 1
        name = "00-original" if number == 0 else f"{number:02}-{'quantize' if is_last else 'prune'}"
        theirs = worn(images, number / 16, number)
        quality = judge(theirs, images, value_range=(0.0, 1.0))
        distribution = yardstick.read(theirs)
        readings = []
        for place, runtime in enumerate(RUNTIMES):
            middle = 40 / (1 + 0.8 * number) / (1 + 0.4 * place)
            spread = random.lognormal(0, 0.02, ROUNDS)
            readings.append(
                Reading(
                    Execution(runtime, "1.0", "CPU", "int8" if is_last else "fp32", 2),
                    Samples(tuple((middle * drift * spread).tolist())),
                    quality,
                    20_000_000 // (1 + number),
                    Memory(400_000_000 // (1 + number)),
                    distribution if place == len(RUNTIMES) - 1 else None,
                )
            )
        best = readings[-1]
        sweep += [
            Point(
                name,
                best.runtime,
                batch,
                threads,
                Samples(tuple(ms * batch**0.8 / threads for ms in best.latency.milliseconds)),
            )
            for threads in (1, 2)
            for batch in (1, 4, 16)
        ]
        step = (
            quantized(layers)
            if is_last
            else {"name": "prune", "parameters": {"ratio": 0.1 * number, "seed": 0}, "report": {}}
        )
        made.append(
            Artifact(
                name=name,
                kind="step" if number else "original",
                parent=made[-1].name if made else None,
                steps=(step,) if number else (),
                parameters=5_000_000 // (1 + number),
                macs=2_000_000_000 // (1 + number),
                readings=tuple(readings),
                disk_bytes=20_000_000 // (1 + number),
            )
        )
        pictures[name] = displayed(theirs, (0.0, 1.0))
    return Measurement(
        name="example",
        source={"name": "example"},
        target=Target("openvino", batch=1, threads=2),
        artifacts=tuple(made),
        environment=environment(),
        seed=0,
        image_shape=tuple(images.shape[1:]),
        pictures=Pictures(tuple(range(len(images))), displayed(images, (0.0, 1.0)), pictures),
        sweep=tuple(sweep),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the report of the example, and say how long it took."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--artifacts", type=int, default=8)
    options.add_argument("--count", type=int, default=16, help="photographs")
    options.add_argument("--side", type=int, default=256, help="of a photograph, in pixels")
    options.add_argument("-o", "--output", type=Path, default=Path("report"))
    asked = options.parse_args(arguments)
    measurement = example(photographs(asked.count, asked.side), asked.artifacts)
    begun = time.perf_counter()
    written = measurement.report(asked.output)
    seconds = time.perf_counter() - begun
    sizes = ", ".join(f"{path.name} {path.stat().st_size:,} bytes" for path in written)
    shape = f"{asked.artifacts} artifacts, {asked.count} images of {asked.side}x{asked.side}"
    print(f"{shape}: {seconds:.1f} s; {sizes}")


if __name__ == "__main__":
    main()
