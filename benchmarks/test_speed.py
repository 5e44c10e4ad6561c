"""What genslim's own steps gain on its own generator, in pytest-benchmark's tables and JSON.

``make bench`` runs it; ``ARGS="--benchmark-json=speed.json"`` keeps the figures, and
``--benchmark-autosave --benchmark-compare`` compares with those kept before. Steps are made without
training, in seconds: what is watched is whether a step is still faster, not how good it can become.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

import genslim
from compress import Prune, Quantize, Rewrite
from genslim.generator import Generator

QUICK = {"count": 64, "seconds": 20.0}


@pytest.fixture(scope="module")
def original() -> Generator:
    """The shipped generator."""
    return genslim.load("dcgan-mnist")


@pytest.mark.benchmark(group="runtime alone")
@pytest.mark.parametrize("target", ["torch", "onnxruntime", "openvino"])
def test_original(
    genslim_benchmark: Callable[..., object], original: Generator, target: str
) -> None:
    """The original beside itself: what each runtime takes, and a ratio of 1."""
    genslim_benchmark(original, original, target=target, min_ssim=0.999, **QUICK)


@pytest.mark.benchmark(group="steps on openvino")
def test_prune(genslim_benchmark: Callable[..., object], original: Generator) -> None:
    """Half of the channels gone."""
    pruned = Prune(0.5, recover="closed-form")(original)
    genslim_benchmark(original, pruned, min_ssim=0.85, max_ratio=0.8, **QUICK)


@pytest.mark.benchmark(group="steps on openvino")
def test_rewrite(genslim_benchmark: Callable[..., object], original: Generator) -> None:
    """Exact rewrites, each kept where it gained."""
    rewritten = Rewrite()(original)
    genslim_benchmark(original, rewritten, min_ssim=0.999, max_ratio=1.1, **QUICK)


@pytest.mark.benchmark(group="steps on openvino")
def test_quantize(genslim_benchmark: Callable[..., object], original: Generator) -> None:
    """INT8 after seconds of calibration."""
    quantized = Quantize("int8", seconds=5)(original)
    genslim_benchmark(original, quantized, min_ssim=0.97, max_ratio=0.8, **QUICK)
