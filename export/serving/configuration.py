"""The configuration of a model in Triton: what goes in and out, in which batches, on what.

It is a message of Triton's own schema, so that it can hold nothing that Triton does not know.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from genslim.errors import MissingDependency, UserError
from genslim.onnx_model import load_model
from genslim.signature import BATCH, Signature
from genslim.storage import write_errors
from genslim.target import Target

if TYPE_CHECKING:
    import onnx

Backend = Literal["onnxruntime", "openvino", "tensorrt", "python"]
Device = Literal["auto", "cpu", "gpu"]
Profile = Mapping[str, Mapping[str, Sequence[int]]]
"""The ``min``, ``opt`` and ``max`` shape of each input of an engine."""

CONFIG = "config.pbtxt"
"""The name of a model's configuration."""
SHARED = ("backend", "input", "output")
"""What the versions of a model must have in common: it stands in their one configuration."""
MODEL_FILES: Mapping[Backend, str] = {
    "onnxruntime": "model.onnx",
    "openvino": "model.xml",
    "tensorrt": "model.plan",
    "python": "model.py",
}
"""What Triton opens, in the folder of a version."""
THREADS: Mapping[Backend, str] = {
    "onnxruntime": "intra_op_thread_count",
    "openvino": "INFERENCE_NUM_THREADS",
    "python": "threads",
}
"""What each backend calls the number of threads of an instance."""
ONNX_TYPES = {1: "TYPE_FP32", 7: "TYPE_INT64", 10: "TYPE_FP16", 16: "TYPE_BF16"}
"""By ONNX's numbers."""
IR_TYPES = {"f32": "TYPE_FP32", "i64": "TYPE_INT64", "f16": "TYPE_FP16", "bf16": "TYPE_BF16"}
"""By OpenVINO's names."""
BASIC = -1
"""Triton's number of ONNX Runtime's basic optimizations, which leave Q/DQ pairs as they are."""


@dataclass(frozen=True)
class Port:
    """An input or output of the file that is served."""

    name: str
    kind: str
    """Triton's word for its type: ``TYPE_FP32``."""
    shape: tuple[int, ...]
    """The batch first; -1 where a side is free."""
    usual: tuple[int, ...] = ()
    """Of an input: the shape that it usually has."""

    def at(self, batch: int) -> list[int]:
        """The shape with its free sides filled in."""
        return [
            side if side != -1 else wanted
            for side, wanted in zip(self.shape, (batch, *self.usual[1:]), strict=True)
        ]


@dataclass(frozen=True)
class Interface:
    """All that goes into the file that is served, and comes out."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    most: int | None = None
    """The largest batch that it takes; None: any."""

    @property
    def free_batch(self) -> bool:
        """Whether every input and output begins with a batch of any size."""
        return all(port.shape[:1] == (-1,) for port in (*self.inputs, *self.outputs))

    @property
    def usual_batch(self) -> int:
        """The batch that it is usually run at, where that is free."""
        return self.inputs[0].usual[0]

    def drawn(self, signature: Signature) -> Interface:
        """With the usual shapes of the signature's inputs, which are in the same order."""
        batch = Target().settled(signature).batch or 1
        inputs = tuple(
            replace(port, usual=spec.concrete(batch))
            for port, spec in zip(self.inputs, signature.inputs, strict=True)
        )
        return replace(self, inputs=inputs)


@dataclass(frozen=True)
class Serving:
    """How a file is served."""

    model: str
    """The model's name."""
    backend: Backend
    device: Device
    instances: int
    """How many copies work side by side."""
    threads: int | None
    """Of each instance, on the CPU; None: as the backend likes."""
    batch: int
    """The largest batch that requests are gathered into; 0: each request runs by itself."""
    preferred: tuple[int, ...]
    """Batches that are run at once, without waiting for more requests."""
    delay_ms: float
    """How long a request waits for others."""
    plain_pairs: bool = False
    """Whether ONNX Runtime must leave Q/DQ pairs as they are."""

    def __str__(self) -> str:
        batches = "each request by itself"
        if self.preferred:
            at_once = " and ".join(map(str, self.preferred))
            batches = (
                f"requests gathered into batches of up to {self.batch} "
                f"({at_once} at once, others after {self.delay_ms:g} ms)"
            )
        instances = f"{self.instances} instance{'s' * (self.instances > 1)}"
        return f"model {self.model} on {self.backend}: {instances}, {batches}"


