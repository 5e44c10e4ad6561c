"""``bench run``: measure every artifact of a run."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from bench import report as reports
from bench.commands.finding import FOLDER, find_run, load_artifacts
from bench.measurement import RECORD
from genslim.command import Common
from genslim.errors import UserError

if TYPE_CHECKING:
    from genslim.console import Console
    from genslim.run import Run


def run(
    source: str | None = None,
    /,
    *,
    target: str = "openvino",
    runtimes: str | None = None,
    count: int | None = None,
    rounds: int = 30,
    seconds: float = 60.0,
    seed: int = 0,
    memory: bool = True,
    common: Common = Common(),  # noqa: B008  frozen
) -> None:
    """Measure every artifact of a run: latency, size, memory and quality.

    Each artifact runs on each runtime that takes it, in turn with the original in PyTorch eager
    fp32, with the same batch and threads.

    Parameters
    ----------
    source:
        The run's folder. The newest run below the working folder if left out.
    target:
        RUNTIME[:batch=N,threads=N,precision=auto|fp32|bf16,device=cpu|cuda]; batch and threads
        count for all runtimes. Batch is 16 for latents and 1 for images unless given.
    runtimes:
        Names with commas between: torch,onnxruntime,openvino. All if left out.
    count:
        Inputs that quality is measured on; 256 latents or 16 images if left out.
    rounds:
        Rounds that latency is measured in.
    seconds:
        Stop the rounds after this time, but never before the fifth.
    seed:
        Seed of the inputs.
    memory:
        Measure the peak memory of a fresh process for each artifact.
    """
    found = find_run(source)
    names = [name.strip() for name in runtimes.split(",") if name.strip()] if runtimes else None
    console = common.console()
    if common.input or common.weights:
        raise UserError(
            "a run is measured at the shapes and with the weights that it holds",
            hint="leave out --input and --weights",
        )
    if common.dry_run:
        plan(found, names, target, console)
        return
    from bench.measuring import measure

    folder = Path(common.output) if common.output else found.path / FOLDER
    with nullcontext() if common.output else found.locked():
        measurement = measure(
            load_artifacts(found, common.images),
            target,
            runtimes=names,
            count=count,
            rounds=rounds,
            seconds=seconds,
            seed=seed,
            memory=memory,
            console=console,
        )
        measurement.save(folder)
    reports.show(measurement, console)
    console.finish(
        reports.facts(measurement),
        wrote=str(folder / RECORD),
        following=f"bench report {found.path}" if not common.output else None,
    )


def plan(found: Run, names: list[str] | None, target: str, console: Console) -> None:
    """Say what would be measured, and do nothing."""
    from bench.measuring import targets
    from genslim import artifact
    from genslim.runtimes import runtime
    from genslim.signature import Signature
    from genslim.target import Target

    record = artifact.read_record(found.artifacts[0])
    settled = Target.parse(target).settled(Signature.from_json(record["signature"]))
    console.info(f"would measure {', '.join(p.name for p in found.artifacts)} of {found.path}")
    for place in targets(settled, names):
        reason = runtime(place.runtime).missing()
        console.info(f"on {place}" + (f": not here, {reason}" if reason else ""))
