"""A model repository for NVIDIA Triton Inference Server: the file that is served, configured.

``NAME/config.pbtxt`` says what goes in and out, in which batches and on what; ``NAME/1/`` holds
the ONNX graph, OpenVINO's IR or a TensorRT engine. A second export adds ``NAME/2/``, which Triton
serves in the place of the first.
"""

from __future__ import annotations

import math
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from export.engine.shapes import IMAGE_BATCH_MOST, LATENT_BATCH_MOST
from export.exporter import Exported, Exporter, Product, show
from export.onnx import Onnx, metadata
from export.openvino import OpenVino
from export.parity import Comparison, Parity
from export.serving.configuration import (
    CONFIG,
    MODEL_FILES,
    Backend,
    Device,
    Interface,
    Serving,
    configuration,
    engine_facts,
    of_engine,
    of_graph,
    of_ir,
    parsed,
    require_fit,
    require_tensorrt,
    schema,
)
from export.serving.repository import place
from genslim.artifact import GRAPH
from genslim.console import SILENT, Console
from genslim.errors import UserError
from genslim.generator import Generator, StepRecord
from genslim.onnx_model import load_model
from genslim.runtimes.tensorrt import ENGINE
from genslim.sources.exported import SIGNATURE
from genslim.storage import write_errors, write_whole

