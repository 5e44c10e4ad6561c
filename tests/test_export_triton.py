"""``export triton``: a repository that Triton serves, or a refusal; nothing half-written.

The oracle of the configuration is Triton's own schema. Where ``GENSLIM_TRITON_SERVER`` names the
Python of an environment with ``nvidia-pytriton`` and ``onnxruntime``, a real server answers too::

    python3.11 -m venv triton && triton/bin/pip install nvidia-pytriton==0.7.0 onnxruntime
    GENSLIM_TRITON_SERVER=triton/bin/python make test ARGS=tests/test_export_triton.py

Its server has the Python backend alone. Any Python from 3.8 to 3.13 will do that has a shared
library (``libpython3.11.so``).
"""

from __future__ import annotations

import dataclasses
import errno
import inspect
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import Cli, run_program
from google.protobuf import text_format
from torch import Tensor, nn
from tritonclient import grpc
from tritonclient.grpc import model_config_pb2 as triton_schema

from export import OpenVino, Triton, commands
from export.serving.configuration import Serving, backend_parameters
from export.triton import PROGRAM
from genslim import artifact
from genslim.errors import GateFailed, MissingDependency, UserError
from genslim.generator import Generator, StepRecord
from genslim.inputs import Inputs
from genslim.run import Run
from genslim.runtimes import runtime
from genslim.signature import BATCH, Images, Input, Output, Prior, Signature
from genslim.target import Target

SERVER = os.environ.get("GENSLIM_TRITON_SERVER")
needs_server = pytest.mark.skipif(
    SERVER is None, reason="GENSLIM_TRITON_SERVER names no Python that has nvidia-pytriton"
)


def config_of(home: Path) -> Any:
    """The configuration of a model, read by Triton's own schema."""
    text = (home / "config.pbtxt").read_text(encoding="utf-8")
    return text_format.Parse(text, triton_schema.ModelConfig())


def files_in(folder: Path | str) -> list[str]:
    """Every file below ``folder``, hidden ones too."""
    return sorted(str(p.relative_to(folder)) for p in Path(folder).rglob("*") if p.is_file())


def parameter(config: Any, name: str) -> str:
    return str(config.parameters[name].string_value)


# The repository.


def test_the_repository_is_complete(tiny_gan: Generator, graph_gan: Generator) -> None:
    exported = Triton("repository/")(graph_gan)
    home = Path("repository/dcgan-mnist")
    assert files_in("repository") == ["dcgan-mnist/1/model.onnx", "dcgan-mnist/config.pbtxt"]
    assert [p.name for p in Path().iterdir()] == ["repository"], "nothing is left beside it"

    session = onnxruntime.InferenceSession(home / "1/model.onnx")
    latents = torch.randn(5, 32)
    (images,) = session.run(None, {"z": latents.numpy()})
    assert np.abs(images - tiny_gan({"z": latents}).numpy()).max() < 1e-5

    config = config_of(home)
    assert (config.name, config.backend) == ("dcgan-mnist", "onnxruntime")
    (taken,), (made,) = config.input, config.output
    assert (taken.name, list(taken.dims)) == ("z", session.get_inputs()[0].shape[1:])
    assert (made.name, list(made.dims)) == ("images", session.get_outputs()[0].shape[1:])
    assert {taken.data_type, made.data_type} == {triton_schema.TYPE_FP32}
    assert config.max_batch_size == 64
    assert list(config.dynamic_batching.preferred_batch_size) == [16, 64]
    assert config.dynamic_batching.max_queue_delay_microseconds == 2000
    (group,) = config.instance_group
    assert (group.count, group.kind) == (1, triton_schema.ModelInstanceGroup.KIND_AUTO)
    assert [w.batch_size for w in config.model_warmup] == [1, 64]
    for warmup in config.model_warmup:
        assert list(warmup.inputs["z"].dims) == [32]
        assert warmup.inputs["z"].zero_data
    assert parameter(config, "value_range") == "-1 1"
    assert parameter(config, "colour_order") == "grey"
    assert not config.optimization.graph.level

    report = exported.steps[-1].report
    assert report["parity"]["max_error"] < 1e-5
    assert report["bytes"] == sum(p.stat().st_size for p in home.rglob("*.*"))
    assert exported.files["config.pbtxt"] == home / "config.pbtxt"


def test_flags_reach_the_configuration(graph_gan: Generator) -> None:
    Triton(
        "repository/",
        model="digits_v1.0",
        device="cpu",
        instances=2,
        threads=3,
        batch=8,
        delay_ms=0.5,
    )(graph_gan)
    config = config_of(Path("repository/digits_v1.0"))
    assert config.name == "digits_v1.0"
    (group,) = config.instance_group
    assert (group.count, group.kind) == (2, triton_schema.ModelInstanceGroup.KIND_CPU)
    assert parameter(config, "intra_op_thread_count") == "3"
    assert config.max_batch_size == 8
    assert list(config.dynamic_batching.preferred_batch_size) == [8]
    assert config.dynamic_batching.max_queue_delay_microseconds == 500
    assert [w.batch_size for w in config.model_warmup] == [1, 8]


