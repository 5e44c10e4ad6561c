"""What each exact rewrite gains: on two runtimes, in floating point and in int8.

    python -m benchmarks.rewrites --models ../shared/models --images photos/

Nothing is trained: ratios are latencies of the generator rewritten at one place to itself, in the
same rounds, as ``compress rewrite`` takes them.
"""

from __future__ import annotations

import json
from typing import Any, Literal

import genslim
from bench.environment import environment
from benchmarks.options import SOURCES, parser
from compress import Rewrite

TARGETS = ("openvino", "onnxruntime")
PRECISIONS: tuple[Literal["auto", "int8"], ...] = ("auto", "int8")


def measure(source: str, images: str) -> dict[str, dict[str, Any]]:
    """The record of the step on each target, by target and precision."""
    original = genslim.load(source, images=images)
    found = {}
    for target in TARGETS:
        for precision in PRECISIONS:
            print(f"  {target} {precision}", flush=True)
            step = Rewrite(target=target, precision=precision)
            report = step(original).steps[-1].report
            names = ("latency_ratio", "changed", "parity")
            found[f"{target} {'fp32' if precision == 'auto' else precision}"] = {
                name: report[name] for name in names if name in report
            }
    return found


def markdown(results: dict[str, Any]) -> str:
    """One table: a line for each rewrite at each place."""
    columns = [f"{t} {'fp32' if p == 'auto' else p}" for t in TARGETS for p in PRECISIONS]
    lines = [
        "# Exact rewrites, measured",
        "",
        "Made by `python -m benchmarks.rewrites`; raw figures in `rewrites.json`. The latency of"
        " the generator with one rewrite to that of itself without, the median of paired rounds:"
        " below 0.97 it gains. Bold: it was made.",
        "",
        "| | rewrite | " + " | ".join(columns) + " |",
        "| --- | --- | " + " | ".join(["---:"] * len(columns)) + " |",
    ]
    for name, found in results["generators"].items():
        rewrites = dict.fromkeys(r for column in found.values() for r in column["latency_ratio"])
        for rewrite in rewrites:
            cells = []
            for column in columns:
                ratio = found[column]["latency_ratio"].get(rewrite)
                made = any(line.startswith(f"{rewrite}, ") for line in found[column]["changed"])
                shown = "–" if ratio is None else f"{ratio:.2f}"
                cells.append(f"**{shown}**" if made else shown)
            lines.append(f"| {name} | {rewrite} | " + " | ".join(cells) + " |")
    moved = max(
        (c.get("parity", 0.0) for found in results["generators"].values() for c in found.values()),
        default=0.0,
    )
    lines += ["", f"Pictures moved by at most {moved:.1e} of the value range."]
    return "\n".join([*lines, "", f"Measured on {results['machine']}, 2 threads.", ""])


def main() -> None:
    """Measure what is missing and write the table."""
    options = parser(__doc__, "docs/rewrites.md").parse_args()
    store = options.output.with_suffix(".json")
    results = json.loads(store.read_text()) if store.is_file() else {"generators": {}}
    results["machine"] = environment().cpu
    for name, source in SOURCES.items():
        known = results["generators"]
        if options.only in name if options.only else name not in known:
            print(name, flush=True)
            known[name] = measure(source.format(models=options.models), options.images)
        results["generators"] = {n: known[n] for n in SOURCES if n in known}
        store.write_text(json.dumps(results, indent=1) + "\n")
        options.output.write_text(markdown(results))


if __name__ == "__main__":
    main()
