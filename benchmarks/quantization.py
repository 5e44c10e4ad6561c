"""What INT8 costs and gains on real weights: SSIM after each stage, and peers in the same rounds.

    python -m benchmarks.quantization --models ../shared/models --images photos/

Quality is read on crops of images, or latents, that nothing was fitted on. Rows that are in the
output already are kept unless they are named with ``--only``.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import genslim
from bench.comparison import compare
from bench.environment import environment
from compress import Quantize
from genslim.console import SILENT
from genslim.target import Target

STAGES = ("with_whole_ranges", "after_ranges", "after_equalization", "after_training")
COUNT = {True: 48, False: 256}
"""Inputs that quality is read on: crops of images, or latents."""


def sources(models: Path) -> dict[str, tuple[str, dict[str, Any]]]:
    """Everything that is measured: what it is made of, and the step's settings."""
    compact = str(models / "realesr-animevideov3-x4.safetensors")
    dense = str(models / "realesrgan-x4plus-anime.safetensors")
    return {
        "dcgan-mnist": ("dcgan-mnist", {"seconds": 20.0}),
        "animevideov3": (compact, {"seconds": 20.0}),
        "x4plus-anime": (dense, {"seconds": 60.0}),
    }


def measure(source: str, settings: dict[str, Any], images: str) -> dict[str, Any]:
    """Quantize, and compare with what others make of the same weights."""
    original = genslim.load(source, images=images)
    started = time.monotonic()
    quantized = Quantize("int8", **settings)(original)
    seconds = time.monotonic() - started
    comparison = compare(
        original,
        [("genslim INT8", quantized)],
        Target.parse("openvino"),
        least=0.95,
        count=COUNT[original.signature.takes_images],
        rounds=15,
        seconds=120.0,
        seed=0,
        console=SILENT,
    )
    report = quantized.steps[-1].report
    return {
        "settings": settings,
        "seconds": round(seconds, 1),
        "report": {k: v for k, v in report.items() if k != "changed"},
        "comparison": comparison.to_json(),
        "table": comparison.markdown(),
        "machine": environment().cpu,
    }


def markdown(results: dict[str, dict[str, Any]]) -> str:
    """The tables."""
    lines = [
        "# INT8, measured",
        "",
        "Made by `python -m benchmarks.quantization`; raw figures in `quantization.json`. SSIM has "
        "the Gaussian window of Wang et al. 2004.",
        "",
        "## Which stages paid",
        "",
        "SSIM on the few inputs that the step itself decides by. Latency"
        " ratios are those of the quantizers' pairs to floating point.",
        "",
        "| | whole ranges | ranges chosen | channels equalized | trained | kept | left whole"
        " | seconds | quantizers |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for name, result in results.items():
        report = result["report"]
        stages = [report.get(f"ssim_{stage}") for stage in STAGES]
        raced = ", ".join(f"{n} {r:.2f}" for n, r in report.get("latency_ratio", {}).items())
        lines.append(
            f"| {name} | "
            + " | ".join("–" if s is None else f"{s:.4f}" for s in stages)
            + f" | {report['ssim']:.4f} | {len(report['left'])} | {result['seconds']:.0f}"
            + f" | {raced} |"
        )
    lines += ["", "## Beside others", ""]
    for name, result in results.items():
        found = result["comparison"]
        lines += [
            f"### {name}",
            "",
            f"On {found['count']} unseen inputs; {found['verdict']}.",
            "",
            result["table"],
        ]
    machines = "; ".join(sorted({r["machine"] for r in results.values()}))
    return "\n".join([*lines, f"Measured on {machines}.", ""])


def main() -> None:
    """Measure what is missing and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--models", type=Path, required=True, help="folder of the weights")
    parser.add_argument("--images", required=True, help="folder of images")
    parser.add_argument("--only", default="", help="measure just the rows with this in their name")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/quantization.md"))
    options = parser.parse_args()
    store = options.output.with_suffix(".json")
    results: dict[str, Any] = json.loads(store.read_text()) if store.is_file() else {}
    wanted = sources(options.models)
    for name, (source, settings) in wanted.items():
        if options.only in name if options.only else name not in results:
            print(name, flush=True)
            results[name] = measure(source, settings, options.images)
        ordered = {n: results[n] for n in wanted if n in results}
        store.write_text(json.dumps(ordered, indent=1) + "\n")
        options.output.write_text(markdown(ordered))


if __name__ == "__main__":
    main()
