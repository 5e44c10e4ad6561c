"""Engines beside PyTorch and ONNX Runtime on a GPU: latency and SSIM at batch 1 and 16.

    python -m benchmarks.engines --models ../shared/models --images photos/

Everything stays on the GPU: inputs lie there, images stay there, CUDA events take the time, and all
ways take turns in the same rounds. Without a GPU the page says that nothing was measured yet.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

import genslim
from benchmarks.options import SOURCES, parser
from genslim.errors import GenslimError
from genslim.generator import Generator, run_module
from genslim.inputs import Inputs
from genslim.metrics import ssim
from genslim.runtimes import runtime
from genslim.runtimes.cuda import Cuda
from genslim.runtimes.engine import EngineSession
from genslim.runtimes.tensorrt import TensorRt as Runtime
from genslim.target import Target

BATCHES = (1, 16)
ROUNDS = 200
"""How often each way is timed, after a quarter as many to warm up."""
COUNT = 32
"""Inputs that SSIM is read on."""

Run = Callable[[Mapping[str, Tensor]], Tensor]
"""Inputs on the GPU to images on the GPU, float32, started and not waited for."""


class Device(Protocol):
    """Where it runs and how time is taken there."""

    device: torch.device

    def name(self) -> str:
        """What it is called."""

    def milliseconds(self, work: Callable[[], object]) -> float:
        """How long the device is at work."""


class TimedGpu(Cuda):
    """The first GPU, timed by its own events."""

    def milliseconds(self, work: Callable[[], object]) -> float:
        """From when the GPU begins to when it has finished."""
        begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begun.record()
        work()
        ended.record()
        ended.synchronize()
        return float(begun.elapsed_time(ended))


class ThisMachine:
    """The CPU, to try this script where there is no GPU; its figures mean nothing."""

    device = torch.device("cpu")

    def name(self) -> str:
        """Says what it is."""
        return "a CPU in the place of a GPU"

    def milliseconds(self, work: Callable[[], object]) -> float:
        """By the clock."""
        begun = time.perf_counter()
        work()
        return (time.perf_counter() - begun) * 1e3


@dataclass(frozen=True)
class Way:
    """A way to run a generator on a GPU."""

    name: str
    open: Callable[[Generator, Device, Path], Run]
    """Makes it ready; files may lie in the folder.

    Raises:
        Exception: whatever the tool raises that can't.
    """


def in_pytorch(
    dtype: torch.dtype, *, channels_last: bool = False, compiled: bool = False
) -> Callable[[Generator, Device, Path], Run]:
    """The module in PyTorch."""

    def opened(generator: Generator, place: Device, folder: Path) -> Run:
        module = generator.trainable().eval().to(place.device, dtype)
        if channels_last:
            module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        called: Any = torch.compile(module) if compiled else module

        def run(inputs: Mapping[str, Tensor]) -> Tensor:
            given = {name: tensor.to(dtype) for name, tensor in inputs.items()}
            if channels_last:
                given = {
                    n: t.contiguous(memory_format=torch.channels_last) if t.ndim == 4 else t
                    for n, t in given.items()
                }
            with torch.inference_mode():
                return run_module(called, generator.signature, given).float()

        return run

    return opened


def in_onnxruntime(generator: Generator, place: Device, folder: Path) -> Run:
    """ONNX Runtime with its CUDA provider; arrays come from the machine's memory and go back."""
    target = Target("onnxruntime", device="cuda").settled(generator.signature)
    session = runtime("onnxruntime").open(generator, target)
    name = generator.signature.images.name

    def run(inputs: Mapping[str, Tensor]) -> Tensor:
        made = session.run({n: t.cpu().numpy() for n, t in inputs.items()})[name]
        return torch.from_numpy(made).to(place.device)

    return run


def in_tensorrt(
    precision: Literal["fp16", "int8"],
) -> Callable[[Generator, Device, Path], Run]:
    """An engine of ``export trt``; int8 of what ``compress quantize --int8`` makes."""

    def opened(generator: Generator, place: Device, folder: Path) -> Run:
        from compress import Quantize
        from export import TensorRt

        if precision == "int8":
            generator = Quantize("int8", recover="none", target="torch:device=cuda")(generator)
        spec = generator.signature.inputs[0]
        exporter = TensorRt(
            str(folder / f"{precision}.plan"),
            precision=precision,
            usual=(",".join(map(str, spec.concrete(max(BATCHES)))),),
            greatest=(",".join(map(str, spec.concrete(max(BATCHES)))),),
        )
        session = runtime("tensorrt").open(exporter(generator), Target("tensorrt"))
        assert isinstance(session, EngineSession)
        return of_session(session, generator.signature.images.name)

    return opened


def of_session(session: EngineSession, name: str) -> Run:
    """Runs of an engine on tensors that are on the GPU."""
    kinds = {port.name: port.dtype for port in session.inputs}

    def run(inputs: Mapping[str, Tensor]) -> Tensor:
        given = {n: t.to(kinds[n]) for n, t in inputs.items()}
        return session.run_tensors(given)[name].float()

    return run


