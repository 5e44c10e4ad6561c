"""An artifact on disk: what is saved is what is loaded, and nothing needs a pickle."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import genslim
from genslim import Generator, artifact
from genslim.errors import UserError
from genslim.generator import StepRecord
from genslim.inputs import Inputs
from genslim.onnx_graph import export_module
from genslim.onnx_model import load_model
from genslim.runtimes import runtime
from genslim.storage import TEMPORARY
from genslim.target import Target

SINGLE = Target("onnxruntime", batch=3, threads=1)


def pruned(generator: Generator, width: int = 24) -> Generator:
    """The generator with its second layer narrowed, as a pruning step would leave it."""
    module = generator.trainable()
    net = module.get_submodule("net")
    assert isinstance(net, nn.Sequential)
    torch.manual_seed(5)
    net[3] = nn.ConvTranspose2d(768, width, 4, 2, 1, bias=False)
    net[4] = nn.BatchNorm2d(width)
    net[6] = nn.Sequential(
        nn.ConvTranspose2d(width, width, 4, 2, 1, groups=width), nn.Conv2d(width, 64, 1)
    )
    record = StepRecord("prune", {"ratio": 0.5, "seed": 0}, {"changed": ["net.3"], "left": []})
    return generator.with_step(record, module=module.eval())


def test_a_module_comes_back_with_equal_outputs(tiny_gan: Generator) -> None:
    inputs = Inputs(tiny_gan.signature, "parity").draw(3)
    saved = artifact.save(tiny_gan, Path("00-original"), kind="original")
    loaded = artifact.load(Path("00-original"))
    for ours in (saved, loaded):
        assert torch.equal(ours(inputs), tiny_gan(inputs))
        assert ours.signature == tiny_gan.signature
        assert (ours.name, ours.steps, ours.source) == ("dcgan-mnist", (), tiny_gan.source)
        assert ours.path == Path("00-original")
        assert ours.module is not None
        assert not ours.module.training


def test_an_edited_module_comes_back_with_its_history(tiny_gan: Generator) -> None:
    edited = pruned(tiny_gan)
    inputs = Inputs(tiny_gan.signature, "parity").draw(3)
    artifact.save(tiny_gan, Path("00-original"), kind="original")
    artifact.save(edited, Path("01-prune"), kind="step", parent="00-original")
    loaded = artifact.load(Path("01-prune"))
    assert torch.equal(loaded(inputs), edited(inputs))
    assert not torch.allclose(loaded(inputs), tiny_gan(inputs))
    assert loaded.steps == edited.steps
    assert torch.equal(loaded.original(inputs), tiny_gan(inputs))
    record = artifact.read_record(Path("01-prune"))
    assert record["parent"] == "00-original"
    assert sorted(record["edits"]) == ["net.3", "net.4", "net.6"]


def test_a_half_precision_module_keeps_its_type(tiny_gan: Generator) -> None:
    half = replace(tiny_gan, module=tiny_gan.trainable().to(torch.bfloat16))
    loaded = artifact.save(half, Path("half"), kind="step")
    assert loaded.dtype is torch.bfloat16
    inputs = Inputs(tiny_gan.signature, "parity").draw(3)
    assert torch.equal(loaded(inputs), half(inputs))
    assert loaded(inputs).dtype is torch.float32


def test_a_graph_comes_back_and_runs_the_same(tiny_gan: Generator) -> None:
    graph = export_module(copy.deepcopy(tiny_gan.trainable()), tiny_gan.signature)
    quantized = replace(tiny_gan, onnx=graph)
    artifact.save(quantized, Path("01-quantize"), kind="step", keep_weights=False)
    loaded = artifact.load(Path("01-quantize"))
    assert loaded.onnx is not None
    assert load_model(loaded.onnx).graph == load_model(graph).graph
    assert loaded.module is None
    assert not (Path("01-quantize") / artifact.WEIGHTS).exists()
    inputs = Inputs(tiny_gan.signature, "parity").draw(3)
    with runtime("onnxruntime").open(loaded, SINGLE) as session:
        images = session.run({k: v.numpy() for k, v in inputs.items()})["images"]
    assert torch.from_numpy(images).sub(tiny_gan(inputs)).abs().max() < 1e-5
    with pytest.raises(UserError, match="its weights can't be changed"):
        loaded.trainable()


def test_files_of_weights_are_not_needed_again(compact_weights: Path, image_folder: Path) -> None:
    opened = genslim.load(compact_weights, images=image_folder)
    inputs = Inputs(opened.signature, "parity").draw(2)
    expected = opened(inputs)
    artifact.save(opened, Path("00-original"), kind="original")
    compact_weights.unlink()
    loaded = artifact.load(Path("00-original"))
    assert torch.equal(loaded(inputs), expected)
    assert loaded.signature == opened.signature


def test_exported_files_move_in(tiny_gan: Generator) -> None:
    engine = Path("engine.plan")
    engine.write_bytes(b"engine")
    exported = replace(tiny_gan, files={"engine.plan": engine})
    loaded = artifact.save(exported, Path("02-trt"), kind="export", keep_weights=False)
    assert not engine.exists()
    assert loaded.files == {"engine.plan": Path("02-trt/engine.plan")}
    assert loaded.files["engine.plan"].read_bytes() == b"engine"


def test_the_record_says_what_it_is(tiny_gan: Generator) -> None:
    import hashlib

    artifact.save(pruned(tiny_gan), Path("01-prune"), kind="step", parent="00-original")
    record = json.loads((Path("01-prune") / "artifact.json").read_text())
    assert record["format"] == artifact.FORMAT
    assert record["steps"] == [
        {
            "name": "prune",
            "parameters": {"ratio": 0.5, "seed": 0},
            "report": {"changed": ["net.3"], "left": []},
        }
    ]
    assert {"genslim", "torch"} <= record["libraries"].keys()
    blob = (Path("01-prune") / "weights.safetensors").read_bytes()
    assert record["files"] == {
        "weights.safetensors": {
            "bytes": len(blob),
            "sha256": hashlib.sha256(blob).hexdigest(),
        }
    }


def test_an_artifact_holds_no_pickle(tiny_gan: Generator) -> None:
    saved = artifact.save(pruned(tiny_gan), Path("01-prune"), kind="step")
    assert saved.path is not None
    names = sorted(p.name for p in saved.path.iterdir())
    assert names == ["artifact.json", "weights.safetensors"]


def test_an_artifact_is_not_overwritten(tiny_gan: Generator) -> None:
    artifact.save(tiny_gan, Path("00-original"), kind="original")
    before = (Path("00-original") / artifact.WEIGHTS).read_bytes()
    with pytest.raises(UserError, match="something is there already"):
        artifact.save(pruned(tiny_gan), Path("00-original"), kind="original")
    assert (Path("00-original") / artifact.WEIGHTS).read_bytes() == before
    assert not list(Path().glob(f"{TEMPORARY}*"))


def test_saving_leaves_the_generator_as_it_was(tiny_gan: Generator) -> None:
    edited = pruned(tiny_gan)
    before = copy.deepcopy(edited.module.state_dict())  # type: ignore[union-attr]
    artifact.save(edited, Path("01-prune"), kind="step")
    assert edited.path is None
    after = edited.module.state_dict()  # type: ignore[union-attr]
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_weights_that_share_memory_are_saved(working_folder: Path) -> None:
    """safetensors refuses tensors that overlap; a tied layer must not stop an artifact."""
    (working_folder / "tied.py").write_text(TIED)
    opened = genslim.load("tied:build", input="x:1,3,8,8")
    loaded = artifact.save(opened, Path("00-original"), kind="original")
    inputs = Inputs(opened.signature, "parity").draw(2)
    assert torch.equal(loaded(inputs), opened(inputs))


TIED = """\
from torch import nn

def build():
    layer = nn.Conv2d(3, 3, 3, padding=1)
    return nn.Sequential(layer, nn.ReLU(), layer)
"""


def test_a_folder_that_is_no_artifact(working_folder: Path) -> None:
    assert not artifact.is_artifact(working_folder)
    with pytest.raises(UserError, match=r"it has no artifact\.json"):
        artifact.load(working_folder)