def test_a_batch_of_one_gathers_nothing(graph_gan: Generator) -> None:
    Triton("repository/", batch=1)(graph_gan)
    config = config_of(Path("repository/dcgan-mnist"))
    assert config.max_batch_size == 1
    assert not config.HasField("dynamic_batching")
    assert [w.batch_size for w in config.model_warmup] == [1]


def test_fp16_is_said(graph_gan: Generator) -> None:
    Triton("repository/", precision="fp16")(graph_gan)
    home = Path("repository/dcgan-mnist")
    config = config_of(home)
    kinds = {port.data_type for port in (*config.input, *config.output)}
    assert kinds == {triton_schema.TYPE_FP16}
    assert {w.inputs["z"].data_type for w in config.model_warmup} == kinds
    session = onnxruntime.InferenceSession(home / "1/model.onnx")
    assert session.get_inputs()[0].type == "tensor(float16)"


@pytest.mark.parametrize(("device", "level"), [("auto", -1), ("cpu", -1), ("gpu", 0)])
def test_int8_beside_fp16_keeps_its_pairs_on_a_cpu(
    quantized_gan: Generator, device: Any, level: int
) -> None:
    """At Triton's level 0 ONNX Runtime's CPU provider refuses such a graph, at -1 it runs it."""
    Triton("repository/", precision="fp16", device=device)(quantized_gan)
    home = Path("repository/dcgan-mnist")
    assert config_of(home).optimization.graph.level == level
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    path, cpu = home / "1/model.onnx", ["CPUExecutionProvider"]
    with pytest.raises(Exception, match="float16"):
        onnxruntime.InferenceSession(path, options, providers=cpu)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    onnxruntime.InferenceSession(path, options, providers=cpu)


class Enlarge(nn.Module):
    """Images ``(N, 3, H, W)`` to images twice as large, height and width free.

    With ``one`` its code turns the batch into a number, which exporters take for a constant.
    """

    def __init__(self, *, one: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 12, 3, padding=1)
        self.shuffle = nn.PixelShuffle(2)
        self.one = one

    def forward(self, x: Tensor) -> Tensor:
        images: Tensor = self.shuffle(self.conv(x)).sigmoid()
        return images.view(int(len(x) / 1), *images.shape[1:]) if self.one else images


def enlarging(folder: Path, *, one: bool = False) -> Generator:
    taken = Input(
        "x", (BATCH, 3, "height", "width"), Images(str(folder)), {"height": 32, "width": 24}
    )
    made = Output("images", (BATCH, 3, "2*height", "2*width"), (0.0, 1.0))
    torch.manual_seed(0)
    return Generator("enlarge x2", Signature((taken,), (made,)), {}, Enlarge(one=one).eval())


def test_free_sides_are_free(image_folder: Path) -> None:
    Triton("repository/")(enlarging(image_folder))
    config = config_of(Path("repository/enlarge-x2"))
    assert config.name == "enlarge-x2", "a space would not do in an address"
    assert list(config.input[0].dims) == list(config.output[0].dims) == [3, -1, -1]
    assert config.max_batch_size == 4
    assert list(config.dynamic_batching.preferred_batch_size) == [4]
    assert list(config.model_warmup[1].inputs["x"].dims) == [3, 32, 24]
    assert parameter(config, "scale") == "2"
    assert parameter(config, "colour_order") == "RGB"


def test_a_graph_that_takes_one_batch_alone_gathers_nothing(image_folder: Path) -> None:
    generator = enlarging(image_folder, one=True)
    Triton("repository/")(generator)
    config = config_of(Path("repository/enlarge-x2"))
    assert config.max_batch_size == 0
    assert not config.HasField("dynamic_batching")
    assert list(config.input[0].dims) == [1, 3, -1, -1]
    (warmup,) = config.model_warmup
    assert warmup.batch_size == 1
    assert list(warmup.inputs["x"].dims) == [1, 3, 32, 24]
    with pytest.raises(UserError, match="a batch of one size alone"):
        Triton("other/", batch=2)(generator)


class Stepped(nn.Module):
    """Like a denoiser: images, and a number for each of them."""

    def forward(self, noisy: Tensor, timestep: Tensor) -> Tensor:
        return (noisy * timestep[:, None, None, None]).tanh()


def stepped() -> Generator:
    noisy = Input("noisy", (BATCH, 1, 16, 16), Prior())
    timestep = Input("timestep", (BATCH,), Prior("uniform", 3.0))
    made = Output("images", (BATCH, 1, 16, 16), (-1.0, 1.0))
    return Generator("stepped", Signature((noisy, timestep), (made,)), {}, Stepped().eval())


def test_a_number_for_each_image_comes_in_a_dimension() -> None:
    """Triton wants a dimension beside the batch, and takes it away again."""
    Triton("repository/")(stepped())
    config = config_of(Path("repository/stepped"))
    noisy, timestep = config.input
    assert list(timestep.dims) == [1]
    assert timestep.HasField("reshape")
    assert not timestep.reshape.shape
    assert not noisy.HasField("reshape")
    assert list(config.model_warmup[0].inputs["timestep"].dims) == [1]


