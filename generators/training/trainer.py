"""The one training loop: every generator, and the classifier that judges them, goes through it.

Leaves in its folder, after each epoch, ``metrics.jsonl`` (one line an epoch), the weights so far
(``product.safetensors``) and, for what draws pictures, ``samples-NN.png``, so that a training gone
wrong is seen while it runs; and a checkpoint, from which the same command goes on.
"""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from generators.data.dataset import Dataset
from generators.sheet import write_sheet
from generators.shipped import save_weights
from generators.training.checkpoint import Checkpoint
from generators.training.objective import Objective
from generators.training.precision import Precision
from generators.training.schedule import Schedule
from genslim.console import Console
from genslim.errors import GateFailed

if TYPE_CHECKING:
    from accelerate import Accelerator


def train(
    objective: Objective,
    data: Dataset,
    schedule: Schedule,
    folder: Path,
    console: Console,
    *,
    precision: Precision = "fp32",
) -> dict[str, float]:
    """Train to the end of the schedule and return the last judgement.

    Runs on what ``accelerate`` finds: one process on the CPU or a GPU; several, each with its
    share of every batch, when started by ``accelerate launch``. Goes on after the last epoch that
    an interrupted training of the same schedule finished.

    Raises:
        GateFailed: a loss became NaN or infinite.
    """
    from accelerate import Accelerator

    accelerator = Accelerator()
    objective.prepare(accelerator, precision)
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = Checkpoint(folder / "checkpoint.pt", schedule)
    random = torch.Generator().manual_seed(schedule.seed)
    done, elapsed, verdict = checkpoint.resume(objective, random)
    per_epoch = len(data) // schedule.batch_size
    started = time.monotonic() - elapsed
    if done:
        console.info(f"goes on after epoch {done} of {schedule.epochs}")
    main = accelerator.is_main_process
    with (
        (folder / "metrics.jsonl").open("a" if done else "w", encoding="utf-8") as log,
        console.progress("training", total=schedule.epochs * per_epoch) as bar,
    ):
        bar.reach(done * per_epoch)
        for epoch in range(done + 1, schedule.epochs + 1):
            losses = train_epoch(
                objective,
                shares(data.batches(schedule.batch_size, random), accelerator),
                epoch=epoch,
                epochs=schedule.epochs,
                steps=per_epoch,
                advance=lambda: bar.advance(note=f"epoch {epoch}/{schedule.epochs}"),  # noqa: B023
            )
            verdict = objective.judge()
            if not main:
                continue
            seconds = time.monotonic() - started
            row = {"epoch": epoch, "seconds": round(seconds, 1), **losses, **verdict}
            log.write(json.dumps(row) + "\n")
            log.flush()
            both = {**losses, **verdict}
            console.info(f"epoch {epoch}: " + ", ".join(f"{k} {v:.4f}" for k, v in both.items()))
            if (alarm := objective.alarm(verdict)) is not None:
                console.warn(f"epoch {epoch}: {alarm}")
            save_weights(objective.product(), folder / "product.safetensors")
            if (sheet := objective.sheet()) is not None:
                write_sheet(sheet.cpu(), folder / f"samples-{epoch:02d}.png")
            checkpoint.save(objective, random, epoch, seconds, verdict)
    checkpoint.remove()
    return verdict


def train_epoch(
    objective: Objective,
    batches: Iterator[tuple[Tensor, Tensor]],
    *,
    epoch: int,
    epochs: int,
    steps: int,
    advance: Callable[[], None],
) -> dict[str, float]:
    """One pass over the data; the mean losses."""
    sums: defaultdict[str, float] = defaultdict(float)
    for step, batch in enumerate(batches):
        progress = (epoch - 1 + step / steps) / epochs
        images, labels = (part.to(objective.device) for part in batch)
        for name, value in objective.train_batch(images, labels, progress).items():
            if not math.isfinite(value):
                raise GateFailed(
                    f"{name} became {value} in epoch {epoch}",
                    hint="lower the learning rate or change the seed",
                )
            sums[name] += value / steps
        advance()
    return dict(sums)


def shares(
    batches: Iterator[tuple[Tensor, Tensor]], accelerator: Accelerator
) -> Iterator[tuple[Tensor, Tensor]]:
    """This process's share of every batch: all draw the same batches, and each takes its part."""
    first, step = accelerator.process_index, accelerator.num_processes
    for images, labels in batches:
        yield images[first::step], labels[first::step]
