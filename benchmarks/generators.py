"""Every shipped generator through the chain: half of its channels, recovery, INT8, ONNX.

    python -m benchmarks.generators --images photos/ --runs runs/generators

The steps are the commands that a user types, in runs below ``--runs``; those that a run has already
are not taken again. Speed is that of the exported ONNX file on OpenVINO beside the original in
PyTorch eager fp32, in the same rounds, at batch 16; SSIM is read on inputs that nothing was fitted
on. Text to image is timed while it writes the tokens of 16 pictures one after another, and judged
by the digits that it draws.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.comparison import compare
from bench.peers import PEERS
from benchmarks import text
from benchmarks.quantization import make
from export.cli import export
from generators.catalogue import CATALOGUE, Entry
from generators.text.pipeline import draws_prompts
from genslim import artifact
from genslim.console import SILENT
from genslim.generator import Generator
from genslim.run import Run
from genslim.target import Target

BATCH = 16
LEAST = 0.95
COUNT = {"mnist": 256, "photos": 48}
"""Inputs that quality is read on."""


@dataclass(frozen=True)
class Chain:
    """What is made of a generator, by commands of ``compress``."""

    seconds: int = 120
    """Of recovery after pruning."""
    options: str = ""
    """More of pruning's."""

    def commands(self, takes_images: bool) -> Sequence[str]:
        """The chain, each step on the batch that it will run at."""
        images = " --images {images}" if takes_images else ""
        target = f"--target openvino:batch={BATCH}"
        return [
            f"prune {{source}}{images} --ratio 0.5 --round-to 16{self.options} {target} "
            f"--seconds {self.seconds}",
            f"quantize --int8 {target}",
        ]


SPREAD = Chain(options=" --allocation uniform")
"""A matrix that makes 256 channels of 7x7 counts as 12,544 otherwise, and would lose them all."""
LONG = Chain(options=" --of macs --steps 2500")
"""A transformer has more to learn again: of half of its channels and 343 steps, 72 % of the digits
were those asked for; so 91 %."""
CHAINS = {"gan-mnist": SPREAD, "vae-mnist": SPREAD, "text-mnist": LONG}
"""Where not the usual one."""


def measure(entry: Entry, runs: Path, images: str) -> dict[str, Any]:
    """Make what is missing, export it, and compare it with the original."""
    folder = runs / entry.name
    commands = CHAINS.get(entry.name, Chain()).commands(entry.signature().needs_images)
    make(commands, folder, {"images": images, "source": entry.name})
    last = artifact.load(Run(folder).newest)
    file = folder / f"{entry.name}.onnx"
    export.dispatch(["onnx", str(folder), "-o", str(file), "--quiet"])
    return {
        "kind": entry.kind,
        "commands": list(commands),
        "onnx_bytes": file.stat().st_size,
        "steps": {
            step.name: {k: v for k, v in step.report.items() if k not in {"changed", "left"}}
            for step in last.steps
        },
        **(written(last) if draws_prompts(last) else drawn(last, COUNT[entry.data])),
    }


def drawn(last: Generator, count: int) -> dict[str, Any]:
    """Latency and quality of what makes images in one pass."""
    comparison = compare(
        last.original,
        [("genslim", last)],
        Target.parse(f"openvino:batch={BATCH}"),
        least=LEAST,
        count=count,
        rounds=25,
        seconds=60.0,
        seed=0,
        console=SILENT,
        peers=PEERS[:1],
    )
    eager, ours = comparison.entries
    return {
        "eager_ms": eager.latency_ms,
        "ms": ours.latency_ms,
        "execution": ours.execution,
        "speedup": ours.speedup,
        "ssim": ours.ssim,
        "environment": comparison.to_json()["environment"],
    }


def written(last: Generator) -> dict[str, Any]:
    """Latency and quality of what writes tokens, one after another."""
    result = text.measure(last, [8], batch=BATCH, count=2000, rounds=25, seconds=60.0)
    rows = {name: row for name, row in result["rows"].items() if name.endswith("one by one")}
    eager = rows["original, PyTorch eager, one by one"]
    name = max(
        (name for name in rows if name.startswith("compressed")),
        key=lambda name: rows[name]["times_as_fast"],
    )
    return {
        "eager_ms": eager["median_ms"],
        "ms": rows[name]["median_ms"],
        "execution": name,
        "speedup": rows[name]["times_as_fast"],
        "asked": rows[name]["asked"],
        "asked_of_original": eager["asked"],
        "environment": result["environment"],
    }


def markdown(results: dict[str, Any]) -> str:
    """The page."""
    environment = next(iter(results.values()))["environment"]
    lines = [
        "# Every shipped generator through the chain",
        "",
        "Made by `python -m benchmarks.generators`; raw figures in `generators.json`. "
        f"{environment['cpu']}, {environment['cores']} cores, batch {BATCH}, OpenVINO beside "
        "PyTorch eager fp32 in the same rounds; SSIM with the Gaussian window of Wang et al. 2004 "
        "on inputs that nothing was fitted on. Text to image on whichever of OpenVINO and ONNX "
        "Runtime is faster.",
        "",
        "| generator | kind | PyTorch eager | compressed | speed-up | quality | ONNX file |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, r in results.items():
        quality = (
            f"SSIM {r['ssim']:.4f}"
            if "ssim" in r
            else f"{r['asked']:.1%} the digit asked for (before: {r['asked_of_original']:.1%})"
        )
        lines.append(
            f"| {name} | {r['kind']} | {r['eager_ms']:.2f} ms | {r['ms']:.2f} ms | "
            f"**{r['speedup']:.1f}×** | {quality} | {r['onnx_bytes'] / 1e6:.2f} MB |"
        )
    lines += ["", "```bash"]
    for name, r in results.items():
        for command in r["commands"]:
            lines.append("compress " + command.format(source=name, images="photos/"))
    return "\n".join([*lines, "```", ""])


def main() -> None:
    """Measure what is missing and write the page."""
    options_of = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options_of.add_argument("--images", required=True, help="folder of photographs")
    options_of.add_argument("--runs", type=Path, required=True, help="folder of runs, new or old")
    options_of.add_argument("--only", default="", help="just the one of this name")
    options_of.add_argument("-o", "--output", type=Path, default=Path("docs/generators.md"))
    options = options_of.parse_args()
    store = options.output.with_suffix(".json")
    results: dict[str, Any] = json.loads(store.read_text()) if store.is_file() else {}
    entries = [entry for entry in CATALOGUE if entry.is_source]
    for entry in entries:
        if entry.name == options.only if options.only else entry.name not in results:
            results[entry.name] = measure(entry, options.runs, options.images)
            asked = ("speedup", "ssim", "asked", "execution")
            row = {k: results[entry.name][k] for k in asked if k in results[entry.name]}
            print(entry.name, row, flush=True)
        ordered = {e.name: results[e.name] for e in entries if e.name in results}
        store.write_text(json.dumps(ordered, indent=1) + "\n")
        options.output.write_text(markdown(ordered))


if __name__ == "__main__":
    main()
