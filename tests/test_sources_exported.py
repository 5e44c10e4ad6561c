"""Exported files are sources: ours come back as they were, others' are read off the graph."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_tensorrt as fake
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import Cli
from onnx import TensorProto, helper, numpy_helper

import genslim
from compress import Quantize
from compress.norm_folding import folded
from export import Onnx, OpenVino
from genslim import Generator, Images, Prior, UserError, artifact
from genslim.inputs import Inputs
from genslim.onnx_model import load_model
from genslim.run import Run
from genslim.runtimes import runtime
from genslim.runtimes.engine import EngineSession
from genslim.runtimes.tensorrt import built_with, load_engine
from genslim.signature import Holes, Signature
from genslim.sources.exported import SIGNATURE, engine_facts, text_of, with_signature
from genslim.target import Precision, Target

SIDES = ("n", 3, "rows", "columns")


def write_foreign(
    path: Path = Path("foreign.onnx"),
    *,
    taken: tuple[int | str | None, ...] | None = SIDES,
    kind: int = TensorProto.FLOAT,
    made: str = "picture",
    extra: tuple[str, ...] = (),
    opset: int = 17,
) -> Path:
    """An ONNX file as another program writes one: twice as large, with a second output.

    Args:
        path: where.
        taken: the shape of its input ``x``; None: the graph does not tell.
        kind: the type of ``x``.
        made: what its first output is: ``picture`` or ``features`` ``(N, 12)``.
        extra: names of constants that are listed among the inputs, as of old.
        opset: of ONNX.
    """
    random = np.random.default_rng(0)
    channels = taken[1] if taken and isinstance(taken[1], int) else 3
    weight = random.normal(size=(12, channels, 3, 3)).astype(np.float32) * 0.2
    constants = [
        numpy_helper.from_array(weight, "weight"),
        numpy_helper.from_array(np.array([1.5] * 12, np.float32), "gain"),
        numpy_helper.from_array(np.zeros(12, np.float32), "none"),
        numpy_helper.from_array(np.ones(12, np.float32), "one"),
    ]
    nodes = [
        helper.make_node("Conv", ["x", "weight"], ["wide"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["wide", "gain", "none", "none", "one"], ["normed"]),
        helper.make_node("DepthToSpace", ["normed"], ["y"], blocksize=2, mode="CRD"),
        helper.make_node("GlobalAveragePool", ["normed"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
    ]
    inputs = [helper.make_tensor_value_info("x", kind, taken)]
    by_name = {tensor.name: tensor for tensor in constants}
    for name in extra:
        inputs.append(
            helper.make_tensor_value_info(name, TensorProto.FLOAT, list(by_name[name].dims))
        )
    outputs = [helper.make_tensor_value_info("features", TensorProto.FLOAT, None)]
    if made == "picture":
        outputs.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, None))
    model = helper.make_model(
        helper.make_graph(nodes, "foreign", inputs, outputs, constants),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=3 if extra else 8,
    )
    onnx.save(model, path)
    return path


def latents(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 32, generator=torch.Generator().manual_seed(seed))


def pictures_of(generator: Generator, inputs: dict[str, Any], on: str = "onnxruntime") -> Any:
    precision: Precision = "fp32" if on == "openvino" else "auto"  # else bf16, where a CPU has it
    with runtime(on).open(generator, Target(on, 1, 1, precision)) as session:
        return session.run(inputs)[generator.signature.images.name]


# Files of ours.


def test_an_onnx_file_comes_back_as_it_was(tiny_gan: Generator, graph_gan: Generator) -> None:
    Onnx("fast.onnx")(graph_gan)
    loaded = genslim.load("fast.onnx")
    assert loaded.signature == tiny_gan.signature
    assert (loaded.name, loaded.module, loaded.steps) == ("fast", None, ())
    assert loaded.onnx == Path("fast.onnx").read_bytes()
    z = latents(5)
    assert np.abs(pictures_of(loaded, {"z": z.numpy()}) - tiny_gan({"z": z}).numpy()).max() < 1e-5


def test_an_ir_comes_back_as_it_was(tiny_gan: Generator, graph_gan: Generator) -> None:
    OpenVino("deploy/net.xml")(graph_gan)
    loaded = genslim.load("deploy/net.xml")
    assert loaded.signature == tiny_gan.signature
    assert loaded.onnx is None
    z = latents(5)
    images = pictures_of(loaded, {"z": z.numpy()}, "openvino")
    assert np.abs(images - tiny_gan({"z": z}).numpy()).max() < 1e-4


def test_the_signature_travels_whole_but_for_folders(graph_gan: Generator) -> None:
    """Masks, noise, multiples of sides, and no path of the machine that exported it."""
    (z,) = graph_gan.signature.inputs
    rich = Signature(
        (
            replace(z, draw=Images("/home/someone/photos"), noise=(0.1, 0.2), multiple_of=4),
            replace(z, name="mask", draw=Holes(0.2, 0.5)),
        ),
        graph_gan.signature.outputs,
    )
    text = text_of(rich)
    assert "someone" not in text
    assert Signature.from_json(json.loads(text)) == rich.with_images(None)
    exported = Onnx("fast.onnx")(graph_gan)
    assert exported.onnx is not None
    facts = {p.key: p.value for p in load_model(exported.onnx).metadata_props}
    assert Signature.from_json(json.loads(facts[SIGNATURE])) == exported.signature


def test_a_graph_says_its_signature_once(graph_gan: Generator) -> None:
    assert graph_gan.onnx is not None
    told = with_signature(graph_gan.onnx, graph_gan.signature)
    assert with_signature(told, graph_gan.signature) is told
    other = graph_gan.signature.with_sides({"batch": 4})
    entries = load_model(with_signature(told, other)).metadata_props
    assert [e.key for e in entries].count(SIGNATURE) == 1


def test_the_graph_of_an_artifact_is_a_source_by_itself(run: Run, graph_gan: Generator) -> None:
    """As ``compress quantize`` leaves it: no export is needed."""
    shutil.copy(run.newest / artifact.GRAPH, "copied.onnx")
    assert genslim.load("copied.onnx").signature == graph_gan.signature


def test_the_licence_comes_back(graph_gan: Generator) -> None:
    licensed = replace(graph_gan, source={**graph_gan.source, "licence": "MIT"})
    Onnx("fast.onnx")(licensed)
    OpenVino("net.xml")(licensed)
    assert genslim.load("fast.onnx").source["licence"] == "MIT"
    assert genslim.load("net.xml").source["licence"] == "MIT"


def test_images_and_the_value_range_can_be_named(image_folder: Path) -> None:
    foreign = genslim.load(write_foreign(), images=image_folder)
    Onnx("ours.onnx")(foreign)
    ours = genslim.load("ours.onnx", images=image_folder, value_range=(-1, 1), input="1,3,40,24")
    assert ours.signature.inputs[0].draw == Images(str(image_folder))
    assert ours.signature.inputs[0].concrete(2) == (2, 3, 40, 24)
    assert ours.signature.images.value_range == (-1, 1)
    assert genslim.load("ours.onnx").signature.needs_images, "the folder stays where it was"


def test_an_engine_comes_back_with_what_lies_beside_it(
    graph_gan: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stand-in runs it here; on a GPU the library does."""
    assert graph_gan.onnx is not None
    profile = {"z": {"min": [1, 32], "opt": [4, 32], "max": [8, 32]}}
    Path("net.plan").write_bytes(fake.plan_of(graph_gan.onnx, profile))
    report = {"library": "tensorrt 1.0", "profile": profile}
    Path("net.json").write_text(engine_facts(graph_gan.signature, report, "MIT"))
    loaded = genslim.load("net.plan")
    assert loaded.signature == graph_gan.signature
    assert loaded.source["licence"] == "MIT"
    assert built_with(loaded) == "tensorrt 1.0"
    saved = artifact.save(loaded, Path("00-original"), kind="original")
    assert Path("net.plan").is_file(), "the user's own file is copied, not moved"
    engine = load_engine(fake, saved.files["engine.plan"].read_bytes())
    z = latents(3).numpy()
    with EngineSession(fake, engine, fake.FakeGpu()) as session:
        images = session.run({"z": z})["images"]
    assert np.abs(images - pictures_of(graph_gan, {"z": z})).max() < 1e-2


