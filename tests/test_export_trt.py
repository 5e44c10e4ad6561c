"""``export trt``: the engine that was asked for is built, or nothing that looks like it.

Engines are built by TensorRT-RTX, which needs no GPU for that; without it these tests skip. What
only a GPU could show (the engine's own layers) is tested against a fake of TensorRT's interface.
"""

from __future__ import annotations

import importlib.util
import json
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fake_tensorrt as fake
import numpy as np
import onnx
import onnxruntime
import pytest
from conftest import Cli
from onnx import TensorProto, helper, numpy_helper

import genslim
from export import TensorRt
from export.engine.building import (
    Settings,
    build,
    capabilities,
    configure,
    described,
    require_memory,
)
from export.engine.layers import Engine, Layer, inspected, logged
from export.engine.shapes import profile_of, side_range
from export.tensorrt import refusals
from genslim import artifact
from genslim.console import Progress
from genslim.errors import GateFailed, GenslimError, MissingDependency, UserError
from genslim.generator import Generator
from genslim.run import Run
from genslim.runtimes.engine import EngineSession
from genslim.runtimes.tensorrt import TensorRt as Runtime
from genslim.runtimes.tensorrt import find_tensorrt
from genslim.signature import BATCH, Images, Input, Output, Prior, Signature
from genslim.signs import signed

needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="TensorRT-RTX is not installed"
)


@needs_rtx
@pytest.mark.parametrize(
    ("precision", "network"), [("auto", {"fp32": 4}), ("fp32", {"fp32": 4}), ("fp16", {"fp16": 4})]
)
def test_the_engine_is_what_was_asked_for(
    graph_gan: Generator, precision: Any, network: dict[str, int]
) -> None:
    exported = TensorRt("engine.plan", precision=precision)(graph_gan)
    report = exported.steps[-1].report
    assert report["network"] == network
    assert report["profile"] == {"z": {"min": [1, 32], "opt": [16, 32], "max": [64, 32]}}
    assert report["bytes"] == Path("engine.plan").stat().st_size > 1e6
    assert report["run"].startswith("built, not run")
    assert report["library"].startswith(("tensorrt_rtx ", "tensorrt "))
    assert exported.files["engine.plan"] == Path("engine.plan")
    assert genslim.load("engine.plan").signature == exported.signature, "by what lies beside it"


@needs_rtx
def test_transposed_convolutions_are_not_int8(quantized_gan: Generator) -> None:
    """The network says int8, and the engine computes in fp32: TensorRT has no such kernel."""
    with pytest.raises(
        GateFailed, match=r"int8 was asked for, and the engine is 4 fp32: .*\b4 here"
    ):
        TensorRt("engine.plan", precision="int8")(quantized_gan)
    assert Path("engine.rejected.plan").is_file()
    exported = TensorRt("engine.plan", precision="fp16")(quantized_gan)
    report = exported.steps[-1].report
    assert (report["network"], report["products"]) == ({"int8": 4}, {"fp16": 4})


@needs_rtx
def test_int8_is_seen_through_a_concatenation() -> None:
    """As in dense blocks: the pairs stand before the concatenation, the product after it."""
    quantize = [
        node
        for name in ("a", "b")
        for node in (
            helper.make_node("QuantizeLinear", [name, "scale", "zero"], [f"{name}.q"]),
            helper.make_node("DequantizeLinear", [f"{name}.q", "scale", "zero"], [f"{name}.f"]),
        )
    ]
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Sigmoid", ["x"], ["b"]),
        *quantize,
        helper.make_node("Concat", ["a.f", "b.f"], ["both"], axis=1),
        helper.make_node("DequantizeLinear", ["w.q", "scale", "zero"], ["w"]),
        helper.make_node("Conv", ["both", "w"], ["inner"], "inner", pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["inner", "plain"], ["y"], "outer", pads=[1, 1, 1, 1]),
    ]
    random = np.random.default_rng(0)
    weights = {
        "scale": np.float32(0.05),
        "zero": np.int8(0),
        "w.q": random.integers(-127, 128, (8, 8, 3, 3), np.int8),
        "plain": random.standard_normal((4, 8, 3, 3), np.float32),
    }
    shape = [1, 4, 16, 16]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "test",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
            [numpy_helper.from_array(np.asarray(v), name) for name, v in weights.items()],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    signature = Signature((Input("x", tuple(shape), Prior()),), (Output("y", (), (0.0, 1.0)),))
    built = build(find_tensorrt(), model.SerializeToString(), signature)
    assert built.network == {"int8": 1, "fp32": 1}
    assert built.engine is not None
    assert sorted(built.engine.products({"inner", "outer"}).values()) == ["fp32", "int8"]


