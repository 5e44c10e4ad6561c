"""Runtimes: every way to execute a generator, in the order in which they are shown."""

from genslim.errors import UserError
from genslim.runtimes.base import Arrays, Execution, Runtime, Session
from genslim.runtimes.onnxruntime import OnnxRuntime
from genslim.runtimes.openvino import OpenVino
from genslim.runtimes.pytorch import PyTorch
from genslim.runtimes.tensorrt import TensorRt

RUNTIMES: tuple[Runtime, ...] = (PyTorch(), OnnxRuntime(), OpenVino(), TensorRt())


def runtime(name: str) -> Runtime:
    """The runtime called ``name``.

    Raises:
        UserError: there is none.
    """
    for candidate in RUNTIMES:
        if candidate.name == name:
            return candidate
    raise UserError(
        f"no runtime called {name!r}",
        hint="there are " + ", ".join(candidate.name for candidate in RUNTIMES),
    )


__all__ = ["RUNTIMES", "Arrays", "Execution", "Runtime", "Session", "runtime"]
