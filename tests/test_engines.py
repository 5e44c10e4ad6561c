"""Engines of real generators, built by TensorRT-RTX; and the benchmark that compares them on a GPU.

The builds take minutes and belong to the matrix (``make matrix``), which prints how long each took.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import fake_tensorrt as fake
import pytest
import torch
from conftest import SHARED

import genslim
from benchmarks.engines import (
    Device,
    Run,
    ThisMachine,
    Way,
    in_pytorch,
    markdown,
    measure,
    of_session,
)
from benchmarks.options import SOURCES
from compress import Rewrite
from compress.quantization.placement import by_nncf
from export.engine.building import build
from export.tensorrt import products_of
from genslim.generator import Generator
from genslim.half import to_fp16
from genslim.inputs import Inputs
from genslim.onnx_graph import onnx_of
from genslim.runtimes.engine import EngineSession
from genslim.runtimes.tensorrt import TensorRt, find_tensorrt, load_engine
from genslim.signature import Images
from genslim.signs import signed

REAL = {name: source.format(models=SHARED / "models") for name, source in SOURCES.items()}
ROOT = Path(__file__).parents[1]


@pytest.mark.matrix
@pytest.mark.timeout(900)
@pytest.mark.parametrize("precision", ["fp16", "int8"])
@pytest.mark.parametrize("name", REAL)
def test_engines_of_real_generators(
    name: str, precision: str, image_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With free shapes, on a machine without a GPU, in the precision asked for."""
    pytest.importorskip("tensorrt_rtx")
    if name != REAL[name] and not Path(REAL[name]).is_file():
        pytest.skip(f"{REAL[name]} is not there")
    generator = genslim.load(REAL[name], images=str(image_folder))
    if (name, precision) == ("dcgan-mnist", "int8"):  # TensorRT has no int8 ConvTranspose
        generator = Rewrite(always=("matrix product", "convolution for each phase"))(generator)
    graph = onnx_of(generator)
    if precision == "int8":
        drawn = Inputs(generator.signature, "calibration").draw(2)
        graph = by_nncf(graph, [{n: t.numpy() for n, t in drawn.items()}])
    else:
        graph = to_fp16(graph)
    started = time.monotonic()
    built = build(find_tensorrt(), signed(graph), generator.signature)
    seconds = time.monotonic() - started
    assert built.engine is not None
    found = Counter(built.engine.products(products_of(graph)).values())
    with capsys.disabled():
        print(f"\n{name} {precision}: built in {seconds:.1f} s, {dict(found)}")
    (spec,) = generator.signature.inputs
    shapes = built.profile[spec.name]
    assert shapes["min"][0] == 1 < shapes["max"][0]
    if isinstance(spec.draw, Images):
        assert shapes["min"][2:] < shapes["opt"][2:] < shapes["max"][2:]
    total = len(products_of(graph))
    assert sum(found.values()) == total, "every product is found in the engine"
    assert found[precision] >= 0.9 * total


def on_stand_in(generator: Generator, place: Device, folder: Path) -> Run:
    """An engine of the stand-in for TensorRT."""
    most = {"z": {"min": [1, 32], "opt": [16, 32], "max": [16, 32]}}
    engine = load_engine(fake, fake.plan_of(to_fp16(onnx_of(generator)), most))
    return of_session(EngineSession(fake, engine, fake.FakeGpu()), "images")


def refusing(generator: Generator, place: Device, folder: Path) -> Run:
    raise RuntimeError("this machine has no such thing\nat all")


def test_the_benchmark_runs_on_a_stand_in(tiny_gan: Generator, graph_gan: Generator) -> None:
    ways = [
        Way("eager", in_pytorch(torch.float32)),
        Way("half", in_pytorch(torch.float16, channels_last=True)),
        Way("engine", on_stand_in),
        Way("other", refusing),
    ]
    both = replace(graph_gan, module=tiny_gan.module)
    lines = measure(both, ways, ThisMachine(), rounds=4, count=20)
    assert [line.way for line in lines] == ["eager", "half", "engine", "other"]
    for line in lines[:3]:
        assert line.latency_ms is not None
        assert line.latency_ms.keys() == {1, 16}
        assert all(spent > 0 for spent in line.latency_ms.values())
        assert line.ssim is not None
        assert line.ssim > 0.99
    assert lines[0].ssim == pytest.approx(1.0)
    assert lines[0].speedup == {1: 1.0, 16: 1.0}
    assert lines[3].latency_ms is None
    assert lines[3].reason == "this machine has no such thing"
    shown = [json.loads(json.dumps(line.__dict__)) for line in lines]
    page = markdown({"device": ThisMachine().name(), "generators": {"gan": shown}})
    assert "On a CPU in the place of a GPU." in page
    assert page.count("\n| engine | ") == 1


@pytest.mark.skipif(TensorRt().missing() is None, reason="this machine has a GPU")
def test_without_a_gpu_the_page_says_that_nothing_was_measured(tmp_path: Path) -> None:
    page = tmp_path / "engines.md"
    subprocess.run(
        [sys.executable, "-m", "benchmarks.engines", "--models", ".", "--images", ".", "-o", page],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    assert "**Not yet measured**: " in page.read_text()
