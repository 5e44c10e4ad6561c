"""A TensorRT engine, built by TensorRT or TensorRT-RTX, with the proof of what was built.

Users of such tools most often complain that 16 bits were asked for and 32 were built, in silence.
So the layers of the engine are read back (:mod:`export.engine.layers`), every convolution and
product is looked up among them, and an engine that is not what was asked for is kept apart.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

from export.engine.building import MEBIBYTE, Built, Settings, build
from export.engine.layers import Engine, inspected, listed
from export.exporter import Exporter, Product, as_exported
from export.graph import beyond_half, graph_of, kind_of
from genslim.console import Console
from genslim.errors import UserError
from genslim.generator import Generator
from genslim.inputs import Inputs
from genslim.onnx_model import fixed_sides, load_model
from genslim.runtimes.tensorrt import ENGINE, find_tensorrt, load_engine
from genslim.runtimes.tensorrt import TensorRt as Runtime
from genslim.signs import signed
from genslim.sources.exported import ENGINE_FACTS, engine_facts
from genslim.storage import write_whole
from genslim.target import Target

PRODUCTS = ("Conv", "ConvTranspose", "MatMul", "Gemm")
"""ONNX operators that are convolutions and matrix products."""
LEAST_SHARE = 0.9
"""Of the convolutions and products, how many must compute in 8 or 16 bits where that was asked.

A few may not: weights that fp16 can't hold, or layers that quantization left whole on purpose.
"""
RUNS = 50
"""How often a new engine is timed, where there is a GPU."""


@dataclass(frozen=True)
class TensorRt(Exporter):
    """``engine.plan``, and ``engine.json`` with its signature.

    On a machine without a GPU it is built, not run.
    """

    name: ClassVar[str] = "trt"
    suffixes: ClassVar[tuple[str, ...]] = (".plan", ".engine", ".trt")

    precision: Literal["auto", "fp32", "fp16", "int8"] = "auto"
    """auto: as the generator is; fp16: what is float in 16 bits; fp32, int8: it must be that."""
    least: tuple[str, ...] = ()
    """``[NAME:]SHAPE`` of the smallest inputs that the engine takes."""
    usual: tuple[str, ...] = ()
    """Of those that it is tuned for."""
    greatest: tuple[str, ...] = ()
    """Of the largest. Left out, all three follow from the signature."""
    target_gpu: str = ""
    """Compute capabilities to build for ahead of time: ``sm_80,sm_86``. TensorRT-RTX alone."""
    timing_cache: str | None = None
    """A file that measured kernels are kept in, from one build to the next."""
    workspace: int | None = None
    """MiB of GPU memory that kernels may use for themselves."""
    version_compatible: bool = False
    """Let later versions of the library run the engine, at some cost of speed."""
    hardware_compatible: bool = False
    """Let other GPUs run the engine, at some cost of speed."""

    def ready(self) -> None:
        """One of the two libraries must be installed."""
        super().ready()
        if self.workspace is not None and self.workspace <= 0:
            raise UserError(
                f"workspace {self.workspace} is no positive number of MiB",
                hint="leave it out to allow all of the GPU's memory",
            )
        find_tensorrt()

    @property
    def settings(self) -> Settings:
        """What the builder is told."""
        return Settings(
            shapes={"min": self.least, "opt": self.usual, "max": self.greatest},
            gpus=tuple(filter(None, self.target_gpu.replace(" ", "").lower().split(","))),
            timing_cache=None if self.timing_cache is None else Path(self.timing_cache),
            workspace=self.workspace,
            version_compatible=self.version_compatible,
            hardware_compatible=self.hardware_compatible,
        )

    def produce(self, generator: Generator, folder: Path, console: Console) -> Product:
        """Build the engine, and run it where there is a GPU; else its graph on ONNX Runtime."""
        trt = find_tensorrt()
        graph = signed(graph_of(generator, self.precision))
        started = time.monotonic()
        built = build(trt, graph, generator.signature, self.settings, console)
        seconds = round(time.monotonic() - started, 1)
        write_whole(folder / ENGINE, built.plan)
        library = f"{trt.__name__} {trt.__version__}"
        fixed = fixed_sides(graph, generator.signature)
        facts = engine_facts(
            as_exported(generator.signature, fixed),
            {"library": library, "profile": built.profile},
            str(generator.source.get("licence", "")),
        )
        write_whole(folder / ENGINE_FACTS, facts)
        why_not = Runtime().missing()
        engine = built.engine
        if why_not is None:
            engine = inspected(trt, load_engine(trt, built.plan, library))
        kind = kind_of(graph)
        asked = kind if self.precision == "auto" else self.precision
        kinds = engine.products(products_of(graph)) if engine else {}
        products = Counter(kinds.values())
        figures = {
            "bytes": len(built.plan),
            "library": library,
            "asked": asked,
            "build_seconds": seconds,
            "profile": built.profile,
            "gpus": list(built.gpus),
            "network": built.network,
            "products": dict(products),
            "engine": engine and engine.to_json(),
        }
        console.info(f"{library}: built in {seconds} s, {len(built.plan) / MEBIBYTE:.1f} MiB")
        tell(built, engine, products, console)
        if why_not is None:
            alone = replace(
                generator, onnx=None, module=None, files={ENGINE: folder / ENGINE}, steps=()
            )
            latency = timed(alone)
            figures |= {"run": "run", "latency_ms": latency}
            console.info(f"latency: {latency:.2f} ms, the median of {RUNS} runs, copies included")
            judged, judged_on = alone, "tensorrt"
        else:
            figures["run"] = f"built, not run: {why_not.partition(';')[0]}"
            console.info(str(figures["run"]))
            console.info("the parity below is that of the graph the engine was built from")
            judged, judged_on = replace(generator, onnx=graph, module=None, files={}), "onnxruntime"
        return Product(
            kind,
            files={name: folder / name for name in (ENGINE, ENGINE_FACTS)},
            judged=judged,
            judged_on=judged_on,
            fixed=fixed,
            figures=figures,
            failures=[
                *(
                    failure + why_float(asked, graph, kinds)
                    for failure in refusals(asked, built.network, products)
                ),
                *beyond_half(graph, generator.signature),
            ],
        )


def products_of(graph: bytes) -> list[str]:
    """The names of a graph's convolutions and matrix products."""
    return [node.name for node in load_model(graph).graph.node if node.op_type in PRODUCTS]