def schema() -> Any:
    """Triton's own description of a configuration, as a module of protobuf classes.

    Raises:
        MissingDependency: Triton's client, which holds it, is missing or does not load.
    """
    hint = 'pip install "genslim[triton]"'
    if find_spec("tritonclient") is None:
        raise MissingDependency("tritonclient is not installed", hint=hint)
    try:
        return import_module("tritonclient.grpc.model_config_pb2")
    except Exception as error:  # without grpc a RuntimeError; with an old protobuf what that likes
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise MissingDependency(
            f"tritonclient does not load ({reason[0][:160]})", hint=hint
        ) from error


def of_graph(graph: bytes, signature: Signature) -> Interface:
    """The interface of an ONNX graph."""

    def ports(values: Iterable[onnx.ValueInfoProto]) -> tuple[Port, ...]:
        found = [(value.name, value.type.tensor_type) for value in values]
        return tuple(
            Port(
                name,
                ONNX_TYPES[kind.elem_type],
                tuple(int(d.dim_value) if d.HasField("dim_value") else -1 for d in kind.shape.dim),
            )
            for name, kind in found
        )

    found = load_model(graph).graph
    return Interface(ports(found.input), ports(found.output)).drawn(signature)


def of_ir(path: Path, signature: Signature) -> Interface:
    """The interface of OpenVINO's own format."""
    import openvino

    def ports(found: Iterable[Any]) -> tuple[Port, ...]:
        return tuple(
            Port(
                port.any_name,
                IR_TYPES[port.element_type.to_string()],
                tuple(-1 if d.is_dynamic else int(d.get_length()) for d in port.partial_shape),
            )
            for port in found
        )

    model = openvino.Core().read_model(path)
    return Interface(ports(model.inputs), ports(model.outputs)).drawn(signature)


def of_engine(signature: Signature, kind: str, profile: Profile) -> Interface:
    """The interface of an engine, by what it was built from: it can be asked on its GPU alone.

    Args:
        signature: with the sides that are fixed in the engine, the batch among them.
        kind: Triton's word for the type of everything that goes in and comes out.
        profile: of its inputs with free sides.
    """

    def port(name: str, shape: Sequence[int | str]) -> Port:
        return Port(name, kind, tuple(side if isinstance(side, int) else -1 for side in shape))

    found = Interface(
        tuple(port(spec.name, spec.shape) for spec in signature.inputs),
        tuple(port(made.name, made.shape) for made in signature.outputs),
    ).drawn(signature)
    if not profile:
        return found
    inputs = tuple(
        replace(p, usual=tuple(profile[p.name]["opt"])) if p.name in profile else p
        for p in found.inputs
    )
    return replace(found, inputs=inputs, most=min(ends["max"][0] for ends in profile.values()))


def configuration(serving: Serving, interface: Interface, facts: Mapping[str, str]) -> Any:
    """The message.

    Args:
        serving: how the file is served.
        interface: what goes into the file and comes out.
        facts: what a program needs to know beside that.

    Raises:
        MissingDependency: see :func:`schema`.
    """
    triton = schema()
    kind = triton.ModelInstanceGroup.Kind.Value(f"KIND_{serving.device.upper()}")
    config = triton.ModelConfig(
        name=serving.model,
        backend=serving.backend,
        default_model_filename=MODEL_FILES[serving.backend],
        max_batch_size=serving.batch,
        input=[triton.ModelInput(**described(p, serving, triton)) for p in interface.inputs],
        output=[triton.ModelOutput(**described(p, serving, triton)) for p in interface.outputs],
        instance_group=[triton.ModelInstanceGroup(count=serving.instances, kind=kind)],
        model_warmup=warmups(serving, interface, triton),
    )
    if serving.preferred:
        config.dynamic_batching.preferred_batch_size.extend(serving.preferred)
        config.dynamic_batching.max_queue_delay_microseconds = round(serving.delay_ms * 1000)
    if serving.plain_pairs:
        config.optimization.graph.level = BASIC
    for key, value in {**facts, **backend_parameters(serving)}.items():
        config.parameters[key].string_value = value
    return config