# OpenVINO and engines.


@pytest.mark.parametrize("source", ["module or graph", "artifact of IR"])
def test_openvino_serves_its_own_format(
    tiny_gan: Generator, graph_gan: Generator, source: str
) -> None:
    """Batches are free in the graph itself: the backend would refuse all but the largest."""
    if source == "artifact of IR":
        exported = Triton("repository/", instances=2, threads=1)(OpenVino("ir/")(graph_gan))
    else:
        exported = Triton("repository/", backend="openvino", instances=2, threads=1)(graph_gan)
    home = Path("repository/dcgan-mnist")
    assert files_in(home) == ["1/model.bin", "1/model.xml", "config.pbtxt"]
    config = config_of(home)
    assert (config.backend, config.default_model_filename) == ("openvino", "model.xml")
    assert config.max_batch_size == 0
    assert not config.HasField("dynamic_batching")
    assert list(config.input[0].dims) == [-1, 32]
    assert list(config.output[0].dims) == [-1, 1, 32, 32]
    assert config.instance_group[0].kind == triton_schema.ModelInstanceGroup.KIND_CPU
    assert [list(w.inputs["z"].dims) for w in config.model_warmup] == [[1, 32], [16, 32]]
    assert [w.batch_size for w in config.model_warmup] == [1, 1]
    assert parameter(config, "NUM_STREAMS") == "2"
    assert parameter(config, "INFERENCE_NUM_THREADS") == "1"
    assert exported.steps[-1].report["parity"]["executed"] == "openvino fp32"

    latents = Inputs(exported.signature, "quality").draw(3)
    with runtime("openvino").open(exported, Target(threads=1)) as session:
        images = session.run({n: t.numpy() for n, t in latents.items()})["images"]
    assert np.abs(images - tiny_gan(latents).numpy()).max() < 1e-4


def test_one_instance_of_openvino_is_tuned_for_latency() -> None:
    serving = Serving("m", "openvino", "cpu", 1, None, 0, (), 2.0)
    assert backend_parameters(serving) == {"NUM_STREAMS": "1", "PERFORMANCE_HINT": "LATENCY"}


PARITY = {
    "reference": "torch fp32",
    "executed": "onnxruntime fp32",
    "data_range": 2.0,
    "comparisons": [
        {
            "inputs": {"z": [1, 32]},
            "max_error": 1e-3,
            "mean_error": 1e-4,
            "ssim": 0.9999,
            "problem": None,
        }
    ],
    "max_error": 1e-3,
    "ssim": 0.9999,
}


def engine_of(generator: Generator, **changes: Any) -> Generator:
    """As ``export trt --fp16`` with TensorRT leaves it, the engine's content made up."""
    path = Path("built/engine.plan")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"an engine")
    report = {
        "precision": "fp16",
        "parity": PARITY,
        "library": "tensorrt 10.13.0",
        "profile": {"z": {"min": [1, 32], "opt": [8, 32], "max": [32, 32]}},
        "failures": [],
        "bytes": 9,
        **changes,
    }
    record = StepRecord("trt", {"precision": "fp16"}, report)
    return replace(
        generator, module=None, onnx=None, files={"engine.plan": path}, steps=(record,), path=None
    )


def test_an_engine_is_served_as_it_is(tiny_gan: Generator) -> None:
    exported = Triton("repository/")(engine_of(tiny_gan))
    home = Path("repository/dcgan-mnist")
    assert files_in(home) == ["1/model.plan", "config.pbtxt"]
    assert (home / "1/model.plan").read_bytes() == b"an engine"
    assert Path("built/engine.plan").is_file(), "it is copied, not moved"
    assert exported.files["engine.plan"] == home / "1/model.plan"
    config = config_of(home)
    assert (config.backend, config.default_model_filename) == ("tensorrt", "model.plan")
    assert {p.data_type for p in (*config.input, *config.output)} == {triton_schema.TYPE_FP16}
    assert config.instance_group[0].kind == triton_schema.ModelInstanceGroup.KIND_GPU
    assert config.max_batch_size == 32, "what the profile allows"
    assert list(config.dynamic_batching.preferred_batch_size) == [8, 32]
    assert list(config.output[0].dims) == [1, 32, 32]
    assert parameter(config, "engine.shapes.z") == "min 1x32, opt 8x32, max 32x32"
    assert parameter(config, "engine.built_by") == "tensorrt 10.13.0"
    report = exported.steps[-1].report
    assert report["parity"] == PARITY
    assert report["precision"] == "fp16"


def test_an_engine_of_one_batch_gathers_nothing(tiny_gan: Generator) -> None:
    engine = engine_of(tiny_gan, profile={}, fixed={BATCH: 2}, precision="int8")
    Triton("repository/")(replace(engine, steps=(replace(engine.steps[0], parameters={}),)))
    config = config_of(Path("repository/dcgan-mnist"))
    assert config.max_batch_size == 0
    assert list(config.input[0].dims) == [2, 32]
    assert config.input[0].data_type == triton_schema.TYPE_FP32


