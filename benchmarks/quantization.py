"""INT8 alone and at the end of the chain, on real weights, beside other tools.

    python -m benchmarks.quantization --models ../shared/models --images photos/ --runs runs/int8

The steps are the commands that a user types, in runs below ``--runs``; those that a run has already
are not taken again. Everything is then compared in the same rounds, on crops of images, or latents,
that nothing was fitted on.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.comparison import compare
from benchmarks.options import SOURCES, parser
from compress.cli import compress
from genslim import artifact
from genslim.console import SILENT
from genslim.processes import has_bf16
from genslim.run import Run
from genslim.target import Target

STAGES = ("with_whole_ranges", "after_ranges", "after_equalization", "after_training")


@dataclass(frozen=True)
class Row:
    """One model: what is made of it, by commands of ``compress``."""

    source: str
    alone: Sequence[str]
    chain: Sequence[str]
    chain_in_bf16: Sequence[str] = ()
    """Instead, on a CPU that computes bf16 (AMX): there matrix units want width, INT8 gains narrow
    layers little, and five times as many steps of distillation fit into as much time."""
    count: int = 48
    """Inputs that quality is read on."""

    def usual_chain(self) -> Sequence[str]:
        """The chain for this machine."""
        return self.chain_in_bf16 if self.chain_in_bf16 and has_bf16() else self.chain


ROWS = {
    "dcgan-mnist": Row(
        SOURCES["dcgan-mnist"],
        alone=["quantize {source} --int8"],
        chain=[
            "prune {source} --ratio 0.45 --allocation uniform --round-to 16 --seconds 1200",
            "rewrite --precision int8",
            "quantize --int8",
        ],
        count=256,
    ),
    "animevideov3": Row(
        SOURCES["animevideov3"],
        alone=["quantize {source} --images {images} --int8"],
        chain=[
            "prune {source} --images {images} --ratio 0.62 --round-to 16 --seconds 660",
            "rewrite --precision int8",
            "quantize --int8 --seconds 60",
        ],
        chain_in_bf16=[
            "prune {source} --images {images} --ratio 0.5 --allocation uniform --round-to 32 "
            "--recover closed-form",
            "shorten --ratio 0.46 --seconds 600",
            "rewrite --precision int8",
            "quantize --int8 --seconds 200",
        ],
    ),
    "x4plus-anime": Row(
        SOURCES["x4plus-anime"],
        alone=["quantize {source} --images {images} --int8 --seconds 120 --rate 0.1"],
        chain=[
            "prune {source} --images {images} --ratio 0.52 --of macs --round-to 16 --seconds 2700",
            "quantize --int8 --recover none",
        ],
        chain_in_bf16=[
            "prune {source} --images {images} --keep model.0* --keep model.1* --ratio 0.5 "
            "--allocation uniform --round-to 32 --recover closed-form",
            "shorten --ratio 0.18 --keep model.1.sub.6 --keep model.3 --keep model.6 "
            "--keep model.8 --seconds 1500 --rate 0.17",
            "quantize --int8 --seconds 300 --rate 0.1",
        ],
    ),
}


def make(commands: Sequence[str], folder: Path, places: dict[str, str]) -> None:
    """Take the steps of a run that it has not yet."""
    made = len(Run(folder).artifacts)
    for command in commands[max(0, made - 1) :]:
        line = command.format(**places)
        where = f"-o {folder}" if "{source}" in command else ""
        name, *rest = shlex.split(line)
        target = [] if where else [str(folder)]
        print(f"$ compress {line} {where or folder}", flush=True)
        compress.dispatch([name, *target, *rest, *shlex.split(where), "--quiet"])


def measure(name: str, row: Row, runs: Path, models: Path, images: str) -> dict[str, Any]:
    """Make what is missing, and compare it with what others make of the same weights."""
    places = {"images": images, "source": row.source.format(models=models)}
    folders = {"INT8": runs / f"{name}-alone", "chain": runs / f"{name}-chain"}
    for commands, folder in zip((row.alone, row.usual_chain()), folders.values(), strict=True):
        make(commands, folder, places)
    last = {label: artifact.load(Run(folder).newest) for label, folder in folders.items()}
    comparison = compare(
        last["INT8"].original,
        [(f"genslim {label}", generator) for label, generator in last.items()],
        Target.parse("openvino"),
        least=0.95,
        count=row.count,
        rounds=15,
        seconds=180.0,
        seed=0,
        console=SILENT,
    )
    reports = {label: each.steps[-1].report for label, each in last.items()}
    kept = {label: {k: v for k, v in r.items() if k != "changed"} for label, r in reports.items()}
    return {
        "commands": {"alone": list(row.alone), "chain": list(row.usual_chain())},
        "reports": kept,
        "comparison": comparison.to_json(),
        "table": comparison.markdown(),
    }


def stages(results: dict[str, Any]) -> list[str]:
    """The table of what each stage of quantization was worth."""
    lines = [
        "| | whole ranges | ranges chosen | channels equalized | trained | kept | left whole"
        " | latency of pairs to float |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for name, result in results.items():
        for label, report in result["reports"].items():
            if "quantizer" not in report:
                continue  # a chain that ends before
            read = [report.get(f"ssim_{stage}") for stage in STAGES]
            raced = ", ".join(f"{n} {r:.2f}" for n, r in report.get("latency_ratio", {}).items())
            lines.append(
                f"| {name}, {label} | "
                + " | ".join("–" if s is None else f"{s:.4f}" for s in read)
                + f" | {report['ssim']:.4f} | {len(report['left'])} | {raced} |"
            )
    return lines


def markdown(results: dict[str, Any]) -> str:
    """The page."""
    lines = [
        "# INT8, measured",
        "",
        "Made by `python -m benchmarks.quantization`; raw figures in `quantization.json`. SSIM has "
        "the Gaussian window of Wang et al. 2004, on inputs that nothing was fitted on.",
        "",
        "## Beside others",
    ]
    for name, result in results.items():
        source = Path(ROWS[name].source).name
        lines += ["", f"### {name}", "", f"{result['comparison']['verdict']}.", ""]
        lines += [result["table"].rstrip(), "", "INT8:", "", "```bash"]
        shown = {"source": source, "images": "photos/"}
        lines += [f"compress {c.format(**shown)}" for c in result["commands"]["alone"]]
        lines += ["```", "", "chain:", "", "```bash"]
        lines += [f"compress {c.format(**shown)}" for c in result["commands"]["chain"]]
        lines += ["```"]
    lines += [
        "",
        "## Which stages paid",
        "",
        "SSIM with a uniform window of 7x7 on the few inputs that the step itself decides by.",
        "",
        *stages(results),
    ]
    return "\n".join([*lines, ""])


def main() -> None:
    """Measure what is missing and write the page."""
    options_of = parser(__doc__, "docs/quantization.md")
    options_of.add_argument(
        "--runs", type=Path, required=True, help="folder of the runs, new or old"
    )
    options = options_of.parse_args()
    store = options.output.with_suffix(".json")
    results: dict[str, Any] = json.loads(store.read_text()) if store.is_file() else {}
    for name, row in ROWS.items():
        if options.only in name if options.only else name not in results:
            results[name] = measure(name, row, options.runs, options.models, options.images)
            print(results[name]["table"], flush=True)
        ordered = {n: results[n] for n in ROWS if n in results}
        store.write_text(json.dumps(ordered, indent=1) + "\n")
        options.output.write_text(markdown(ordered))


if __name__ == "__main__":
    main()
