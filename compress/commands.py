"""What the ``compress`` program does: every command is a step on an artifact of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from compress.prune import Prune
from compress.quantize import Quantize
from compress.rewrite import Rewrite
from compress.separable import Separable
from compress.shorten import Shorten
from compress.step import Step
from genslim.command import Common
from genslim.errors import GateFailed
from genslim.run import REJECTED

if TYPE_CHECKING:
    from genslim.console import Console
    from genslim.generator import Generator

PRUNE, SHORTEN, SEPARABLE = Prune(), Shorten(), Separable()
REWRITE, QUANTIZE, COMMON = Rewrite(), Quantize(), Common()
"""Every flag at its default; frozen, so that functions can share them."""
MOST_NAMED = 6
"""More that were left whole for one reason are counted."""


def prune(source: str | None = None, /, *, step: Prune = PRUNE, common: Common = COMMON) -> None:
    """Remove channels, the weakest first, and win the quality back by distillation.

    Parameters
    ----------
    source:
        A built-in name, weights file, package.module:factory, artifact or run folder; by default
        the newest run, or the built-in dcgan-mnist.
    """
    take_step(source, step, common, following="compress separable")


def shorten(
    source: str | None = None, /, *, step: Shorten = SHORTEN, common: Common = COMMON
) -> None:
    """Leave out whole blocks, those missed least, and win the quality back by distillation.

    Parameters
    ----------
    source:
        What to start from; by default the newest run.
    """
    take_step(source, step, common, following="compress rewrite")


def sensitivity(
    source: str | None = None,
    /,
    *,
    ratios: str = "0.25,0.5,0.75",
    groups: str = "*",
    recover: Literal["none", "closed-form"] = "closed-form",
    round_to: int = 8,
    count: int | None = None,
    seed: int = 0,
    common: Common = COMMON,
) -> None:
    """Cut each group of channels alone and show the SSIM that is left: a table and a figure.

    Nothing is changed. Written to sensitivity-NAME unless -o names a folder: sensitivity.png and
    sensitivity.json.

    Parameters
    ----------
    source:
        What to look at; by default the newest run, or the built-in dcgan-mnist.
    ratios:
        How much of a group goes, with commas between.
    groups:
        Only groups with a layer whose name matches this pattern: body.*
    recover:
        Whether the layers that a group feeds are refitted by least squares.
    round_to:
        Channel counts become multiples of this.
    count:
        Inputs that SSIM is read on; 4 images or 32 latents if left out.
    seed:
        Seed of the inputs.
    """
    from compress.sensitivity import check
    from compress.sensitivity import sensitivity as look
    from compress.sensitivity_report import numbers_of, room_in, show_sensitivity, write
    from genslim.stepping import open_source

    console = common.console()
    shares = numbers_of(ratios)
    generator = open_source(source, common)
    check(generator, shares, round_to, count)
    folder = common.output or f"sensitivity-{generator.name}"
    if common.dry_run:
        asked = ", ".join(f"{share:g}" for share in shares)
        console.info(f"would cut each group of {generator.label} alone at {asked}: {folder}")
        return
    console.heading(f"sensitivity {generator.label}")
    with room_in(folder) as place:
        found = look(
            generator,
            shares,
            groups=groups,
            recover=recover,
            round_to=round_to,
            count=count,
            seed=seed,
            console=console,
        )
        write(found, place)
    show_sensitivity(found, console)
    console.finish(found.to_json(), wrote=folder, following="compress prune --keep PATTERN")


def separable(
    source: str | None = None, /, *, step: Separable = SEPARABLE, common: Common = COMMON
) -> None:
    """Swap convolutions for depthwise-separable ones where that is faster and quality holds.

    Parameters
    ----------
    source:
        What to start from; by default the newest run.
    """
    take_step(source, step, common, following="compress rewrite --precision int8")


def rewrite(
    source: str | None = None, /, *, step: Rewrite = REWRITE, common: Common = COMMON
) -> None:
    """Rewrite layers exactly, at no cost of quality, where the target is faster for it.

    Parameters
    ----------
    source:
        What to start from; by default the newest run.
    """
    take_step(source, step, common, following="compress quantize --int8")


def quantize(
    source: str | None = None, /, *, step: Quantize = QUANTIZE, common: Common = COMMON
) -> None:
    """Quantize to INT8 or FP16.

    Parameters
    ----------
    source:
        What to start from; by default the newest run.
    """
    take_step(source, step, common, following="export onnx, or bench run")


def take_step(source: str | None, step: Step, common: Common, *, following: str) -> None:
    """Apply ``step`` to what ``source`` names and leave the result in its run.

    Raises:
        GateFailed: the result is not good enough; it is kept as ``NN-name-rejected``, and commands
            that follow go on with what was before.
    """
    from genslim.stepping import open_source, working_on

    console = common.console()
    if common.dry_run:
        generator = open_source(source, common)
        step.check(generator)
        console.info(f"would {step.name} {generator.label}: {step}")
        return
    with working_on(source, common) as place:
        console.heading(f"{step.name} {place.generator.label}")
        name = step.name
        failed: GateFailed | None = None
        try:
            result = step(place.generator, console, checkpoint=place.run.checkpoint)
        except GateFailed as error:
            if error.kept is None:
                raise
            result, name, failed = error.kept, f"{name}-{REJECTED}", error
        saved = place.run.append(result, name, parent=place.parent)
    show(saved, console)
    record = saved.steps[-1]
    facts = {"step": record.name, "parameters": record.parameters, "report": record.report}
    if failed is not None:
        console.finish({**facts, "passed": False}, wrote=None, following=None)
        raise GateFailed(failed.message, hint=f"kept as {saved.path}; {step.remedy}")
    console.finish(facts, wrote=str(saved.path), following=following)


def show(generator: Generator, console: Console) -> None:
    """What the last step did, as a table."""
    report = dict(generator.steps[-1].report)
    rows = [["changed", line] for line in report.pop("changed")]
    rows += [["left whole", line] for line in left_whole(report.pop("left"))]
    for key, value in report.items():
        if key in ("parameters", "macs"):
            before, after = value
            rows.append([key, f"{before:,} to {after:,} ({after / before - 1:+.0%})"])
        elif not isinstance(value, list | dict):
            rows.append([key.replace("_", " "), str(value)])
    console.table(["", generator.steps[-1].name], rows, numbers=False)
    if layers := report.get("layers"):
        titles = list(layers[0])
        cells = [[said(row[title]) for title in titles] for row in layers]
        console.table([title.replace("_", " ") for title in titles], cells)


def left_whole(left: list[dict[str, str]]) -> list[str]:
    """What was left whole and why; the artifact names all of many with one reason."""
    of: dict[str, list[str]] = {}
    for item in left:
        of.setdefault(item["reason"], []).append(item["what"])
    lines = []
    for reason, names in of.items():
        if len(names) > MOST_NAMED:
            lines.append(f"{len(names)} from {names[0]} to {names[-1]}: {reason}")
        else:
            lines += [f"{name}: {reason}" for name in names]
    return lines


def said(value: object) -> str:
    """A figure of a table as text."""
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