def test_an_engine_in_an_artifact_is_served_again_and_again(
    cli: Cli, run: Run, tiny_gan: Generator
) -> None:
    with run.locked():
        run.append(engine_of(tiny_gan), "trt", parent="00-original", kind="export")
    source = run.path / "02-trt"
    done = cli("export", "triton", source, "-o", "repository/", "--json")
    assert done.status == 0, done
    facts = json.loads(done.out.splitlines()[-1])
    assert facts["files"]["engine.plan"] == "repository/dcgan-mnist/1/model.plan"
    assert "measured when export trt made the files" in done.err
    saved = artifact.load(run.path / "03-triton")
    assert sorted(saved.files) == ["config.pbtxt", "engine.plan"]
    assert runtime("tensorrt").takes(saved)
    assert artifact.load(source).files["engine.plan"].read_bytes() == b"an engine"
    assert cli("export", "triton", run.path / "03-triton", "-o", "repository/").status == 0
    assert files_in("repository/dcgan-mnist") == [
        "1/model.plan",
        "2/model.plan",
        "config.before-2.pbtxt",  # the parameter "steps" names one more
        "config.pbtxt",
    ]


def test_a_rejected_engine_stays_rejected(cli: Cli, run: Run, tiny_gan: Generator) -> None:
    engine = engine_of(tiny_gan, failures=["fp16 was asked for, and the network is 4 fp32"])
    with run.locked():
        run.append(engine, "trt-rejected", parent="00-original", kind="export")
    done = cli("export", "triton", run.path / "02-trt-rejected", "-o", "repository/")
    assert "fp16 was asked for" in done.refused(status=1)
    assert not Path("repository").exists()
    with pytest.raises(GateFailed, match="rejected files are kept"):
        Triton("repository/")(artifact.load(run.path / "02-trt-rejected"))
    assert files_in("repository.rejected") == [
        "dcgan-mnist/1/model.plan",
        "dcgan-mnist/config.pbtxt",
    ]
    assert not Path("repository").exists(), "no server finds them"


# Versions: nothing is overwritten, and nobody sees a part.


def test_a_second_export_is_a_new_version(graph_gan: Generator) -> None:
    home = Path("repository/dcgan-mnist")
    Triton("repository/")(graph_gan)
    (home / "notes").mkdir()  # no version, and none of ours
    (home / "7").mkdir()
    first = (home / "1/model.onnx").stat().st_mtime_ns
    config = (home / "config.pbtxt").read_bytes()
    exported = Triton("repository/")(graph_gan)
    assert files_in(home) == ["1/model.onnx", "8/model.onnx", "config.pbtxt"]
    assert exported.files["config.pbtxt"].read_bytes() == config
    assert (home / "1/model.onnx").stat().st_mtime_ns == first


def test_a_configuration_edited_by_hand_is_kept_beside_the_new_one(graph_gan: Generator) -> None:
    home = Path("repository/dcgan-mnist")
    Triton("repository/")(graph_gan)
    edited = (home / "config.pbtxt").read_text() + "# ours\nresponse_cache { enable: true }\n"
    (home / "config.pbtxt").write_text(edited)
    Triton("repository/", instances=4)(graph_gan)
    assert (home / "config.before-2.pbtxt").read_text() == edited
    assert config_of(home).instance_group[0].count == 4


def test_another_model_of_that_name_is_left_alone(cli: Cli, run: Run, graph_gan: Generator) -> None:
    Triton("repository/")(graph_gan)
    before = {name: Path("repository", name).read_bytes() for name in files_in("repository")}
    for flags, unlike in {
        ("--fp16",): "another input, another output",
        ("--backend", "python"): "another backend",
    }.items():
        line = cli("export", "triton", *flags, "-o", "repository/").refused()
        assert f"dcgan-mnist is another model (it has {unlike})" in line
        assert "--model NAME" in line
    assert {name: Path("repository", name).read_bytes() for name in before} == before
    assert files_in("repository") == list(before)
    assert [p.name for p in run.artifacts] == ["00-original", "01-graph"]


def test_a_configuration_that_is_none_is_left_alone(cli: Cli, run: Run) -> None:
    path = Path("repository/dcgan-mnist/config.pbtxt")
    path.parent.mkdir(parents=True)
    path.write_text("max_batch_siez: 4\n")
    line = cli("export", "triton", "-o", "repository/").refused()
    assert 'max_batch_siez"' in line
    assert path.read_text() == "max_batch_siez: 4\n"
    assert files_in("repository") == ["dcgan-mnist/config.pbtxt"]


