"""Which run and which artifacts of it a command is about."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from genslim.errors import UserError
from genslim.run import Run, is_run, runs

if TYPE_CHECKING:
    from genslim.generator import Generator

FOLDER = "bench"
"""Where a run keeps its measurement."""
REPORT = "report"
"""Where a run keeps its report."""


def find_run(source: str | None) -> Run:
    """The run that a command line names, or the newest.

    Raises:
        UserError: there is none, or what is named is none.
    """
    if source is None:
        recent = runs()
        if not recent:
            raise UserError(
                "there is no run below this folder",
                hint="make one (compress prune), or name a run's folder",
            )
        return recent[-1]
    path = Path(source)
    if not is_run(path):
        what = "is no run: it holds no artifacts" if path.exists() else "does not exist"
        raise UserError(f"{source} {what}", hint="name a run's folder, like runs/00-dcgan-mnist")
    return Run(path)


def load_artifacts(found: Run, images: str | None) -> list[Generator]:
    """Every artifact of a run, oldest first; image inputs are drawn from ``images`` if given."""
    from dataclasses import replace

    from genslim import artifact

    generators = [artifact.load(path) for path in found.artifacts]
    if not images:
        return generators
    folder = str(Path(images).resolve())
    return [replace(g, signature=g.signature.with_images(folder)) for g in generators]


def is_kept_step(path: Path) -> bool:
    """Whether an artifact is a step's result: no export of one, and none that was rejected."""
    from genslim import artifact
    from genslim.run import REJECTED

    kind = artifact.read_record(path)["kind"]
    return kind == "step" and not path.name.endswith(f"-{REJECTED}")
