"""``generators train NAME``: data, objective and loop put together, and the weights kept."""

from __future__ import annotations

import platform
import time
from pathlib import Path
from typing import Any

import torch

from generators import mnist
from generators.catalogue import entry
from generators.shipped import round_as_stored, save_shipped
from generators.trainer import train
from genslim.console import Console
from genslim.errors import GateFailed


def train_entry(
    name: str,
    data: Path,
    *,
    output: Path,
    console: Console,
    seed: int = 0,
    epochs: int | None = None,
    threads: int | None = None,
) -> dict[str, Any]:
    """Train the catalogue's ``name`` on the MNIST in ``data`` and write its weights to ``output``.

    Returns:
        The recipe: everything that is written to ``name.json``.

    Raises:
        GateFailed: the result does not reach what the catalogue asks; the weights are kept.
    """
    if threads:
        torch.set_num_threads(threads)
    chosen = entry(name)
    schedule = chosen.schedule(seed)
    if epochs is not None:
        schedule = type(schedule)(epochs=epochs, seed=seed)
    train_split, test_split = mnist.load(data, "train"), mnist.load(data, "test")
    started = time.monotonic()
    objective = chosen.objective(test_split, seed)
    train(objective, train_split, schedule, output / "training" / name, console)
    round_as_stored(objective.product())
    verdict = objective.judge()  # of what is shipped
    recipe = {
        "name": name,
        "summary": chosen.summary,
        "command": f"generators train {name} --data DIR --seed {seed} --epochs {schedule.epochs}",
        "data": {"name": "MNIST (LeCun, Cortes, Burges 1998)", "sha256": train_split.sha256},
        "epochs": schedule.epochs,
        "batch_size": schedule.batch_size,
        "seed": seed,
        "figures": verdict,
        "seconds": round(time.monotonic() - started),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "licence": "Apache-2.0",
    }
    path = save_shipped(name, objective.product(), recipe, output)
    for figure, least in chosen.least.items():
        if verdict[figure] < least:
            raise GateFailed(
                f"{name} reached {figure} {verdict[figure]:.4f}, less than {least}; "
                f"weights kept in {path}",
                hint="train for more epochs or with another seed",
            )
    return recipe
