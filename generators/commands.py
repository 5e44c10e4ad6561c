"""What the ``generators`` program does; the flags are the parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

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
    data: Path | None = None,
    output: Path = WEIGHTS,
    epochs: int | None = None,
    seed: int = 0,
    threads: int | None = None,
    precision: Literal["fp32", "bf16"] | None = None,
    init: str | None = None,
    option: tuple[str, ...] = (),
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
        Folder with the four IDX files of MNIST, gzipped or not (data/ or ~/data unless named), or
        of photographs (those that installed packages ship unless named). Nothing is downloaded.
    output:
        Folder for NAME.safetensors, NAME.json, and training/NAME with metrics and sample sheets.
    epochs:
        How long; the recipe's own length by default.
    seed:
        Of the weights, the order of the data and the latents.
    threads:
        CPU threads; all by default.
    precision:
        Of the networks; bf16 by default where the machine has units for it.
    init:
        Weights to start from: a name of `generators list`, or a safetensors file.
    option:
        Of the recipe, NAME=VALUE, may be repeated: loss=hinge, spectral_norm=true,
        discriminators=2, kl_warm_up=0.5.
    json:
        End standard output with one line of JSON.
    quiet:
        Say nothing but errors.
    dry_run:
        Check the data and the options, and say what would be done.
    """
    from generators.catalogue import entry
    from generators.shipping import train_entry

    console = Console(quiet=quiet, as_json=json)
    chosen = entry(name)
    if epochs is not None and epochs < 1:
        raise UserError(f"{epochs} epochs are too few", hint="train for one at least")
    options = read_pairs(option)
    if dry_run:
        training, held_apart = chosen.read(data)
        chosen.objective(held_apart, seed, options)
        count = len(training)
        console.info(f"would train {name} for {epochs or chosen.epochs} epochs on {count} images")
        return
    recipe = train_entry(
        name,
        data,
        output=output,
        console=console,
        seed=seed,
        epochs=epochs,
        threads=threads,
        precision=precision,
        init=init,
        options=options,
    )
    rows = [[figure, f"{value:.4f}"] for figure, value in recipe["figures"].items()]
    console.table(["figure", "value"], rows, title=f"{name}, {recipe['seconds']} s")
    console.finish(recipe, wrote=str(output / f"{name}.safetensors"), following=None)


def read_pairs(pairs: tuple[str, ...]) -> dict[str, str]:
    """``NAME=VALUE`` each, as a dictionary.

    Raises:
        UserError: one is no pair.
    """
    read = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise UserError(f"{pair!r} is no option", hint="write --option NAME=VALUE")
        read[name] = value
    return read