def test_a_killed_export_leaves_the_repository_as_it_was(
    graph_gan: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files come into sight by one rename: what comes before it can end anywhere."""
    Triton("repository/")(graph_gan)
    seen: list[list[str]] = []

    def watched(path: Path, target: Path) -> None:
        seen.append(files_in("repository"))
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", watched)
    with pytest.raises(KeyboardInterrupt):
        Triton("repository/")(graph_gan)
    assert seen == [["dcgan-mnist/1/model.onnx", "dcgan-mnist/config.pbtxt"]]
    assert files_in(".") == [f"repository/{name}" for name in seen[0]]


def test_a_mounted_repository_is_written_from_within(
    graph_gan: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rename into another file system fails, so the folder is made in that one."""
    Path("repository").mkdir()
    rename = Path.rename

    def within(path: Path, target: Path) -> Path:
        if path.parent == Path():
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", within)
    Triton("repository/")(graph_gan)
    Triton("repository/")(graph_gan)
    assert files_in(".") == [
        "repository/dcgan-mnist/1/model.onnx",
        "repository/dcgan-mnist/2/model.onnx",
        "repository/dcgan-mnist/config.pbtxt",
    ]


def test_a_version_that_another_export_took_is_not_overwritten(
    graph_gan: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    Triton("repository/")(graph_gan)
    monkeypatch.setattr("export.serving.repository.newest_version", lambda home: 0)
    exported = Triton("repository/")(graph_gan)
    assert files_in("repository/dcgan-mnist") == ["1/model.onnx", "2/model.onnx", "config.pbtxt"]
    assert exported.onnx == Path("repository/dcgan-mnist/2/model.onnx").read_bytes()


def test_a_full_disk_leaves_the_repository_as_it_was(
    cli: Cli, run: Run, small_disk: Callable[[str], Path]
) -> None:
    repository = small_disk("100k") / "repository"
    assert "the disk is full" in cli("export", "triton", "-o", f"{repository}/").refused()
    assert files_in(repository.parent) == []
    assert (run.path / "02-triton/model.onnx").is_file(), "it stands in the run"


# Mistakes.


@pytest.mark.parametrize("name", ["a/b", "..", "a..b", "a b", "", "-a", "über", "a;b", "a" * 101])
def test_a_name_that_triton_refuses(cli: Cli, run: Run, name: str) -> None:
    line = cli("export", "triton", f"--model={name}", "-o", "repository/").refused()
    assert f"no model of the name {name!r}" in line
    assert [p.name for p in run.artifacts] == ["00-original", "01-graph"]
    assert not Path("repository").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-o", "model.onnx"], "writes no .onnx file"),
        (["-o", "there"], "there is a file, and export triton writes a folder"),
        (["--backend", "tensorrt"], "or build an engine first: export trt"),
        (["--backend", "libtorch"], "libtorch"),
        (["--backend", "openvino", "--device", "gpu"], "runs on a cpu alone"),
        (["--backend", "openvino", "--batch", "8"], "gathers no requests"),
        (["--device", "gpu", "--threads", "2"], "leave out --threads"),
        (["--instances", "0"], "instances 0 is less than 1"),
        (["--batch", "0"], "batch 0 is less than 1"),
        (["--threads", "-1"], "threads -1 is less than 1"),
        (["--delay-ms", "-1"], "no time to wait"),
        (["--delay-ms", "nan"], "no time to wait"),
        (["--tolerance", "0"], "no positive number"),
        (["nowhere"], "is no source"),
    ],
)
def test_mistakes_are_one_line(cli: Cli, run: Run, arguments: list[str], expected: str) -> None:
    Path("there").write_text("in the way")
    assert expected in cli("export", "triton", *arguments).refused()
    assert [p.name for p in run.artifacts] == ["00-original", "01-graph"]
    assert [p.name for p in Path().iterdir() if p.name not in ("runs", "there")] == []
    assert Path("there").read_text() == "in the way"


@pytest.mark.parametrize(
    ("changes", "flags", "expected"),
    [
        ({}, ["--backend", "onnxruntime"], "choose --backend tensorrt"),
        ({}, ["--backend", "openvino"], "openvino backend does not run"),
        ({}, ["--fp16"], "leave out --fp16"),
        ({}, ["--device", "cpu"], "runs on a gpu alone"),
        ({}, ["--threads", "2"], "leave out --threads"),
        ({}, ["--batch", "33"], "batches of up to 32, not of 33"),
        ({"library": "tensorrt_rtx 1.7.1.116"}, [], "Triton runs those of TensorRT alone"),
        ({"profile": {"z": {"min": [4, 32], "opt": [8, 32], "max": [8, 32]}}}, [], "4 and more"),
    ],
)
def test_what_an_engine_can_not_do(
    cli: Cli,
    run: Run,
    tiny_gan: Generator,
    changes: dict[str, Any],
    flags: list[str],
    expected: str,
) -> None:
    with run.locked():
        run.append(engine_of(tiny_gan, **changes), "trt", parent="00-original", kind="export")
    source = run.path / "02-trt"
    assert expected in cli("export", "triton", source, *flags, "-o", "repository/").refused()
    assert not Path("repository").exists()
    assert [p.name for p in run.artifacts] == ["00-original", "01-graph", "02-trt"]


def test_files_that_nothing_is_known_of(tiny_gan: Generator) -> None:
    with pytest.raises(UserError, match="nothing says how"):
        Triton("repository/")(replace(engine_of(tiny_gan), steps=()))
    with pytest.raises(UserError, match=r"exported files alone \(other.bin\)"):
        Triton("repository/")(
            replace(tiny_gan, module=None, files={"other.bin": Path("other.bin")})
        )


