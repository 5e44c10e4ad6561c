"""OpenVINO on the CPU: the fastest CPU path for convolutional generators found so far."""

from __future__ import annotations

from collections import Counter
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from genslim.errors import GenslimError, MissingDependency
from genslim.runtimes.base import Arrays, Execution, Runtime, Session
from genslim.target import Target

if TYPE_CHECKING:
    from genslim.generator import Generator

HINTS = {"fp32": "f32", "bf16": "bf16"}
NAMES = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "i8": "int8", "u8": "int8"}
PRODUCTS = (
    "Convolution",
    "Deconvolution",
    "FullyConnected",
    "MatMul",
    "GroupConvolution",
    "RNNSeq",
)


class OpenVino(Runtime):
    """The generator's ONNX graph, or its exported IR, compiled for the CPU."""

    name = "openvino"

    def missing(self) -> str | None:
        """Whether openvino is installed."""
        if find_spec("openvino") is None:
            return "openvino is not installed; install it: pip install openvino"
        return None

    def takes(self, generator: Generator) -> bool:
        """IR files, graphs, and everything that can be exported to one."""
        return (
            "model.xml" in generator.files
            or generator.onnx is not None
            or generator.module is not None
        )

    def open(self, generator: Generator, target: Target) -> Session:
        """Compile for the CPU with ``target.threads`` threads, tuned for latency."""
        from genslim.onnx_graph import onnx_of

        self.require()
        self.require_takes(generator)
        if "model.xml" in generator.files:
            return OpenVinoSession(str(generator.files["model.xml"]), generator, target)
        return OpenVinoSession(onnx_of(generator), generator, target)


class OpenVinoSession(Session):
    """A compiled model with one infer request."""

    def __init__(self, model: bytes | str, generator: Generator, target: Target) -> None:
        import openvino

        core = openvino.Core()
        if target.precision == "bf16":
            require_bf16(core)
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": target.threads,
        }
        if target.precision != "auto":
            settings["INFERENCE_PRECISION_HINT"] = HINTS[target.precision]
        try:
            read = core.read_model(model)
            self._compiled: Any = core.compile_model(read, "CPU", settings)
        except RuntimeError as error:
            lines = [line for line in str(error).splitlines() if line.strip()]
            raise GenslimError(
                f"OpenVINO refuses the graph: {lines[-1][:200] if lines else error}",
                hint="export it again, or use another runtime",
            ) from error
        executed = executed_precision(self._compiled)
        if target.precision == "bf16" and executed == "fp32":
            raise GenslimError(
                "OpenVINO computes this graph in fp32 although bf16 was asked for",
                hint="it has no bf16 kernels for these layers: precision=auto",
            )
        self._request = self._compiled.create_infer_request()
        self._outputs = [output.name for output in generator.signature.outputs]
        self._types = {
            port.any_name: port.element_type.to_dtype() for port in self._compiled.inputs
        }
        self.execution = Execution(
            "openvino",
            openvino.__version__.split("-")[0],
            "CPU",
            executed,
            int(self._compiled.get_property("INFERENCE_NUM_THREADS")),
        )

    def run(self, inputs: Arrays) -> dict[str, NDArray[np.float32]]:
        """Run the compiled model."""
        feed = {
            name: np.ascontiguousarray(array, dtype=self._types[name])
            for name, array in inputs.items()
        }
        results = self._request.infer(feed, share_inputs=True)
        return {name: results[index].astype(np.float32) for index, name in enumerate(self._outputs)}

    def close(self) -> None:
        """Release the compiled model."""
        self._request = self._compiled = None


def require_bf16(core: Any) -> None:
    """Raise MissingDependency where the CPU has no bf16.

    OpenVINO would say nothing and emulate it, five times slower than fp32, or use fp32.
    """
    if "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        name = " ".join(core.get_property("CPU", "FULL_DEVICE_NAME").split())
        raise MissingDependency(
            f"this CPU has no bf16 ({name})", hint="precision=auto computes in fp32 here"
        )


def executed_precision(compiled: Any) -> str:
    """The types of the products in the compiled graph, the commonest first: ``int8+fp32``."""
    found: Counter[str] = Counter()
    for op in compiled.get_runtime_model().get_ops():
        info = op.get_rt_info()
        if info["layerType"].value in PRODUCTS:
            kind = info["runtimePrecision"].value.lower()
            found[NAMES.get(kind, kind)] += 1
    return "+".join(name for name, _ in found.most_common()) or "unknown"
