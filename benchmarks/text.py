"""Text to image: how fast tokens are written and whether the right digit is drawn.

    python -m benchmarks.text --artifact runs/text -o docs/text.md

Each way writes the tokens of one batch of prompts in turn, in paired, interleaved rounds; medians
are shown, and tokens a second are those of the whole batch. The baseline is the original in PyTorch
eager, one token after another with its cache. Pictures are judged by the shipped digit classifier,
for prompts over all ten digits, in wordings that training knows and in those held apart.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import genslim
from bench.environment import environment
from generators.catalogue import entry
from generators.judging.asked import judge_asked
from generators.networks.vector_quantizer import TOKENS
from generators.text.pipeline import Decoding, TextToImage
from generators.text.prompts import balanced
from genslim.generator import Generator
from genslim.timing import Samples, interleave


@dataclass(frozen=True)
class Way:
    """One way to draw."""

    draw: TextToImage
    decoding: Decoding
    steps: int


def ways(
    original: Generator, small: Generator | None, steps: Sequence[int], threads: int
) -> dict[str, Way]:
    """All that are compared, the baseline first."""
    drawers = {
        "original, PyTorch eager": TextToImage.load(original, runtime="torch"),
        "original, ONNX Runtime": TextToImage.load(
            original, runtime="onnxruntime", threads=threads
        ),
    }
    if small is not None:
        drawers["compressed, ONNX Runtime"] = TextToImage.load(
            small, runtime="onnxruntime", threads=threads
        )
        drawers["compressed, OpenVINO"] = TextToImage.load(
            small, runtime="openvino", threads=threads
        )
    found = {
        f"{name}, one by one": Way(draw, "autoregressive", 0) for name, draw in drawers.items()
    }
    for count in steps:
        found |= {
            f"{name}, masked in {count} steps": Way(draw, "masked", count)
            for name, draw in drawers.items()
        }
    return found


def times(
    compared: Mapping[str, Way], batch: int, rounds: int, seconds: float
) -> dict[str, Samples]:
    """How long each takes to write the tokens of one batch."""
    asked, _ = balanced(batch)

    def call(way: Way) -> Any:
        return lambda: way.draw.write(asked, decoding=way.decoding, steps=way.steps or 1)

    return interleave(
        {name: call(way) for name, way in compared.items()}, rounds=rounds, seconds=seconds
    )


def quality(way: Way, count: int) -> dict[str, float]:
    """The right digits, for usual prompts and for those held apart."""
    classifier = entry("digit-classifier").load()

    def draw(asked: list[str]) -> torch.Tensor:
        return way.draw(asked, decoding=way.decoding, steps=way.steps or 1)

    usual = judge_asked(classifier, draw, count=count)
    apart = judge_asked(classifier, draw, count=max(10, count // 4), kind="held apart")
    return {**usual, "asked_held_apart": apart["asked"]}


def measure(
    small: Generator | None, steps: Sequence[int], *, batch: int, count: int, rounds: int,
    seconds: float,
) -> dict[str, Any]:  # fmt: skip
    """Everything, as JSON: of the shipped generator, and of what was made of it, if anything."""
    original = genslim.load("text-mnist") if small is None else small.original
    compared = ways(original, small, steps, torch.get_num_threads())
    taken = times(compared, batch, rounds, seconds)
    baseline = next(iter(taken.values()))
    rows = {}
    for name, way in compared.items():
        own = taken[name]
        low, high = own.ratio_interval(baseline)
        rows[name] = {
            "tokens_per_second": batch * TOKENS * 1e3 / own.median_ms,
            "times_as_fast": 1 / own.ratio_to(baseline),
            "interval": [1 / high, 1 / low],
            "median_ms": own.median_ms,
            "milliseconds": own.milliseconds,
            **quality(way, count),
        }
        print(f"  {name}: {rows[name]['times_as_fast']:.2f}x", flush=True)
    return {
        "artifact": None if small is None else [step.name for step in small.steps],
        "batch": batch,
        "count": count,
        "threads": torch.get_num_threads(),
        "environment": asdict(environment()),
        "rows": rows,
    }


def markdown(results: Mapping[str, Any]) -> str:
    """The page."""
    chain = ", ".join(results["artifact"] or []) or "nothing: the original alone"
    lines = [
        "# Text to image, measured",
        "",
        "Made by `python -m benchmarks.text`; raw figures in the JSON beside it. Compression: "
        f"{chain}. Batch {results['batch']}, {results['threads']} threads; the median of paired,"
        " interleaved rounds, and in brackets the 95 % interval of its ratio to the first row."
        f" Digits by the shipped classifier, {results['count']} prompts.",
        "",
        "| | tokens/s | times as fast | digit asked for | sure of a digit | rarest digit"
        " | asked for, wordings held apart |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, row in results["rows"].items():
        low, high = row["interval"]
        lines.append(
            f"| {name} | {row['tokens_per_second']:,.0f} | {row['times_as_fast']:.2f} "
            f"({low:.2f} to {high:.2f}) | {row['asked']:.1%} | {row['recognised']:.1%} | "
            f"{row['least_digit']:.1%} | {row['asked_held_apart']:.1%} |"
        )
    return "\n".join([*lines, ""])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write the page and its figures."""
    made = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    made.add_argument("--artifact", type=Path, help="an artifact of text-mnist, or a run")
    made.add_argument("--steps", default="8", help="of masked decoding: 4,8,16")
    made.add_argument("--batch", type=int, default=16)
    made.add_argument("--count", type=int, default=2000, help="pictures that are judged")
    made.add_argument("--rounds", type=int, default=30)
    made.add_argument("--seconds", type=float, default=120.0, help="of timing at most")
    made.add_argument("-o", "--output", type=Path, default=Path("docs/text.md"))
    options = made.parse_args(arguments)
    results = measure(
        None if options.artifact is None else genslim.load(options.artifact),
        [int(count) for count in options.steps.split(",")],
        batch=options.batch,
        count=options.count,
        rounds=options.rounds,
        seconds=options.seconds,
    )
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    options.output.write_text(markdown(results))
    print(markdown(results))


if __name__ == "__main__":
    main()
