"""``export onnx`` and what every export has in common: parity, gate, artifact, ``-o``."""

from __future__ import annotations

import dataclasses
import inspect
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import Cli
from torch import Tensor, nn

from export import Exporter, Onnx, OpenVino, TensorRt, commands
from export.exporter import Kind, Product
from export.onnx import drop_notes
from export.parity import Comparison, Parity, shapes
from generators.networks import dcgan
from genslim import artifact
from genslim.console import Console
from genslim.errors import GateFailed, UserError
from genslim.generator import Generator
from genslim.graph_rewrites import rewritten, sites
from genslim.half import to_fp16
from genslim.inputs import Inputs
from genslim.onnx_graph import onnx_of
from genslim.onnx_model import source_line
from genslim.run import Run
from genslim.runtimes import runtime
from genslim.signature import BATCH, Images, Input, Output, Signature
from genslim.target import Target


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
    assert facts["precision"] == "fp32"
    assert facts["free_sides"] == BATCH
    assert not {"scale", "multiple_of", "model_license"} & facts.keys()


def facts_of(exported: Generator) -> dict[str, str]:
    assert exported.onnx is not None
    model = onnx.load_model_from_string(exported.onnx)
    return {entry.key: entry.value for entry in model.metadata_props}


def test_metadata_has_the_licence_where_the_source_knows_it(graph_gan: Generator) -> None:
    licensed = replace(graph_gan, source={**graph_gan.source, "licence": "Apache-2.0"})
    assert facts_of(Onnx("fast.onnx")(licensed))["model_license"] == "Apache-2.0"


def test_the_file_holds_no_paths_of_this_machine(graph_gan: Generator) -> None:
    """PyTorch's exporter keeps where every node comes from: of no use to who deploys the file."""
    assert graph_gan.onnx is not None
    code = Path(dcgan.__file__)
    for traced in (str(code), "site-packages", "pkg.torch"):
        assert traced.encode() in graph_gan.onnx
    exported = Onnx("fast.onnx")(graph_gan).onnx
    assert exported is not None
    for traced in (code.name, str(code.parent), "site-packages", "pkg.torch"):
        assert traced.encode() not in exported
    assert len(exported) < len(graph_gan.onnx) - 10_000


def test_notes_within_branches_and_functions_go_too() -> None:
    def noted(node: onnx.NodeProto) -> onnx.NodeProto:
        node.doc_string = "/home/someone/net.py"
        node.metadata_props.add(key="pkg.torch.onnx.stack_trace", value="/home/someone/net.py")
        return node

    made = onnx.helper.make_tensor_value_info("inside", onnx.TensorProto.FLOAT, [2])
    branch = onnx.helper.make_graph(
        [noted(onnx.helper.make_node("Identity", ["x"], ["inside"]))], "branch", [], [made]
    )
    chosen = onnx.helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    function = onnx.helper.make_function(
        "own", "twice", ["a"], ["b"], [noted(onnx.helper.make_node("Add", ["a", "a"], ["b"]))], []
    )
    graph = onnx.helper.make_graph([noted(chosen)], "/home/someone", [], [])
    graph.name = "main"
    model = onnx.helper.make_model(graph, functions=[function])
    assert model.SerializeToString().count(b"someone") == 8
    drop_notes(model)
    assert b"someone" not in model.SerializeToString()
    inner = [attribute.g.node[0].op_type for attribute in model.graph.node[0].attribute]
    assert inner == ["Identity", "Identity"], "nothing else is gone"


def traced(*frames: str) -> onnx.NodeProto:
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    node.metadata_props.add(key="pkg.torch.onnx.stack_trace", value="\n  ".join(frames))
    return node


LIBRARY = "/home/me/.venv/lib/python3.11/site-packages"
INNER = (
    f'File "{LIBRARY}/torch/nn/modules/activation.py", line 144, in forward\n    return F.relu(x)'
)


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (
            'File "/home/me/net.py", line 7, in forward\n    return self.net(x)',
            "net.py:7 in forward: return self.net(x)",
        ),
        (
            f'File "{LIBRARY}/spandrel/archs/rcan.py", line 21, in <lambda>\n    x + 1',
            "spandrel/archs/rcan.py:21 in <lambda>: x + 1",
        ),
        (
            'File "C:\\Users\\me\\torch\\net.py", line 7, in forward\n    y = x[0]',
            "net.py:7 in forward: y = x[0]",
        ),
        ('File "/home/me/net.py", line 7, in forward', "net.py:7 in forward"),
    ],
)
def test_a_node_comes_from_the_innermost_line_that_is_not_pytorchs(
    frame: str, expected: str
) -> None:
    outer = 'File "/home/me/outer.py", line 1, in forward\n    return self.inner(x)'
    assert source_line(traced(outer, frame, INNER)) == expected


