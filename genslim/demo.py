"""``genslim demo``: the main job from end to end, with the commands a user would type."""

from __future__ import annotations

import shlex
import time
from pathlib import Path

from genslim.console import Console
from genslim.errors import GenslimError, MissingDependency
from genslim.plugins import groups
from genslim.run import new_run

SOURCE = "dcgan-mnist"


def chain(run: str, source: str) -> list[str]:
    """The commands, in order."""
    return [
        f"compress prune {source} --ratio 0.65 --allocation uniform --round-to 16 --seconds 80 "
        f"-o {run}",
        f"compress separable {run} --seconds 10",
        f"compress rewrite {run} --precision int8",
        f"compress quantize {run} --int8 --seconds 10",
        f"export onnx {run}",
        f"export openvino {run}",
        f"export trt {run} --fp16",
        f"bench run {run}",
        f"bench report {run}",
    ]


def demo(*, output: Path | None = None, quiet: bool = False) -> int:
    """Take the shipped generator through every step, and show what each gained and cost.

    Parameters
    ----------
    output:
        The run folder to make; by default a new one under runs/.
    quiet:
        Show only the commands and the final figures.
    """
    run = str(output or new_run("demo").path)
    console = Console()
    programs = groups()
    started = time.monotonic()
    for line in chain(shlex.quote(run), SOURCE):
        console.heading(f"$ {line}")
        name, *arguments = shlex.split(line)
        last = line.startswith("bench report")
        try:
            programs[name].dispatch([*arguments, *(["--quiet"] if quiet and not last else [])])
        except MissingDependency as error:  # the chain goes on without TensorRT
            console.info(f"skipped: {error}")
        except GenslimError as error:
            console.info(
                f"stopped after {time.monotonic() - started:.0f} s; {run} keeps what was made"
            )
            raise error
    seconds = time.monotonic() - started
    console.info(f"\n{seconds:.0f} s in all; the page to look at: {run}/report/report.html")
    return 0
