"""A step graph on ONNX Runtime or OpenVINO, its cache handed from one step to the next uncopied."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


class OnnxRuntimeReader:
    """A :class:`generators.text.decoding.Reader` of a step graph, on ONNX Runtime's CPU."""

    def __init__(self, graph: bytes, threads: int | None = None) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        self._value: Any = onnxruntime.OrtValue.ortvalue_from_numpy
        self._session: Any = onnxruntime.InferenceSession(
            graph, options, providers=["CPUExecutionProvider"]
        )
        self._pasts = [i for i in self._session.get_inputs() if i.name != "tokens"]
        self._outputs = [output.name for output in self._session.get_outputs()]
        self.codes = int(self._session.get_outputs()[0].shape[2])
        self._kept: list[Any] = []

    def begin(self) -> None:
        """Forget everything."""
        self._kept = []

    def read(self, tokens: Tensor, *, keep: bool = True) -> Tensor:
        """Read tokens; see :class:`generators.text.decoding.Reader`."""
        if not self._kept:
            shapes = [(len(tokens), i.shape[1], 0, i.shape[3]) for i in self._pasts]
            self._kept = [self._value(np.zeros(shape, np.float32)) for shape in shapes]
        feed = dict(zip((i.name for i in self._pasts), self._kept, strict=True))
        feed["tokens"] = self._value(tokens.contiguous().numpy())
        logits, *present = self._session.run_with_ort_values(self._outputs, feed)
        if keep:
            self._kept = present
        return torch.from_numpy(logits.numpy())


class OpenVinoReader:
    """A :class:`generators.text.decoding.Reader` of a step graph, on OpenVINO.

    Of two requests one holds what is kept, and the other runs: what one put out goes into the other
    as it lies in memory.
    """

    def __init__(self, graph: bytes, threads: int | None = None, precision: str = "f32") -> None:
        import openvino

        core: Any = openvino.Core()
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads or torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": precision,
        }
        self._tensor: Any = openvino.Tensor
        compiled = core.compile_model(core.read_model(graph), "CPU", settings)
        self._requests = [compiled.create_infer_request() for _ in range(2)]
        self._holder = 0
        self._pasts = [i for i in compiled.inputs if i.any_name != "tokens"]
        self.codes = int(compiled.outputs[0].partial_shape[2].get_length())
        self._kept: list[Any] = []

    def begin(self) -> None:
        """Forget everything."""
        self._kept = []

    def read(self, tokens: Tensor, *, keep: bool = True) -> Tensor:
        """Read tokens; see :class:`generators.text.decoding.Reader`."""
        if not self._kept:
            sides = [
                (i.partial_shape[1].get_length(), i.partial_shape[3].get_length())
                for i in self._pasts
            ]
            self._kept = [
                self._tensor(np.zeros((len(tokens), heads, 0, width), np.float32))
                for heads, width in sides
            ]
        other = 1 - self._holder
        request = self._requests[other]
        request.set_tensor("tokens", self._tensor(tokens.contiguous().numpy()))
        for port, tensor in zip(self._pasts, self._kept, strict=True):
            request.set_tensor(port, tensor)
        request.infer()
        if keep:
            self._holder = other
            self._kept = [request.get_output_tensor(1 + i) for i in range(len(self._pasts))]
        return torch.from_numpy(request.get_output_tensor(0).data.copy())