def test_a_node_of_unknown_origin_has_no_line() -> None:
    assert source_line(traced(INNER)) is None
    assert source_line(onnx.helper.make_node("Relu", ["x"], ["y"])) is None


def test_lines_outlive_rewrites_halving_and_quantization(
    graph_gan: Generator, quantized_gan: Generator
) -> None:
    """What is put in has no line; what stays keeps its own."""
    assert graph_gan.onnx is not None
    assert quantized_gan.onnx is not None
    rewrites = [r for r in sites(graph_gan.onnx) if r.kind == "convolution for each phase"]
    assert rewrites
    code = Path(dcgan.__file__).read_text().splitlines()
    for graph in (
        graph_gan.onnx,
        quantized_gan.onnx,
        to_fp16(graph_gan.onnx),
        rewritten(graph_gan.onnx, rewrites),
    ):
        nodes = onnx.load_model_from_string(graph).graph.node
        lines = {n.name: source_line(n) for n in nodes if n.op_type in ("Relu", "Tanh")}
        assert len(lines) == 4
        for line in lines.values():
            place, _, text = str(line).partition(" in forward: ")
            name, _, number = place.partition(":")
            assert name == "dcgan.py"
            assert code[int(number) - 1].strip() == text


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
    facts = {p.key: p.value for p in model.metadata_props}
    assert facts["scale"] == "3"
    assert facts["colour_order"] == "RGB"
    assert facts["input.x"] == "image, 0 1"
    assert facts["free_sides"] == "batch, height, width"
    assert facts["multiple_of"] == "1"


def sides_tried(signature: Signature) -> list[tuple[int, ...]]:
    return [tried.inputs[0].concrete(batch) for tried, batch in shapes(signature)]


@pytest.mark.parametrize(
    ("height", "width", "multiple_of", "other"),
    [(32, 64, 8, (32, 48)), (48, 32, 16, (48, 16)), (16, 32, 32, (16, 64)), (9, 1, 1, (9, 2))],
)
def test_the_third_shape_is_a_legal_multiple(
    height: int, width: int, multiple_of: int, other: tuple[int, int]
) -> None:
    sizes = {"height": height, "width": width}
    taken = Input("x", (BATCH, 3, "height", "width"), Images("photos"), sizes, multiple_of)
    signature = Signature((taken,), (Output("made", taken.shape, (0.0, 1.0)),))
    usual = (3, height, width)
    assert sides_tried(signature) == [(1, *usual), (2, *usual), (1, 3, *other)]
    fixed = signature.with_sides(sizes)
    assert sides_tried(fixed) == [(1, *usual), (2, *usual), (3, *usual)]


def test_two_inputs_that_share_a_side_agree_on_its_multiple() -> None:
    shape = (BATCH, 3, "height", "width")
    sizes = {"height": 24, "width": 24}
    picture = Input("picture", shape, Images("photos"), sizes, 4)
    mask = Input("mask", shape, Images("photos"), sizes, 6)
    signature = Signature((picture, mask), (Output("made", shape, (0.0, 1.0)),))
    assert sides_tried(signature)[-1] == (1, 3, 24, 12)


def test_a_graph_of_free_sides_is_tried_at_another_multiple(image_folder: Path) -> None:
    plain = enlarging(image_folder)
    (taken,) = plain.signature.inputs
    stepwise = replace(plain.signature, inputs=(replace(taken, multiple_of=16),))
    generator = replace(plain, module=None, onnx=onnx_of(plain), signature=stepwise)
    exported = Onnx("fast.onnx")(generator)
    comparisons = exported.steps[-1].report["parity"]["comparisons"]
    assert [c["inputs"]["x"] for c in comparisons][-1] == [1, 3, 32, 16]
    assert facts_of(exported)["multiple_of"] == "16"

    larger_than_all = replace(taken, multiple_of=64, sizes={"height": 64, "width": 64})
    wide = replace(generator, signature=replace(stepwise, inputs=(larger_than_all,)))
    comparisons = Onnx("fast.onnx")(wide).steps[-1].report["parity"]["comparisons"]
    assert [c["inputs"]["x"] for c in comparisons] == [[1, 3, 64, 64], [2, 3, 64, 64]]


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


