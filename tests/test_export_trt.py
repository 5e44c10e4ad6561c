"""``export trt``: the engine that was asked for is built, or nothing that looks like it.

Engines are built by TensorRT-RTX, which needs no GPU for that; without it these tests skip. What
only a GPU could show (the engine's own layers) is tested against a fake of TensorRT's interface.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from conftest import Cli
from onnx import TensorProto, helper, numpy_helper

from export import TensorRt
from export.tensorrt import build, inspect, refusals, side_range
from genslim import artifact
from genslim.errors import GenslimError, MissingDependency, UserError
from genslim.generator import Generator
from genslim.run import Run
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


@needs_rtx
def test_quantized_products_are_int8(quantized_gan: Generator) -> None:
    exported = TensorRt("engine.plan", precision="fp16")(quantized_gan)
    assert exported.steps[-1].report["network"] == {"int8": 4}
    assert exported.steps[-1].report["precision"] == "int8"


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
        helper.make_node("Conv", ["both", "w"], ["inner"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["inner", "plain"], ["y"], pads=[1, 1, 1, 1]),
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
    assert built.products == {"int8": 1, "fp32": 1}


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
    cli: Cli, tiny_gan: Generator, graph_gan: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a tool that ignores the wish in silence: here the conversion does nothing."""
    run = Run(Path("runs/00-gan"))
    with run.locked():
        run.start(tiny_gan)
        run.append(graph_gan, "graph", parent="00-original")
    monkeypatch.setattr("genslim.half.to_fp16", lambda graph: graph)
    done = cli("export", "trt", "--fp16", "-o", "engine.plan")
    line = done.refused(status=1)
    assert "fp16 was asked for, and the network is 4 fp32" in line
    assert "02-trt-rejected" in line
    assert not Path("engine.plan").exists()
    assert artifact.load(run.path / "02-trt-rejected").files["engine.plan"].is_file()


@needs_rtx
def test_the_command_says_that_it_did_not_run(
    cli: Cli, tiny_gan: Generator, graph_gan: Generator
) -> None:
    run = Run(Path("runs/00-gan"))
    with run.locked():
        run.start(tiny_gan)
        run.append(graph_gan, "graph", parent="00-original")
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


class FakeTensorRt:
    """As much of TensorRT as reading an engine back needs, with a GPU (or without one)."""

    LayerInformationFormat = SimpleNamespace(JSON="json")

    class ILogger:
        Severity = SimpleNamespace(ERROR=1, INTERNAL_ERROR=0)

    def __init__(self, layers: list[Any] | None) -> None:
        self.layers = layers

    def Runtime(self, logger: object) -> Any:  # TensorRT's own name
        inspector = SimpleNamespace(
            get_engine_information=lambda form: json.dumps({"Layers": self.layers})
        )
        engine = SimpleNamespace(create_engine_inspector=lambda: inspector)
        return SimpleNamespace(
            deserialize_cuda_engine=lambda blob: None if self.layers is None else engine
        )


def test_the_engines_layers_are_counted() -> None:
    def layer(kind: str) -> dict[str, Any]:
        return {"Name": "conv", "Outputs": [{"Name": "y", "Format/Datatype": kind}]}

    layers = [layer("Channel major FP16 format where C % 8 == 0"), layer("Half"), layer("Int8")]
    layers += [layer("Row major linear FP32 format"), {"Name": "no outputs"}, "a name alone"]
    assert inspect(FakeTensorRt(layers), b"") == {"fp16": 2, "int8": 1, "fp32": 1}
    assert inspect(FakeTensorRt(None), b"") is None


@pytest.mark.parametrize(
    ("asked", "network", "engine", "refused"),
    [
        ("fp16", {"fp16": 4}, None, False),
        ("fp16", {"int8": 3, "fp16": 1}, None, False),
        ("fp16", {"fp16": 3, "fp32": 1}, None, True),
        ("fp16", {"fp16": 4}, {"fp32": 9}, True),
        ("fp16", {"fp16": 4}, {"fp16": 8, "fp32": 1}, False),
        ("int8", {"fp32": 4}, None, True),
        ("int8", {"int8": 4}, {"int8": 3, "fp32": 1}, False),
        ("fp32", {"fp32": 4}, {"fp32": 4}, False),
    ],
)
def test_what_is_refused(
    asked: str, network: dict[str, int], engine: dict[str, int] | None, refused: bool
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
