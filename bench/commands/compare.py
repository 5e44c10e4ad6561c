"""``bench compare``: what changed between two runs, or between two artifacts of one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench.commands.finding import FOLDER, find_run
from bench.measurement import RECORD, Measurement
from genslim.command import Common
from genslim.errors import UserError
from genslim.run import is_run

if TYPE_CHECKING:
    from bench.verdicts.differences import Pair


def compare(
    source: str | None = None,
    other: str | None = None,
    /,
    *,
    base: str | None = None,
    head: str | None = None,
    runtime: str | None = None,
    force: bool = False,
    common: Common = Common(),  # noqa: B008  frozen
) -> None:
    """Say what changed between two measurements, or between two artifacts of one.

    `bench compare BASE HEAD` compares the artifacts that both hold, by name. Latencies of two runs
    have no rounds in common: what is compared are their ratios to the original in PyTorch eager,
    measured in the same rounds as they. `bench compare RUN --base 00-original --head 03-quantize`
    compares two artifacts of one run in their paired rounds.

    A latency is called faster or slower if the 95 % confidence interval of its ratio excludes 1 and
    the ratio exceeds 3 % (5 % between runs). Quality and sizes come out the same each time and
    are compared as they are.

    For two commits, measure at each with `bench run -o`, on one machine, and compare the folders.

    Parameters
    ----------
    source:
        A run's folder, a folder that `bench run -o` wrote, or a measurement.json. The newest run
        if left out.
    other:
        Another one, which is compared with the first.
    base:
        An artifact of the first; with --head.
    head:
        An artifact of the same run, compared with --base.
    runtime:
        Compare on this runtime; on the best one of each artifact if left out.
    force:
        Compare measurements of unlike environments too, all but their times.
    """
    from bench.verdicts import differences

    console = common.console()
    first = load(source)
    if other is None:
        if base is None or head is None:
            raise UserError(
                "there is nothing to compare with",
                hint="name two runs (bench compare BASE HEAD), or two artifacts of one "
                "(bench compare RUN --base NAME --head NAME)",
            )
        pairs = [differences.within(first, base, head, runtime)]
        unlike: list[str] = []
    else:
        if base is not None or head is not None:
            raise UserError(
                "--base and --head are artifacts of one run, and two runs are named",
                hint="leave them out: artifacts of the same name are compared",
            )
        second = load(other)
        unlike = differences.unlike(first, second)
        if unlike and not force:
            raise UserError(
                "these measurements can't be compared: " + "; ".join(unlike),
                hint="measure both in one place and alike, or compare all but times: --force",
            )
        pairs = differences.between(first, second, runtime, times=not unlike)
    if common.dry_run:
        console.info("would compare " + ", ".join(str(pair) for pair in pairs))
        return
    show(pairs, unlike, common)


def show(pairs: list[Pair], unlike: list[str], common: Common) -> None:
    """Tables for people, one JSON object for programs."""
    from bench.verdicts import differences

    console = common.console()
    for pair in pairs:
        console.heading(str(pair))
        console.table(["", "before", "after", "ratio", "95 %", "verdict"], pair.cells())
        if pair.note:
            console.info(pair.note)
        for change in pair.changes:
            if not change.settled:
                console.info(f"{change.figure}: the interval is too wide to exclude a change")
    if unlike:
        console.warn("times are not compared, the two are unlike: " + "; ".join(unlike))
    facts = {"pairs": [pair.to_json() for pair in pairs], "unlike": unlike}
    written = None
    if common.output:
        from genslim.storage import write_whole

        write_whole(Path(common.output), differences.markdown(pairs, unlike))
        written = common.output
    console.finish(facts, wrote=written, following=None)


def load(source: str | None) -> Measurement:
    """The measurement that a command line names, or that of the newest run.

    Raises:
        UserError: there is none.
    """
    if source is not None and not is_run(Path(source)):
        path = Path(source)
        if path.name == RECORD and path.is_file():
            return Measurement.load(path.parent)
        if (path / RECORD).is_file():
            return Measurement.load(path)
        if path.is_file():
            raise UserError(f"{source} is no measurement", hint=f"name a folder or a {RECORD}")
    found = find_run(source)
    if not (found.path / FOLDER / RECORD).is_file():
        raise UserError(
            f"nothing was measured in {found.path}", hint=f"run: bench run {found.path}"
        )
    return Measurement.load(found.path / FOLDER)