def test_without_tritons_schema_is_exit_status_3(
    cli: Cli, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.serving.configuration.find_spec", lambda name: None)
    line = cli("export", "triton", "-o", "repository/").refused(status=3)
    assert "tritonclient is not installed" in line
    assert 'pip install "genslim[triton]"' in line
    assert [p.name for p in run.artifacts] == ["00-original", "01-graph"]
    assert not Path("repository").exists()


def test_a_schema_that_does_not_load_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise RuntimeError("The installation does not include grpc.\nSpecify grpc.")

    monkeypatch.setattr("export.serving.configuration.import_module", broken)
    with pytest.raises(MissingDependency, match=r"does not load \(The installation does not incl"):
        Triton("repository/").ready()


def test_dry_run_writes_nothing(cli: Cli, run: Run) -> None:
    done = cli("export", "triton", "-o", "repository/", "--dry-run")
    assert done.status == 0, done
    assert "would export" in done.out
    assert [p.name for p in run.artifacts] == ["00-original", "01-graph"]
    assert not Path("repository").exists()


def test_flags_are_the_exporters_fields() -> None:
    """A field is stated once more as a flag: here they are held together."""
    flags = inspect.signature(commands.triton).parameters
    fields = {f.name: f.default for f in dataclasses.fields(Triton) if f.name != "path"}
    given = {n: p.default for n, p in flags.items() if n not in ("source", "common")}
    assert given == fields


def test_every_flag_reaches_the_exporter(monkeypatch: pytest.MonkeyPatch) -> None:
    got: list[Any] = []
    monkeypatch.setattr("export.working.export_source", lambda *a: got.append(a[0]))
    asked = {
        "backend": "python",
        "precision": "fp16",
        "model": "m",
        "device": "cpu",
        "instances": 2,
        "threads": 3,
        "batch": 4,
        "delay_ms": 5.0,
        "tolerance": 0.5,
    }
    commands.triton(**asked)  # type: ignore[arg-type]
    assert got == [Triton(**asked)]  # type: ignore[arg-type]


# The program of the Python backend, with a fake of the server's module.


class FakeTensor:
    """As much of Triton's tensor as the program uses; ``healthy`` is False beside numpy 2."""

    healthy = True

    def __init__(self, name: str, array: Any) -> None:
        self._name, self._array = name, array

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> Any:
        return self._array

    @classmethod
    def from_dlpack(cls, name: str, tensor: FakeTensor) -> FakeTensor:
        array = tensor.as_numpy()
        return cls(name, array if cls.healthy else np.broadcast_to(array[:1], array.shape))


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The program as Triton loads it, beside a module ``triton_python_backend_utils``."""
    utils = ModuleType("triton_python_backend_utils")
    utils.Tensor = FakeTensor  # type: ignore[attr-defined]
    utils.InferenceResponse = lambda tensors=(), error=None: SimpleNamespace(  # type: ignore[attr-defined]
        tensors={t.name(): t.as_numpy() for t in tensors}, error=error
    )
    utils.TritonError = lambda message: message  # type: ignore[attr-defined]
    utils.TritonModelException = type("TritonModelException", (Exception,), {})  # type: ignore[attr-defined]
    utils.warnings = []  # type: ignore[attr-defined]
    utils.Logger = SimpleNamespace(log_warn=utils.warnings.append)  # type: ignore[attr-defined]
    utils.get_input_tensor_by_name = lambda request, name: FakeTensor(name, request[name])  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, utils.__name__, utils)
    module = ModuleType("model")
    exec(compile(PROGRAM.read_text(encoding="utf-8"), "model.py", "exec"), module.__dict__)
    return module


def opened(program: Any, home: Path, kind: str = "CPU") -> Any:
    """The program's model, opened as Triton does."""
    from google.protobuf import json_format

    config = json.loads(
        json_format.MessageToJson(
            config_of(home),
            preserving_proto_field_name=True,
            always_print_fields_with_no_presence=True,
        )
    )
    model = program.TritonPythonModel()
    model.initialize(
        {
            "model_config": json.dumps(config),
            "model_repository": str(home),
            "model_version": "1",
            "model_instance_kind": kind,
            "model_instance_device_id": "0",
        }
    )
    return model


def test_the_program_runs_requests_of_one_shape_together(
    program: Any, image_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = enlarging(image_folder)
    Triton("repository/", backend="python", threads=1)(generator)
    home = Path("repository/enlarge-x2")
    assert files_in(home) == ["1/model.onnx", "1/model.py", "config.pbtxt"]
    model = opened(program, home)
    assert model.session.get_session_options().intra_op_num_threads == 1
    sizes = [(1, 8, 8), (2, 8, 12), (3, 8, 8), (1, 8, 12)]
    requests = [{"x": torch.rand(n, 3, h, w).numpy()} for n, h, w in sizes]
    ran: list[int] = []

    def counted(outputs: list[str], feed: dict[str, Any]) -> Any:
        ran.append(len(feed["x"]))
        return session.run(outputs, feed)

    session, model.session = model.session, SimpleNamespace(run=counted)
    responses = model.execute(requests)
    assert ran == [4, 3]
    for request, response in zip(requests, responses, strict=True):
        expected = generator({"x": torch.from_numpy(request["x"])}).numpy()
        assert np.abs(response.tensors["images"] - expected).max() < 1e-5
        assert response.tensors["images"].flags.c_contiguous


def test_the_program_runs_one_batch_alone_where_the_graph_does(
    program: Any, image_folder: Path
) -> None:
    generator = enlarging(image_folder, one=True)
    Triton("repository/", backend="python")(generator)
    model = opened(program, Path("repository/enlarge-x2"))
    requests = [{"x": torch.rand(1, 3, 8, 8).numpy()} for _ in range(3)]
    for request, response in zip(requests, model.execute(requests), strict=True):
        expected = generator({"x": torch.from_numpy(request["x"])}).numpy()
        assert np.abs(response.tensors["images"] - expected).max() < 1e-5


def test_the_program_answers_with_the_error(program: Any, graph_gan: Generator) -> None:
    Triton("repository/", backend="python")(graph_gan)
    model = opened(program, Path("repository/dcgan-mnist"))
    good, bad = np.zeros((1, 32), np.float32), np.zeros((1, 31), np.float32)
    responses = model.execute([{"z": good}, {"z": bad}, {"z": good}])
    assert "31" in responses[1].error
    assert responses[0].error is responses[2].error is None


def test_the_program_runs_int8_beside_fp16(program: Any, quantized_gan: Generator) -> None:
    Triton("repository/", backend="python", precision="fp16")(quantized_gan)
    model = opened(program, Path("repository/dcgan-mnist"))
    (response,) = model.execute([{"z": np.zeros((2, 32), np.float16)}])
    assert response.tensors["images"].shape == (2, 1, 32, 32)


@pytest.mark.parametrize("device", ["auto", "gpu"])
def test_the_program_on_a_server_whose_onnxruntime_has_no_gpu(
    program: Any, graph_gan: Generator, monkeypatch: pytest.MonkeyPatch, device: Any
) -> None:
    Triton("repository/", backend="python", device=device)(graph_gan)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    home = Path("repository/dcgan-mnist")
    if device == "gpu":
        with pytest.raises(program.pb_utils.TritonModelException, match="onnxruntime-gpu"):
            opened(program, home, "GPU")
    else:
        assert opened(program, home, "GPU").session.get_providers() == ["CPUExecutionProvider"]
        assert "running on the CPU" in program.pb_utils.warnings[0]


def test_the_program_refuses_a_numpy_that_the_server_can_not_read(
    program: Any, graph_gan: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a server sends empty pictures and says nothing."""
    Triton("repository/", backend="python")(graph_gan)
    monkeypatch.setattr(FakeTensor, "healthy", False)
    with pytest.raises(program.pb_utils.TritonModelException, match='pip install "numpy<2"'):
        opened(program, Path("repository/dcgan-mnist"))


# A real server.


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def serving(repository: str, *flags: str) -> Iterator[grpc.InferenceServerClient]:
    """Triton's server on a repository, ready to answer."""
    assert SERVER is not None
    told = run_program(
        [
            SERVER,
            "-c",
            "import importlib.util, json, sys, sysconfig;"
            "package = importlib.util.find_spec('pytriton').submodule_search_locations[0];"
            "print(json.dumps([package, sysconfig.get_config_var('LIBDIR'), sys.prefix,"
            " '%d.%d' % sys.version_info[:2]]))",
        ]
    )
    assert told.status == 0, told
    package, libraries, prefix, version = json.loads(told.out)
    binaries = Path(package) / "tritonserver"
    backends = Path("backends").resolve()
    shutil.copytree(binaries / "backends", backends)
    stub = "triton_python_backend_stub"
    shutil.copy(binaries / "python_backend_stubs" / version / stub, backends / "python" / stub)
    port = free_port()
    # The stub finds its Python, and with it numpy and onnxruntime, by the search path.
    environment = {
        **os.environ,
        "PATH": f"{prefix}/bin:{os.environ['PATH']}",
        "LD_LIBRARY_PATH": f"{Path(package).parent / 'nvidia_pytriton.libs'}:{libraries}",
    }
    command = [
        str(binaries / "bin" / "tritonserver"),
        f"--model-repository={Path(repository).resolve()}",
        f"--backend-directory={backends}",
        f"--grpc-port={port}",
        "--grpc-address=127.0.0.1",
        "--allow-http=false",
        "--allow-metrics=false",
        "--exit-timeout-secs=5",
        *flags,
    ]
    log = Path("server.log")
    with log.open("wb") as output:
        server = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        client = grpc.InferenceServerClient(f"127.0.0.1:{port}")
        deadline = time.monotonic() + 100
        while not is_ready(client):
            assert server.poll() is None, log.read_text(errors="replace")[-4000:]
            assert time.monotonic() < deadline, log.read_text(errors="replace")[-4000:]
            time.sleep(0.2)
        yield client
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)


def is_ready(client: grpc.InferenceServerClient) -> bool:
    try:
        return bool(client.is_server_ready())
    except Exception:  # it does not listen yet
        return False


def ask(client: grpc.InferenceServerClient, model: str, **arrays: Any) -> Any:
    """The pictures that a server makes of some inputs."""
    kinds = {"float32": "FP32", "float16": "FP16"}
    inputs = []
    for name, array in arrays.items():
        inputs.append(grpc.InferInput(name, list(array.shape), kinds[array.dtype.name]))
        inputs[-1].set_data_from_numpy(array)
    return client.infer(model, inputs).as_numpy("images")


@pytest.mark.slow
@needs_server
def test_a_real_server_makes_the_generators_pictures(
    tiny_gan: Generator, graph_gan: Generator, image_folder: Path
) -> None:
    """All of it: warm-up, batches that it gathers, free sides, fp16, a number for each image."""
    Triton("repository/", backend="python", threads=1, instances=2)(graph_gan)
    Triton("repository/", backend="python", threads=1, precision="fp16", model="half")(graph_gan)
    Triton("repository/", backend="python", threads=1)(enlarging(image_folder))
    Triton("repository/", backend="python", threads=1)(
        enlarging_one := replace(enlarging(image_folder, one=True), name="one")
    )
    Triton("repository/", backend="python", threads=1)(stepped())
    latents = torch.randn(40, 32)
    expected = tiny_gan({"z": latents}).numpy()
    with serving("repository") as client:
        images = ask(client, "dcgan-mnist", z=latents.numpy())
        assert images.shape == expected.shape
        assert np.abs(images - expected).max() < 1e-5

        # A request for each latent, all at once: the server gathers them.
        (before,) = client.get_inference_statistics("dcgan-mnist").model_stats
        with ThreadPoolExecutor(8) as pool:
            single = list(
                pool.map(lambda z: ask(client, "dcgan-mnist", z=z[None]), latents.numpy())
            )
        assert np.abs(np.concatenate(single) - expected).max() < 1e-5
        (after,) = client.get_inference_statistics("dcgan-mnist").model_stats
        assert after.inference_count - before.inference_count == 40
        assert after.execution_count - before.execution_count < 40

        half = ask(client, "half", z=latents.numpy().astype(np.float16))
        assert half.dtype == np.float16
        assert np.abs(half - expected).max() < 0.04

        for height, width in ((32, 24), (17, 40)):
            pictures = torch.rand(2, 3, height, width)
            made = ask(client, "enlarge-x2", x=pictures.numpy())
            wanted = enlarging(image_folder)({"x": pictures}).numpy()
            assert np.abs(made - wanted).max() < 1e-5
        made = ask(client, "one", x=pictures[:1].numpy())
        assert np.abs(made - enlarging_one({"x": pictures[:1]}).numpy()).max() < 1e-5

        noisy, steps = torch.randn(3, 1, 16, 16), torch.rand(3) * 3
        made = ask(client, "stepped", noisy=noisy.numpy(), timestep=steps[:, None].numpy())
        wanted = stepped()({"noisy": noisy, "timestep": steps}).numpy()
        assert np.abs(made - wanted).max() < 1e-5

        with pytest.raises(grpc.InferenceServerException, match="batch-size must be <= 64"):
            ask(client, "dcgan-mnist", z=np.zeros((65, 32), np.float32))


@pytest.mark.slow
@needs_server
def test_a_real_server_goes_on_to_a_new_version(tiny_gan: Generator, graph_gan: Generator) -> None:
    """While it runs: it polls the repository, and answers without a gap."""
    Triton("repository/", backend="python", threads=1)(graph_gan)
    assert graph_gan.onnx is not None
    model = onnx.load_model_from_string(graph_gan.onnx)
    weight = max(model.graph.initializer, key=lambda t: len(t.raw_data))
    halved = onnx.numpy_helper.to_array(weight) / 2
    weight.CopyFrom(onnx.numpy_helper.from_array(halved, weight.name))
    other = replace(graph_gan, onnx=model.SerializeToString())
    latents = torch.randn(2, 32).numpy()
    polling = ("--model-control-mode=poll", "--repository-poll-secs=1")
    with serving("repository", *polling) as client:
        before = ask(client, "dcgan-mnist", z=latents)
        exported = Triton("repository/", backend="python", threads=1)(other)
        deadline = time.monotonic() + 60
        while not client.is_model_ready("dcgan-mnist", "2"):
            assert np.array_equal(ask(client, "dcgan-mnist", z=latents), before)
            assert time.monotonic() < deadline
            time.sleep(0.2)
        after = ask(client, "dcgan-mnist", z=latents)
    with runtime("onnxruntime").open(exported, Target("onnxruntime", threads=1)) as session:
        expected = session.run({"z": latents})["images"]
    assert np.abs(after - expected).max() < 1e-5
    assert np.abs(after - before).max() > 1e-2
