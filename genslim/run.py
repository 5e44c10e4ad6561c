"""A run: a folder of artifacts in order, ``00-original``, ``01-prune``, …

A command that writes to a run holds its lock, so that two commands can't number the same folder.
The operating system lets go of the lock when the command ends, however it ends.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from genslim import artifact
from genslim.errors import UserError
from genslim.generator import Generator
from genslim.storage import TEMPORARY, write_errors

RUNS = Path("runs")
"""Where new runs are made, below the working folder."""

NUMBERED = re.compile(r"(\d\d)-([a-z0-9][a-z0-9-]*)")
LOCK = ".lock"
REJECTED = "rejected"
"""The end of the name of an artifact that was not good enough: kept, and gone on from by nobody."""
CHECKPOINT = ".unfinished.safetensors"
"""Long work that was interrupted. No leftover: its name does not begin with ``TEMPORARY``."""


@dataclass(frozen=True)
class Run:
    """One run on disk."""

    path: Path

    @property
    def artifacts(self) -> list[Path]:
        """The artifact folders, oldest first."""
        if not self.path.is_dir():
            return []
        return sorted(
            p for p in self.path.iterdir() if NUMBERED.fullmatch(p.name) and artifact.is_artifact(p)
        )

    @property
    def checkpoint(self) -> Path:
        """Where a command keeps long work that may be interrupted."""
        return self.path / CHECKPOINT

    @property
    def interrupted(self) -> bool:
        """Whether its first step was interrupted and can go on."""
        names = [path.name for path in self.artifacts]
        return names == [artifact.ORIGINAL] and self.checkpoint.is_file()

    @property
    def newest(self) -> Path:
        """The newest artifact that commands go on from: no export, and not rejected.

        Raises:
            UserError: the run is empty.
        """
        for path in reversed(self.artifacts):
            if path.name.endswith(f"-{REJECTED}"):
                continue
            if artifact.read_record(path)["kind"] != "export":
                return path
        raise UserError(f"the run {self.path} holds no artifact", hint="start one: compress prune")

    def next_folder(self, name: str) -> Path:
        """Where the next artifact, called ``name``, belongs."""
        numbers = [int(p.name[:2]) for p in self.artifacts]
        return self.path / f"{max(numbers, default=-1) + 1:02d}-{name}"

    def start(self, original: Generator) -> Generator:
        """Write ``00-original`` of a new run. The caller holds the lock."""
        return artifact.save(original, self.path / artifact.ORIGINAL, kind="original")

    def append(
        self, generator: Generator, name: str, *, parent: str, kind: artifact.Kind = "step"
    ) -> Generator:
        """Write the next artifact. The caller holds the lock."""
        return artifact.save(
            generator,
            self.next_folder(name),
            kind=kind,
            parent=parent,
            keep_weights=generator.onnx is None and kind != "export",
        )

    def abandon(self) -> None:
        """Remove a run that holds no more than what it began with. The caller holds the lock.

        One whose first step was interrupted stays: the same command goes on with it.
        """
        if not self.interrupted and all(path.name == artifact.ORIGINAL for path in self.artifacts):
            shutil.rmtree(self.path / artifact.ORIGINAL, ignore_errors=True)
            with suppress(OSError):  # what else lies there is someone else's
                (self.path / LOCK).unlink()
                self.path.rmdir()

    @property
    def in_use(self) -> bool:
        """Whether another process holds its lock at this moment."""
        lock = FileLock(self.path / LOCK, blocking=False)
        try:
            with lock:
                return False
        except Timeout:
            return True

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for writing; sweep away what a killed command left half-written.

        Raises:
            UserError: another process holds it, or the folder can't be written to.
        """
        with write_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / LOCK, blocking=False)
            try:
                lock.acquire()
            except Timeout:
                raise UserError(
                    f"the run {self.path} is in use by another process",
                    hint="wait until it ends, or name another run with -o",
                ) from None
        try:
            for leftover in self.path.glob(f"{TEMPORARY}*"):
                if leftover.is_dir():
                    shutil.rmtree(leftover, ignore_errors=True)
                else:
                    leftover.unlink(missing_ok=True)
            yield
        finally:
            lock.release()


@dataclass(frozen=True)
class Onlooker(Run):
    """What a process that works along with the first one has in place of the run.

    Nothing is written to it and nothing is locked; ``path`` is a folder for what is thrown away.
    """

    def start(self, original: Generator) -> Generator:
        """The original as it is."""
        return original

    def append(
        self, generator: Generator, name: str, *, parent: str, kind: artifact.Kind = "step"
    ) -> Generator:
        """The generator as it is."""
        return generator


def is_run(path: Path) -> bool:
    """Whether ``path`` is a run folder."""
    return bool(Run(path).artifacts)


def run_of(artifact_folder: Path) -> Run:
    """The run that an artifact folder belongs to."""
    return Run(artifact_folder.resolve().parent)


def runs(*, interrupted: bool = False) -> list[Run]:
    """The runs below the working folder, oldest first.

    Args:
        interrupted: those alone whose first step was interrupted. Otherwise all but those: they
            hold nothing that another command would go on with.
    """
    if not RUNS.is_dir():
        return []
    found = [Run(p) for p in sorted(RUNS.iterdir()) if NUMBERED.fullmatch(p.name)]
    return [run for run in found if run.artifacts and run.interrupted == interrupted]


def new_run(name: str) -> Run:
    """A run folder that does not exist yet, ``runs/03-name``."""
    taken = (
        [int(p.name[:2]) for p in RUNS.iterdir() if NUMBERED.fullmatch(p.name)]
        if RUNS.is_dir()
        else []
    )
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "run"
    return Run(RUNS / f"{max(taken, default=-1) + 1:02d}-{slug}")