# Files of others.


def test_a_foreign_model_is_read_off_its_graph(
    image_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    generator = genslim.load(write_foreign(), images=image_folder)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("warning: foreign.onnx does not say how it is used. Assumed: ")
    assert "x (batch, 3, rows, columns) is a picture in 0 to 1; y lies in 0 to 1" in line
    assert "not used: features" in line
    (spec,) = generator.signature.inputs
    assert (spec.name, spec.shape) == ("x", ("batch", 3, "rows", "columns"))
    assert spec.draw == Images(str(image_folder))
    assert spec.concrete(2) == (2, 3, 64, 64)
    assert generator.signature.images.name == "y"
    assert generator.signature.images.shape == ("batch", 3, "2*rows", "2*columns")
    assert generator.signature.images.value_range == (0.0, 1.0)
    drawn = {n: t.numpy() for n, t in Inputs(generator.signature, "parity").draw(3).items()}
    session = onnxruntime.InferenceSession("foreign.onnx", providers=["CPUExecutionProvider"])
    (expected,) = session.run(["y"], {"x": drawn["x"]})
    for place in ("onnxruntime", "openvino"):  # which finds outputs by their place
        assert np.abs(pictures_of(generator, drawn, place) - expected).max() < 1e-4


def test_a_foreign_model_of_one_shape_alone() -> None:
    path = write_foreign(taken=(1, 4, 8, 6))
    generator = genslim.load(path, value_range=(0, 2))
    (spec,) = generator.signature.inputs
    assert spec.shape == ("batch", 4, 8, 6)
    assert spec.draw == Prior("normal"), "four channels are no picture"
    assert generator.signature.images.shape == ("batch", 3, 16, 12)
    assert generator.signature.images.value_range == (0, 2)
    with genslim.Session(generator, max_batch=4, threads=1) as session:
        images = session.generate({"x": np.ones((3, 4, 8, 6))})
    assert images.shape == (3, 3, 16, 12)
    assert genslim.load(path).signature.images.value_range == (-1.0, 1.0)


def test_constants_among_the_inputs_are_none() -> None:
    """As all were before the fourth version of ONNX's IR."""
    path = write_foreign(extra=("weight", "gain"), opset=9)
    with pytest.raises(
        UserError, match=r"ONNX Runtime refuses foreign\.onnx"
    ):  # a mode of opset 11
        genslim.load(path)
    generator = genslim.load(write_foreign(extra=("weight", "gain"), opset=11))
    assert [spec.name for spec in generator.signature.inputs] == ["x"]


def test_weights_in_files_of_their_own(working_folder: Path) -> None:
    model = onnx.load(write_foreign())
    onnx.save(
        model, "split.onnx", save_as_external_data=True, location="split.data", size_threshold=0
    )
    split, whole = genslim.load("split.onnx"), genslim.load("foreign.onnx")
    x = np.random.default_rng(1).random((2, 3, 16, 16), np.float32)
    Path("split.data").rename("elsewhere")
    assert np.array_equal(pictures_of(split, {"x": x}), pictures_of(whole, {"x": x}))
    with pytest.raises(
        UserError, match=r"the weights of split.onnx lie in other files.*split.data"
    ):
        genslim.load("split.onnx")


def test_a_signature_that_does_not_fit_is_not_believed(
    graph_gan: Generator, capfd: pytest.CaptureFixture[str]
) -> None:
    """Some tool renamed the input, and kept what was said of it."""
    Onnx("fast.onnx")(graph_gan)
    model = onnx.load("fast.onnx")
    model.graph.input[0].name = "latent"
    for node in model.graph.node:
        node.input[:] = ["latent" if name == "z" else name for name in node.input]
    onnx.save(model, "renamed.onnx")
    capfd.readouterr()
    generator = genslim.load("renamed.onnx")
    assert [spec.name for spec in generator.signature.inputs] == ["latent"]
    assert "does not say how it is used" in capfd.readouterr().err


# Refusals.


@pytest.mark.parametrize("suffix", [".onnx", ".xml", ".plan"])
def test_no_such_file(suffix: str) -> None:
    with pytest.raises(UserError, match=f"no file nowhere{suffix}"):
        genslim.load(f"nowhere{suffix}")


@pytest.mark.parametrize("content", [b"", b"no model", bytes(range(256)) * 9])
def test_what_is_no_onnx_model(cli: Cli, content: bytes) -> None:
    Path("strange.onnx").write_bytes(content)
    line = cli("compress", "quantize", "strange.onnx", "--int8").refused()
    assert "strange.onnx is no sound ONNX model" in line
    assert not Path("runs").exists()


@pytest.mark.parametrize("keep", [0.3, 0.9, 0.999])
def test_an_onnx_model_cut_short(graph_gan: Generator, keep: float) -> None:
    Onnx("fast.onnx")(graph_gan)
    blob = Path("fast.onnx").read_bytes()
    Path("short.onnx").write_bytes(blob[: int(len(blob) * keep)])
    with pytest.raises(UserError, match=r"short.onnx"):
        genslim.load("short.onnx")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"made": "features"}, r"makes no pictures: features \[2, 12\] float32"),
        ({"kind": TensorProto.INT64}, "input 'x' of foreign.onnx is int64"),
        ({"taken": None}, "has no shape with the batch first"),
        ({"taken": ("n", 4, "h", "w")}, "h may be anything; .*--input x:1"),
        ({"taken": ("n", 5, 8, 8), "opset": 999}, "ONNX Runtime refuses foreign.onnx"),
    ],
)
def test_a_foreign_model_that_cant_be_used(changes: dict[str, Any], said: str) -> None:
    path = write_foreign(**changes)
    with pytest.raises(UserError, match=said):
        genslim.load(path)


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ("z:1,3,8,8", "no input for 'z:1,3,8,8'; its inputs are x"),
        ("x:1,1,8,8", r"input 'x' of foreign.onnx can't be 1,1,8,8; it is \(batch, 3, rows, col"),
        ("1,3,8", "can't be 1,3,8"),
        ("x:one", "is no shape"),
    ],
)
def test_a_shape_that_a_file_does_not_take(shape: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        genslim.load(write_foreign(), input=shape)


def test_what_can_be_said_of_no_file(graph_gan: Generator) -> None:
    Onnx("fast.onnx")(graph_gan)
    with pytest.raises(UserError, match="holds its weights itself"):
        genslim.load("fast.onnx", weights="other.safetensors")
    with pytest.raises(UserError, match="a pixel can't lie in 1 to 0"):
        genslim.load("fast.onnx", value_range=(1, 0))


def test_an_ir_that_cant_be_used(graph_gan: Generator) -> None:
    import openvino

    OpenVino("net.xml")(graph_gan)
    text = Path("net.xml").read_text()
    Path("other.bin").touch()
    Path("other.xml").write_text("<no>model</no>")
    with pytest.raises(UserError, match=r"OpenVINO can't read other\.xml"):
        genslim.load("other.xml")
    openvino.save_model(openvino.Core().read_model(graph_gan.onnx), "plain.xml")
    with pytest.raises(UserError, match=r"does not say what goes in.*name the .onnx file"):
        genslim.load("plain.xml")
    assert "&quot;inputs&quot;" in text
    Path("net.xml").write_text(text.replace("&quot;inputs&quot;", "&quot;taken&quot;"))
    with pytest.raises(UserError, match=r"the signature in net\.xml can't be read"):
        genslim.load("net.xml")
    Path("net.bin").unlink()
    with pytest.raises(UserError, match=r"its weights in net\.bin, which is not beside it"):
        genslim.load("net.xml")


def test_an_engine_that_cant_be_used(graph_gan: Generator) -> None:
    Path("net.plan").write_bytes(b"engine")
    with pytest.raises(UserError, match=r"net\.json beside it; export trt writes both"):
        genslim.load("net.plan")
    for text in ("{", "[]", "{}", '{"signature": {"inputs": 3}, "report": {}}'):
        Path("net.json").write_text(text)
        with pytest.raises(UserError, match=r"net.json"):
            genslim.load("net.plan")
    Path("net.json").write_text(engine_facts(graph_gan.signature, {}))
    with pytest.raises(UserError, match=r"can't run net, which is engine.* another runtime \(tens"):
        genslim.Session("net.plan", runtime="openvino")


@pytest.mark.parametrize(
    "words",
    [
        ("compress", "prune"),
        ("compress", "separable"),
        ("compress", "shorten"),
        ("compress", "sensitivity"),
        ("bench", "peers"),
    ],
)
def test_what_needs_a_module_says_so(cli: Cli, graph_gan: Generator, words: tuple[str]) -> None:
    Onnx("fast.onnx")(graph_gan)
    line = cli(*words, "fast.onnx").refused()
    assert "graph" in line
    assert "exported from" in line or "the source that it began with" in line
    assert not list(Path().rglob("artifact.json"))


# Used as any source is.


@pytest.mark.parametrize("file", ["fast.onnx", "net.xml"])
def test_a_session_runs_the_file(tiny_gan: Generator, graph_gan: Generator, file: str) -> None:
    (Onnx if file.endswith("onnx") else OpenVino)(file)(graph_gan)
    with genslim.Session(file, threads=1, max_batch=4, precision="fp32") as session:
        z = latents(6)
        images = session.generate({"z": z.numpy()})
    assert np.abs(images - tiny_gan({"z": z}).numpy()).max() < 1e-4


def test_samples_are_drawn_from_the_file(cli: Cli, graph_gan: Generator) -> None:
    Onnx("fast.onnx")(graph_gan)
    done = cli("generators", "sample", "fast.onnx", "--n", 5, "-o", "drawn", "--json")
    assert done.status == 0, done
    assert len(list(Path("drawn").iterdir())) == 5
    assert json.loads(done.out)["execution"]["runtime"] == "openvino"


def test_the_value_range_is_a_flag(cli: Cli, image_folder: Path) -> None:
    words = ("compress", "rewrite", write_foreign(), "--images", image_folder, "--dry-run")
    done = cli(*words, "--value-range", "-1", "1")
    assert done.status == 0, done
    assert "y lies in -1 to 1" in done.err
    assert "can't lie in 1 to -1" in cli(*words, "--value-range", "1", "-1").refused()


def test_a_file_begins_a_run_that_needs_it_no_more(cli: Cli, graph_gan: Generator) -> None:
    Onnx("fast.onnx")(graph_gan)
    done = cli("export", "openvino", "fast.onnx", "-o", "net.xml")
    assert done.status == 0, done
    Path("fast.onnx").unlink()
    run = Run(Path("runs/00-fast"))
    original = artifact.load(run.artifacts[0])
    assert original.signature == graph_gan.signature
    assert original.source["file"] == "fast.onnx"
    record = (run.artifacts[0] / artifact.RECORD).read_text()
    assert str(Path.cwd()) not in record, "no path of this machine"
    again = cli("export", "onnx", run.path, "-o", "again.onnx")
    assert again.status == 0, again
    assert load_model(Path("again.onnx").read_bytes()).graph == load_model(original.onnx).graph


def test_a_run_is_not_gone_on_with_by_another_file(cli: Cli, graph_gan: Generator) -> None:
    Onnx("fast.onnx")(graph_gan)
    original = genslim.load("fast.onnx")
    run = Run(Path("mine"))
    with run.locked():
        run.start(original)
    write_foreign(Path("fast.onnx"), taken=(1, 4, 8, 6))
    done = cli("compress", "quantize", "fast.onnx", "--int8", "-o", "mine")
    assert done.status == 2
    assert "began with another generator" in done.err


def test_a_graph_is_quantized_without_its_module(cli: Cli, graph_gan: Generator) -> None:
    Onnx("fast.onnx")(graph_gan)
    words = ("compress", "quantize", "fast.onnx", "--int8", "--quantizer", "onnxruntime")
    done = cli(*words, "--target", "onnxruntime:batch=2,threads=1")
    assert done.status == 0, done
    report = artifact.load(Path("runs/00-fast/01-quantize")).steps[-1].report
    assert report["ssim"] > 0.95
    assert "nothing is trained" in report["without_module"]
    small = genslim.load("runs/00-fast")
    assert small.onnx is not None
    assert len(small.onnx) < 0.35 * Path("fast.onnx").stat().st_size
    z = latents(4).numpy()
    kept = pictures_of(small, {"z": z}) - pictures_of(graph_gan, {"z": z})
    assert 0 < np.abs(kept).mean() < 0.05
    Path("small.onnx").write_bytes(small.onnx)
    again = cli("compress", "quantize", "small.onnx", "--int8")
    assert "is an ONNX graph in int8 already" in again.err


def test_a_foreign_graph_of_one_batch_is_quantized(image_folder: Path) -> None:
    """Calibration goes in batches that it takes; its batch norm is part of its convolution."""
    generator = genslim.load(write_foreign(taken=(1, 3, 32, 32)), images=image_folder)
    step = Quantize("int8", quantizer="onnxruntime", target="onnxruntime:threads=1")
    quantized = step(generator)
    assert quantized.steps[-1].report["ssim"] > 0.95
    assert quantized.onnx is not None
    kinds = {node.op_type for node in load_model(quantized.onnx).graph.node}
    assert "QuantizeLinear" in kinds
    assert "BatchNormalization" not in kinds


def test_folding_keeps_the_pictures(graph_gan: Generator) -> None:
    assert graph_gan.onnx is not None
    assert folded(graph_gan.onnx) is graph_gan.onnx, "it has no batch norm"
    generator = genslim.load(write_foreign())
    assert generator.onnx is not None
    x = np.random.default_rng(1).random((2, 3, 16, 16), np.float32)
    plain = pictures_of(generator, {"x": x})
    assert (
        np.abs(pictures_of(replace(generator, onnx=folded(generator.onnx)), {"x": x}) - plain).max()
        < 1e-5
    )


def test_a_file_is_measured(cli: Cli, graph_gan: Generator) -> None:
    Onnx("fast.onnx")(graph_gan)
    settings = ("--rounds", 3, "--openings", 1, "--count", 4, "--no-memory", "--json")
    done = cli("bench", "run", "fast.onnx", "--runtimes", "onnxruntime", *settings)
    assert done.status == 0, done
    assert Path("runs/00-fast/bench/measurement.json").is_file()
    assert "would measure fast.onnx" in cli("bench", "run", "fast.onnx", "--dry-run").out
    assert len(list(Path("runs").iterdir())) == 1
