"""Where a command works: which generator, in which run, made from which artifact.

Commands of every package that add an artifact to a run go through :func:`working_on`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from genslim import artifact, processes
from genslim.command import Common
from genslim.errors import UserError
from genslim.generator import Generator
from genslim.loading import load
from genslim.run import Onlooker, Run, is_run, new_run, run_of, runs


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
    return load(
        source,
        images=common.images,
        input=common.input,
        weights=common.weights,
        value_range=common.value_range,
    )


@contextmanager
def working_on(source: str | None, common: Common) -> Iterator[Place]:
    """Open ``source`` in its run, or start a run with it, and hold the run's lock.

    An artifact is worked on in its own run; anything else, and anything with ``--output``, becomes
    ``00-original`` of a run of its own. A run started for work that then fails is taken away
    again: it would be the newest, and the next command would go on with it. One whose work was
    interrupted and can go on stays, and is found by the same command or one like it.

    Of several processes that do this together the first alone touches a run.

    Raises:
        UserError: the source or the run won't do.
    """
    # Agreed on at once: the first process may soon add what the others would take for the newest.
    found = processes.agreed(existing_artifact(source) if processes.leads() else None)
    if not processes.leads():
        with tempfile.TemporaryDirectory() as folder:
            generator = open_source(str(found) if found else source, common)
            yield Place(generator, Onlooker(Path(folder)), generator.name)
    elif found is not None and common.output is None:
        run = run_of(found)
        with run.locked():
            yield Place(open_source(str(found), common), run, found.name)
    else:
        with begun(source, common) as place:
            yield place


@contextmanager
def begun(source: str | None, common: Common) -> Iterator[Place]:
    """A run that begins with ``source``: a new one, the one asked for, or an interrupted one."""
    fresh = open_source(source, common)
    if fresh.signature.needs_images:
        raise UserError(
            f"{fresh.label} takes images, and no folder was named", hint="name one: --images DIR"
        )
    if common.output:
        run = Run(Path(common.output))
    else:
        run = interrupted_run(fresh) or new_run(fresh.name)
    with run.locked():
        started_for_this = run.interrupted or not run.artifacts
        try:
            yield Place(original_of(run, fresh), run, artifact.ORIGINAL)
        except BaseException:
            if started_for_this:
                run.abandon()
            raise


def original_of(run: Run, fresh: Generator) -> Generator:
    """What ``run`` begins with: ``fresh``, put there now or before.

    Raises:
        UserError: it began with something else.
    """
    if not run.artifacts:
        return run.start(fresh)
    original = artifact.load(run.artifacts[0])
    if original.source != fresh.source or original.steps != fresh.steps:
        raise UserError(
            f"the run {run.path} began with another generator ({original.name})",
            hint="name another folder with -o",
        )
    return original


def interrupted_run(fresh: Generator) -> Run | None:
    """The newest run that was interrupted at its first step, on just this generator, if any.

    Nobody named it, so nothing about it may differ: not the weights behind a file's name, nor the
    folder of images. One that another command works on at the moment is none of ours.
    """
    for run in reversed(runs(interrupted=True)):
        original = artifact.load(run.artifacts[0])
        if not run.in_use and same(original, fresh):
            return run
    return None


def same(one: Generator, other: Generator) -> bool:
    """Whether two generators are alike in everything but their name and place."""
    if (one.source, one.steps, one.signature) != (other.source, other.steps, other.signature):
        return False
    if one.module is None or other.module is None or one.onnx != other.onnx:
        return False
    ours, theirs = one.module.state_dict(), other.module.state_dict()
    return ours.keys() == theirs.keys() and all(ours[k].equal(theirs[k]) for k in ours)
