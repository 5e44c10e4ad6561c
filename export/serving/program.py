"""Runs the ``model.onnx`` beside it: a model of Triton's Python backend.

``export triton --backend python`` copies this file into the model's folder as ``model.py``; it is
no module of genslim's and needs none. What the server's Python needs: numpy and onnxruntime.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]  # the server's

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"


class TritonPythonModel:
    """The name that Triton looks for."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the graph: once for each instance of the model."""
        check_numpy()
        config = json.loads(args["model_config"])
        parameters = {
            key: value["string_value"] for key, value in config.get("parameters", {}).items()
        }
        self.batches = config["max_batch_size"] > 0
        self.session = open_session(
            Path(args["model_repository"]) / args["model_version"] / "model.onnx",
            gpu=int(args["model_instance_device_id"])
            if args["model_instance_kind"] == "GPU"
            else None,
            must=parameters.get("device") == "gpu",
            threads=int(parameters.get("threads", 0)),
            half=config["input"][0]["data_type"] == "TYPE_FP16",
        )
        self.inputs = [port.name for port in self.session.get_inputs()]
        self.outputs = [port.name for port in self.session.get_outputs()]

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer the requests that Triton gathered; those of one shape run as one batch."""
        taken = [
            {
                name: pb_utils.get_input_tensor_by_name(request, name).as_numpy()
                for name in self.inputs
            }
            for request in requests
        ]
        together: dict[Any, list[int]] = {}
        for index, arrays in enumerate(taken):
            shapes = tuple(array.shape[1:] for array in arrays.values())
            together.setdefault(shapes if self.batches else index, []).append(index)
        responses: list[Any] = [None] * len(requests)
        for indices in together.values():
            for index, response in zip(
                indices, self.answers([taken[index] for index in indices]), strict=True
            ):
                responses[index] = response
        return responses

    def answers(self, requests: list[dict[str, Any]]) -> list[Any]:
        """Run requests of one shape together; an error is the answer to all of them."""
        try:
            feed = {
                name: np.concatenate([arrays[name] for arrays in requests])
                if len(requests) > 1
                else requests[0][name]
                for name in self.inputs
            }
            made = self.session.run(self.outputs, feed)
        except Exception as error:  # onnxruntime's exceptions share no public base
            failed = pb_utils.TritonError(str(error))
            return [pb_utils.InferenceResponse(error=failed) for _ in requests]
        if len(requests) == 1:
            return [self.response(made)]
        ends = np.cumsum([len(arrays[self.inputs[0]]) for arrays in requests])[:-1]
        parts = zip(*(np.split(array, ends) for array in made), strict=True)
        return [self.response(part) for part in parts]

    def response(self, arrays: Any) -> Any:
        """The outputs, by their names."""
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor(name, np.ascontiguousarray(array))
                for name, array in zip(self.outputs, arrays, strict=True)
            ]
        )


def open_session(path: Path, *, gpu: int | None, must: bool, threads: int, half: bool) -> Any:
    """Open the graph on a GPU or on the CPU.

    Args:
        path: of the graph.
        gpu: the number of the GPU that Triton gave this instance; None: the CPU.
        must: fail where onnxruntime can't use that GPU, rather than use the CPU.
        threads: on the CPU; 0: as onnxruntime likes.
        half: whether it is an fp16 graph.
    """
    if gpu is not None and CUDA not in onnxruntime.get_available_providers():
        refuse(must, "this onnxruntime is built for the CPU alone: pip install onnxruntime-gpu")
        gpu = None
    if gpu is not None and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()  # the CUDA libraries that wheels install, no system's
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    providers: list[Any] = [CPU] if gpu is None else [(CUDA, {"device_id": gpu}), CPU]
    if gpu is None and half:
        # Integer operators take no fp16 scales on the CPU: merging Q/DQ pairs into them would fail.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    if gpu is not None and session.get_providers()[0] != CUDA:  # it falls back without an error
        refuse(must, f"onnxruntime {onnxruntime.__version__} can't use GPU {gpu}")
    return session


def refuse(must: bool, reason: str) -> None:
    """Fail, or go on and leave a warning in the server's log."""
    if must:
        raise pb_utils.TritonModelException(reason)
    pb_utils.Logger.log_warn(f"{reason}; running on the CPU")


def check_numpy() -> None:
    """Fail where the server can't read this numpy's arrays.

    Python backends up to Triton 24.10 were built for numpy 1. With numpy 2 they hand out arrays of
    one repeated number and send empty ones, and say nothing.
    """
    sent = np.arange(4, dtype=np.float32)
    tensor = pb_utils.Tensor.from_dlpack("probe", pb_utils.Tensor("probe", sent))
    if not np.array_equal(tensor.as_numpy(), sent):
        raise pb_utils.TritonModelException(
            f"this Triton's Python backend was built for numpy 1 and can't read numpy "
            f'{np.__version__}: pip install "numpy<2"'
        )
