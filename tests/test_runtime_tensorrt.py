"""The tensorrt runtime: against a stand-in for TensorRT everywhere, on a GPU where there is one.

Which of the two ran stands in the tests' names: ``[stand-in]`` and ``[gpu]``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_tensorrt as fake
import numpy as np
import pytest
import torch

from export import TensorRt as Export
from genslim.errors import MissingDependency, UserError
from genslim.generator import Generator, StepRecord
from genslim.half import to_fp16
from genslim.inputs import Inputs
from genslim.runtimes import runtime
from genslim.runtimes.cuda import Cuda
from genslim.runtimes.engine import EngineSession
from genslim.runtimes.tensorrt import TensorRt, built_with, load_engine
from genslim.target import Target

PROFILE = {"z": {"min": [1, 32], "opt": [4, 32], "max": [8, 32]}}
Open = Callable[[Generator], EngineSession]


@pytest.fixture
def gpu() -> fake.FakeGpu:
    return fake.FakeGpu()


@pytest.fixture(params=["stand-in", "gpu"])
def opened(request: pytest.FixtureRequest, gpu: fake.FakeGpu, tmp_path: Path) -> Open:
    """Opens a session of a graph whose latents come in batches of 1 to 8."""
    if request.param == "gpu" and (reason := TensorRt().missing()):
        pytest.skip(reason)

    def on_stand_in(generator: Generator) -> EngineSession:
        assert generator.onnx is not None
        engine = load_engine(fake, fake.plan_of(generator.onnx, PROFILE))
        return EngineSession(fake, engine, gpu)

    def on_gpu(generator: Generator) -> EngineSession:
        exporter = Export(str(tmp_path / "engine.plan"), greatest=("8,32",), usual=("4,32",))
        session = runtime("tensorrt").open(exporter(generator), Target("tensorrt"))
        assert isinstance(session, EngineSession)
        return session

    return on_stand_in if request.param == "stand-in" else on_gpu


def latents(generator: Generator, count: int, seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    drawn = Inputs(generator.signature, "parity", seed).draw(count)
    return {name: tensor.numpy() for name, tensor in drawn.items()}


def expected(generator: Generator, inputs: dict[str, Any]) -> Any:
    with runtime("onnxruntime").open(generator, Target("onnxruntime", threads=1)) as session:
        return session.run(inputs)["images"]


@pytest.mark.parametrize("batch", [1, 5, 8])
def test_the_pictures_are_the_graphs(opened: Open, graph_gan: Generator, batch: int) -> None:
    inputs = latents(graph_gan, batch)
    with opened(graph_gan) as session:
        for _ in range(3):  # the first run, the recorded one, its replay
            images = session.run(inputs)["images"]
            assert images.shape == (batch, 1, 32, 32)
            assert images.dtype == np.float32
            assert np.abs(images - expected(graph_gan, inputs)).max() < 1e-2


def test_half_engines_take_and_give_float32(opened: Open, graph_gan: Generator) -> None:
    assert graph_gan.onnx is not None
    half = replace(graph_gan, onnx=to_fp16(graph_gan.onnx))
    inputs = latents(graph_gan, 3)
    with opened(half) as session:
        images = session.run(inputs)["images"]
        assert images.dtype == np.float32
        assert np.abs(images - expected(graph_gan, inputs)).max() < 2e-2
        assert "fp16" in session.execution.precision


def test_greater_batches_go_in_parts(opened: Open, graph_gan: Generator) -> None:
    inputs = latents(graph_gan, 19)
    with opened(graph_gan) as session:
        images = session.run(inputs)["images"]
    assert np.abs(images - expected(graph_gan, inputs)).max() < 1e-2


def test_shapes_outside_of_the_profile_are_named(opened: Open, graph_gan: Generator) -> None:
    with opened(graph_gan) as session:
        with pytest.raises(UserError, match="z is 2x31, and this engine takes from 1x32 to 8x32"):
            session.run({"z": np.zeros((2, 31), np.float32)})
        with pytest.raises(UserError, match="input 'z' is missing"):
            session.shapes({"x": (1, 32)})
        inputs = latents(graph_gan, 2)  # and the session still works
        assert np.abs(session.run(inputs)["images"] - expected(graph_gan, inputs)).max() < 1e-2


def test_every_caller_gets_its_own_pictures(opened: Open, graph_gan: Generator) -> None:
    """Sixteen threads on one session; no two runs share a context at the same time."""
    inputs = [latents(graph_gan, 1 + seed % 3, seed) for seed in range(32)]
    wanted = [expected(graph_gan, each) for each in inputs]
    with opened(graph_gan) as session, ThreadPoolExecutor(16) as threads:
        found = list(threads.map(lambda each: session.run(each)["images"], inputs))
    for got, want in zip(found, wanted, strict=True):
        assert np.abs(got - want).max() < 1e-2


def test_tensors_go_in_and_out_without_a_copy(opened: Open, graph_gan: Generator) -> None:
    inputs = latents(graph_gan, 4)
    with opened(graph_gan) as session:
        device = session._gpu.device
        given = torch.from_numpy(inputs["z"]).to(device)
        images = session.run_tensors({"z": given})["images"]
        assert images.device == device
        assert np.abs(images.cpu().numpy() - expected(graph_gan, inputs)).max() < 1e-2
        again = session.run_tensors({"z": given})["images"]
        assert again.data_ptr() != images.data_ptr(), "a result is the caller's own"
        with pytest.raises(UserError, match=r"z is torch.float64 on .*convert it"):
            session.run_tensors({"z": given.double()})


def test_launches_are_recorded_once_and_replayed(gpu: fake.FakeGpu, graph_gan: Generator) -> None:
    assert graph_gan.onnx is not None
    engine = load_engine(fake, fake.plan_of(graph_gan.onnx, PROFILE))
    with EngineSession(fake, engine, gpu) as session:
        for _ in range(4):
            session.run(latents(graph_gan, 2))
        assert (gpu.replays, engine.runs, engine.contexts, gpu.streams) == (3, 4, 1, 1)


def test_what_cant_be_recorded_runs_all_the_same(graph_gan: Generator) -> None:
    assert graph_gan.onnx is not None
    gpu = fake.FakeGpu(records=False)
    engine = load_engine(fake, fake.plan_of(graph_gan.onnx, PROFILE))
    inputs = latents(graph_gan, 2)
    with EngineSession(fake, engine, gpu) as session:
        for _ in range(3):
            assert np.abs(session.run(inputs)["images"] - expected(graph_gan, inputs)).max() < 1e-5
    assert gpu.replays == 0


def test_a_lane_waits_for_what_it_started(gpu: fake.FakeGpu, graph_gan: Generator) -> None:
    """Its context takes one run at a time, and ``run_tensors`` does not wait for the first."""
    assert graph_gan.onnx is not None
    engine = load_engine(fake, fake.plan_of(graph_gan.onnx, PROFILE))
    with EngineSession(fake, engine, gpu, lanes=1) as session:
        session.run_tensors({"z": torch.zeros(1, 32)})
        assert (gpu.events, gpu.waits) == (0, 0)
        session.run(latents(graph_gan, 1))
        assert (gpu.events, gpu.waits) == (1, 1)


def test_lanes_are_no_more_than_allowed(gpu: fake.FakeGpu, graph_gan: Generator) -> None:
    assert graph_gan.onnx is not None
    engine = load_engine(fake, fake.plan_of(graph_gan.onnx, PROFILE))
    with EngineSession(fake, engine, gpu, lanes=2) as session:
        with session.lane(), session.lane():
            got: list[int] = []

            def third() -> None:
                with session.lane():
                    got.append(1)

            waiting = threading.Thread(target=third)
            waiting.start()
            waiting.join(0.1)
            assert not got
        waiting.join(10)
        assert got == [1]
        assert engine.contexts == 2


@pytest.mark.parametrize(
    ("plan", "built", "reason"),
    [
        (b"PK\x03\x04 no engine", "", "can't load this engine: The engine header does not conform"),
        (fake.MAGIC + b'{"pro', "", "can't load this engine: The engine header does not conform"),
        (b"", "", "can't load this engine: The engine header does not conform"),
        (
            fake.plan_of(b"", PROFILE, version="0.9"),
            "fake_tensorrt 0.9",
            "built by fake_tensorrt 0.9, and fake_tensorrt 1.0 is installed",
        ),
        (
            fake.plan_of(b"", PROFILE, version="11.1"),
            "tensorrt 11.1",
            "built by tensorrt 11.1, and fake_tensorrt 1.0 is installed",
        ),
    ],
)
def test_damaged_and_foreign_engines_are_refused(plan: bytes, built: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason) as error:
        load_engine(fake, plan, built)
    assert "\n" not in str(error.value)
    assert "export trt" in str(error.value)


@pytest.mark.skipif(Cuda().missing() is None, reason="this machine has a GPU")
def test_without_a_gpu_the_runtime_says_so(tiny_gan: Generator, tmp_path: Path) -> None:
    plan = tmp_path / "engine.plan"
    plan.write_bytes(b"an engine")
    engine = replace(tiny_gan, module=None, files={"engine.plan": plan})
    with pytest.raises(MissingDependency, match=r"runtime tensorrt: PyTorch .*NVIDIA GPU"):
        runtime("tensorrt").open(engine, Target("tensorrt").settled(engine.signature))


def test_an_engine_computes_in_its_own_types(
    tiny_gan: Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TensorRt, "missing", lambda self: None)
    engine = replace(tiny_gan, module=None, files={"engine.plan": tmp_path / "engine.plan"})
    with pytest.raises(UserError, match="not in bf16"):
        runtime("tensorrt").open(engine, Target("tensorrt", precision="bf16"))


def test_the_library_that_built_it_is_remembered(tiny_gan: Generator) -> None:
    assert built_with(tiny_gan) == ""
    record = StepRecord("trt", {}, {"library": "tensorrt_rtx 1.7"})
    assert built_with(tiny_gan.with_step(record)) == "tensorrt_rtx 1.7"
