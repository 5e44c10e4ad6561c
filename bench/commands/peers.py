"""``bench peers``: the same generator as other tools run it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench.commands.finding import FOLDER, find_run, is_kept_step, load_artifacts
from genslim.command import Common
from genslim.errors import UserError
from genslim.run import is_run

if TYPE_CHECKING:
    from genslim.generator import Generator


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
    from bench.harness.measuring import check
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
