"""What the ``compress`` program does: every command is a step on an artifact of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compress.prune import Prune
from compress.quantize import Quantize
from compress.rewrite import Rewrite
from compress.separable import Separable
from compress.step import Step
from genslim.command import Common

if TYPE_CHECKING:
    from genslim.console import Console
    from genslim.generator import Generator

PRUNE, SEPARABLE, REWRITE, QUANTIZE, COMMON = Prune(), Separable(), Rewrite(), Quantize(), Common()
"""Every flag at its default; frozen, so that functions can share them."""


def prune(source: str | None = None, /, *, step: Prune = PRUNE, common: Common = COMMON) -> None:
    """Remove channels, the weakest first, and win the quality back by distillation.

    Parameters
    ----------
    source:
        A built-in name, weights file, package.module:factory, artifact or run folder; by default
        the newest run, or the built-in dcgan-mnist.
    """
    take_step(source, step, common, following="compress separable")


def separable(
    source: str | None = None, /, *, step: Separable = SEPARABLE, common: Common = COMMON
) -> None:
    """Swap convolutions for depthwise-separable ones where that is faster and quality holds.

    Parameters
    ----------
    source:
        What to start from; by default the newest run.
    """
    take_step(source, step, common, following="compress quantize --int8")


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
    """Apply ``step`` to what ``source`` names and leave the result in its run."""
    from genslim.stepping import open_source, working_on

    console = common.console()
    if common.dry_run:
        generator = open_source(source, common)
        step.check(generator)
        console.info(f"would {step.name} {generator.label}: {step}")
        return
    with working_on(source, common) as place:
        console.heading(f"{step.name} {place.generator.label}")
        result = step(place.generator, console, checkpoint=place.run.checkpoint)
        saved = place.run.append(result, step.name, parent=place.parent)
    show(saved, console)
    record = saved.steps[-1]
    facts = {"step": record.name, "parameters": record.parameters, "report": record.report}
    console.finish(facts, wrote=str(saved.path), following=following)


def show(generator: Generator, console: Console) -> None:
    """What the last step did, as a table."""
    report = dict(generator.steps[-1].report)
    rows = [["changed", line] for line in report.pop("changed")]
    rows += [["left whole", f"{item['what']}: {item['reason']}"] for item in report.pop("left")]
    for key, value in report.items():
        if key in ("parameters", "macs"):
            before, after = value
            rows.append([key, f"{before:,} to {after:,} ({after / before - 1:+.0%})"])
        elif not isinstance(value, list | dict):
            rows.append([key.replace("_", " "), str(value)])
    console.table(["", generator.steps[-1].name], rows, numbers=False)
