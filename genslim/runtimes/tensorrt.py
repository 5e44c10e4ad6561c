"""TensorRT: finds its Python module; engines are built by ``export trt``, running them is to come.

NVIDIA ships two libraries with one API: TensorRT (module ``tensorrt``) and TensorRT-RTX (module
``tensorrt_rtx``), an ordinary wheel that builds engines on a machine without a GPU too.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from genslim.errors import MissingDependency
from genslim.runtimes.base import Runtime, Session
from genslim.target import Target

if TYPE_CHECKING:
    from genslim.generator import Generator

MODULES = ("tensorrt", "tensorrt_rtx")
"""In the order of preference."""


def find_tensorrt() -> Any:
    """The module of TensorRT, or else of TensorRT-RTX.

    Raises:
        MissingDependency: neither is installed, or the one that is does not load.
    """
    broken = []
    for name in MODULES:
        if find_spec(name) is None:
            continue
        try:
            return import_module(name)
        except Exception as error:  # ImportError, OSError, RuntimeError: by the library that lacks
            reason = str(error).strip().splitlines() or [type(error).__name__]
            broken.append(f"{name} does not load ({reason[0][:160]})")
    raise MissingDependency(
        "; ".join(broken) or "neither TensorRT nor TensorRT-RTX is installed",
        hint='pip install "genslim[rtx]" (TensorRT-RTX, an ordinary wheel) '
        'or pip install "genslim[trt]" (TensorRT)',
    )


def quiet_logger(trt: Any) -> Any:
    """A logger that says nothing and keeps the errors: its ``errors`` is a list of lines."""

    class Errors(trt.ILogger):  # type: ignore[misc]
        """Keeps what is an error."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            """Called by TensorRT, from any thread."""
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(" ".join(message.split()))

    return Errors()


class TensorRt(Runtime):
    """Says honestly that engines are not run yet, so that a benchmark can name the reason."""

    name = "tensorrt"

    def missing(self) -> str | None:
        """This version builds engines and does not run them."""
        return (
            "this version builds engines and does not run them yet; "
            "measure on openvino or onnxruntime"
        )

    def takes(self, generator: Generator) -> bool:
        """Engines."""
        return "engine.plan" in generator.files

    def open(self, generator: Generator, target: Target, *, profile: bool = False) -> Session:
        """Raise MissingDependency."""
        self.require()
        raise AssertionError("unreachable: require() raised")
