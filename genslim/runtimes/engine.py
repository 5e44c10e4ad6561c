"""Running a TensorRT engine: lanes of buffers and streams, CUDA graphs, no needless copies.

A lane is all that one run at a time needs: an execution context, a stream, memory on the GPU and
pinned memory of the machine. Threads that call at the same time get lanes of their own, which the
GPU works on side by side; a lane that is free again is used again. In each lane the launches for
the shapes at hand are recorded once as a CUDA graph and replayed by one call.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genslim.errors import GenslimError, UserError
from genslim.runtimes.base import Arrays, Execution, Session
from genslim.runtimes.inspector import OTHER, layers_told, types_of

MOST_LANES = 4
"""Runs at the same time; more wait."""
MOST_GRAPHS = 8
"""Sets of shapes that a lane keeps buffers and a CUDA graph for; the oldest go."""

Shapes = tuple[tuple[int, ...], ...]
"""Of all inputs, in the engine's order."""


class Gpu(Protocol):
    """What a session asks of the GPU: :class:`genslim.runtimes.cuda.Cuda`."""

    device: torch.device

    def name(self) -> str:
        """What it is called."""

    def stream(self) -> Any:
        """A new stream."""

    def current(self) -> Any:
        """The stream of the caller's own work."""

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Memory on the GPU."""

    def pinned(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Memory of the machine that the GPU reads by itself."""

    def record(self, stream: Any, work: Callable[[], None]) -> Callable[[], None] | None:
        """``work`` as one call, or None."""


class Port:
    """An input or output of an engine."""

    def __init__(self, trt: Any, engine: Any, name: str) -> None:
        self.name = name
        self.shape = tuple(engine.get_tensor_shape(name))
        """-1 for a free side."""
        self.dtype: torch.dtype = getattr(
            torch, np.dtype(trt.nptype(engine.get_tensor_dtype(name))).name
        )
        self.taken = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
        """Whether it is an input."""
        self.least: tuple[int, ...] = self.shape
        self.most: tuple[int, ...] = self.shape
        if self.taken and -1 in self.shape:
            least, _, most = engine.get_tensor_profile_shape(name, 0)
            self.least, self.most = tuple(least), tuple(most)

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise UserError where an input of this shape is outside of what the engine takes."""
        inside = len(shape) == len(self.shape) and all(
            low <= side <= high
            for low, side, high in zip(self.least, shape, self.most, strict=True)
        )
        if not inside:
            least, most = (sides(each) for each in (self.least, self.most))
            taken = f"from {least} to {most}" if least != most else f"{least} alone"
            raise UserError(
                f"{self.name} is {sides(shape)}, and this engine takes {taken}",
                hint="build one for it: export trt --min SHAPE --max SHAPE",
            )


def sides(shape: Sequence[int]) -> str:
    """``1x3x64x64``."""
    return "x".join(map(str, shape))


class Prepared:
    """Buffers of a lane for inputs of certain shapes, and the launches recorded for them."""

    def __init__(
        self, gpu: Gpu, ports: Sequence[Port], known: Mapping[str, tuple[int, ...]]
    ) -> None:
        self.on_gpu = {port.name: gpu.empty(known[port.name], port.dtype) for port in ports}
        self.pinned = {port.name: gpu.pinned(known[port.name], port.dtype) for port in ports}
        self.replay: Callable[[], None] | None = None
        self.recorded = False


class Lane:
    """What one run at a time needs."""

    def __init__(self, gpu: Gpu, engine: Any, ports: Sequence[Port]) -> None:
        self.gpu = gpu
        self.ports = ports
        self.context = engine.create_execution_context()
        if self.context is None:
            raise GenslimError(
                "TensorRT can't make an execution context: the GPU's memory is full",
                hint="close other programs on the GPU, or build for smaller shapes with --max",
            )
        self.stream = gpu.stream()
        self._last: Any = None
        """When the work that this lane started last is done, where nobody waited for it."""
        self._prepared: dict[Shapes, Prepared] = {}

    def prepared(self, shapes: Shapes) -> Prepared:
        """The buffers for these shapes."""
        found = self._prepared.get(shapes)
        if found is None:
            while len(self._prepared) >= MOST_GRAPHS:
                del self._prepared[next(iter(self._prepared))]
            found = self._prepared[shapes] = Prepared(self.gpu, self.ports, self.sizes(shapes))
        return found

    def take(self, shapes: Shapes) -> None:
        """Tell the context how large the inputs are."""
        for port, shape in zip((p for p in self.ports if p.taken), shapes, strict=True):
            self.context.set_input_shape(port.name, shape)

    def sizes(self, shapes: Shapes) -> dict[str, tuple[int, ...]]:
        """The shape of every input and output, where the inputs have these."""
        self.take(shapes)
        return {p.name: tuple(self.context.get_tensor_shape(p.name)) for p in self.ports}

    def claim(self, stream: Any) -> None:
        """Let ``stream`` wait for what the lane still does: its context takes one run at a time."""
        if self._last is not None:
            stream.wait_event(self._last)
            self._last = None

    def launch(self, shapes: Shapes, tensors: Mapping[str, Tensor], stream: Any) -> None:
        """Start the engine on tensors that are on the GPU already."""
        self.take(shapes)
        for port in self.ports:
            self.context.set_tensor_address(port.name, tensors[port.name].data_ptr())
        if not self.context.execute_async_v3(stream.cuda_stream):
            raise GenslimError(
                "the engine did not start", hint="run it again; GENSLIM_TRACEBACK=1 shows where"
            )

    def launch_behind(self, stream: Any, shapes: Shapes, tensors: Mapping[str, Tensor]) -> None:
        """Start the engine behind the work of a caller's stream, and do not wait for it."""
        self.claim(stream)
        self.launch(shapes, tensors, stream)
        self._last = stream.record_event()

    def run(self, arrays: Mapping[str, NDArray[Any]], shapes: Shapes) -> dict[str, NDArray[Any]]:
        """Copy in, compute, copy out, and wait."""
        ready = self.prepared(shapes)

        def work() -> None:
            for port in self.ports:
                if port.taken:
                    ready.on_gpu[port.name].copy_(ready.pinned[port.name], non_blocking=True)
            self.launch(shapes, ready.on_gpu, self.stream)
            for port in self.ports:
                if not port.taken:
                    ready.pinned[port.name].copy_(ready.on_gpu[port.name], non_blocking=True)

        for name, array in arrays.items():
            ready.pinned[name].copy_(torch.from_numpy(array))
        self.claim(self.stream)
        with self.stream:
            if ready.replay is not None:
                ready.replay()
            else:
                work()
        self.stream.synchronize()
        if not ready.recorded:  # after a first run, which lets the engine settle
            ready.recorded = True
            ready.replay = self.gpu.record(self.stream, work)
        return {
            port.name: ready.pinned[port.name].to(torch.float32).numpy().copy()
            for port in self.ports
            if not port.taken
        }


