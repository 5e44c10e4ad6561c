"""``export onnx`` and what every export has in common: parity, gate, artifact, ``-o``."""

from __future__ import annotations

import dataclasses
import inspect
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import Cli
from torch import Tensor, nn

from export import Exporter, Onnx, OpenVino, TensorRt, commands
from export.exporter import Kind, Product
from export.parity import Comparison, Parity
from genslim import artifact
from genslim.console import Console
from genslim.errors import GateFailed, UserError
from genslim.generator import Generator
from genslim.inputs import Inputs
from genslim.onnx_graph import onnx_of
from genslim.run import Run
from genslim.runtimes import runtime
from genslim.signature import BATCH, Images, Input, Output, Signature
from genslim.target import Target


@pytest.fixture
def run(tiny_gan: Generator, graph_gan: Generator, working_folder: Path) -> Run:
    """A run whose newest artifact is a graph, as after ``compress quantize``: quick to export."""
    place = Run(working_folder / "runs" / "00-gan")
    with place.locked():
        place.start(tiny_gan)
        place.append(graph_gan, "graph", parent="00-original")
    return place


def test_the_file_makes_the_generators_pictures(tiny_gan: Generator) -> None:
    """The oracle is ONNX Runtime itself, at a batch that parity did not try."""
    exported = Onnx("fast.onnx")(tiny_gan)
    latents = torch.randn(7, 32)
    session = onnxruntime.InferenceSession("fast.onnx", providers=["CPUExecutionProvider"])
    (images,) = session.run(None, {"z": latents.numpy()})
    expected = tiny_gan({"z": latents}).numpy()
    assert np.abs(images - expected).max() < 1e-5
    assert exported.onnx == Path("fast.onnx").read_bytes()
    assert exported.module is None
    parity = exported.steps[-1].report["parity"]
    assert [c["inputs"]["z"] for c in parity["comparisons"]] == [[1, 32], [3, 32], [16, 32]]
    assert 0 <= parity["max_error"] < 1e-5
    assert parity["ssim"] > 0.9999
    assert sorted(p.name for p in Path().iterdir()) == ["fast.onnx"], "one file, no external data"


def test_metadata_says_how_to_use_the_file(graph_gan: Generator) -> None:
    graph = Onnx("fast.onnx")(graph_gan).onnx
    assert graph is not None
    facts = {p.key: p.value for p in onnx.load_model_from_string(graph).metadata_props}
    assert facts["value_range"] == "-1 1"
    assert facts["colour_order"] == "grey"
    assert facts["input.z"] == f"normal {graph_gan.signature.inputs[0].draw.scale:g}"
    assert facts["genslim_version"][0].isdigit()
    assert "scale" not in facts


