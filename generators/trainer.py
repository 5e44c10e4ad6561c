"""The one training loop: every generator, and the classifier that judges them, goes through it.

Leaves in its folder, after each epoch, ``metrics.jsonl`` (one line an epoch), the weights so far
(``product.safetensors``) and, for what draws pictures, ``samples-NN.png``, so that a training gone
wrong is seen while it runs.
"""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from generators.mnist import Digits
from generators.objective import Objective
from generators.sheet import write_sheet
from generators.shipped import save_weights
from genslim.console import Console
from genslim.errors import GateFailed


@dataclass(frozen=True)
class Schedule:
    """How long and in what portions a training goes."""

    epochs: int
    batch_size: int = 64
    seed: int = 0


def train(
    objective: Objective, data: Digits, schedule: Schedule, folder: Path, console: Console
) -> dict[str, float]:
    """Train to the end of the schedule and return the last judgement.

    Raises:
        GateFailed: a loss became NaN or infinite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    random = torch.Generator().manual_seed(schedule.seed)
    steps = schedule.epochs * (len(data.images) // schedule.batch_size)
    verdict: dict[str, float] = {}
    started = time.monotonic()
    done = 0
    with (
        (folder / "metrics.jsonl").open("w", encoding="utf-8") as log,
        console.progress("training", total=steps) as bar,
    ):
        for epoch in range(1, schedule.epochs + 1):
            sums: defaultdict[str, float] = defaultdict(float)
            for images, labels in batches(data, schedule.batch_size, random):
                losses = objective.train_batch(images, labels, done / steps)
                for name, value in losses.items():
                    if not math.isfinite(value):
                        raise GateFailed(
                            f"{name} became {value} in epoch {epoch}",
                            hint="lower the learning rate or change the seed",
                        )
                    sums[name] += value * schedule.batch_size / len(data.images)
                done += 1
                bar.advance(note=f"epoch {epoch}/{schedule.epochs}")
            verdict = objective.judge()
            row = {
                "epoch": epoch,
                "seconds": round(time.monotonic() - started, 1),
                **sums,
                **verdict,
            }
            log.write(json.dumps(row) + "\n")
            log.flush()
            console.info(
                f"epoch {epoch}: "
                + ", ".join(f"{k} {v:.4f}" for k, v in {**sums, **verdict}.items())
            )
            save_weights(objective.product(), folder / "product.safetensors")
            if (sheet := objective.sheet()) is not None:
                write_sheet(sheet, folder / f"samples-{epoch:02d}.png")
    return verdict


def batches(data: Digits, size: int, random: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """The whole of ``data`` in a new order, in batches of ``size``; a shorter rest is left out."""
    order = torch.randperm(len(data.images), generator=random)
    for index in order[: len(order) // size * size].split(size):
        images = data.images[index].contiguous(memory_format=torch.channels_last)
        yield images, data.labels[index]