IR = "model.xml"
PROGRAM = Path(__file__).with_name("serving") / "program.py"
"""What the Python backend runs."""
NAME = re.compile(r"(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
"""Names that every part of Triton takes: it makes folders, addresses and commands of them."""


@dataclass(frozen=True)
class Triton(Exporter):
    """A folder that Triton serves as it is."""

    name: ClassVar[str] = "triton"
    suffixes: ClassVar[tuple[str, ...]] = (".pbtxt",)

    backend: Literal["auto", "onnxruntime", "openvino", "tensorrt", "python"] = "auto"
    """What runs it on the server. auto: tensorrt for an engine, openvino for IR, else onnxruntime;
    python: ONNX Runtime by way of a small program, for servers that have no other backend."""
    precision: Literal["auto", "fp16"] = "auto"
    """auto: as the generator is; fp16: weights, inputs and outputs in 16 bits (openvino: weights
    alone)."""
    model: str | None = None
    """The model's name in the repository. None: the generator's."""
    device: Device = "auto"
    """auto: a GPU where the server has one."""
    instances: int = 1
    """How many copies of the model work side by side, on each GPU or on the CPU."""
    threads: int | None = None
    """Threads of each copy on the CPU. None: as the backend likes."""
    batch: int | None = None
    """The largest batch that requests are gathered into. None: 64 where inputs are latents, 4 where
    they are images, or what the engine takes. OpenVINO's backend gathers none."""
    delay_ms: float = 2.0
    """How long a request waits for others at most."""

    def ready(self) -> None:
        """Triton's schema must be installed, and every parameter in its range."""
        super().ready()
        for flag, value in {
            "instances": self.instances,
            "threads": self.threads,
            "batch": self.batch,
        }.items():
            if value is not None and value < 1:
                raise UserError(f"{flag} {value} is less than 1", hint=f"name 1 or more: --{flag}")
        if not (self.delay_ms >= 0 and math.isfinite(self.delay_ms)):
            raise UserError(
                f"delay_ms {self.delay_ms} is no time to wait", hint="for example --delay-ms 2"
            )
        if self.model is not None and not NAME.fullmatch(self.model):
            raise UserError(
                f"Triton takes no model of the name {self.model!r}",
                hint="use letters, digits, - _ and single dots, 100 at most: --model upscaler",
            )
        schema()

    def check(self, generator: Generator) -> None:
        """Check what was asked and what it is asked of; engines and IR are served as they are."""
        if is_finished(generator):
            self.ready()
            made_by(generator)
        else:
            super().check(generator)
        self.chosen(generator)

    def chosen(self, generator: Generator) -> tuple[Backend, Device]:
        """What runs the generator on the server, and where.

        Raises:
            UserError: it does not run this generator, or not there.
        """
        possible: tuple[Backend, ...] = ("onnxruntime", "openvino", "python")
        if is_finished(generator):
            possible = ("tensorrt",) if ENGINE in generator.files else ("openvino",)
            if self.precision != "auto":
                raise UserError(
                    f"{generator.label} is exported files, whose types are as they were made",
                    hint=f"leave out --{self.precision}, or name what they were made from",
                )
        backend = possible[0] if self.backend == "auto" else self.backend
        if backend not in possible:
            also = ", or build an engine first: export trt" if backend == "tensorrt" else ""
            raise UserError(
                f"Triton's {backend} backend does not run {generator.label}",
                hint=f"choose --backend {' or '.join(possible)}{also}",
            )
        only: Mapping[Backend, Device] = {"tensorrt": "gpu", "openvino": "cpu"}
        device = only.get(backend, self.device)
        if self.device not in ("auto", device):
            raise UserError(
                f"Triton's {backend} backend runs on a {device} alone",
                hint=f"leave out --device {self.device}",
            )
        if self.threads is not None and device == "gpu":
            raise UserError("threads are those of the CPU", hint="leave out --threads")
        if self.batch is not None and backend == "openvino":
            raise UserError(
                "Triton's openvino backend gathers no requests into batches",
                hint="leave out --batch; --instances lets requests run side by side",
            )
        if backend == "tensorrt":
            require_tensorrt(generator.label, engine_report(generator))
        return backend, device

    def write(self, generator: Generator, folder: Path, console: Console = SILENT) -> Exported:
        """Export and judge; finished files keep the verdict that they got when they were made."""
        if not is_finished(generator):
            return super().write(generator, folder, console)
        self.check(generator)
        started = time.monotonic()
        made = made_by(generator)
        product = self.produce(generator, folder, console)
        parity = recorded_parity(made)
        record = self.record(product, parity, started)
        console.info(f"the parity below was measured when export {made.name} made the files")
        show(parity, self.allowed(product.kind), console)
        exported = replace(generator, files=product.files).with_step(record)
        return Exported(exported, parity, tuple(record.report["failures"]))

    def produce(self, generator: Generator, folder: Path, console: Console) -> Product:
        """The file that is served, by the exporter of its format, and its configuration."""
        from google.protobuf import text_format  # type: ignore[import-untyped]

        backend, device = self.chosen(generator)
        if is_finished(generator):
            product = finished(generator, folder)
        elif backend == "openvino":
            product = OpenVino(precision=self.precision).produce(generator, folder, console)
        else:
            product = Onnx(precision=self.precision).produce(generator, folder, console)
        interface = interface_of(generator, product)
        serving = self.serving(generator, product, interface, backend, device)
        config = configuration(serving, interface, facts_of(generator, product))
        if self.path is not None:
            require_fit(Path(self.path) / serving.model, config)
        product.files[CONFIG] = folder / CONFIG
        write_whole(
            product.files[CONFIG],
            text_format.MessageToString(config, use_short_repeated_primitives=True),
        )
        if backend == "python":
            program = MODEL_FILES[backend]
            product.files[program] = folder / program
            write_whole(product.files[program], PROGRAM.read_bytes())
        sizes = [file.stat().st_size for file in product.files.values()]
        product.figures |= {
            "bytes": sum(sizes) + len(product.onnx or b""),
            "serving": asdict(serving),
        }
        console.info(str(serving))
        return product

    def serving(
        self,
        generator: Generator,
        product: Product,
        interface: Interface,
        backend: Backend,
        device: Device,
    ) -> Serving:
        """How the file is served.

        Raises:
            UserError: it takes no such batch.
        """
        most = IMAGE_BATCH_MOST if generator.signature.takes_images else LATENT_BATCH_MOST
        most = interface.most or max(most, interface.usual_batch)
        # OpenVINO's backend takes batches of the largest size alone, or pads all of them to it.
        gathers = interface.free_batch and backend != "openvino"
        if self.batch is not None and not gathers:
            raise UserError(
                f"{generator.label} takes a batch of one size alone, so requests can't be gathered",
                hint="leave out --batch; --instances lets requests run side by side",
            )
        if self.batch is not None and self.batch > (interface.most or self.batch):
            raise UserError(
                f"{generator.label} takes batches of up to {most}, not of {self.batch}",
                hint=f"choose --batch {most}, or build another engine",
            )
        batch = (self.batch or most) if gathers else 0
        return Serving(
            model=self.model_name(generator),
            backend=backend,
            device=device,
            instances=self.instances,
            threads=self.threads,
            batch=batch,
            preferred=tuple(sorted({min(interface.usual_batch, batch), batch} - {0, 1})),
            delay_ms=self.delay_ms,
            # ONNX Runtime would make integer operators of them, which take no fp16 on a CPU.
            plain_pairs=backend == "onnxruntime"
            and device != "gpu"
            and product.kind == "int8"
            and interface.inputs[0].kind == "TYPE_FP16",
        )

    def model_name(self, generator: Generator) -> str:
        """The name asked for, or the generator's with what Triton refuses in it replaced."""
        if self.model is not None:
            return self.model
        return re.sub(r"[^A-Za-z0-9_-]+", "-", generator.name).strip("-")[:100] or "model"

    def destinations(self, names: Mapping[str, Any] | list[str]) -> dict[str, Path]:
        """Where ``path`` puts files: all below one folder, the repository.

        Raises:
            UserError: it is a file, or named like one.
        """
        if self.path is None:
            return {}
        path = Path(self.path)
        hint = "name a folder: -o model_repository/"
        if path.is_file():
            raise UserError(f"{path} is a file, and export triton writes a folder", hint=hint)
        if path.suffix and not path.is_dir() and not self.path.endswith(("/", "\\")):
            raise UserError(f"export triton writes no {path.suffix} file ({path})", hint=hint)
        return dict.fromkeys(names, path)

    def publish(self, generator: Generator, *, rejected: bool = False) -> dict[str, Path]:
        """Put the files into the repository: a new model, or a new version of one that is there.

        A version is never overwritten, and nobody sees a part of one. Where the configuration
        changes, the old one is kept beside it.

        Args:
            generator: as exported, in memory or in an artifact.
            rejected: put them beside the repository, where no server finds them.

        Returns:
            Where each file now is, by its name in the artifact.

        Raises:
            UserError: they can't be written there, or the model there is another.
        """
        files = {name: file.read_bytes() for name, file in generator.files.items()}
        if generator.onnx is not None:
            files[GRAPH] = generator.onnx
        root = self.destinations([CONFIG])[CONFIG]
        if rejected:
            root = root.resolve().with_name(f"{root.resolve().name}.rejected")
        home = root / self.model_name(generator)
        if not rejected:
            require_fit(home, parsed(files[CONFIG], home / CONFIG))
        names = {name: MODEL_FILES["tensorrt"] if name == ENGINE else name for name in files}
        placed = place({names[name]: content for name, content in files.items()}, home)
        return {**{name: placed.pop(inside) for name, inside in names.items()}, **placed}


def is_finished(generator: Generator) -> bool:
    """Whether it is files that a server takes as they are: an engine, or OpenVINO's IR."""
    alone = generator.module is None and generator.onnx is None
    return alone and (ENGINE in generator.files or IR in generator.files)


def finished(generator: Generator, folder: Path) -> Product:
    """Files that an export made before, as they are."""
    made = made_by(generator)
    names = [ENGINE] if ENGINE in generator.files else [IR, Path(IR).with_suffix(".bin").name]
    with write_errors(folder):
        for name in names:
            shutil.copyfile(generator.files[name], folder / name)
    return Product(
        made.report["precision"],
        files={name: folder / name for name in names},
        fixed=dict(made.report.get("fixed", {})),
        failures=list(made.report["failures"]),
    )


def made_by(generator: Generator) -> StepRecord:
    """The export that made a generator's files.

    Raises:
        UserError: none is on record.
    """
    for step in reversed(generator.steps):
        if "parity" in step.report:
            return step
    raise UserError(
        f"nothing says how the files of {generator.label} were made",
        hint="name an artifact that export wrote",
    )


def recorded_parity(made: StepRecord) -> Parity:
    """The parity that an export measured."""
    told = made.report["parity"]
    return Parity(
        told["reference"],
        told["executed"],
        told["data_range"],
        tuple(Comparison(**comparison) for comparison in told["comparisons"]),
    )


def engine_report(generator: Generator) -> Mapping[str, Any]:
    """What was said when a generator's engine was built; nothing where that is not on record."""
    reports = [step.report for step in generator.steps if "profile" in step.report]
    return reports[-1] if reports else {}


def facts_of(generator: Generator, product: Product) -> dict[str, str]:
    """What a program needs to know to use the file, as the file itself says it where it does."""
    facts = metadata(generator)
    if product.onnx is not None:
        facts |= {entry.key: entry.value for entry in load_model(product.onnx).metadata_props}
        facts.pop(SIGNATURE, None)  # the configuration says itself what goes in and comes out
    if ENGINE in product.files:
        facts |= engine_facts(engine_report(generator))
    return facts


def interface_of(generator: Generator, product: Product) -> Interface:
    """What goes into the file that is served, and comes out."""
    if ENGINE in product.files:
        # Inputs and outputs are fp16 wherever anything was asked to be, also beside int8 products.
        asked = [product.kind, *(step.parameters.get("precision") for step in generator.steps)]
        kind = "TYPE_FP16" if "fp16" in asked else "TYPE_FP32"
        profile = engine_report(generator).get("profile", {})
        return of_engine(generator.signature.with_sides(product.fixed), kind, profile)
    if IR in product.files:
        return of_ir(product.files[IR], generator.signature)
    assert product.onnx is not None
    return of_graph(product.onnx, generator.signature)
