"""``export openvino``: an IR that OpenVINO opens, in the types that were asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino
import pytest
import torch
from conftest import Cli

from export import OpenVino
from genslim import artifact
from genslim.errors import UserError
from genslim.generator import Generator
from genslim.inputs import Inputs
from genslim.run import Run
from genslim.runtimes import runtime
from genslim.target import Target


def test_the_files_make_the_generators_pictures(tiny_gan: Generator, graph_gan: Generator) -> None:
    """The oracle is OpenVINO itself, at a batch that parity did not try."""
    exported = OpenVino("deploy/net.xml")(graph_gan)
    assert sorted(p.name for p in Path("deploy").iterdir()) == ["net.bin", "net.xml"]
    latents = torch.randn(7, 32)
    images = openvino.Core().compile_model("deploy/net.xml", "CPU")(latents.numpy())[0]
    assert np.abs(images - tiny_gan({"z": latents}).numpy()).max() < 1e-4
    report = exported.steps[-1].report
    assert report["precision"] == "fp32"
    assert report["parity"]["executed"].startswith("openvino ")
    assert exported.files["model.xml"] == Path("deploy/net.xml")
    assert exported.onnx is None


def test_fp16_halves_the_file(graph_gan: Generator) -> None:
    whole = OpenVino("whole")(graph_gan)
    half = OpenVino("half", precision="fp16")(graph_gan)
    sizes = [g.files["model.bin"].stat().st_size for g in (whole, half)]
    assert sizes[1] == pytest.approx(sizes[0] / 2, rel=0.01)
    assert 0 < half.steps[-1].report["parity"]["max_error"] < 2e-2


def test_a_quantized_graph_stays_int8(quantized_gan: Generator) -> None:
    exported = OpenVino("deploy")(quantized_gan)
    assert exported.files["model.bin"].stat().st_size < 2.3e6, "weights of one byte each"
    report = exported.steps[-1].report
    assert report["precision"] == "int8"
    assert report["parity"]["executed"] == "openvino int8"


def test_metadata_stands_in_the_file(graph_gan: Generator) -> None:
    OpenVino("deploy")(graph_gan)
    model = openvino.Core().read_model("deploy/model.xml")
    assert model.get_rt_info(["genslim", "value_range"]).value == "-1 1"


def test_the_artifact_runs_from_its_files(
    cli: Cli, tiny_gan: Generator, graph_gan: Generator, working_folder: Path
) -> None:
    run = Run(working_folder / "runs" / "00-gan")
    with run.locked():
        run.start(tiny_gan)
        run.append(graph_gan, "graph", parent="00-original")
    done = cli("export", "openvino", "-o", "deploy/")
    assert done.status == 0, done
    assert "Parity: openvino fp32 against onnxruntime fp32" in done.out
    saved = run.path / "02-openvino"
    names = sorted(p.name for p in saved.iterdir())
    assert names == ["artifact.json", "model.bin", "model.xml"]
    assert sorted(p.name for p in Path("deploy").iterdir()) == ["model.bin", "model.xml"]

    loaded = artifact.load(saved)
    latents = Inputs(loaded.signature, "quality").draw(2)
    arrays = {name: tensor.numpy() for name, tensor in latents.items()}
    with runtime("openvino").open(loaded, Target(threads=1)) as session:
        images = session.run(arrays)["images"]
    assert np.abs(images - tiny_gan(latents).numpy()).max() < 1e-4

    with pytest.raises(UserError, match=r"exported files alone \(model.bin, model.xml\)"):
        OpenVino("again")(loaded)
    with pytest.raises(UserError, match="onnxruntime can't run"):
        runtime("onnxruntime").open(loaded, Target("onnxruntime", threads=1))