@needs_rtx
def test_exports_do_not_quantize(graph_gan: Generator) -> None:
    with pytest.raises(UserError, match="compress quantize --int8"):
        TensorRt("engine.plan", precision="int8")(graph_gan)


@needs_rtx
def test_a_quantized_generator_is_no_fp32(quantized_gan: Generator) -> None:
    with pytest.raises(UserError, match="can't be exported as fp32"):
        TensorRt("engine.plan", precision="fp32")(quantized_gan)


@needs_rtx
def test_an_engine_of_another_precision_is_kept_apart(
    cli: Cli, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a tool that ignores the wish in silence: here the conversion does nothing."""
    monkeypatch.setattr("genslim.half.to_fp16", lambda graph: graph)
    done = cli("export", "trt", "--fp16", "-o", "engine.plan")
    line = done.refused(status=1)
    assert "fp16 was asked for, and the network is 4 fp32" in line
    assert "02-trt-rejected" in line
    assert not Path("engine.plan").exists()
    assert artifact.load(run.path / "02-trt-rejected").files["engine.plan"].is_file()


@needs_rtx
def test_the_command_says_that_it_did_not_run(cli: Cli, run: Run) -> None:
    done = cli("export", "trt", "--fp16", "-o", "engine.plan", "--json")
    assert done.status == 0, done
    facts = json.loads(done.out.splitlines()[-1])
    assert facts["asked"] == "fp16"
    assert facts["network"] == {"fp16": 4}
    assert "built, not run" in done.err
    assert "[TRT]" not in done.err + done.out, "TensorRT talks by itself"
    saved = artifact.load(run.path / "02-trt")
    assert saved.files["engine.plan"].read_bytes() == Path("engine.plan").read_bytes()


@needs_rtx
def test_an_unknown_operator_is_named_with_its_node() -> None:
    node = helper.make_node("Det", ["x"], ["y"], name="the_determinant")
    model = helper.make_model(
        helper.make_graph(
            [node],
            "test",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 2])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [])],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    signature = Signature((Input("x", (2, 2), Prior()),), (Output("y", (), (0.0, 1.0)),))
    with pytest.raises(GenslimError, match=r"can't parse the graph: Det 'the_determinant'"):
        build(find_tensorrt(), model.SerializeToString(), signature)


@pytest.mark.parametrize("module", ["tensorrt", "tensorrt_rtx"])
def test_a_library_that_does_not_load_is_named(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "genslim.runtimes.tensorrt.find_spec", lambda name: object() if name == module else None
    )

    def broken(name: str) -> None:
        raise OSError("libnvinfer.so.11: cannot open shared object file")

    monkeypatch.setattr("genslim.runtimes.tensorrt.import_module", broken)
    with pytest.raises(MissingDependency, match=rf"{module} does not load \(libnvinfer"):
        find_tensorrt()


def test_neither_library_is_exit_status_3(
    cli: Cli, tiny_gan: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("genslim.runtimes.tensorrt.find_spec", lambda name: None)
    run = Run(Path("runs/00-gan"))
    with run.locked():
        run.start(tiny_gan)
    line = cli("export", "trt", "--fp16").refused(status=3)
    assert 'pip install "genslim[rtx]"' in line
    assert 'pip install "genslim[trt]"' in line
    assert [p.name for p in run.artifacts] == ["00-original"]


def test_tensorrt_is_preferred(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genslim.runtimes.tensorrt.find_spec", lambda name: object())
    monkeypatch.setattr("genslim.runtimes.tensorrt.import_module", lambda name: name)
    assert find_tensorrt() == "tensorrt"


LOGGED = """Layers:
Name: stem, LayerType: kgen, Inputs: [ { Name: x, Datatype: Float, Format: (Linear) Row major }], \
Constants: [], Outputs: [ { Name: q, Dimensions: [-1,4], Datatype: Int8, Format: (NHWC) }], \
TacticName: a, StreamId: 0, Metadata: [ONNX Layer: quantize][ONNX Layer: conv]
Name: conv_myl0, LayerType: correlation, Inputs: [ { Name: q, Datatype: Int8, Format: (NHWC) }], \
Constants: [ { Name: w, Datatype: Int8, Format: x }, { Name: b, Datatype: Float, Format: x }], \
Outputs: [ { Name: c, Datatype: Float, Format: (NHWC) }], TacticName: b, StreamId: 0, \
Metadata: [ONNX Layer: conv][ONNX Layer: dequantize]
Name: __myl_MoveTran_myl0_2, LayerType: kgen, Inputs: [ { Name: c, Datatype: Float, Format: x }], \
Constants: [], Outputs: [ { Name: y, Datatype: Half, Format: x }], TacticName: , StreamId: 0, \
Metadata: [ONNX Layer: head]

I/O Tensors:
 Name: y, IOMode: Output, DataType: Half
"""


def test_the_layers_are_read_from_the_builders_log() -> None:
    """As on a machine without a GPU, where an engine can't be loaded."""
    engine = logged(["Graph optimization time: 1 s", LOGGED, "Adding 1 engine(s) to plan file."])
    assert engine is not None
    assert [layer.kind for layer in engine.layers] == ["kgen", "correlation", "kgen"]
    assert engine.types() == {"int8": 1, "fp32": 1, "fp16": 1}
    assert engine.reformats == 1
    assert engine.products(["conv", "head", "gone"]) == {"conv": "int8", "head": "fp32"}
    assert engine.to_json()["read_from"] == "the builder's log"
    assert logged(["Graph optimization time: 1 s"]) is None


def test_the_layers_are_read_from_the_engine() -> None:
    """As on a machine with a GPU; older versions of TensorRT put type and format into one word."""

    def layer(name: str, **port: str) -> dict[str, Any]:
        return {
            "Name": name,
            "LayerType": "Convolution",
            "Inputs": [port],
            "Outputs": [port],
            "Metadata": f"[ONNX Layer: {name}]",
        }

    old = {"Format/Datatype": "Channel major FP16 format where C % 8 == 0"}
    layers = [layer("a", **old), layer("b", Datatype="Half"), layer("c", Datatype="Int8")]
    layers += [layer("d", **{"Format/Datatype": "Row major linear FP32 format"})]
    told = json.dumps({"Layers": [*layers, {"Name": "no ports"}, "a name alone"]})
    inspector = SimpleNamespace(get_engine_information=lambda form: told)
    trt = SimpleNamespace(LayerInformationFormat=SimpleNamespace(JSON="json"))
    engine = inspected(trt, SimpleNamespace(create_engine_inspector=lambda: inspector))
    assert engine.types() == {"fp16": 2, "int8": 1, "fp32": 1}
    assert engine.products("abcd") == {"a": "fp16", "b": "fp16", "c": "int8", "d": "fp32"}


def test_generated_code_tells_where_no_kernel_does() -> None:
    layers = (
        Layer("code", "kgen", ("fp16",), ("fp16",), ("gemm",)),
        Layer("quantizes", "kgen", ("fp32",), ("int8",), ("conv",)),
        Layer("kernel", "correlation", ("int8",), ("fp32",), ("conv",)),
        Layer("allocates", "allocate", (), (), ("conv",)),
    )
    assert Engine(layers, "a test").products(["gemm", "conv"]) == {"gemm": "fp16", "conv": "int8"}


@pytest.mark.parametrize(
    ("asked", "network", "engine", "refused"),
    [
        ("fp16", {"fp16": 4}, {}, False),
        ("fp16", {"int8": 3, "fp16": 1}, {}, False),
        ("fp16", {"fp16": 3, "fp32": 1}, {}, True),
        ("fp16", {"fp16": 19, "fp32": 1}, {"fp16": 19, "fp32": 1}, False),
        ("fp16", {"fp16": 4}, {"fp32": 4}, True),
        ("fp16", {"fp16": 4}, {"fp16": 4}, False),
        ("int8", {"fp32": 4}, {}, True),
        ("int8", {"int8": 4}, {"int8": 4}, False),
        ("int8", {"int8": 2, "fp16": 2}, {"int8": 2, "fp16": 2}, False),
        ("int8", {"int8": 4}, {"int8": 1, "fp16": 3}, True),
        ("fp32", {"fp32": 4}, {"fp32": 4}, False),
    ],
)
def test_what_is_refused(
    asked: str, network: dict[str, int], engine: dict[str, int], refused: bool
) -> None:
    assert bool(refusals(asked, network, engine)) is refused


def test_shapes_of_the_profile() -> None:
    images = Input("x", (BATCH, 3, "height", "width"), Images(), {"height": 64, "width": 720}, 8)
    assert side_range(images, 0, 1) == (1, 1, 4)
    assert side_range(images, 2, 1) == (16, 64, 1024)
    assert side_range(images, 3, 1) == (176, 720, 1440)
    latents = Input("z", (BATCH, 100), Prior())
    assert side_range(latents, 0, 128) == (1, 128, 128)


def quantizing(kind: Any, zero: int) -> bytes:
    """A graph that quantizes ``x`` with scale 0.02 and back."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "test",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
            [
                numpy_helper.from_array(np.float32(0.02), "scale"),
                numpy_helper.from_array(np.asarray(zero, kind), "zero"),
            ],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(("kind", "zero"), [(np.uint8, 0), (np.uint8, 100), (np.int8, -128)])
def test_unsigned_ranges_survive_as_signed(kind: Any, zero: int) -> None:
    """TensorRT would read uint8 as int8 and clip the upper half; here the range stays whole."""
    graph = quantizing(kind, zero)
    low, high = (np.array([np.iinfo(kind).min, np.iinfo(kind).max]) - float(zero)) * 0.02
    values = np.linspace(low, high, 1000, dtype=np.float32)
    rewritten = signed(graph)
    zeros = [
        numpy_helper.to_array(t)
        for t in onnx.load_model_from_string(rewritten).graph.initializer
        if t.data_type != TensorProto.FLOAT
    ]
    assert all(z.dtype == np.int8 and not z.any() for z in zeros)
    session = onnxruntime.InferenceSession(rewritten, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": values})
    assert np.abs(found - values).max() <= max(-low, high) / 127 / 2 * 1.001


def test_symmetric_graphs_are_left_as_they_are() -> None:
    graph = quantizing(np.int8, 0)
    assert signed(graph) == graph


def test_asymmetric_weights_are_refused() -> None:
    model = onnx.load_model_from_string(quantizing(np.uint8, 7))
    del model.graph.node[0]
    model.graph.initializer.append(numpy_helper.from_array(np.uint8([1, 2]), "q"))
    with pytest.raises(GenslimError, match="weight 'q' is quantized asymmetrically"):
        signed(model.SerializeToString())


IMAGES = Input("x", (BATCH, 3, "height", "width"), Images(), {"height": 64, "width": 720}, 8)
FREE = Signature((IMAGES,), (Output("y", (), (0.0, 1.0)),))


def test_shapes_that_are_asked_for() -> None:
    parsed = {"x": (-1, 3, -1, -1)}
    asked = {"min": ("1,3,32,32",), "opt": ("x:2x3x64x96",), "max": ("x:8,3,512,512",)}
    assert profile_of(parsed, FREE, asked) == {
        "x": {"min": [1, 3, 32, 32], "opt": [2, 3, 64, 96], "max": [8, 3, 512, 512]}
    }
    # One end alone moves the others' defaults out of its way.
    assert profile_of(parsed, FREE, {"max": ("1,3,48,256",)})["x"] == {
        "min": [1, 3, 16, 176],
        "opt": [1, 3, 48, 256],
        "max": [1, 3, 48, 256],
    }
    assert profile_of({"x": (1, 3, 64, 720)}, FREE, {}) == {}, "nothing is free"


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"max": ("y:1,3,64,64",)}, "no input is called 'y'; there are x"),
        ({"max": ("1,3,64",)}, "--max 1x3x64: input 'x' is batchx3xheightxwidth"),
        ({"max": ("1,4,64,64",)}, "--max 1x4x64x64: input 'x' is batchx3xheightxwidth"),
        ({"opt": ("1,3,60,64",)}, "height 60 is no multiple of 8"),
        ({"min": ("1,3,128,64",), "max": ("1,3,64,64",)}, "from 128 to 64"),
        ({"min": ("1,3,sixty,64",)}, "'1,3,sixty,64' is no shape"),
    ],
)
def test_shapes_that_cant_be(asked: Any, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        profile_of({"x": (-1, 3, -1, -1)}, FREE, asked)


@needs_rtx
def test_the_flags_reach_the_engine(cli: Cli, run: Run) -> None:
    flags = "--min 2,32 --opt 4,32 --max z:32,32 --target-gpu sm_80,SM_86 --workspace 256"
    done = cli("export", "trt", "--fp16", *flags.split(), "-o", "engine.plan", "--json")
    assert done.status == 0, done
    facts = json.loads(done.out.splitlines()[-1])
    assert facts["profile"] == {"z": {"min": [2, 32], "opt": [4, 32], "max": [32, 32]}}
    assert facts["gpus"] == ["sm_80", "sm_86"]
    assert facts["products"] == {"fp16": 4}, "read from the engine that was built"
    assert facts["engine"]["read_from"] == "the builder's log"
    assert "convolutions and products in the engine: 4 fp16" in done.err


@needs_rtx
def test_engines_for_other_gpus_are_other_engines(graph_gan: Generator) -> None:
    trt = find_tensorrt()
    assert graph_gan.onnx is not None
    known = [name.lower().replace("sm", "sm_") for name in capabilities(trt)]
    plans = {
        gpu: build(trt, graph_gan.onnx, graph_gan.signature, Settings(gpus=(gpu,))).plan
        for gpu in (known[0], known[-1])
    }
    assert len(set(plans.values())) == 2


@needs_rtx
def test_gpus_that_the_library_does_not_know(cli: Cli) -> None:
    line = cli("export", "trt", "dcgan-mnist", "--target-gpu", "sm_80,sm_12").refused(status=2)
    assert "--target-gpu sm_12: tensorrt" in line
    assert "it builds for sm_" in line


def test_a_library_that_builds_for_its_own_gpu_alone() -> None:
    trt = SimpleNamespace(__name__="tensorrt", __version__="11.1")
    with pytest.raises(UserError, match="builds for the GPU of this machine alone"):
        configure(trt, SimpleNamespace(), Settings(gpus=("sm_80",)))
    with pytest.raises(UserError, match=r"no BuilderFlag\.VERSION_COMPATIBLE"):
        configure(trt, SimpleNamespace(), Settings(version_compatible=True))


class Config:
    """As much of a builder's configuration as has to do with the timing cache."""

    def __init__(self, *, takes: bool) -> None:
        self.takes = takes
        self.begun_with = b"nothing"

    def create_timing_cache(self, known: bytes) -> object:
        self.begun_with = known
        return object()

    def set_timing_cache(self, cache: object, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        return self.takes


def test_measured_kernels_are_used_again(tmp_path: Path) -> None:
    """TensorRT-RTX has no such cache: a stand-in for TensorRT."""
    trt = SimpleNamespace(__name__="tensorrt", __version__="11.1")
    path = tmp_path / "kernels.cache"
    config = Config(takes=True)
    configure(trt, config, Settings(timing_cache=path))
    assert config.begun_with == b""
    path.write_bytes(b"measured before")
    configure(trt, config, Settings(timing_cache=path))
    assert config.begun_with == b"measured before"
    with pytest.raises(UserError, match=r"kernels.cache: tensorrt 11.1 does not take it"):
        configure(trt, Config(takes=False), Settings(timing_cache=path))
    assert path.read_bytes() == b"measured before"


@needs_rtx
def test_a_library_without_a_cache_says_so(cli: Cli) -> None:
    done = cli("export", "trt", "dcgan-mnist", "--timing-cache", "kernels.cache")
    assert "TensorRT-RTX measures no kernels" in done.refused(status=2)
    assert not Path("kernels.cache").exists()


@needs_rtx
def test_an_interrupted_build_leaves_nothing(
    cli: Cli, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the middle of TensorRT's own code, which knows nothing of Python's signals."""
    phases = []

    def reach(self: Progress, done: float, *, note: str = "") -> None:
        phases.append(note)
        if len(phases) == 3:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Progress, "reach", reach)
    done = cli("export", "trt", "--fp16", "-o", "engine.plan")
    assert done.status == 130, done
    assert len(phases) < 6, "it stopped at once"
    assert not Path("engine.plan").exists()
    left = {path.name for path in run.path.iterdir()}
    assert left - {".lock"} == {"00-original", "01-graph"}


def test_a_build_that_would_not_fit_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    free = SimpleNamespace(available=600 * 2**20)
    monkeypatch.setattr("psutil.virtual_memory", lambda: free)
    require_memory(2**20)
    with pytest.raises(MissingDependency, match=r"of 64 MiB takes about 896 MiB .* 600 MiB are"):
        require_memory(64 * 2**20)


def test_too_little_workspace_is_no_number(cli: Cli) -> None:
    line = cli("export", "trt", "dcgan-mnist", "--workspace", "0").refused(status=2)
    assert "workspace 0 is no positive number" in line


def test_the_parsers_errors_name_the_generators_line() -> None:
    node = helper.make_node("Det", ["x"], ["y"], name="node_det")
    node.metadata_props.add(
        key="pkg.torch.onnx.stack_trace",
        value='File "/home/someone/net.py", line 7, in forward\n    return torch.det(self.a(x))\n'
        '  File "/usr/lib/site-packages/torch/nn/modules/linear.py", line 1, in forward\n    x',
    )
    error = SimpleNamespace(
        node=lambda: 0,
        node_name=lambda: "node_det",
        node_operator=lambda: "Det",
        desc=lambda: "Assertion failed:\n  no importer",
    )
    assert described(error, [node]) == (
        "Det 'node_det' (net.py:7 in forward: return torch.det(self.a(x))): "
        "Assertion failed: no importer"
    )
    assert described(error, []) == "Det 'node_det': Assertion failed: no importer"


@pytest.fixture
def with_stand_in(graph_gan: Generator, monkeypatch: pytest.MonkeyPatch) -> Generator:
    """A generator whose engine runs on a stand-in for TensorRT, as on a machine with a GPU."""
    assert graph_gan.onnx is not None
    profile = {"z": {"min": [1, 32], "opt": [16, 32], "max": [64, 32]}}
    engine = fake.Engine(graph_gan.onnx, profile)
    monkeypatch.setattr(Runtime, "missing", lambda self: None)
    monkeypatch.setattr(
        Runtime, "open", lambda self, *_, **__: EngineSession(fake, engine, fake.FakeGpu())
    )
    monkeypatch.setattr("export.tensorrt.load_engine", lambda *_: engine)
    monkeypatch.setattr("export.tensorrt.RUNS", 3)
    return graph_gan


@needs_rtx
def test_with_a_gpu_the_engine_itself_is_judged_and_timed(with_stand_in: Generator) -> None:
    report = TensorRt("engine.plan")(with_stand_in).steps[-1].report
    assert report["run"] == "run"
    assert report["latency_ms"] > 0
    assert report["engine"]["read_from"] == "the engine"
    assert report["products"] == {"fp32": 4}
    assert report["parity"]["executed"].startswith("fake_tensorrt")
    assert report["parity"]["max_error"] < 1e-3


@needs_rtx
@pytest.mark.parametrize(
    ("value", "reason"), [(np.nan, "NaN or infinite"), (0.0, "the largest error is")]
)
def test_with_a_gpu_black_pictures_are_refused(
    with_stand_in: Generator, monkeypatch: pytest.MonkeyPatch, value: float, reason: str
) -> None:
    """What users of fp16 report most."""
    run = EngineSession.run

    def black(self: EngineSession, inputs: Any) -> dict[str, Any]:
        return {name: np.full_like(made, value) for name, made in run(self, inputs).items()}

    monkeypatch.setattr(EngineSession, "run", black)
    with pytest.raises(GateFailed, match=reason):
        TensorRt("engine.plan")(with_stand_in)
    assert not Path("engine.plan").exists()
    assert Path("engine.rejected.plan").is_file()
