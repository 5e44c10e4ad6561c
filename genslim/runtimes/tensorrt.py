"""TensorRT: engines that ``export trt`` built, run on an NVIDIA GPU.

NVIDIA ships two libraries with one API: TensorRT (module ``tensorrt``) and TensorRT-RTX (module
``tensorrt_rtx``), an ordinary wheel that builds engines on a machine without a GPU too. An engine
runs with the library and version that built it.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

from genslim.errors import GenslimError, MissingDependency, UserError
from genslim.runtimes.base import Runtime, Session
from genslim.target import Target

if TYPE_CHECKING:
    from genslim.generator import Generator

MODULES = ("tensorrt", "tensorrt_rtx")
"""In the order of preference."""
ENGINE = "engine.plan"
"""The name of an engine in an artifact."""


def find_tensorrt(name: str | None = None) -> Any:
    """The module of TensorRT, or else of TensorRT-RTX.

    Args:
        name: the one that it must be.

    Raises:
        MissingDependency: neither is installed, or the one that is does not load.
    """
    broken = []
    for module in MODULES if name is None else (name,):
        if find_spec(module) is None:
            continue
        try:
            return import_module(module)
        except Exception as error:  # ImportError, OSError, RuntimeError: by the library that lacks
            reason = str(error).strip().splitlines() or [type(error).__name__]
            broken.append(f"{module} does not load ({reason[0][:160]})")
    what = "neither TensorRT nor TensorRT-RTX" if name is None else f"no {name}"
    raise MissingDependency(
        "; ".join(broken) or f"{what} is installed",
        hint='pip install "genslim[rtx]" (TensorRT-RTX, an ordinary wheel) '
        'or pip install "genslim[trt]" (TensorRT)',
    )


class Log(Protocol):
    """What TensorRT said."""

    lines: list[str]
    """Everything."""
    errors: list[str]
    """Errors, each in one line."""


def quiet_logger(trt: Any) -> Any:
    """A logger that prints nothing and keeps everything: a :class:`Log`."""

    class Kept(trt.ILogger):  # type: ignore[misc]
        """Keeps what TensorRT says."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[str] = []
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            """Called by TensorRT, from any thread."""
            self.lines.append(message)
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(" ".join(message.split()))

    return Kept()


class TensorRt(Runtime):
    """Engines on the first NVIDIA GPU."""

    name = "tensorrt"

    def missing(self) -> str | None:
        """Whether there is a library, a GPU and a PyTorch that uses it."""
        from genslim.runtimes.cuda import Cuda

        if all(find_spec(module) is None for module in MODULES):
            return (
                "neither TensorRT nor TensorRT-RTX is installed; "
                'install one: pip install "genslim[rtx]"'
            )
        return Cuda().missing()

    def takes(self, generator: Generator) -> bool:
        """Engines."""
        return ENGINE in generator.files

    def open(self, generator: Generator, target: Target, *, profile: bool = False) -> Session:
        """Load the engine with the library that built it.

        Raises:
            UserError: it is damaged, or of another version or GPU.
        """
        from genslim.runtimes.cuda import Cuda
        from genslim.runtimes.engine import EngineSession

        self.require()
        self.require_takes(generator)
        if target.precision != "auto":
            raise UserError(
                f"an engine computes in the types it was built for, not in {target.precision}",
                hint="leave out precision, or build another: export trt --fp16",
            )
        built = built_with(generator)
        trt = find_tensorrt(built.partition(" ")[0] or None)
        engine = load_engine(trt, generator.files[ENGINE].read_bytes(), built)
        return EngineSession(trt, engine, Cuda())


def built_with(generator: Generator) -> str:
    """The library that built a generator's engine and its version; nothing where it is unknown."""
    reports = [step.report for step in generator.steps if "library" in step.report]
    return str(reports[-1]["library"]) if reports else ""


def load_engine(trt: Any, plan: bytes, built: str = "") -> Any:
    """Load an engine onto the GPU.

    Args:
        trt: the module of the library.
        plan: the file's content.
        built: what built it, ``tensorrt_rtx 1.7.1``, as far as it is known.

    Raises:
        UserError: it is damaged, or of another library, version or GPU.
    """
    log = quiet_logger(trt)
    here = f"{trt.__name__} {trt.__version__}"
    try:
        engine = trt.Runtime(log).deserialize_cuda_engine(plan)
    except Exception as error:  # the bindings raise what they like about bytes that are no engine
        raise refusal(here, built, [str(error)]) from error
    if engine is None:
        raise refusal(here, built, log.errors or log.lines)
    return engine


def refusal(here: str, built: str, lines: list[str]) -> GenslimError:
    """Why an engine was not loaded, in one line."""
    why = " ".join(lines[-1].split())[:200] if lines else "no reason given"
    if built and built != here:
        return UserError(
            f"this engine was built by {built}, and {here} is installed ({why})",
            hint="build it again with export trt, or install that version",
        )
    return UserError(
        f"{here} can't load this engine: {why}",
        hint="it is damaged, or built for another GPU: build it again with export trt",
    )
