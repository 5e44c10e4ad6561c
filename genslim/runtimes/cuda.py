"""What an engine needs of a GPU beside TensorRT: memory, streams, graphs. PyTorch has them all.

One class, so that tests run the same sessions on a stand-in without a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


class Cuda:
    """The first NVIDIA GPU."""

    device = torch.device("cuda", 0)

    def missing(self) -> str | None:
        """Why it can't be used here; None where it can."""
        if torch.cuda.is_available():
            return None
        if torch.version.cuda is None:
            return (
                f"PyTorch {torch.__version__} is built without CUDA; "
                "install a build with CUDA, on a machine with an NVIDIA GPU"
            )
        return "PyTorch finds no NVIDIA GPU; use a machine with one and its driver"

    def name(self) -> str:
        """What the GPU is called."""
        return torch.cuda.get_device_name(self.device)

    def stream(self) -> Any:
        """A stream of its own, beside those of other lanes."""
        return torch.cuda.Stream(self.device)

    def current(self) -> Any:
        """The stream that the caller's own work is on."""
        return torch.cuda.current_stream(self.device)

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Memory on the GPU."""
        return torch.empty(tuple(shape), dtype=dtype, device=self.device)

    def pinned(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Memory of the machine that the GPU reads by itself, while the CPU goes on."""
        return torch.empty(tuple(shape), dtype=dtype, pin_memory=True)

    def record(self, stream: Any, work: Callable[[], None]) -> Callable[[], None] | None:
        """``work`` as a CUDA graph: what it launched, launched again by one call.

        None where it can't be captured; then ``work`` itself must be called.
        """
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=stream):
                work()
        except RuntimeError:
            torch.cuda.synchronize(self.device)
            return None
        return graph.replay