def described(port: Port, serving: Serving, triton: Any) -> dict[str, Any]:
    """Name, type and sides of an input or output, without the batch where Triton adds it."""
    sides = port.shape[1:] if serving.batch else port.shape
    fields = {"name": port.name, "data_type": triton.DataType.Value(port.kind), "dims": sides}
    if not sides:  # Triton wants one at least: a number for each image comes as (batch, 1)
        fields |= {"dims": [1], "reshape": triton.ModelTensorReshape()}
    return fields


def warmups(serving: Serving, interface: Interface, triton: Any) -> list[Any]:
    """What Triton runs before it says that the model is ready: the first and the largest batch.

    Zeros, because Triton's random data are random bytes: NaN and infinities among them.
    """
    if serving.batch:
        batches = sorted({1, *serving.preferred[-1:]})
    else:
        batches = sorted({1, interface.usual_batch}) if interface.free_batch else [1]
    return [
        triton.ModelWarmup(
            name=f"batch_{batch}",
            batch_size=batch if serving.batch else 1,  # so many requests of one image each
            inputs={
                port.name: triton.ModelWarmup.Input(
                    data_type=triton.DataType.Value(port.kind),
                    dims=(port.at(batch)[1:] if serving.batch else port.at(batch)) or [1],
                    zero_data=True,
                )
                for port in interface.inputs
            },
        )
        for batch in batches
    ]


def backend_parameters(serving: Serving) -> dict[str, str]:
    """What the backend itself reads."""
    found = {}
    if serving.threads:
        found[THREADS[serving.backend]] = str(serving.threads)
    if serving.backend == "python":
        found["device"] = serving.device
    if serving.backend == "openvino":
        # All instances share one compiled model: each needs a stream of its own in it.
        found["NUM_STREAMS"] = str(serving.instances)
        if serving.instances == 1:
            found["PERFORMANCE_HINT"] = "LATENCY"
    return found


def engine_facts(report: Mapping[str, Any]) -> dict[str, str]:
    """What built an engine, as Triton's must be that very version, and the shapes that it takes.

    Args:
        report: what was said when it was built; it may say nothing.
    """
    facts = {
        f"engine.shapes.{name}": ", ".join(
            f"{end} {'x'.join(map(str, shape))}" for end, shape in ends.items()
        )
        for name, ends in report.get("profile", {}).items()
    }
    return {"engine.built_by": str(report.get("library", "unknown")), **facts}


def require_tensorrt(label: str, report: Mapping[str, Any]) -> None:
    """Raise UserError where Triton could not run the engine ``label`` that was built so."""
    library = str(report.get("library", ""))
    if library.startswith("tensorrt_rtx"):
        raise UserError(
            f"{label} is an engine of {library}, and Triton runs those of TensorRT alone",
            hint='build it with TensorRT: pip install "genslim[trt]", then export trt; '
            "or serve what it was made from on ONNX Runtime",
        )
    least = max((ends["min"][0] for ends in report.get("profile", {}).values()), default=1)
    if least > 1 and BATCH not in report.get("fixed", {}):
        raise UserError(
            f"{label} takes batches of {least} and more, and Triton sends any",
            hint="build an engine that takes a batch of 1",
        )


def parsed(config: bytes, path: Path) -> Any:
    """The content of the file ``path`` as a message.

    Raises:
        UserError: it is none that Triton knows.
    """
    from google.protobuf import text_format  # type: ignore[import-untyped]

    try:
        return text_format.Parse(config.decode(errors="replace"), schema().ModelConfig())
    except text_format.ParseError as error:
        raise UserError(
            f"{path} is no configuration of Triton's: {' '.join(str(error).split())}",
            hint="move it away, or name another folder with -o",
        ) from error


def require_fit(home: Path, config: Any) -> None:
    """Raise UserError where a model is there that a new version can't belong to."""
    with write_errors(home):
        there = (home / CONFIG).read_bytes() if (home / CONFIG).is_file() else None
    if there is None:
        return
    old = parsed(there, home / CONFIG)
    if unlike := [field for field in SHARED if getattr(old, field) != getattr(config, field)]:
        raise UserError(
            f"{home} is another model (it has another {', another '.join(unlike)})",
            hint="name this one otherwise: --model NAME",
        )