def sample(
    name: str = "dcgan-mnist",
    /,
    *,
    n: int | None = None,
    output: Path = Path("samples.png"),
    runtime: str | None = None,
    threads: int | None = None,
    batch: int | None = None,
    images: str | None = None,
    input: tuple[str, ...] = (),  # noqa: A002  the word of all commands
    weights: str | None = None,
    value_range: tuple[float, float] | None = None,
    seed: int = 0,
    scale: int = 1,
    prompt: tuple[str, ...] = (),
    decoding: Literal["autoregressive", "masked"] = "autoregressive",
    steps: int = 8,
    temperature: float | None = None,
    json: bool = False,
    quiet: bool = False,
    dry_run: bool = False,
) -> None:
    """Draw samples of a generator, and write them as PNG files or as one sheet.

    Parameters
    ----------
    name:
        A built-in name, or anything else that is a source: weights, an exported file, an artifact
        or run folder.
    n:
        How many; 100 by default, or one for each prompt.
    output:
        Where to write (-o): one sheet where it ends in .png, else a folder with a PNG an image.
    runtime:
        torch, openvino, onnxruntime or tensorrt; torch by default, openvino for a graph.
    threads:
        CPU threads; all by default.
    batch:
        Images made together; by default 32, or 1 where the inputs are images.
    images:
        Folder of images, for generators that take images.
    input:
        [NAME:]SHAPE of an input that can't be told from the source, the batch first: z:1,100.
    weights:
        File of weights for package.module:factory.
    value_range:
        Least and greatest value of a pixel, where it can't be told from the source: -1 1.
    seed:
        Of the inputs; the same images come of it whatever the batch.
    scale:
        Each pixel becomes a square of this many pixels.
    prompt:
        What to draw, of text to image, may be repeated: "a handwritten seven", "三".
    decoding:
        Of prompts: tokens one after another (autoregressive), or many at once in a few (masked).
    steps:
        Of masked decoding.
    temperature:
        Of tokens: less draws the likelier.
    json:
        End standard output with one line of JSON.
    quiet:
        Say nothing but errors.
    dry_run:
        Open the source, and say what would be drawn.
    """
    from generators import sampling
    from generators.prompting import sample_prompts
    from generators.text.pipeline import draws_prompts, read_runtime
    from genslim import load

    console = Console(quiet=quiet, as_json=json)
    generator = load(name, images=images, input=input, weights=weights, value_range=value_range)
    prompted = draws_prompts(generator)
    if prompt and not prompted:
        raise UserError(f"{name} reads no prompts", hint="name text-mnist, or leave out --prompt")
    if dry_run:
        count = "an image for each prompt" if prompted and n is None else f"{n or 100:,} images"
        console.info(f"would draw {count} of {generator.label} into {output}")
        return
    if prompted:
        drawn = sample_prompts(
            generator,
            output,
            n,
            prompt,
            decoding=decoding,
            steps=steps,
            temperature=temperature,
            runtime=read_runtime(runtime),
            threads=threads,
            batch=batch,
            seed=seed,
            scale=scale,
            console=console,
        )
        console.info(
            f"{drawn.n:,} images in {drawn.drawing_seconds:.2f} s: "
            f"{drawn.images_per_second:,.1f} images, {drawn.tokens_per_second:,.0f} tokens a second"
        )
        facts = {"name": name, "seed": seed, **drawn.to_json()}
        console.finish(facts, wrote=str(output), following=None)
        return
    n = 100 if n is None else n
    made = sampling.sample(
        generator,
        output,
        n,
        runtime_name=runtime,
        threads=threads,
        batch=batch,
        seed=seed,
        scale=scale,
        console=console,
    )
    console.info(
        f"{n:,} images in {made.seconds:.2f} s: {made.images_per_second:,.0f} images per second "
        f"generated, {made.images_per_second_written:,.0f} with writing "
        f"({made.waited_seconds:.2f} s spent waiting for files)"
    )
    ran = made.execution
    console.info(
        f"{ran.runtime} {ran.version} ({ran.provider}), {ran.precision}, {ran.threads} threads, "
        f"batches of {made.batch}"
    )
    facts = {"name": name, "seed": seed, **made.to_json()}
    console.finish(facts, wrote=str(output), following=None)


def onnx(
    name: str = "text-mnist",
    /,
    *,
    output: Path = Path("text-mnist"),
    json: bool = False,
    quiet: bool = False,
    dry_run: bool = False,
) -> None:
    """Write what draws for prompts as two ONNX files: step.onnx and painter.onnx.

    A step reads tokens after those that were read before, whose keys and values it takes as inputs
    and gives as outputs; the painter makes pictures of the codes that were written.

    Parameters
    ----------
    name:
        text-mnist, or an artifact or run that was made of it.
    output:
        Folder to write into (-o).
    json:
        End standard output with one line of JSON.
    quiet:
        Say nothing but errors.
    dry_run:
        Open the source, and say what would be written.
    """
    from generators.text.pipeline import check_draws_prompts, save_graphs
    from genslim import load

    console = Console(quiet=quiet, as_json=json)
    generator = load(name)
    check_draws_prompts(generator)
    if dry_run:
        console.info(f"would write {output / 'step.onnx'} and {output / 'painter.onnx'}")
        return
    paths = save_graphs(generator, output)
    rows = [[path.name, f"{path.stat().st_size / 1e6:.2f} MB"] for path in paths]
    console.table(["file", "size"], rows)
    facts = {"name": name, "files": {path.name: path.stat().st_size for path in paths}}
    console.finish(facts, wrote=str(output), following=None)