class Enlarge(nn.Module):
    """Images ``(N, 3, H, W)`` to images three times as large, height and width free."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 27, 3, padding=1)
        self.shuffle = nn.PixelShuffle(3)

    def forward(self, x: Tensor) -> Tensor:
        images: Tensor = self.shuffle(self.conv(x)).sigmoid()
        return images


def enlarging(folder: Path | None) -> Generator:
    draw = Images(str(folder) if folder else None)
    taken = Input("x", (BATCH, 3, "height", "width"), draw, {"height": 32, "width": 32})
    made = Output("images", (BATCH, 3, "3*height", "3*width"), (0.0, 1.0))
    torch.manual_seed(0)
    return Generator("enlarge", Signature((taken,), (made,)), {}, Enlarge().eval())


def test_free_height_and_width_are_tried_unlike_each_other(image_folder: Path) -> None:
    exported = Onnx("fast.onnx")(enlarging(image_folder))
    report = exported.steps[-1].report
    shapes = [c["inputs"]["x"] for c in report["parity"]["comparisons"]]
    assert shapes == [[1, 3, 32, 32], [2, 3, 32, 32], [1, 3, 32, 24]]
    assert not report["failures"]
    assert exported.onnx is not None
    model = onnx.load_model_from_string(exported.onnx)
    assert {p.key: p.value for p in model.metadata_props}["scale"] == "3"
    assert {p.key: p.value for p in model.metadata_props}["colour_order"] == "RGB"


def test_images_without_a_folder_are_asked_for() -> None:
    with pytest.raises(UserError, match="--images"):
        Onnx("fast.onnx")(enlarging(None))


@pytest.mark.parametrize("from_half", [False, True], ids=["to_fp16", "half_module"])
def test_fp16_takes_and_makes_halves(
    tiny_gan: Generator, graph_gan: Generator, from_half: bool
) -> None:
    """Asked for, or because the generator is half already, after ``compress quantize --fp16``."""
    if from_half:
        generator = replace(tiny_gan, module=tiny_gan.trainable().half())
        exported = Onnx("fast.onnx")(generator)
    else:
        exported = Onnx("fast.onnx", precision="fp16")(graph_gan)
    assert exported.onnx is not None
    graph = onnx.load_model_from_string(exported.onnx).graph
    kinds = {v.type.tensor_type.elem_type for v in (*graph.input, *graph.output)}
    assert kinds == {onnx.TensorProto.FLOAT16}
    report = exported.steps[-1].report
    assert report["precision"] == "fp16"
    assert 0 < report["parity"]["max_error"] < report["tolerance"] == 0.02


@dataclasses.dataclass(frozen=True)
class Spoilt(Onnx):
    """An export with an error that a checker of graphs can't see."""

    def produce(self, generator: Generator, folder: Path, console: Console) -> Product:
        product = super().produce(generator, folder, console)
        assert product.onnx is not None
        model = onnx.load_model_from_string(product.onnx)
        weight = max(model.graph.initializer, key=lambda t: len(t.raw_data))
        values = onnx.numpy_helper.to_array(weight) * 1.5
        weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
        return replace(product, onnx=model.SerializeToString())


def test_a_wrong_file_fails_the_gate_and_is_kept_apart(graph_gan: Generator) -> None:
    Path("fast.onnx").write_bytes(b"from before")
    with pytest.raises(GateFailed, match=r"largest error.*fast\.rejected\.onnx"):
        Spoilt("fast.onnx")(graph_gan)
    assert Path("fast.onnx").read_bytes() == b"from before"
    assert Path("fast.rejected.onnx").stat().st_size > 1e5


def test_a_batch_baked_in_is_found(graph_gan: Generator) -> None:
    """A graph that takes pairs only does not pass for the generator's."""

    @dataclasses.dataclass(frozen=True)
    class Fixed(Onnx):
        def produce(self, generator: Generator, folder: Path, console: Console) -> Product:
            product = super().produce(generator, folder, console)
            assert product.onnx is not None
            model = onnx.load_model_from_string(product.onnx)
            for value in (*model.graph.input, *model.graph.output):
                value.type.tensor_type.shape.dim[0].dim_value = 2
            return replace(product, onnx=model.SerializeToString())

    with pytest.raises(GateFailed, match=r"\[1, 32\].*does not run.*batch of 2"):
        Fixed("fast.onnx")(graph_gan)


