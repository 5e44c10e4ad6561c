"""What the ``generators`` program does; the flags are the parameters."""

from __future__ import annotations

from pathlib import Path

from genslim.console import Console
from genslim.errors import UserError

WEIGHTS = Path("weights")
"""Where a training writes unless told otherwise, below the working folder."""


def list_entries(*, json: bool = False, quiet: bool = False) -> None:
    """Show every reference network: kind, parameters, quality, and the command that trained it.

    Parameters
    ----------
    json:
        End standard output with one line of JSON.
    quiet:
        Say nothing but errors.
    """
    from generators.catalogue import CATALOGUE
    from generators.shipped import facts

    console = Console(quiet=quiet, as_json=json)
    rows, data = [], []
    for entry in CATALOGUE:
        made = facts(entry.name)
        parameters = sum(p.numel() for p in entry.build().parameters())
        figures = made.get("figures", {})
        shown = ", ".join(f"{name} {value:.3f}" for name, value in figures.items())
        rows.append(
            [
                entry.name,
                entry.kind,
                f"{parameters:,}",
                shown or "not trained",
                made.get("command", ""),
            ]
        )
        data.append({"name": entry.name, "kind": entry.kind, "parameters": parameters, **made})
    console.table(["name", "kind", "parameters", "quality", "trained by"], rows)
    console.finish(
        {"generators": data}, wrote=None, following="generators sample dcgan-mnist -o sheet.png"
    )


def train(
    name: str,
    /,
    *,
    data: Path,
    output: Path = WEIGHTS,
    epochs: int | None = None,
    seed: int = 0,
    threads: int | None = None,
    json: bool = False,
    quiet: bool = False,
    dry_run: bool = False,
) -> None:
    """Train a reference network and keep its weights with the JSON that says how they were made.

    Parameters
    ----------
    name:
        Which one; `generators list` shows them.
    data:
        Folder with the four IDX files of MNIST, gzipped or not. Nothing is downloaded.
    output:
        Folder for NAME.safetensors, NAME.json, and training/NAME with metrics and sample sheets.
    epochs:
        How long; the recipe's own length by default.
    seed:
        Of the weights, the order of the data and the latents.
    threads:
        CPU threads; all by default.
    json:
        End standard output with one line of JSON.
    quiet:
        Say nothing but errors.
    dry_run:
        Check the data and say what would be done.
    """
    from generators.catalogue import entry
    from generators.mnist import load
    from generators.training import train_entry

    console = Console(quiet=quiet, as_json=json)
    chosen = entry(name)
    if epochs is not None and epochs < 1:
        raise UserError(f"{epochs} epochs are too few", hint="train for one at least")
    if dry_run:
        count = len(load(data, "train").images)
        console.info(f"would train {name} for {epochs or chosen.epochs} epochs on {count} images")
        return
    recipe = train_entry(
        name, data, output=output, console=console, seed=seed, epochs=epochs, threads=threads
    )
    rows = [[figure, f"{value:.4f}"] for figure, value in recipe["figures"].items()]
    console.table(["figure", "value"], rows, title=f"{name}, {recipe['seconds']} s")
    console.finish(recipe, wrote=str(output / f"{name}.safetensors"), following=None)


def sample(
    name: str = "dcgan-mnist",
    /,
    *,
    n: int = 100,
    output: Path = Path("samples.png"),
    seed: int = 0,
    scale: int = 1,
    json: bool = False,
    quiet: bool = False,
) -> None:
    """Draw samples of a generator and write them as one sheet.

    Parameters
    ----------
    name:
        A built-in name, or anything else that is a source: an artifact or run folder.
    n:
        How many.
    output:
        The PNG to write.
    seed:
        Of the latents.
    scale:
        Each pixel becomes a square of this many pixels.
    json:
        End standard output with one line of JSON.
    quiet:
        Say nothing but errors.
    """
    import torch

    from generators.sheet import write_sheet
    from genslim import load
    from genslim.inputs import Inputs
    from genslim.storage import write_errors

    console = Console(quiet=quiet, as_json=json)
    if n < 1 or scale < 1:
        raise UserError(f"{n} samples at scale {scale}: both must be 1 or more", hint="try --n 100")
    generator = load(name)
    if generator.module is None:
        raise UserError(
            f"{generator.label} is an ONNX graph", hint="name an artifact from before quantization"
        )
    stream = Inputs(generator.signature, "quality", seed)
    parts = [generator(stream.draw(min(100, n - done))) for done in range(0, n, 100)]
    low, high = generator.signature.images.value_range
    images = (torch.cat(parts) - low) / (high - low) * 2 - 1
    with write_errors(output.parent):
        output.parent.mkdir(parents=True, exist_ok=True)
        write_sheet(images, output, scale=scale)
    console.finish({"samples": n}, wrote=str(output), following=None)
