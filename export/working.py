"""An export in its run: the artifact is kept there, and the files are put where ``-o`` says."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from export.exporter import Exporter
from genslim.command import Common
from genslim.errors import GateFailed
from genslim.run import REJECTED, Run
from genslim.stepping import existing_artifact, open_source, working_on
from genslim.storage import TEMPORARY, write_errors

NEXT = "bench report"


def export_source(exporter: Exporter, source: str | None, common: Common) -> None:
    """Export ``source``, keep the result as an artifact of its run, and put it where -o says.

    Raises:
        GateFailed: the result is not good enough; it is kept as ``NN-name-rejected``.
    """
    exporter.ready()
    console = common.console()
    within = replace(common, output=None)  # -o is the exporter's here, not a run folder
    if common.dry_run:
        found = existing_artifact(source)
        generator = open_source(str(found) if found else source, within)
        exporter.check(generator)
        console.info(f"would export {generator.label}: {exporter}")
        console.finish({"dry_run": True, "exporter": asdict(exporter)}, wrote=None, following=None)
        return
    with working_on(source, within) as place, staging(place.run) as folder:
        console.heading(f"export {exporter.name} {place.generator.label}")
        exported = exporter.write(place.generator, folder, console)
        rejected = bool(exported.failures)
        saved = place.run.append(
            exported.generator,
            f"{exporter.name}-{REJECTED}" if rejected else exporter.name,
            parent=place.parent,
            kind="export",
        )
    record = saved.steps[-1]
    facts = {"artifact": str(saved.path), "passed": not rejected, **record.report}
    if rejected:
        console.finish(facts, wrote=None, following=None)
        raise GateFailed("; ".join(exported.failures), hint=f"kept as {saved.path}")
    wrote = str(saved.path)
    if exporter.path is not None:
        files = exporter.publish(saved)
        facts["files"] = {name: str(path) for name, path in files.items()}
        wrote = f"{', '.join(facts['files'].values())} and {wrote}"
    console.info(f"{record.report['bytes'] / 1e6:.2f} MB, {record.report['precision']}")
    console.finish(facts, wrote=wrote, following=NEXT)


@contextmanager
def staging(run: Run) -> Iterator[Path]:
    """A folder for files in the making; the run sweeps it away if the command is killed."""
    with write_errors(run.path):
        folder = tempfile.TemporaryDirectory(prefix=f"{TEMPORARY}export-", dir=run.path)
    with folder as name:
        yield Path(name)
