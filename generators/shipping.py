"""``generators train NAME``: data, objective and loop put together, and the weights kept."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from generators.catalogue import CATALOGUE, Entry, entry
from generators.shipped import read_shipped, round_as_stored, save_shipped
from generators.training.precision import Precision
from generators.training.schedule import Schedule
from generators.training.trainer import train
from genslim.console import Console
from genslim.errors import GateFailed, UserError
from genslim.processes import has_bf16

LICENCE = "Apache-2.0"


def train_entry(
    name: str,
    data: Path | None,
    *,
    output: Path,
    console: Console,
    seed: int = 0,
    epochs: int | None = None,
    threads: int | None = None,
    precision: Precision | None = None,
    init: str | None = None,
    options: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Train the catalogue's ``name`` on ``data`` and write its weights to ``output``.

    Args:
        name: in the catalogue.
        data: folder of the data; None looks in the usual places.
        output: folder for the weights.
        console: shows progress.
        seed: of everything random.
        epochs: how long; None is the entry's own length.
        threads: of the CPU; None is all.
        precision: of the networks; None is bf16 where the machine has units for it.
        init: weights to start from, a name of the catalogue or a safetensors file.
        options: of the recipe.

    Returns:
        The recipe: everything that is written to ``name.json``.

    Raises:
        GateFailed: the result does not reach what the catalogue asks; the weights are kept.
    """
    if threads:
        torch.set_num_threads(threads)
    chosen = entry(name)
    options = dict(options or {})
    precision = precision or ("bf16" if has_bf16() else "fp32")
    schedule = Schedule(
        epochs=epochs or chosen.epochs,
        batch_size=chosen.batch_size,
        seed=seed,
        settings={**options, **({"init": init} if init else {})},
    )
    training, held_apart = chosen.read(data)
    started = time.monotonic()
    objective = chosen.objective(held_apart, seed, options)
    if init is not None:
        weights = read_weights(init)
        taken = objective.start_from(weights)
        if not taken:
            raise UserError(
                f"no tensor of {init} fits {name}",
                hint="name weights of the same or a like network",
            )
        console.info(f"starts from {len(taken)} of {len(weights)} tensors of {init}")
    folder = output / "training" / name
    train(objective, training, schedule, folder, console, precision=precision)
    round_as_stored(objective.product())
    verdict = objective.judge()  # of what is shipped
    recipe = {
        "name": name,
        "summary": chosen.summary,
        "command": command(chosen, schedule),
        "data": training.facts,
        "epochs": schedule.epochs,
        "batch_size": schedule.batch_size,
        "seed": seed,
        "figures": verdict,
        "seconds": round(time.monotonic() - started),
        "precision": precision,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "licence": LICENCE,
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


def command(chosen: Entry, schedule: Schedule) -> str:
    """What to type to train the same weights again."""
    words = ["generators", "train", chosen.name]
    if chosen.data == "mnist":
        words += ["--data", "DIR"]
    words += ["--seed", str(schedule.seed), "--epochs", str(schedule.epochs)]
    for key, value in schedule.settings.items():
        words += ["--init", value] if key == "init" else ["--option", f"{key}={value}"]
    return " ".join(words)


def read_weights(name: str) -> dict[str, Tensor]:
    """The tensors of a shipped network or of a safetensors file, float32.

    Raises:
        UserError: there is neither.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if name in {candidate.name for candidate in CATALOGUE}:
        tensors = read_shipped(name)
    elif not Path(name).is_file():
        raise UserError(
            f"no weights {name}", hint="name a safetensors file or one of `generators list`"
        )
    else:
        try:
            tensors = load_file(name)
        except SafetensorError as error:
            raise UserError(
                f"{name} is no safetensors file: {error}", hint="name one that a training wrote"
            ) from error
    return {key: t.float() if t.is_floating_point() else t for key, t in tensors.items()}
