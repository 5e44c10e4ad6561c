"""A stand-in for TensorRT and a GPU: engines are ONNX graphs that ONNX Runtime runs on the CPU.

It keeps TensorRT's contract, so that sessions are tested on any machine: addresses of memory go in,
results are written there, shapes outside of the profile are refused, and bytes that are no engine
load as None with a line in the log. What it can't show is speed.
"""

from __future__ import annotations

import ctypes
import json
import threading
from collections.abc import Callable, Sequence
from enum import Enum
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
import onnx
import onnxruntime
import torch

MAGIC = b"fake engine 1\n"


class TensorIOMode(Enum):
    INPUT = 0
    OUTPUT = 1


class ILogger:
    Severity = SimpleNamespace(ERROR="error", INTERNAL_ERROR="internal error", INFO="info")

    def log(self, severity: object, message: str) -> None:
        raise NotImplementedError


def plan_of(graph: bytes, profile: dict[str, dict[str, list[int]]], version: str = "1.0") -> bytes:
    """An engine as bytes."""
    head = json.dumps({"profile": profile, "version": version}).encode()
    return MAGIC + head + b"\n" + graph


class Context:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.running = threading.Lock()

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        self.shapes[name] = tuple(shape)
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name in self.shapes:
            return self.shapes[name]
        zeros = {n: np.zeros(s, self.engine.types[n]) for n, s in self.shapes.items()}
        return tuple(self.engine.session.run([name], zeros)[0].shape)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        assert self.running.acquire(blocking=False), "one context, two runs at a time"
        try:
            inputs = {n: self.memory(n, s) for n, s in self.shapes.items()}
            names = [o.name for o in self.engine.session.get_outputs()]
            for name, made in zip(names, self.engine.session.run(names, inputs), strict=True):
                self.memory(name, made.shape)[...] = made
            self.engine.runs += 1
        finally:
            self.running.release()
        return True

    def memory(self, name: str, shape: Sequence[int]) -> Any:
        kind = np.dtype(self.engine.types[name])
        count = int(np.prod(shape)) * kind.itemsize
        raw = (ctypes.c_byte * count).from_address(self.addresses[name])
        return np.frombuffer(raw, kind).reshape(shape)


class Engine:
    def __init__(self, graph: bytes, profile: dict[str, Any]) -> None:
        self.profile = profile
        self.session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        ports = [*self.session.get_inputs(), *self.session.get_outputs()]
        self.types = {
            p.name: np.float16 if p.type == "tensor(float16)" else np.float32 for p in ports
        }
        self.sides = {
            p.name: tuple(s if isinstance(s, int) else -1 for s in p.shape) for p in ports
        }
        self.names = list(self.sides)
        self.taken = {p.name for p in self.session.get_inputs()}
        self.num_io_tensors = len(self.names)
        self.contexts = 0
        self.runs = 0
        model = onnx.load_model_from_string(graph)
        kind = "Half" if np.float16 in self.types.values() else "Float"
        port = {"Name": "x", "Datatype": kind, "Format": "Row major"}
        self.layers: list[Any] = [
            {
                "Name": f"{node.name}_myl0",
                "LayerType": "correlation",
                "Inputs": [port],
                "Outputs": [port],
                "Metadata": f"[ONNX Layer: {node.name}]",
            }
            for node in model.graph.node
        ]

    def get_tensor_name(self, index: int) -> str:
        return self.names[index]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.sides[name]

    def get_tensor_dtype(self, name: str) -> Any:
        return self.types[name]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self.taken else TensorIOMode.OUTPUT

    def get_tensor_profile_shape(self, name: str, index: int) -> list[list[int]]:
        return [self.profile[name][end] for end in ("min", "opt", "max")]

    def create_execution_context(self) -> Context:
        self.contexts += 1
        return Context(self)

    def create_engine_inspector(self) -> Any:
        text = json.dumps({"Layers": self.layers})
        return SimpleNamespace(get_engine_information=lambda form: text)


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        self.logger = logger

    def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
        head, _, graph = plan.removeprefix(MAGIC).partition(b"\n")
        try:
            facts = json.loads(head) if plan.startswith(MAGIC) else None
        except ValueError:
            facts = None
        if facts is None:
            self.logger.log(ILogger.Severity.ERROR, "The engine header does not\nconform")
            return None
        if facts["version"] != __version__:
            self.logger.log(ILogger.Severity.ERROR, "Version tag does not match")
            return None
        return Engine(graph, facts["profile"])


LayerInformationFormat = SimpleNamespace(JSON="json")
__version__ = "1.0"


def nptype(kind: Any) -> Any:
    return kind


class Stream:
    """A stream where all work is done at once."""

    cuda_stream = 0

    def __init__(self, gpu: FakeGpu) -> None:
        self.gpu = gpu

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def synchronize(self) -> None:
        self.gpu.waits += 1

    def record_event(self) -> object:
        return object()

    def wait_event(self, event: object) -> None:
        self.gpu.events += 1


class FakeGpu:
    """:class:`genslim.runtimes.cuda.Cuda` in the machine's own memory."""

    device = torch.device("cpu")

    def __init__(self, *, records: bool = True) -> None:
        self.records = records
        self.waits = self.events = self.replays = self.streams = 0

    def missing(self) -> None:
        return None

    def name(self) -> str:
        return "a stand-in"

    def stream(self) -> Stream:
        self.streams += 1
        return Stream(self)

    def current(self) -> Stream:
        return Stream(self)

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        return torch.empty(tuple(shape), dtype=dtype)

    pinned = empty

    def record(self, stream: Stream, work: Callable[[], None]) -> Callable[[], None] | None:
        if not self.records:
            return None

        def replay() -> None:
            self.replays += 1
            work()

        return replay
