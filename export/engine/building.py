"""Building an engine: the graph parsed, the builder set up and run, every refusal in one line.

Networks are strongly typed: the types in the ONNX graph are the types that execute. So fp16 means
an fp16-typed graph and int8 means Q/DQ pairs; there is no flag that could be ignored in silence.
TensorRT 10, 11 and TensorRT-RTX share this path; what one of them lacks is asked of the library
itself and refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil  # type: ignore[import-untyped]

from export.engine.layers import Engine, logged, product_types
from export.engine.shapes import End, Profile, profile_of
from genslim.console import SILENT, Console, Progress
from genslim.errors import GenslimError, MissingDependency, UserError
from genslim.interruption import Interruption, held
from genslim.onnx_model import load_model, source_line
from genslim.runtimes.tensorrt import Log, quiet_logger
from genslim.signature import Signature
from genslim.storage import write_whole

if TYPE_CHECKING:
    import onnx

MEBIBYTE = 2**20
LIBRARY_BYTES = 256 * MEBIBYTE
"""What TensorRT itself takes of the memory, before it has a graph."""
BYTES_PER_GRAPH_BYTE = 10
"""What a build takes for each byte of the graph, beside that. Both with room: a build of 9 MiB was
seen to take 79 MiB, one of 4 MiB 97."""
OUT_OF_MEMORY = ("outofmemory", "out of memory", "insufficient workspace", "bad_alloc")


@dataclass(frozen=True)
class Settings:
    """How to build, beside the graph itself."""

    shapes: Mapping[End, Sequence[str]] = field(default_factory=dict)
    """``[NAME:]SHAPE`` for ``min``, ``opt`` and ``max``."""
    gpus: tuple[str, ...] = ()
    """Compute capabilities to build for: ``sm_80``. None: the library's own choice."""
    timing_cache: Path | None = None
    """A file that measured kernels are kept in from one build to the next."""
    workspace: int | None = None
    """MiB of GPU memory that kernels may use for themselves."""
    version_compatible: bool = False
    """The engine runs on later versions of the library too."""
    hardware_compatible: bool = False
    """The engine runs on other GPUs than the one it is built on."""


@dataclass(frozen=True)
class Built:
    """An engine and what is known of it."""

    plan: bytes
    profile: Profile
    network: dict[str, int]
    """How many convolutions and matrix products of the network there are in each type."""
    engine: Engine | None
    """The layers that were built; None where the builder does not tell."""
    gpus: tuple[str, ...]
    """The compute capabilities that it was built for; empty where the library chose."""


def build(
    trt: Any,
    graph: bytes,
    signature: Signature,
    settings: Settings | None = None,
    console: Console = SILENT,
) -> Built:
    """Parse ``graph`` and build an engine of it.

    Args:
        trt: the module of TensorRT or TensorRT-RTX.
        graph: what to build, its types those that shall execute.
        signature: of its inputs.
        settings: how.
        console: shows how far it is.

    Raises:
        GenslimError: TensorRT can't parse or build it; each error with its ONNX node.
        UserError: the settings are wrong or this library has no such setting.
        MissingDependency: this machine has too little memory.
        KeyboardInterrupt: it was interrupted; nothing was written.
    """
    settings = settings or Settings()
    require_memory(len(graph))
    log = quiet_logger(trt)
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parse(trt, network, graph, log)
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    shapes = {tensor.name: tuple(tensor.shape) for tensor in inputs}
    profile = profile_of(shapes, signature, settings.shapes)
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # what the inspector reads
    configure(trt, config, settings)
    if profile:
        ranges = builder.create_optimization_profile()
        for name, shape in profile.items():
            ranges.set_shape(name, shape["min"], shape["opt"], shape["max"])
        config.add_optimization_profile(ranges)
    with held() as interruption, console.progress(f"building with {trt.__name__}") as bar:
        config.progress_monitor = monitor(trt, interruption, bar)
        plan = builder.build_serialized_network(network, config)
        if interruption.number:
            interruption.deliver(interruption.number)
    if plan is None:
        raise unbuilt(trt, log)
    if settings.timing_cache is not None:
        write_whole(settings.timing_cache, bytes(config.get_timing_cache().serialize()))
    return Built(bytes(plan), profile, product_types(network), logged(log.lines), settings.gpus)


def require_memory(graph_bytes: int) -> None:
    """Raise MissingDependency where a build would not fit into what is free of the memory.

    It would be killed half-way, and on some machines take the user's other programs with it.
    """
    needed = LIBRARY_BYTES + BYTES_PER_GRAPH_BYTE * graph_bytes
    free = psutil.virtual_memory().available
    if needed > free:
        raise MissingDependency(
            f"building an engine of a graph of {graph_bytes / MEBIBYTE:.0f} MiB takes about "
            f"{needed / MEBIBYTE:,.0f} MiB of memory, and {free / MEBIBYTE:,.0f} MiB are free",
            hint="close other programs, prune the generator first, or build on a larger machine",
        )


