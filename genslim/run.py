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
    def newest(self) -> Path:
        """The newest artifact that is not an export: what the next command starts from.

        Raises:
            UserError: the run is empty.
        """
        for path in reversed(self.artifacts):
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
        """Remove a run that holds no more than what it began with. The caller holds the lock."""
        if all(path.name == artifact.ORIGINAL for path in self.artifacts):
            shutil.rmtree(self.path / artifact.ORIGINAL, ignore_errors=True)
            with suppress(OSError):  # what else lies there is someone else's
                (self.path / LOCK).unlink()
                self.path.rmdir()

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
                shutil.rmtree(leftover, ignore_errors=True)
            yield
        finally:
            lock.release()


def is_run(path: Path) -> bool:
    """Whether ``path`` is a run folder."""
    return bool(Run(path).artifacts)


def run_of(artifact_folder: Path) -> Run:
    """The run that an artifact folder belongs to."""
    return Run(artifact_folder.resolve().parent)


def runs() -> list[Run]:
    """The runs below the working folder, oldest first."""
    if not RUNS.is_dir():
        return []
    return [
        Run(p) for p in sorted(RUNS.iterdir()) if NUMBERED.fullmatch(p.name) and Run(p).artifacts
    ]


def new_run(name: str) -> Run:
    """A run folder that does not exist yet, ``runs/03-name``."""
    taken = (
        [int(p.name[:2]) for p in RUNS.iterdir() if NUMBERED.fullmatch(p.name)]
        if RUNS.is_dir()
        else []
    )
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "run"
    return Run(RUNS / f"{max(taken, default=-1) + 1:02d}-{slug}")
