"""``bench run``: measure every artifact of a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench import report as reports
from bench.commands.finding import FOLDER, find_run, load_artifacts
from bench.formats import pytest_json
from bench.measurement import RECORD
from bench.sweep import Sweep
from bench.tables.sweep_table import sweep_reasons, sweep_table
from genslim.command import Common
from genslim.errors import UserError

if TYPE_CHECKING:
    from bench.measurement import Measurement
    from genslim.console import Console
    from genslim.run import Run


def run(
    source: str | None = None,
    /,
    *,
    target: str = "openvino",
    runtimes: str | None = None,
    count: int | None = None,
    openings: int = 5,
    rounds: int = 30,
    seconds: float = 60.0,
    batches: str | None = None,
    threads: str | None = None,
    seed: int = 0,
    memory: bool = True,
    real: str | None = None,
    extractor: str | None = None,
    lpips_weights: str | None = None,
    common: Common = Common(),  # noqa: B008  frozen
) -> None:
    """Measure every artifact of a run: latency, size, memory and quality.

    Each artifact runs on each runtime that takes it, in turn with the original in PyTorch eager
    fp32, with the same batch and threads.

    Written to RUN/bench, or to the folder that -o names, as measurement.json, and as
    pytest-benchmark.json for programs that read that.

    Parameters
    ----------
    source:
        The run's folder, or an exported file, which begins a run: fast.onnx. The newest run below
        the working folder if left out.
    target:
        RUNTIME[:batch=N,threads=N,precision=auto|fp32|bf16,device=cpu|cuda]; batch and threads
        count for all runtimes. Batch is 16 for latents and 1 for images unless given.
    runtimes:
        Names with commas between: torch,onnxruntime,openvino. All if left out.
    count:
        Inputs that quality is measured on; 256 latents or 16 images if left out.
    openings:
        How often everything is opened anew between rounds: one artifact opened twice differs from
        itself. Fewer where an opening would have less than three rounds.
    rounds:
        Rounds that latency is measured in, all openings together.
    seconds:
        Stop the rounds after this time, but never before the fifth. A sweep takes as long again.
    batches:
        Sweep: measure each artifact's best runtime at these batches too: 1,4,16.
    threads:
        Sweep: and with these numbers of threads, each at every batch: 1,2.
    seed:
        Seed of the inputs.
    memory:
        Measure the peak memory and the cold start of a fresh process for each artifact.
    real:
        Real images for FID, KID, precision, recall, density and coverage: a folder of images, or
        an IDX file such as MNIST's, or a folder of those. At most 2048 are used. The original's
        own images are the reference if left out.
    extractor:
        Features that images are compared by: a name (digits), or a TorchScript or torch.export
        file and the values it takes, FILE:range=0..255[,size=299][,channels=3]. Pixels if left
        out. A file holds a program: name one that you trust.
    lpips_weights:
        Weights of torchvision's AlexNet or VGG16 for LPIPS, a state dict (.safetensors, .pth).
    """
    names = [name.strip() for name in runtimes.split(",") if name.strip()] if runtimes else None
    console = common.console()
    sweep = Sweep.parse(batches, threads, seconds=seconds)
    if not is_file(source) and (common.input or common.weights or common.value_range):
        raise UserError(
            "a run is measured at the shapes and with the weights that it holds",
            hint="leave out --input, --weights and --value-range",
        )
    if common.dry_run:
        plan(source, common, names, target, console)
        return
    from bench.harness.measuring import measure

    with held(source, common) as found:
        folder = Path(common.output) if common.output else found.path / FOLDER
        measurement = measure(
            load_artifacts(found, common.images),
            target,
            runtimes=names,
            count=count,
            openings=openings,
            rounds=rounds,
            seconds=seconds,
            sweep=sweep,
            seed=seed,
            memory=memory,
            real=real,
            extractor=extractor,
            lpips_weights=lpips_weights,
            console=console,
        )
        measurement.save(folder)
        pytest_json.write(measurement, folder)
    reports.show(measurement, console)
    show_sweep(measurement, console)
    console.finish(
        reports.facts(measurement),
        wrote=str(folder / RECORD),
        following=f"bench report {found.path}" if not common.output else None,
    )


@contextmanager
def held(source: str | None, common: Common) -> Iterator[Run]:
    """The run to measure, locked where something is written to it.

    One that begins with a file is taken away again where it can't be measured.

    Raises:
        UserError: there is none, or it is in use.
    """
    if is_file(source):
        from genslim.stepping import working_on

        with working_on(source, replace(common, output=None)) as place:
            yield place.run
        return
    found = find_run(source)
    with nullcontext() if common.output else found.locked():
        yield found


def is_file(source: str | None) -> bool:
    """Whether a file was named, not a run."""
    return source is not None and Path(source).is_file()


def show_sweep(measurement: Measurement, console: Console) -> None:
    """Images a second at each setting of the sweep, where there was one."""
    titles, lines = sweep_table(measurement.sweep)
    if lines:
        console.table(titles, lines)
    for line in sweep_reasons(measurement.sweep):
        console.info(line)


def plan(
    source: str | None, common: Common, names: list[str] | None, target: str, console: Console
) -> None:
    """Say what would be measured, and do nothing."""
    from bench.harness.measuring import targets
    from genslim import artifact
    from genslim.runtimes import runtime
    from genslim.signature import Signature
    from genslim.stepping import open_source
    from genslim.target import Target

    if is_file(source):
        signature, what = open_source(source, common).signature, str(source)
    else:
        found = find_run(source)
        signature = Signature.from_json(artifact.read_record(found.artifacts[0])["signature"])
        what = f"{', '.join(p.name for p in found.artifacts)} of {found.path}"
    settled = Target.parse(target).settled(signature)
    console.info(f"would measure {what}")
    for place in targets(settled, names):
        reason = runtime(place.runtime).missing()
        console.info(f"on {place}" + (f": not here, {reason}" if reason else ""))
