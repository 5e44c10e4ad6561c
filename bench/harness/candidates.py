"""What is measured: every artifact on every runtime that takes it, opened, tried once, or refused.

A module is exported to a graph once, whatever number of runtimes want the graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from bench.measurement import Refusal
from genslim import artifact
from genslim.errors import GenslimError, UserError
from genslim.generator import Generator
from genslim.onnx_graph import onnx_of
from genslim.runtimes import Arrays, Session, runtime
from genslim.target import Target

if TYPE_CHECKING:
    from genslim.runtimes import Runtime

OWN_FILES: Mapping[str, tuple[str, ...]] = {
    "openvino": ("model.xml", "model.bin"),
    "tensorrt": ("engine.plan",),
}
"""Exported files that a runtime opens instead of the graph."""


@dataclass
class Candidate:
    """An artifact to be measured, and its open sessions."""

    generator: Generator
    name: str
    kind: Literal["original", "step", "export"]
    parent: str | None
    sessions: dict[str, Session] = field(default_factory=dict)
    """By runtime."""
    targets: dict[str, Target] = field(default_factory=dict)
    """What each session was opened with, by runtime."""
    refusals: list[Refusal] = field(default_factory=list)

    @cached_property
    def as_graph(self) -> Generator:
        """The generator with its graph.

        Raises:
            GenslimError: the module can't be exported.
        """
        return replace(self.generator, onnx=onnx_of(self.generator))

    def for_runtime(self, name: str) -> Generator:
        """The form of the generator that the runtime opens."""
        if name == "torch" or any(f in self.generator.files for f in OWN_FILES.get(name, ())):
            return self.generator
        return self.as_graph

    def takes(self, place: Runtime) -> bool:
        """Whether the runtime is one that this artifact is for.

        An export is for the runtime of its files alone: what else lies beside them is measured
        already, as the artifact it was made from.
        """
        files = self.generator.files
        if self.kind == "export":
            for name, own in OWN_FILES.items():
                if any(f in files for f in own):
                    return place.name == name
            return place.name != "torch" and place.takes(self.generator)
        return place.takes(self.generator)

    def open(self, target: Target, inputs: Arrays) -> None:
        """Open a session on ``target`` and try it; a refusal is kept with its reason.

        Args:
            target: settled.
            inputs: a batch to try it on.
        """
        if not self.takes(runtime(target.runtime)):
            return
        session = self.tried(target, inputs)
        if isinstance(session, Refusal):
            self.refusals.append(session)
        else:
            self.sessions[target.runtime] = session
            self.targets[target.runtime] = target

    def tried(self, target: Target, inputs: Arrays) -> Session | Refusal:
        """A new session on ``target`` that took ``inputs``, or why there is none."""
        place = runtime(target.runtime)
        try:
            place.require()
            session = place.open(self.for_runtime(place.name), target)
            try:
                session.run(inputs)
            except Exception:
                session.close()
                raise
        except GenslimError as error:
            return Refusal(place.name, str(error))
        except Exception as error:  # foreign runtimes raise what they like: a refusal, not the end
            reason = " ".join(str(error).split())[:200]
            return Refusal(place.name, f"{type(error).__name__}: {reason}")
        return session

    def reopen(self, names: Sequence[str], *, backwards: bool) -> None:
        """Open sessions that were closed, as they were.

        Args:
            names: of the runtimes, in the order in which ``sessions`` shall have them.
            backwards: open the last first.
        """
        opened = {
            name: runtime(name).open(self.for_runtime(name), self.targets[name])
            for name in (reversed(names) if backwards else names)
        }
        self.sessions.update({name: opened[name] for name in names})

    def deployed_bytes(self, name: str) -> int:
        """Size of the files that the runtime needs; of the weights where there are none yet."""
        generator = self.generator
        if own := [generator.files[f] for f in OWN_FILES.get(name, ()) if f in generator.files]:
            return sum(file.stat().st_size for file in own)
        if name != "torch" and generator.onnx is not None:
            return len(generator.onnx)
        if generator.path is not None and (weights := generator.path / artifact.WEIGHTS).is_file():
            return weights.stat().st_size
        if generator.module is not None:
            return sum(t.nbytes for t in generator.module.state_dict().values())
        return 0

    def disk_bytes(self, best: str | None) -> int:
        """Size of the files to deploy: on ``best``, or on the runtime that refused."""
        return self.deployed_bytes(best or (self.refusals[0].runtime if self.refusals else "torch"))

    def close(self) -> None:
        """Close every session."""
        for session in self.sessions.values():
            session.close()
        self.sessions.clear()


def candidates_of(generators: Sequence[Generator]) -> list[Candidate]:
    """A candidate for each generator, named like its folder; others by number and last step.

    Raises:
        UserError: there is none, or one has another signature than the first.
    """
    if not generators:
        raise UserError(
            "there is nothing to measure", hint="name the original and what was made of it"
        )
    found: list[Candidate] = []
    for number, generator in enumerate(generators):
        name, kind, parent = identity(generator, number)
        while any(name == other.name for other in found):
            name += "-again"
        if parent not in {other.name for other in found}:
            parent = found[-1].name if found else None
        if generator.signature.outputs != generators[0].signature.outputs:
            raise UserError(
                f"{generator.label} makes other outputs than {generators[0].label}",
                hint="measure artifacts of one original together",
            )
        found.append(Candidate(generator, name, kind, parent))
    return found


def identity(
    generator: Generator, number: int
) -> tuple[str, Literal["original", "step", "export"], str | None]:
    """Name, kind and parent of a generator: from its artifact, or by its place in the list."""
    if generator.path is not None:
        record = artifact.read_record(generator.path)
        return generator.path.name, record["kind"], record.get("parent")
    last = generator.steps[-1].name if generator.steps else "original"
    return f"{number:02d}-{last}", "step" if generator.steps else "original", None


def images_from(
    session: Session, inputs: Mapping[str, NDArray[np.float32]], output: str, batch: int
) -> NDArray[np.float32]:
    """The images of all ``inputs``, made ``batch`` at a time.

    The last batch is filled up with its first inputs again: what runs is what was timed, and an
    engine may have been built for one size.

    Args:
        session: an open session.
        inputs: arrays ``(N, ...)``.
        output: the output that holds the images.
        batch: the batch that is run.
    """
    count = len(next(iter(inputs.values())))
    parts = []
    for start in range(0, count, batch):
        places = np.resize(np.arange(start, min(start + batch, count)), batch)
        images = session.run({name: array[places] for name, array in inputs.items()})[output]
        parts.append(images[: min(batch, count - start)].copy())
    return np.concatenate(parts)