def test_an_opset_and_halves_go_together(cli: Cli, run: Run) -> None:
    done = cli("export", "onnx", "--opset", "17", "--fp16", "-o", "fast.onnx", "--json")
    assert done.status == 0, done
    facts = json.loads(done.out.splitlines()[-1])
    assert facts["opset"] == {"ai.onnx": 17}
    assert facts["precision"] == "fp16"
    assert 0 < facts["parity"]["max_error"] < 0.02
    assert len(facts["parity"]["comparisons"]) == 3
    model = onnx.load("fast.onnx")
    assert model.ir_version == 8, "what came with opset 17"
    assert {entry.key for entry in model.metadata_props} >= {"value_range", "precision"}


def test_a_quantized_graph_is_exported_at_an_older_opset(quantized_gan: Generator) -> None:
    exported = Onnx("fast.onnx", opset=17)(quantized_gan)
    report = exported.steps[-1].report
    assert report["opset"] == {"ai.onnx": 17}
    assert report["precision"] == "int8"
    assert report["parity"]["max_error"] < 1e-5
    halves = Onnx("fast.onnx", precision="fp16", opset=17)(quantized_gan)
    assert facts_of(halves)["precision"] == "int8"
    assert Onnx("fast.onnx", opset=21)(quantized_gan).onnx != exported.onnx


class Normed(nn.Module):
    """Norms whose scales PyTorch's exporter leaves beside convolutions, as in a UNet."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 16, 3, padding=1)
        self.norms = nn.ModuleList(nn.GroupNorm(4, 16) for _ in range(3))
        self.last = nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(x)
        for norm in self.norms:
            x = x + norm(x).sigmoid()
        images: Tensor = self.last(x).sigmoid()
        return images


def test_fewer_operators_make_the_same_pictures(image_folder: Path) -> None:
    pytest.importorskip("onnxsim", reason="onnxsim is not installed")
    torch.manual_seed(0)
    shape = (BATCH, 3, "height", "width")
    taken = Input("x", shape, Images(str(image_folder)), {"height": 32, "width": 24})
    signature = Signature((taken,), (Output("made", shape, (0.0, 1.0)),))
    generator = Generator("normed", signature, {}, Normed().eval())
    graph = onnx_of(generator)
    exported = Onnx("fast.onnx", simplify=True, opset=17)(generator)
    report = exported.steps[-1].report
    assert report["operators"] < 0.9 * len(onnx.load_model_from_string(graph).graph.node)
    assert report["parity"]["max_error"] < 1e-4
    assert report["opset"] == {"ai.onnx": 17}
    assert facts_of(exported)["free_sides"] == "batch, height, width"


def test_pairs_outlive_simplification(quantized_gan: Generator) -> None:
    pytest.importorskip("onnxsim", reason="onnxsim is not installed")
    assert quantized_gan.onnx is not None
    exported = Onnx("fast.onnx", simplify=True)(quantized_gan)
    assert exported.onnx is not None
    count = {
        graph: sum(
            n.op_type == "DequantizeLinear" for n in onnx.load_model_from_string(graph).graph.node
        )
        for graph in (quantized_gan.onnx, exported.onnx)
    }
    assert len(set(count.values())) == 1
    assert exported.steps[-1].report["precision"] == "int8"
    assert exported.steps[-1].report["parity"]["max_error"] < 1e-5


def test_onnxsim_is_asked_for_where_it_is_missing(
    cli: Cli, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxsim", None)
    done = cli("export", "onnx", "--simplify")
    assert "genslim[simplify]" in done.refused(status=3)
    assert [p.name for p in run.artifacts] == ["00-original", "01-graph"]


def test_what_onnxsim_can_not_do_is_one_line(
    cli: Cli, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(model: onnx.ModelProto) -> None:
        raise RuntimeError("a pass of mine\nfailed")

    monkeypatch.setitem(sys.modules, "onnxsim", SimpleNamespace(simplify=fails))
    done = cli("export", "onnx", "--simplify")
    assert "onnxsim can't simplify the graph: a pass of mine; leave" in done.refused()


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
    if on == "onnxruntime":
        assert facts_of(exported)["free_sides"] == "none"
    report = exported.steps[-1].report
    assert report["fixed"] == {BATCH: 1, **sides}
    assert [c["inputs"]["x"] for c in report["parity"]["comparisons"]] == [
        [1, 3, 32, 32],
        [2, 3, 32, 32],
        [3, 3, 32, 32],
    ]
    assert exported.signature.inputs[0].shape == (BATCH, 3, 32, 32)
    five = Inputs(signature, "quality").draw(5)
    target = Target(on, threads=1, precision="fp32").settled(signature)
    with runtime(on).open(exported, target) as session:
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
        (["--opset", "99"], "there is no opset 99"),
        (["--opset", "12"], "onnx has no way there for"),
        (["--opset", "newest"], "newest"),
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