def parse(trt: Any, network: Any, graph: bytes, log: Log) -> None:
    """Read the graph into a network.

    Raises:
        GenslimError: TensorRT can't; each error with the ONNX node it belongs to, and the line of
            the generator's code where the exporter kept it.
    """
    parser = trt.OnnxParser(network, log)
    if parser.parse(graph):
        return
    nodes = load_model(graph).graph.node
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    raise GenslimError(
        f"{trt.__name__} can't parse the graph: "
        + ("; ".join(described(error, nodes) for error in errors) or reasons(log)),
        hint="export onnx still works; ONNX Runtime or OpenVINO may run it",
    )


def described(error: Any, nodes: Sequence[onnx.NodeProto]) -> str:
    """One of the parser's errors: the operator, the node's name, why, and where it comes from."""
    place = None
    if 0 <= error.node() < len(nodes) and nodes[error.node()].name == error.node_name():
        place = source_line(nodes[error.node()])
    why = " ".join(str(error.desc()).split())
    where = f" ({place})" if place else ""
    return f"{error.node_operator()} {error.node_name()!r}{where}: {why}"


def configure(trt: Any, config: Any, settings: Settings) -> None:
    """Set the builder up.

    Raises:
        UserError: this library has no such setting, or a value is none that it takes.
    """
    if settings.gpus:
        set_gpus(trt, config, settings.gpus)
    if settings.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace * MEBIBYTE)
    if settings.version_compatible:
        flag = setting(trt, "BuilderFlag", "VERSION_COMPATIBLE", "--version-compatible")
        config.set_flag(flag)
    if settings.hardware_compatible:
        level = setting(trt, "HardwareCompatibilityLevel", "AMPERE_PLUS", "--hardware-compatible")
        config.hardware_compatibility_level = level
    if settings.timing_cache is not None:
        take_cache(trt, config, settings.timing_cache)


def take_cache(trt: Any, config: Any, path: Path) -> None:
    """Let the builder begin with the measurements in a file, or with none where there is no file.

    Raises:
        UserError: the library has no such cache, or does not take this one.
    """
    if trt.__name__ == "tensorrt_rtx":  # the functions are there and do nothing
        raise UserError(
            "TensorRT-RTX measures no kernels as it builds, so there is nothing to keep",
            hint="leave out --timing-cache",
        )
    cache = config.create_timing_cache(path.read_bytes() if path.is_file() else b"")
    if cache is None or not config.set_timing_cache(cache, False):
        raise UserError(
            f"--timing-cache {path}: {trt.__name__} {trt.__version__} does not take it",
            hint="it is damaged, or of another version or GPU: name another file",
        )


def setting(trt: Any, group: str, name: str, flag: str) -> Any:
    """A constant of the library, or a UserError that says that it has none."""
    found = getattr(getattr(trt, group, None), name, None)
    if found is None:
        raise UserError(
            f"{trt.__name__} {trt.__version__} has no {group}.{name}", hint=f"leave out {flag}"
        )
    return found


def set_gpus(trt: Any, config: Any, gpus: Sequence[str]) -> None:
    """Build for these GPUs, ahead of time; TensorRT-RTX alone can.

    Raises:
        UserError: the library builds for the GPU that is there alone, or knows no such GPU.
    """
    if not hasattr(config, "set_compute_capability"):
        raise UserError(
            f"{trt.__name__} {trt.__version__} builds for the GPU of this machine alone",
            hint="leave out --target-gpu, or install TensorRT-RTX: pip install tensorrt-rtx",
        )
    known = {name.lower(): value for name, value in capabilities(trt).items()}
    for gpu in gpus:
        if gpu.replace("_", "") not in known:
            there = ", ".join(name.replace("sm", "sm_") for name in known)
            raise UserError(
                f"--target-gpu {gpu}: {trt.__name__} {trt.__version__} knows no such GPU",
                hint=f"it builds for {there}",
            )
    config.num_compute_capabilities = len(gpus)
    for index, gpu in enumerate(gpus):
        config.set_compute_capability(known[gpu.replace("_", "")], index)


def capabilities(trt: Any) -> dict[str, Any]:
    """The compute capabilities that the library builds for, by its names: ``SM86``."""
    members = trt.ComputeCapability.__members__
    return {name: value for name, value in members.items() if name.startswith("SM")}


def unbuilt(trt: Any, log: Log) -> GenslimError:
    """Why there is no engine, and what to do."""
    why = reasons(log)
    big = any(word in why.lower() for word in OUT_OF_MEMORY)
    return GenslimError(
        f"{trt.__name__} can't build an engine: {why}",
        hint="it does not fit: name smaller shapes with --max, or allow more with --workspace"
        if big
        else "export onnx still works; ONNX Runtime or OpenVINO may run it",
    )


def reasons(log: Log) -> str:
    """The last errors that TensorRT logged."""
    return "; ".join(log.errors[-3:]) or "no reason given"


def monitor(trt: Any, interruption: Interruption, bar: Progress) -> Any:
    """What TensorRT tells of its progress; it goes on while the answer is True."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Shows the phase at work and asks for interruptions."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            """A phase of so many steps begins."""
            bar.reach(0, note=name)

        def phase_finish(self, name: str) -> None:
            """A phase ends."""

        def step_complete(self, name: str, step: int) -> bool:
            """Whether to go on."""
            return not interruption.number

    return Monitor()