def tell(
    built: Built, engine: Engine | None, products: Mapping[str, int], console: Console
) -> None:
    """What was asked for and what was built."""
    console.info(f"convolutions and products in the network: {listed(built.network)}")
    if engine is None:
        console.info("the builder does not tell which layers it built")
        return
    console.info(f"convolutions and products in the engine: {listed(products)}")
    console.info(
        f"layers in the engine, by what they make: {listed(engine.types())}; "
        f"{engine.reformats} only reformat (read from {engine.read_from})"
    )


def timed(generator: Generator) -> float:
    """The median latency of an engine in ms, with its inputs and images copied."""
    signature = generator.signature
    target = Target("tensorrt").settled(signature)
    assert target.batch is not None
    drawn = {n: t.numpy() for n, t in Inputs(signature, "timing").draw(target.batch).items()}
    found = []
    with Runtime().open(generator, target) as session:
        for index in range(2 * RUNS):
            started = time.perf_counter()
            session.run(drawn)
            if index >= RUNS:  # the first half warms up
                found.append((time.perf_counter() - started) * 1e3)
    return statistics.median(found)


def refusals(asked: str, network: Mapping[str, int], products: Mapping[str, int]) -> list[str]:
    """Why what was built is not what was asked for; empty where it is.

    Args:
        asked: the precision.
        network: how many products of the network there are in each type.
        products: how many of them the engine computes in each type; empty where it is unknown.
    """
    small = {"fp16": ("fp16", "bf16", "int8"), "int8": ("int8",)}.get(asked)
    if small is None:
        return []
    failures = []
    for what, counts in (("network", network), ("engine", products)):
        total = sum(counts.values())
        fitting = sum(counts.get(kind, 0) for kind in small)
        # What quantization left whole is whole in the network already: the engine must have no
        # fewer of the kind asked for than that.
        needed = LEAST_SHARE * (total if asked == "fp16" else max(1, network.get("int8", 0)))
        if total and fitting < needed:
            failures.append(f"{asked} was asked for, and the {what} is {listed(counts)}")
    return failures[:1]


def why_float(asked: str, graph: bytes, kinds: Mapping[str, str]) -> str:
    """What makes the products of an int8 graph float in the engine, as far as it is known.

    Args:
        asked: the precision.
        graph: what was built.
        kinds: what each product computes in, by its node.
    """
    nodes = load_model(graph).graph.node
    float_ones = [n for n in nodes if n.op_type == "ConvTranspose" and kinds.get(n.name) != "int8"]
    if asked != "int8" or not float_ones:
        return ""
    return (
        f": TensorRT computes transposed convolutions in floating point ({len(float_ones)} here); "
        "before quantizing, compress rewrite --always 'matrix product' "
        "--always 'convolution for each phase'"
    )
