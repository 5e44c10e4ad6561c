"""``bench run``, ``bench peers`` and ``bench report``."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from bench import report as reports
from bench.measurement import RECORD, Measurement
from genslim.command import Common
from genslim.errors import UserError
from genslim.run import Run, is_run, runs

if TYPE_CHECKING:
    from genslim.console import Console
    from genslim.generator import Generator

FOLDER = "bench"
"""Where a run keeps its measurement."""
REPORT = "report"
"""Where a run keeps its report."""


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


def report(
    source: str | None = None,
    /,
    *,
    common: Common = Common(),  # noqa: B008  frozen
) -> None:
    """Show what was measured: terminal, JSON, Markdown and one HTML page.

    Written to RUN/report unless -o names a folder, or one file ending in .html, .md or .json.

    Parameters
    ----------
    source:
        The run's folder. The newest run below the working folder if left out.
    """
    found = find_run(source)
    console = common.console()
    if not (found.path / FOLDER / RECORD).is_file():
        raise UserError(
            f"nothing was measured in {found.path}", hint=f"run: bench run {found.path}"
        )
    measurement = Measurement.load(found.path / FOLDER)
    known = {artifact.name for artifact in measurement.artifacts}
    missing = [path.name for path in found.artifacts if path.name not in known]
    place = Path(common.output) if common.output else found.path / REPORT
    if common.dry_run:
        reports.show(measurement, console, missing)
        console.info(f"would write the report to {place}")
        return
    written = reports.write(measurement, place, missing)
    reports.show(measurement, console, missing)
    console.finish(
        {**reports.facts(measurement), "files": [str(path) for path in written]},
        wrote=str(written[-1]),
        following=None,
    )


def peers(
    source: str | None = None,
    /,
    *,
    target: str = "openvino",
    least: float = 0.95,
    count: int | None = None,
    rounds: int = 15,
    seconds: float = 120.0,
    seed: int = 0,
    common: Common = Common(),  # noqa: B008  frozen
) -> None:
    """Compare with what other tools make of the same generator, all in the same rounds.

    Peers are PyTorch (eager, autocast, compiled), ONNX Runtime (fp32, INT8), OpenVINO (fp32, bf16)
    and NNCF's INT8, each with its defaults. Written as peers.json and peers.md to RUN/bench, or to
    the folder that -o names.

    Parameters
    ----------
    source:
        A run's folder: its original, and what was made of it. Or any other source, for peers alone.
        The newest run if left out.
    target:
        Where ours run: RUNTIME[:batch=N,threads=N]; batch and threads count for all.
    least:
        The SSIM that a peer must hold to count.
    count:
        Inputs that SSIM is read on; 256 latents or 16 images if left out.
    rounds:
        Rounds that latency is measured in.
    seconds:
        Stop the rounds after this time, but never before the fifth.
    seed:
        Seed of the inputs.
    """
    import json

    from bench.comparison import compare
    from bench.measuring import check
    from genslim.storage import write_whole
    from genslim.target import Target

    check(count, rounds, seconds)
    console = common.console()
    ours: list[tuple[str, Generator]] = []
    usual = Path("peers")
    if source is None or is_run(Path(source)):
        found = find_run(source)
        original, *made = load_artifacts(found, common.images)
        ours = [(g.path.name, g) for g in made if g.path and is_kept_step(g.path)]
        usual = found.path / FOLDER
    else:
        from genslim.stepping import open_source

        original = open_source(source, common)
    if original.module is None:
        raise UserError(
            f"{original.label} is a graph: peers start from a module",
            hint="name the run, or the source that it began with",
        )
    folder = Path(common.output) if common.output else usual
    if common.dry_run:
        console.info(f"would compare {', '.join(name for name, _ in ours) or original.label}")
        return
    comparison = compare(
        original,
        ours,
        Target.parse(target),
        least=least,
        count=count,
        rounds=rounds,
        seconds=seconds,
        seed=seed,
        console=console,
    )
    write_whole(folder / "peers.json", json.dumps(comparison.to_json(), indent=1) + "\n")
    write_whole(folder / "peers.md", comparison.markdown())
    console.table(["", "ran as", "latency", "speed-up", "SSIM"], comparison.cells())
    console.info(comparison.verdict())
    console.finish(comparison.to_json(), wrote=str(folder / "peers.md"), following=None)


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
