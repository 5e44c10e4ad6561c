"""Throughput of many callers through one session, beside the best single batched loop.

    python -m benchmarks.session [--source dcgan-mnist] [--runtime openvino]

Sixteen threads ask a ``genslim.Session`` for images, each for the next when it has the last, so
that the session has to find its batches itself. The loop has all its inputs beforehand and runs
them one batch after another on the bare runtime; it is tried at the session's greatest batch, half
and a quarter of it, and the quickest counts. All take turns, round after round, and a ratio is
taken within a round. Before it is timed, every caller's images are compared with the loop's.

The figures go to docs/session.md and docs/session.json; exit status 1 below the ratio asked for.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import genslim
from bench.environment import environment
from genslim.generator import Generator
from genslim.inputs import Inputs
from genslim.onnx_graph import onnx_of
from genslim.runtimes import Arrays, runtime
from genslim.runtimes import Session as BareSession
from genslim.target import Target
from genslim.timing import Samples, interleave

LEAST_RATIO = 0.9
"""Of the session's throughput to the loop's."""
LARGEST_ERROR = 1e-3
"""Between a caller's images and the loop's, as a part of the value range: batches of other sizes
are computed in another order."""


def call_all(
    session: genslim.Session, callers: ThreadPoolExecutor, requests: Sequence[Sequence[Arrays]]
) -> list[list[Any]]:
    """Let each caller make its requests one after another, all callers at once."""
    return list(callers.map(lambda own: [session.generate(inputs) for inputs in own], requests))


def loop(session: BareSession, batches: Sequence[Arrays], output: str) -> list[Any]:
    """Run batch after batch."""
    return [session.run(inputs)[output] for inputs in batches]


def cut(inputs: Arrays, size: int) -> list[dict[str, Any]]:
    """The inputs in portions."""
    count = len(next(iter(inputs.values())))
    return [
        {name: array[start : start + size] for name, array in inputs.items()}
        for start in range(0, count, size)
    ]


def measure(generator: Generator, options: argparse.Namespace, each: int) -> dict[str, Any]:
    """One row: callers that ask for ``each`` images at a time.

    Raises:
        SystemExit: a caller's images are not its own.
    """
    signature = generator.signature
    low, high = signature.images.value_range
    count = options.callers * options.requests * each
    drawn = Inputs(signature, "timing").draw(count)
    inputs = {name: tensor.numpy() for name, tensor in drawn.items()}
    portions = cut(inputs, each)
    requests = [portions[caller :: options.callers] for caller in range(options.callers)]
    target = Target(options.runtime, threads=options.threads)
    with ExitStack() as stack:
        session = stack.enter_context(
            genslim.Session(
                generator,
                runtime=options.runtime,
                threads=options.threads,
                max_batch=options.max_batch,
                max_wait=options.max_wait,
            )
        )
        callers = stack.enter_context(ThreadPoolExecutor(options.callers))
        candidates: dict[str, Callable[[], Any]] = {
            "session": partial(call_all, session, callers, requests)
        }
        for batch in sorted({options.max_batch // d for d in (1, 2, 4)} - {0}, reverse=True):
            settled = replace(target, batch=batch).settled(signature)
            bare = stack.enter_context(runtime(options.runtime).open(generator, settled))
            name = f"loop of {batch}"
            candidates[name] = partial(loop, bare, cut(inputs, batch), signature.images.name)
        expected = np.concatenate(candidates[name]())
        parts = cut({"images": expected}, each)
        for caller, images in enumerate(candidates["session"]()):
            own = [part["images"] for part in parts[caller :: options.callers]]
            error = float(np.abs(np.concatenate(images) - np.concatenate(own)).max())
            if error > LARGEST_ERROR * (high - low):
                raise SystemExit(f"caller {caller} got images that are not its own (by {error:g})")
        samples = interleave(candidates, rounds=options.rounds, seconds=options.seconds)
        statistics = session.statistics
    return row(samples, each, count) | {
        "execution": str(session.execution),
        "mean_batch": round(statistics.mean_batch, 1),
    }


def row(samples: dict[str, Samples], each: int, count: int) -> dict[str, Any]:
    """What one row says; raw samples are kept."""
    loops = {name: s for name, s in samples.items() if name != "session"}
    best = min(loops, key=lambda name: loops[name].median_ms)
    # Latencies of the loop by those of the session are the session's throughput by the loop's.
    ratio = loops[best].ratio_to(samples["session"])
    return {
        "images_a_request": each,
        "session_images_per_second": samples["session"].throughput(count),
        "loop_images_per_second": loops[best].throughput(count),
        "best_loop": best,
        "ratio": ratio,
        "interval": list(loops[best].ratio_interval(samples["session"])),
        "images_a_round": count,
        "samples": {name: asdict(s) for name, s in samples.items()},
    }


def markdown(results: dict[str, Any]) -> str:
    """The page."""
    place, options = results["environment"], results["options"]
    wait = options["max_wait"]
    waited = "max_wait as by default" if wait is None else f"a wait of up to {wait * 1e3:g} ms"
    lines = [
        "# A session beside a batched loop",
        "",
        "Made by `python -m benchmarks.session`; raw figures in `session.json`.",
        "",
        f"{options['callers']} threads ask one `genslim.Session` for images of "
        f"`{options['source']}`, each for the next when it has the last; the loop runs the same "
        "inputs one batch after another on the bare runtime. Images per second, medians; the ratio "
        f"is taken within each round, and {LEAST_RATIO} is the least asked for.",
        "",
        "| images a request | session | mean batch | best loop | its batch | ratio | 95 % |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for found in results["rows"]:
        low, high = found["interval"]
        lines.append(
            f"| {found['images_a_request']} | {found['session_images_per_second']:.0f} | "
            f"{found['mean_batch']} | {found['loop_images_per_second']:.0f} | "
            f"{found['best_loop'].removeprefix('loop of ')} | **{found['ratio']:.2f}** | "
            f"{low:.2f} to {high:.2f} |"
        )
    lines += [
        "",
        f"{results['rows'][0]['execution']}, {options['threads']} threads, batches of up to "
        f"{options['max_batch']}, {waited}. Every caller's images were compared with the loop's "
        "first.",
        "",
        f"{place['cpu']}, {place['cores']} cores, {place['system']}, {place['date']}; "
        f"{place['load']} cores were at work on other things.",
        "",
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--source", default="dcgan-mnist")
    parser.add_argument("--runtime", default="openvino")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--callers", type=int, default=16)
    parser.add_argument("--max-batch", type=int, default=16)
    parser.add_argument("--max-wait", type=float, help="in seconds; the session's own by default")
    parser.add_argument("--sizes", default="1,4", help="images a request, a row each")
    parser.add_argument("--requests", type=int, default=8, help="of each caller in a round")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=60.0, help="for each row at most")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/session.md"))
    options = parser.parse_args(arguments)
    surroundings = environment()
    generator = genslim.load(options.source)
    if options.runtime != "torch" and not generator.files:
        generator = replace(generator, onnx=onnx_of(generator))
    rows = []
    for each in map(int, options.sizes.split(",")):
        rows.append(measure(generator, options, each))
        print(
            f"{each} images a request: session {rows[-1]['session_images_per_second']:.0f}, "
            f"best loop {rows[-1]['loop_images_per_second']:.0f} images per second "
            f"({rows[-1]['best_loop']}), ratio {rows[-1]['ratio']:.2f}",
            flush=True,
        )
    results = {
        "environment": asdict(surroundings),
        "options": {name: value for name, value in vars(options).items() if name != "output"},
        "rows": rows,
    }
    options.output.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    options.output.write_text(markdown(results))
    return int(any(found["ratio"] < LEAST_RATIO for found in rows))


if __name__ == "__main__":
    sys.exit(main())