def precision_of(trt: Any, engine: Any) -> str:
    """The types that the engine's layers make, the commonest first; nothing where it hides them."""
    made = (types_of(layer.get("Outputs", [])[:1]) for layer in layers_told(trt, engine))
    found = Counter(kind for kinds in made for kind in kinds if kind != OTHER)
    return "+".join(kind for kind, _ in found.most_common())


class EngineSession(Session):
    """An engine on the GPU. Several threads may run it at the same time."""

    def __init__(self, trt: Any, engine: Any, gpu: Gpu, lanes: int = MOST_LANES) -> None:
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        self.ports = [Port(trt, engine, name) for name in names]
        self._engine = engine
        self._gpu = gpu
        self._free: list[Lane] = []
        self._made = 0
        self._most = lanes
        self._lock = threading.Condition()
        kinds = sorted({str(p.dtype).removeprefix("torch.") for p in self.ports})
        self.execution = Execution(
            trt.__name__,
            str(trt.__version__),
            gpu.name(),
            precision_of(trt, engine) or "+".join(kinds),
            1,
        )

    @property
    def inputs(self) -> list[Port]:
        """The engine's inputs in its order."""
        return [port for port in self.ports if port.taken]

    @contextmanager
    def lane(self) -> Iterator[Lane]:
        """A lane that nobody else uses; waits where all are in use."""
        with self._lock:
            while not self._free and self._made >= self._most:
                self._lock.wait()
            if self._free:
                lane = self._free.pop()
            else:
                lane = Lane(self._gpu, self._engine, self.ports)
                self._made += 1
        try:
            yield lane
        finally:
            with self._lock:
                self._free.append(lane)
                self._lock.notify()

    def run(self, inputs: Arrays) -> dict[str, NDArray[np.float32]]:
        """Run once and wait; batches beyond the engine's greatest go in parts."""
        most = min(port.most[0] for port in self.inputs)
        count = len(inputs[self.inputs[0].name])
        parts = [
            self._run({n: a[start : start + most] for n, a in inputs.items()})
            for start in range(0, count, most)
        ]
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _run(self, inputs: Arrays) -> dict[str, NDArray[np.float32]]:
        shapes = self.shapes({name: array.shape for name, array in inputs.items()})
        with self.lane() as lane:
            return lane.run(
                {p.name: np.ascontiguousarray(inputs[p.name]) for p in self.inputs}, shapes
            )

    def run_tensors(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run on tensors that are on the GPU, without a copy and without waiting.

        Args:
            inputs: a contiguous tensor on the GPU for each input, of the engine's own type.

        Returns:
            A tensor on the GPU for each output. Ready when the caller's current stream gets there,
            as with any operation of PyTorch.

        Raises:
            UserError: a tensor is elsewhere, of another type, or outside of the engine's shapes.
        """
        for port in self.inputs:
            tensor = inputs[port.name]
            if tensor.device != self._gpu.device or tensor.dtype != port.dtype:
                raise UserError(
                    f"{port.name} is {tensor.dtype} on {tensor.device}, "
                    f"and this engine takes {port.dtype} on {self._gpu.device}",
                    hint=f"convert it: .to({str(self._gpu.device)!r}, {port.dtype})",
                )
        shapes = self.shapes({name: tuple(tensor.shape) for name, tensor in inputs.items()})
        given = {port.name: inputs[port.name].contiguous() for port in self.inputs}
        with self.lane() as lane:
            known = lane.sizes(shapes)
            made = {
                port.name: self._gpu.empty(known[port.name], port.dtype)
                for port in self.ports
                if not port.taken
            }
            lane.launch_behind(self._gpu.current(), shapes, {**given, **made})
        return made

    def shapes(self, given: Mapping[str, tuple[int, ...]]) -> Shapes:
        """The inputs' shapes in the engine's order, checked.

        Raises:
            UserError: one is missing, or outside of what the engine takes.
        """
        for port in self.inputs:
            if port.name not in given:
                raise UserError(
                    f"input {port.name!r} is missing",
                    hint=f"this engine takes {', '.join(p.name for p in self.inputs)}",
                )
            port.check(given[port.name])
        return tuple(given[port.name] for port in self.inputs)

    def close(self) -> None:
        """Release the lanes and the engine."""
        self._free.clear()
        self._engine = None
