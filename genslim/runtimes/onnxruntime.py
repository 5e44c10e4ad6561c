"""ONNX Runtime on the CPU, or on a GPU by its CUDA provider."""

from __future__ import annotations

import tempfile
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from genslim.errors import GenslimError, UserError
from genslim.runtimes.base import Arrays, Execution, Runtime, Session, in_parts
from genslim.target import Target

if TYPE_CHECKING:
    from genslim.generator import Generator

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
PROVIDERS = {"cpu": [CPU], "cuda": [CUDA, CPU]}
"""What a session is asked for. Shapes are computed on the CPU even where a GPU does the rest."""
FLOAT_PRODUCTS = {
    *("Conv", "ConvTranspose", "MatMul", "Gemm"),
    *("FusedConv", "NhwcFusedConv", "FusedMatMul", "FusedGemm"),
}
INTEGER_PRODUCTS = {
    *("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "QGemm"),
    *("DynamicQuantizeMatMul", "MatMulIntegerToFloat"),
}
"""Operators of ONNX, and those that ONNX Runtime fuses them into."""


class OnnxRuntime(Runtime):
    """The generator's ONNX graph in ONNX Runtime."""

    name = "onnxruntime"

    def missing(self) -> str | None:
        """Whether onnxruntime is installed."""
        if find_spec("onnxruntime") is None:
            return "onnxruntime is not installed; install it: pip install onnxruntime"
        return None

    def takes(self, generator: Generator) -> bool:
        """Everything that is a graph or can be exported to one."""
        return generator.onnx is not None or generator.module is not None

    def open(self, generator: Generator, target: Target, *, profile: bool = False) -> Session:
        """Optimise the graph and run it with ``target.threads`` threads."""
        from genslim.onnx_graph import onnx_of

        self.require()
        self.require_takes(generator)
        if target.precision == "bf16":
            raise UserError(
                "ONNX Runtime computes graphs as they are, not in bf16",
                hint="use openvino, or precision=auto",
            )
        return OnnxRuntimeSession(onnx_of(generator), target)


class OnnxRuntimeSession(Session):
    """One InferenceSession; its provider is checked, because it falls back without an error."""

    def __init__(self, model: bytes, target: Target) -> None:
        import onnxruntime

        from genslim.onnx_model import float_type

        assert target.threads is not None
        provider, *_ = wanted = PROVIDERS[target.device]
        if provider == CUDA and hasattr(onnxruntime, "preload_dlls"):
            onnxruntime.preload_dlls()  # the CUDA libraries that wheels install, no system's
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = target.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # errors are raised; warnings are about its own fusions
        # Threads that spin between runs would steal the cores from whatever is timed in turn.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if float_type(model) == "float16" and provider == CPU:
            # Its integer operators take no fp16 scales, and merging Q/DQ pairs into them fails.
            options.add_session_config_entry("session.disable_quant_qdq", "1")
        with tempfile.TemporaryDirectory(prefix="genslim-") as folder:
            optimised = Path(folder) / "optimised.onnx"
            options.optimized_model_filepath = str(optimised)
            try:
                self._session: Any = onnxruntime.InferenceSession(model, options, providers=wanted)
            except Exception as error:  # onnxruntime's exceptions share no public base
                raise GenslimError(
                    f"ONNX Runtime refuses the graph: {str(error).splitlines()[0][:200]}",
                    hint="export it again, or use another runtime",
                ) from error
            precision = executed_precision(optimised)
        executing = self._session.get_providers()[0]
        if executing != provider:
            raise GenslimError(
                f"ONNX Runtime would run on {executing}: it can't use {provider} here",
                hint="install onnxruntime-gpu[cuda,cudnn] alone, without onnxruntime, "
                "on a machine with an NVIDIA GPU; or leave out device=cuda",
            )
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._types = {
            i.name: np.float16 if i.type == "tensor(float16)" else np.float32
            for i in self._session.get_inputs()
        }
        first = self._session.get_inputs()[0].shape[0]
        self.fixed_batch = first if isinstance(first, int) else None
        self.execution = Execution(
            "onnxruntime",
            onnxruntime.__version__,
            provider,
            precision,
            self._session.get_session_options().intra_op_num_threads,
        )

    def run(self, inputs: Arrays) -> dict[str, NDArray[np.float32]]:
        """Run the graph."""
        return in_parts(self._run, inputs, self.fixed_batch)

    def _run(self, inputs: Arrays) -> dict[str, NDArray[np.float32]]:
        feed = {n: np.asarray(a).astype(self._types[n], copy=False) for n, a in inputs.items()}
        outputs = self._session.run(self._outputs, feed)
        return {
            n: o.astype(np.float32, copy=False) for n, o in zip(self._outputs, outputs, strict=True)
        }


def executed_precision(optimised: Path) -> str:
    """The types of the products in the graph that ONNX Runtime made for itself, commonest first.

    Q/DQ pairs that it could not merge into an integer kernel stand around a float product there,
    and an fp16 graph has become fp32 between casts, because its CPU provider has no fp16 kernels.
    """
    import onnx

    graph = onnx.load(optimised).graph
    halves = onnx.TensorProto.FLOAT16
    fp16 = {tensor.name for tensor in graph.initializer if tensor.data_type == halves}
    fp16 |= {v.name for v in graph.value_info if v.type.tensor_type.elem_type == halves}
    found: Counter[str] = Counter()
    for node in graph.node:
        if node.op_type in INTEGER_PRODUCTS:
            found["int8"] += 1
        elif node.op_type in FLOAT_PRODUCTS:
            found["fp16" if node.input[1] in fp16 else "fp32"] += 1
    return "+".join(name for name, _ in found.most_common()) or "unknown"
