"""Where a command works: which generator, in which run, made from which artifact.

Commands of every package that add an artifact to a run go through :func:`working_on`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from genslim import artifact
from genslim.command import Common
from genslim.errors import UserError
from genslim.generator import Generator
from genslim.loading import load
from genslim.run import Run, is_run, new_run, run_of, runs


@dataclass(frozen=True)
class Place:
    """A generator that is an artifact of a locked run."""

    generator: Generator
    run: Run
    parent: str
    """Name of the artifact folder that the generator was loaded from."""


def existing_artifact(source: str | None) -> Path | None:
    """The artifact folder that ``source`` means, or None where it means something fresh."""
    if source is None:
        recent = runs()
        return recent[-1].newest if recent else None
    path = Path(source)
    if artifact.is_artifact(path):
        return path
    return Run(path).newest if is_run(path) else None


def open_source(source: str | None, common: Common) -> Generator:
    """The generator that a command line names."""
    return load(source, images=common.images, input=common.input, weights=common.weights)


@contextmanager
def working_on(source: str | None, common: Common) -> Iterator[Place]:
    """Open ``source`` in its run, or start a run with it, and hold the run's lock.

    An artifact is worked on in its own run; anything else, and anything with ``--output``, becomes
    ``00-original`` of a run of its own. A run started for work that then fails is taken away
    again: it would be the newest, and the next command would go on with it.

    Raises:
        UserError: the source or the run won't do.
    """
    found = existing_artifact(source)
    if found is not None and common.output is None:
        run = run_of(found)
        with run.locked():
            yield Place(open_source(str(found), common), run, found.name)
        return
    fresh = open_source(source, common)
    if fresh.signature.needs_images:
        raise UserError(
            f"{fresh.label} takes images, and no folder was named", hint="name one: --images DIR"
        )
    run = Run(Path(common.output)) if common.output else new_run(fresh.name)
    with run.locked():
        if run.artifacts:
            original = artifact.load(run.artifacts[0])
            if original.source != fresh.source or original.steps != fresh.steps:
                raise UserError(
                    f"the run {run.path} began with another generator ({original.name})",
                    hint="name another folder with -o",
                )
            yield Place(original, run, artifact.ORIGINAL)
            return
        try:
            yield Place(run.start(fresh), run, artifact.ORIGINAL)
        except BaseException:
            run.abandon()
            raise