class Windows(nn.Module):
    """Attention within windows of four, as it is often written: sizes are divided as numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(48, 48)

    def forward(self, x: Tensor) -> Tensor:
        parts = x.unflatten(3, (8, 4)).unflatten(2, (8, 4)).permute(0, 2, 4, 1, 3, 5)
        parts = self.mix(parts.reshape(-1, 48)).softmax(1)
        batch = int(len(parts) / (32 * 32 / 4 / 4))
        return parts.view(batch, 8, 8, 3, 4, 4).permute(0, 3, 1, 4, 2, 5).reshape(batch, 3, 32, 32)


@pytest.mark.parametrize("on", ["onnxruntime", "openvino"])
def test_sides_that_code_counts_on_are_fixed_and_said(image_folder: Path, on: str) -> None:
    sides = {"height": 32, "width": 32}
    taken = Input("x", (BATCH, 3, *sides), Images(str(image_folder)), sides)
    signature = Signature((taken,), (Output("made", taken.shape, (0.0, 1.0)),))
    torch.manual_seed(0)
    generator = Generator("windows", signature, {}, Windows().eval())
    exported = {"onnxruntime": Onnx("fast.onnx"), "openvino": OpenVino("fast.xml")}[on](generator)
    report = exported.steps[-1].report
    assert report["fixed"] == {BATCH: 1, **sides}
    assert [c["inputs"]["x"] for c in report["parity"]["comparisons"]] == [
        [1, 3, 32, 32],
        [2, 3, 32, 32],
    ]
    assert exported.signature.inputs[0].shape == (BATCH, 3, 32, 32)
    five = Inputs(signature, "quality").draw(5)
    with runtime(on).open(exported, Target(on, threads=1).settled(signature)) as session:
        made = session.run({"x": five["x"].numpy()})["made"]
    torch.testing.assert_close(torch.from_numpy(made), generator(five), rtol=1e-3, atol=1e-5)


def test_overflow_inside_fails_the_gate(tiny_gan: Generator) -> None:
    """Half overflows inside, where ONNX Runtime computes in fp32 and its pictures look right."""

    class Overflowing(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, z: Tensor) -> Tensor:
            images: Tensor = self.inner(z)
            return (images * 3e3) * 3e3 / 3e3 / 3e3

    generator = replace(tiny_gan, module=Overflowing(tiny_gan.trainable()).eval())
    Onnx("fine.onnx")(generator)
    with pytest.raises(GateFailed, match=r"1 of \d+ tensors leave the range of fp16.*node_mul"):
        Onnx("fast.onnx", precision="fp16")(generator)


def test_the_artifact_holds_the_graph_and_no_weights(cli: Cli, run: Run) -> None:
    done = cli("export", "onnx", "-o", "out/fast.onnx", "--json")
    assert done.status == 0, done
    facts = json.loads(done.out.splitlines()[-1])
    saved = run.path / "02-onnx"
    assert Path(facts["artifact"]).samefile(saved)
    assert sorted(p.name for p in saved.iterdir()) == ["artifact.json", "model.onnx"]
    assert Path("out/fast.onnx").read_bytes() == (saved / "model.onnx").read_bytes()
    assert facts["passed"] is True
    assert facts["parity"]["max_error"] < 1e-5
    assert artifact.read_record(saved)["kind"] == "export"
    assert run.newest.name == "01-graph", "an export is not what the next command starts from"

    loaded = artifact.load(saved)
    assert loaded.module is None
    latents = {n: t.numpy() for n, t in Inputs(loaded.signature, "quality").draw(2).items()}
    with runtime("onnxruntime").open(loaded, Target(threads=1)) as session:
        images = session.run(latents)["images"]
    original = artifact.load(run.path / "00-original")
    expected = original({"z": torch.from_numpy(latents["z"])}).numpy()
    assert np.abs(images - expected).max() < 1e-5


def test_a_graph_is_exported_from_an_artifact(cli: Cli, run: Run) -> None:
    """What was exported can be the source of another export."""
    assert cli("export", "onnx").status == 0
    done = cli("export", "onnx", run.path / "02-onnx", "--fp16")
    assert done.status == 0, done
    assert "onnxruntime fp32 against onnxruntime fp32" in done.out
    loaded = artifact.load(run.path / "03-onnx")
    assert [step.name for step in loaded.steps] == ["onnx", "onnx"]


def test_too_tight_a_tolerance_is_exit_status_1(cli: Cli, run: Run) -> None:
    done = cli("export", "onnx", "--fp16", "--tolerance", "1e-9", "-o", "fast.onnx")
    assert "1e-09 is allowed" in done.refused(status=1)
    assert not Path("fast.onnx").exists()
    kept = artifact.load(run.path / "02-onnx-rejected")
    assert kept.steps[-1].report["failures"]


def test_dry_run_writes_nothing(cli: Cli, run: Run) -> None:
    done = cli("export", "onnx", "-o", "fast.onnx", "--dry-run")
    assert done.status == 0, done
    assert "would export" in done.out
    assert [p.name for p in run.artifacts] == ["00-original", "01-graph"]
    assert not Path("fast.onnx").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-o", "fast.engine"], "writes no .engine file"),
        (["--tolerance", "-1"], "no positive number"),
        (["--tolerance", "nan"], "no positive number"),
        (["nowhere"], "is no source"),
        (["--precision", "fp8"], "fp8"),
    ],
)
def test_mistakes_are_one_line(cli: Cli, run: Run, arguments: list[str], expected: str) -> None:
    assert expected in cli("export", "onnx", *arguments).refused()
    assert [p.name for p in run.artifacts] == ["00-original", "01-graph"]
    assert not [p for p in run.path.iterdir() if p.name.startswith(".tmp")]


def test_a_mistake_starts_no_run(cli: Cli, compact_weights: Path, image_folder: Path) -> None:
    """What can be known before the source is opened is said before a run is made of it."""
    done = cli("export", "onnx", compact_weights, "--images", image_folder, "-o", "fast.plan")
    assert "writes no .plan file" in done.refused()
    assert not Path("runs").exists()


def test_an_output_that_can_not_be_written_loses_nothing(cli: Cli, run: Run) -> None:
    Path("file").write_text("in the way")
    assert "can't write" in cli("export", "onnx", "-o", "file/fast.onnx").refused()
    assert Path("file").read_text() == "in the way"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("fast.onnx", "fast.onnx"),
        ("folder/", "folder/model.onnx"),
        ("folder", "folder/model.onnx"),
        ("v1.5", "v1.5/model.onnx"),
    ],
)
def test_where_files_go(path: str, expected: str) -> None:
    Path("v1.5").mkdir()
    assert Onnx(path).destinations(["model.onnx"]) == {"model.onnx": Path(expected)}


def test_files_of_two_suffixes_share_a_name() -> None:
    places = OpenVino("deploy/net.xml").destinations(["model.bin", "model.xml"])
    assert places == {"model.bin": Path("deploy/net.bin"), "model.xml": Path("deploy/net.xml")}


@pytest.mark.parametrize(
    ("command", "exporter"),
    [(commands.onnx, Onnx), (commands.openvino, OpenVino), (commands.trt, TensorRt)],
)
def test_flags_are_the_exporters_fields(command: object, exporter: type[Exporter]) -> None:
    """A field is stated once more as a flag: here they are held together."""
    flags = inspect.signature(command).parameters  # type: ignore[arg-type]
    fields = {f.name: f.default for f in dataclasses.fields(exporter) if f.name != "path"}
    given = {n: p.default for n, p in flags.items() if n not in ("source", "common")}
    assert given == fields


def test_a_kind_has_a_tolerance_and_a_least_ssim() -> None:
    from typing import get_args

    from export.exporter import LEAST_SSIM, TOLERANCES

    assert set(get_args(Kind)) == set(TOLERANCES) == set(LEAST_SSIM)


def test_no_path_is_asked_for(tiny_gan: Generator) -> None:
    with pytest.raises(UserError, match="no path"):
        Onnx()(tiny_gan)


def test_latents_are_exported_with_a_free_batch_alone(graph_gan: Generator) -> None:
    """The signature's symbols are the graph's."""
    graph = onnx.load_model_from_string(onnx_of(graph_gan)).graph
    dims = graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in dims] == [BATCH, 32]


def test_ssim_decides_unless_a_tolerance_is_given() -> None:
    comparison = Comparison({"z": [1, 100]}, max_error=0.1, mean_error=0.05, ssim=0.6)
    parity = Parity("torch fp32", "openvino int8", 2.0, (comparison,))
    assert "SSIM is 0.6000" in Onnx().judge(parity, "int8")[0]
    assert "largest error is 0.1" in Onnx().judge(parity, "fp16")[0]
    assert not Onnx(tolerance=0.2).judge(parity, "int8")
