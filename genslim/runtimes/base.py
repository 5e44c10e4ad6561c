"""What a runtime is: it opens a generator and runs it, and says what really executes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from genslim.errors import MissingDependency, UserError
from genslim.target import Target

if TYPE_CHECKING:
    from genslim.generator import Generator

Arrays = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Execution:
    """What a session really executes on, read back from the runtime, not what was asked for."""

    runtime: str
    version: str
    provider: str
    """The backend: ``CPUExecutionProvider``, ``CPU``, ``eager``."""
    precision: str
    """The types that convolutions and matrix products are computed in, the commonest first:
    ``fp32``, ``int8+fp32``."""
    threads: int

    def __str__(self) -> str:
        return f"{self.runtime} {self.precision}"


@dataclass(frozen=True)
class Timed:
    """An operation that a runtime executed."""

    names: tuple[str, ...]
    """Of the graph's nodes and constants that went into it, as far as the runtime tells."""
    milliseconds: float


class Session(ABC):
    """A generator ready to run. Use it as a context manager, or close it."""

    execution: Execution
    fixed_batch: int | None = None
    """The batch that it takes alone, or multiples of it in parts; None where it takes any."""

    @abstractmethod
    def run(self, inputs: Arrays) -> dict[str, NDArray[np.float32]]:
        """Run once and wait for the result.

        Args:
            inputs: a float32 array for each input of the signature.

        Returns:
            A float32 array for each output.
        """

    def timed(self, inputs: Arrays) -> list[Timed]:
        """Run once and say how long each operation took; empty where the runtime does not tell.

        Sessions opened with ``profile`` alone tell; it costs some time itself.
        """
        return []

    def close(self) -> None:  # noqa: B027  most sessions hold nothing
        """Give back what the session holds."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Runtime(ABC):
    """A way to execute generators."""

    name: ClassVar[str]

    @abstractmethod
    def missing(self) -> str | None:
        """Why it can't be used here and what to install; None where it can.

        Imports nothing heavy.
        """

    @abstractmethod
    def takes(self, generator: Generator) -> bool:
        """Whether it can run this generator at all: a module, a graph, an engine."""

    @abstractmethod
    def open(self, generator: Generator, target: Target, *, profile: bool = False) -> Session:
        """Make a session.

        Args:
            generator: what to run.
            target: settled: its batch and threads are filled in.
            profile: let :meth:`Session.timed` tell how long operations take, where it can.

        Raises:
            MissingDependency: the runtime can't be used on this machine.
            GenslimError: it can't do what the target asks; never a silent fallback.
        """

    def require(self) -> None:
        """Raise MissingDependency where the runtime can't be used."""
        if reason := self.missing():
            what, _, hint = reason.partition("; ")
            raise MissingDependency(f"runtime {self.name}: {what}", hint=hint or None)

    def require_takes(self, generator: Generator) -> None:
        """Raise UserError where this runtime has no way to run the generator."""
        if not self.takes(generator):
            forms = ["module"] * (generator.module is not None)
            forms += ["graph"] * (generator.onnx is not None) + sorted(generator.files)
            from genslim.runtimes import RUNTIMES

            others = [r.name for r in RUNTIMES if r.takes(generator)]
            raise UserError(
                f"runtime {self.name} can't run {generator.label}, "
                f"which is {', '.join(forms)} alone",
                hint=f"use another runtime ({', '.join(others)}) or an artifact from before it",
            )


def in_parts(
    run: Callable[[Arrays], dict[str, NDArray[np.float32]]], inputs: Arrays, size: int | None
) -> dict[str, NDArray[np.float32]]:
    """Run on ``inputs``, ``size`` at a time where a graph takes no other batch."""
    count = len(next(iter(inputs.values())))
    if size is None or size == count:
        return run(inputs)
    if count % size:
        raise UserError(
            f"this graph takes batches of {size}, not of {count}", hint=f"use a batch of {size}"
        )
    parts = [
        run({name: array[start : start + size] for name, array in inputs.items()})
        for start in range(0, count, size)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
