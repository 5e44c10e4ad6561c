"""What pruning costs and gains on real weights: quality after each stage, and latency.

    python -m benchmarks.pruning --models ../shared/models --images photos/ -o docs/pruning.md

Quality is read on crops of images that nothing was fitted on (or on unseen latents), as the
standard SSIM (Gaussian window, ``gaussian``), as scikit-image's default (7x7 uniform window,
``uniform``), and as that of the pictures clipped to their range (``clipped``). Latencies of a
network and of what is left of it are taken in the same interleaved rounds. Rows that are in the
output already are kept unless they are named with ``--only``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import genslim
from bench.environment import environment
from benchmarks.options import parser
from compress import Prune
from compress.batches import in_batches
from genslim.errors import GenslimError
from genslim.generator import Generator
from genslim.inputs import Inputs
from genslim.metrics import ssim
from genslim.runtimes import runtime
from genslim.target import Target
from genslim.timing import interleave

COUNT = {True: 48, False: 256}
"""Inputs that quality is read on: crops of images, or latents."""
LATENCIES = ("openvino:precision=bf16", "openvino", "onnxruntime", "torch")
"""What latency is measured on, where the machine has it."""


@dataclass(frozen=True)
class Row:
    """One cut of one network."""

    name: str
    source: str
    settings: Mapping[str, Any]
    timed: bool = False
    """Whether latency is measured too."""
    digits: bool = field(default=False)
    """Whether the digits that it draws are judged."""


def rows(models: Path) -> list[Row]:
    """Everything that is measured."""
    compact = str(models / "realesr-animevideov3-x4.safetensors")
    dense = str(models / "realesrgan-x4plus-anime.safetensors")
    fit: dict[str, Any] = {"recover": "closed-form"}
    macs: dict[str, Any] = {"of": "macs"}
    # So few channels are left at 60 % that every half vector of AVX-512 counts.
    wide: dict[str, Any] = {**macs, "round_to": 16}
    cut: dict[str, Any] = {"recover": "none"}
    return [
        Row("animevideov3, half of the channels", compact, {"ratio": 0.5, **fit}),
        Row("animevideov3, half of the channels", compact, {"ratio": 0.5, "seconds": 60.0}),
        Row("x4plus-anime, 40 % of the MACs", dense, {"ratio": 0.4, **macs, **fit}),
        Row("x4plus-anime, 40 % of the MACs", dense, {"ratio": 0.4, **macs, "seconds": 600.0}),
        Row("x4plus-anime, 60 % of the MACs", dense, {"ratio": 0.6, **wide, "seconds": 800.0}),
        Row("dcgan-mnist, half of the channels", "dcgan-mnist", {"ratio": 0.5}, digits=True),
        Row(
            "dcgan-mnist, 75 % of the channels",
            "dcgan-mnist",
            {"ratio": 0.75, "seconds": 120.0},
            digits=True,
        ),
        Row("animevideov3, 40 % of the MACs", compact, {"ratio": 0.4, **wide, **cut}, timed=True),
        Row("animevideov3, 60 % of the MACs", compact, {"ratio": 0.6, **wide, **cut}, timed=True),
        Row("x4plus-anime, 40 % of the MACs", dense, {"ratio": 0.4, **macs, **cut}, timed=True),
        Row("x4plus-anime, 60 % of the MACs", dense, {"ratio": 0.6, **wide, **cut}, timed=True),
    ]


def measure(row: Row, images: str) -> dict[str, Any]:
    """Cut, and put down what it cost and gained."""
    original = genslim.load(row.source, images=images)
    started = time.monotonic()
    pruned = Prune(**row.settings)(original)
    seconds = time.monotonic() - started
    report = pruned.steps[-1].report
    result: dict[str, Any] = {
        "name": row.name,
        "settings": dict(row.settings),
        "seconds": round(seconds, 1),
        "parameters": report["parameters"],
        "macs": report["macs"],
        "steps": report.get("recovery_steps"),
        "blocks": report.get("blocks_fitted"),
        "machine": machine(),
    }
    if row.timed:
        return result | {"latency_ms": dict(latencies(original, pruned))}
    inputs = Inputs(original.signature, "quality").draw(COUNT[original.signature.takes_images])
    ours, theirs = in_batches(pruned, inputs, 4), in_batches(original, inputs, 4)
    result |= ssims(ours, theirs, original.signature.images.value_range)
    if row.digits:
        result["recognised"] = [recognised(original), recognised(pruned)]
    return result


def ssims(ours: Tensor, theirs: Tensor, range_of: tuple[float, float]) -> dict[str, float]:
    """SSIM with the Gaussian window; and as scikit-image takes it by default, of what the networks
    make and of the pictures that files hold of it: clipped to their range.
    """
    from skimage.metrics import structural_similarity

    low, high = range_of
    gaussian = float(ssim(ours, theirs, data_range=high - low).mean())
    found = {"ssim_gaussian": gaussian}
    for name, pairs in (
        ("ssim_uniform", zip(ours, theirs, strict=True)),
        ("ssim_clipped", zip(ours.clamp(low, high), theirs.clamp(low, high), strict=True)),
    ):
        each = [
            structural_similarity(
                a.permute(1, 2, 0).numpy(),
                b.permute(1, 2, 0).numpy(),
                data_range=high - low,
                channel_axis=2,
            )
            for a, b in pairs
        ]
        found[name] = float(np.mean(each))
    return {name: round(value, 4) for name, value in found.items()}


def recognised(generator: Generator) -> float:
    """The share of 2,000 samples that the shipped classifier is sure of."""
    from generators.catalogue import entry
    from generators.judging.recognition import recognise_samples

    assert generator.module is not None
    judge = entry("digit-classifier").load()
    found = recognise_samples(judge, generator.module, generator.signature)
    return round(found["recognised"], 4)


def latencies(original: Generator, pruned: Generator) -> Iterator[tuple[str, list[float]]]:
    """Median latencies of both, and the median of their ratio, on each target."""
    for text in LATENCIES:
        target = Target.parse(text).settled(original.signature)
        backend = runtime(target.runtime)
        assert target.batch is not None
        arrays = {
            name: tensor.numpy()
            for name, tensor in Inputs(original.signature, "timing").draw(target.batch).items()
        }
        with ExitStack() as stack:
            try:
                whole = stack.enter_context(backend.open(original, target))
                small = stack.enter_context(backend.open(pruned, target))
            except GenslimError as error:
                print(f"  {text}: {error}")
                continue
            samples = interleave(
                {"whole": partial(whole.run, arrays), "small": partial(small.run, arrays)},
                rounds=40,
                seconds=60,
            )
            yield (
                f"{text} ({whole.execution.precision})",
                [
                    round(samples["whole"].median_ms, 2),
                    round(samples["small"].median_ms, 2),
                    round(1 / samples["small"].ratio_to(samples["whole"]), 3),
                ],
            )


def machine() -> str:
    """What it was measured on."""
    return f"{environment().cpu}, {torch.get_num_threads()} threads"


def markdown(results: list[dict[str, Any]]) -> str:
    """The tables."""
    lines = [
        "# Pruning, measured",
        "",
        "Made by `python -m benchmarks.pruning`; raw figures and settings in `pruning.json`.",
        "",
        f"Quality is read on {COUNT[True]} crops of images, or {COUNT[False]} latents, that nothing"
        " was fitted on. SSIM has the Gaussian window of Wang et al. 2004; 7x7 SSIM is"
        " scikit-image's default, of what the networks make and of it clipped to its range."
        " Seconds are those of the whole step: finding and ranking channels, cutting, recovery."
        " Recognised are samples that the digit classifier is sure of, before and after.",
        "",
        "## Quality",
        "",
        "| cut | recovery | seconds | params | MACs | SSIM | 7x7 SSIM | clipped | recognised |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for r in results:
        if "ssim_gaussian" in r:
            digits = " to ".join(f"{share:.1%}" for share in r.get("recognised", ())) or "–"
            lines.append(
                f"| {r['name']} | {recovery(r)} | {r['seconds']:.0f}"
                f" | {loss(r, 'parameters')} | {loss(r, 'macs')} | {r['ssim_gaussian']:.4f}"
                f" | {r['ssim_uniform']:.4f} | {r['ssim_clipped']:.4f} | {digits} |"
            )
    lines += [
        "",
        "## Latency",
        "",
        "| cut | on | whole | pruned | gain | MAC gain | share of it |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for r in results:
        gain = r["macs"][0] / r["macs"][1]
        for where, (whole, small, ratio) in r.get("latency_ms", {}).items():
            lines.append(
                f"| {r['name']} | {where} | {whole:.1f} ms | {small:.1f} ms | {ratio:.2f}x"
                f" | {gain:.2f}x | {ratio / gain:.2f} |"
            )
    machines = sorted({r["machine"] for r in results})
    return "\n".join([*lines, "", f"Measured on {'; '.join(machines)}.", ""])


def recovery(result: dict[str, Any]) -> str:
    """The stages that ran."""
    stages = ["closed form"]
    if result["blocks"]:
        stages.append(f"{result['blocks']} blocks")
    if result["steps"]:
        stages.append(f"{result['steps']} steps")
    return ", ".join(stages) if len(stages) > 1 else "closed form alone"


def loss(result: dict[str, Any], key: str) -> str:
    """How much less there is of something."""
    before, after = result[key]
    return f"{after / before - 1:+.0%}"


def main() -> None:
    """Measure what is missing and write the tables."""
    options = parser(__doc__, "docs/pruning.md").parse_args()
    store = options.output.with_suffix(".json")
    known = json.loads(store.read_text()) if store.is_file() else []

    def key(name: str, settings: Mapping[str, Any]) -> str:
        return json.dumps([name, dict(settings)], sort_keys=True)

    results = {key(r["name"], r["settings"]): r for r in known}
    wanted = rows(options.models)
    for row in wanted:
        own = key(row.name, row.settings)
        if own not in results if not options.only else options.only in own:
            print(f"{row.name} {dict(row.settings)}", flush=True)
            results[own] = measure(row, options.images)
            print(f"  {results[own]}", flush=True)
        order = [key(r.name, r.settings) for r in wanted]
        kept = [results[o] for o in order if o in results]
        store.write_text(json.dumps(kept, indent=1) + "\n")
        options.output.write_text(markdown(kept))


if __name__ == "__main__":
    main()