WAYS = (
    Way("PyTorch eager fp32", in_pytorch(torch.float32)),
    Way("PyTorch fp16, channels last", in_pytorch(torch.float16, channels_last=True)),
    Way(
        "torch.compile fp16",
        in_pytorch(torch.float16, channels_last=True, compiled=True),
    ),
    Way("ONNX Runtime CUDA", in_onnxruntime),
    Way("genslim TensorRT fp16", in_tensorrt("fp16")),
    Way("genslim TensorRT int8", in_tensorrt("int8")),
)


@dataclass(frozen=True)
class Line:
    """What one way read; None where it could not run."""

    way: str
    latency_ms: dict[int, float] | None = None
    """The median by batch."""
    speedup: dict[int, float] | None = None
    """Times as fast as the first way, the median of rounds, by batch."""
    ssim: float | None = None
    """Mean, to the first way's images."""
    reason: str = ""


def measure(
    generator: Generator, ways: Sequence[Way], place: Device, *, rounds: int, count: int = COUNT
) -> list[Line]:
    """Run one generator in every way, in turn.

    Args:
        generator: has a module.
        ways: the first is what the others are compared with.
        place: where.
        rounds: how often each is timed.
        count: inputs that SSIM is read on.
    """
    runs: dict[str, Run] = {}
    lines = {way.name: Line(way.name) for way in ways}
    with tempfile.TemporaryDirectory(prefix="genslim-") as folder:
        for way in ways:
            try:
                runs[way.name] = way.open(generator, place, Path(folder))
            except (GenslimError, RuntimeError) as error:
                reason = str(error).splitlines()[0][:160]
                lines[way.name] = replace(lines[way.name], reason=reason)
        first = ways[0].name
        for batch in BATCHES:
            drawn = Inputs(generator.signature, "timing").draw(batch)
            inputs = {n: t.to(place.device) for n, t in drawn.items()}
            taken: dict[str, list[float]] = {name: [] for name in runs}
            for index in range(rounds + rounds // 4):
                for name, run in runs.items():
                    spent = place.milliseconds(partial(run, inputs))
                    if index >= rounds // 4:
                        taken[name].append(spent)
            for name, each in taken.items():
                faster = [a / b for a, b in zip(taken[first], each, strict=True)]
                line = lines[name]
                lines[name] = replace(
                    line,
                    latency_ms={**(line.latency_ms or {}), batch: statistics.median(each)},
                    speedup={**(line.speedup or {}), batch: statistics.median(faster)},
                )
        unseen = Inputs(generator.signature, "quality").draw(count)
        made = {name: images(run, unseen, place) for name, run in runs.items()}
    for name in runs:
        figures = ssim(made[name], made[first], data_range=generator.signature.data_range)
        lines[name] = replace(lines[name], ssim=float(figures.mean()))
    return list(lines.values())


def images(run: Run, inputs: Mapping[str, Tensor], place: Device) -> Tensor:
    """All images of ``inputs``, a batch at a time."""
    size, count = max(BATCHES), len(next(iter(inputs.values())))
    parts = [
        run({n: t[at : at + size].to(place.device) for n, t in inputs.items()}).cpu()
        for at in range(0, count, size)
    ]
    return torch.cat(parts)


def markdown(results: Mapping[str, Any]) -> str:
    """The page."""
    lines = [
        "# Engines on a GPU, measured",
        "",
        "Made by `python -m benchmarks.engines`; raw figures in `engines.json`. Latency by CUDA "
        f"events, the median of {ROUNDS} runs in turn with all others, inputs and images on the "
        "GPU but for ONNX Runtime, whose copies count.",
    ]
    if not results.get("generators"):
        why = results.get("reason", "no GPU")
        return "\n".join([*lines, "", f"**Not yet measured**: {why}.", ""])
    lines += ["", f"On {results['device']}."]
    for name, found in results["generators"].items():
        batches = " | ".join(f"batch {batch} | speed-up" for batch in BATCHES)
        lines += ["", f"## {name}", "", f"| | {batches} | SSIM |"]
        lines += ["| --- |" + " ---: |" * (2 * len(BATCHES) + 1)]
        for line in found:
            if line["latency_ms"] is None:
                lines.append(f"| {line['way']} |" + " – |" * 5 + f" {line['reason']}")
                continue
            cells = [
                cell
                for batch in map(str, BATCHES)
                for cell in (
                    f"{line['latency_ms'][batch]:.3f} ms",
                    f"{line['speedup'][batch]:.2f}×",
                )
            ]
            lines.append(f"| {line['way']} | " + " | ".join(cells) + f" | {line['ssim']:.4f} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Measure on the GPU, or write that there is none."""
    options = parser(__doc__, "docs/engines.md").parse_args()
    store = options.output.with_suffix(".json")
    results: dict[str, Any] = json.loads(store.read_text()) if store.is_file() else {}
    if reason := Runtime().missing():
        results.setdefault("generators", {})
        results["reason"] = reason.partition(";")[0]
    else:
        gpu = TimedGpu()
        known = results.setdefault("generators", {})
        results["device"] = f"{gpu.name()}, PyTorch {torch.__version__}"
        for name, source in SOURCES.items():
            if options.only in name:
                original = genslim.load(source.format(models=options.models), images=options.images)
                found = measure(original, WAYS, gpu, rounds=ROUNDS)
                known[name] = json.loads(json.dumps([asdict(line) for line in found]))
    store.write_text(json.dumps(results, indent=1) + "\n")
    options.output.write_text(markdown(results))
    print(options.output.read_text())


if __name__ == "__main__":
    main()
