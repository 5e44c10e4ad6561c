"""What an exporter is: generator in, files to deploy out, with promises kept by the base class.

A subclass is a frozen dataclass whose fields are the Python API, the command's flags and the JSON
in the artifact. It implements :meth:`Exporter.produce` and nothing else. The base class checks the
generator before, measures parity after, and puts both into the record. Work is done in a temporary
folder, so that a failed or killed export leaves nothing half-written.
"""

from __future__ import annotations

import math
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from export.parity import Parity, measure
from genslim.console import SILENT, Console
from genslim.errors import GateFailed, UserError
from genslim.generator import Generator, StepRecord
from genslim.signature import BATCH, Signature
from genslim.storage import write_errors, write_whole

Kind = Literal["fp32", "fp16", "int8"]

TOLERANCES: Mapping[Kind, float] = {"fp32": 1e-3, "fp16": 2e-2, "int8": 0.25}
"""Largest error allowed, as a part of the value range, by what the file computes in.

An int8 graph is compared with itself on another runtime: a value near a rounding boundary may fall
to either side there, a whole quantization step, and such errors add up. There SSIM decides.
"""
LEAST_SSIM: Mapping[Kind, float] = {"fp32": 0.999, "fp16": 0.99, "int8": 0.9}
"""Least SSIM allowed of any image, where SSIM is defined."""


@dataclass
class Product:
    """What :meth:`Exporter.produce` gives back."""

    kind: Kind
    """What the file computes in."""
    onnx: bytes | None = None
    """The graph, where the graph is what is deployed."""
    files: dict[str, Path] = field(default_factory=dict)
    """Other files, in the folder that was given, by the name they have in the artifact."""
    judged: Generator | None = None
    """What parity runs; None: the graph or the files themselves."""
    judged_on: str = "onnxruntime"
    """The runtime that parity runs it on."""
    fixed: dict[str, int] = field(default_factory=dict)
    """Symbolic dimensions that have one size in the files: the module's code counts on it."""
    figures: dict[str, Any] = field(default_factory=dict)
    """What else is worth keeping. Plain JSON."""
    failures: list[str] = field(default_factory=list)
    """What was asked for and not made, a line each."""


@dataclass(frozen=True)
class Exported:
    """Files and the verdict on them."""

    generator: Generator
    """The generator as exported: a graph or files, no module, one more record."""
    parity: Parity
    failures: tuple[str, ...]
    """Why the files are not good enough; empty where they are."""


@dataclass(frozen=True)
class Exporter(ABC):
    """One format. ``Onnx("fast.onnx")(generator)`` writes the file."""

    name: ClassVar[str]
    """Of the command, and of the step in the artifact."""
    suffixes: ClassVar[tuple[str, ...]]
    """Suffixes that the main file may have; the first is usual."""

    path: str | None = None
    """Where to put the files: a file with one of the suffixes, or a folder."""
    tolerance: float | None = None
    """Largest error allowed, as a part of the value range. None: by what the file computes in,
    0.001 for fp32, 0.02 for fp16, 0.25 for int8, and SSIM decides as well."""

    def __call__(self, generator: Generator, console: Console = SILENT) -> Generator:
        """Export to ``path``.

        Args:
            generator: left as it is.
            console: told what parity was measured.

        Returns:
            The generator as exported, its files at ``path``.

        Raises:
            UserError: there is no path, or this generator can't be exported.
            GateFailed: the files are not good enough; they are kept, ``rejected`` in their names.
            MissingDependency: this machine lacks what the format needs.
        """
        if self.path is None:
            raise UserError(
                f"{type(self).__name__} was given no path", hint='for example "fast.onnx"'
            )
        with tempfile.TemporaryDirectory(prefix="genslim-") as folder:
            exported = self.write(generator, Path(folder), console)
            rejected = bool(exported.failures)
            files = self.publish(exported.generator, rejected=rejected)
        if rejected:
            kept = ", ".join(str(p) for p in files.values())
            raise GateFailed(
                "; ".join(exported.failures), hint=f"the rejected files are kept: {kept}"
            )
        placed = {name: path for name, path in files.items() if name in exported.generator.files}
        return replace(exported.generator, files=placed)

    def write(self, generator: Generator, folder: Path, console: Console = SILENT) -> Exported:
        """Export into ``folder`` and judge the result; parity is shown on the console.

        Raises:
            UserError: this generator can't be exported.
            MissingDependency: this machine lacks what the format needs.
        """
        self.check(generator)
        started = time.monotonic()
        product = self.produce(generator, folder, console)
        bare = Generator(
            generator.name,
            as_exported(generator.signature, product.fixed),
            generator.source,
            onnx=product.onnx,
            files=product.files,
            steps=generator.steps,
        )
        judged = replace(product.judged or bare, signature=bare.signature)
        parity = measure(generator, judged, product.judged_on)
        record = self.record(product, parity, started)
        show(parity, self.allowed(product.kind), console)
        if product.fixed:
            sizes = ", ".join(f"{name} {size}" for name, size in product.fixed.items())
            console.info(f"The file takes one size alone: {sizes}")
        exported = bare.with_step(record)
        return Exported(exported, parity, tuple(record.report["failures"]))

    def record(self, product: Product, parity: Parity, started: float) -> StepRecord:
        """What is kept of an export that began at ``started`` (``time.monotonic``)."""
        failures = dict.fromkeys([*product.failures, *self.judge(parity, product.kind)])
        return StepRecord(
            self.name,
            {k: v for k, v in asdict(self).items() if k != "path"},
            {
                "precision": product.kind,
                "parity": parity.to_json(),
                "tolerance": self.allowed(product.kind),
                **product.figures,
                **({"fixed": product.fixed} if product.fixed else {}),
                "failures": list(failures),
                "seconds": round(time.monotonic() - started, 1),
            },
        )

    @abstractmethod
    def produce(self, generator: Generator, folder: Path, console: Console) -> Product:
        """Make the files in ``folder``."""

    def ready(self) -> None:
        """Check what was asked, before anything is opened; subclasses add to it.

        Raises:
            UserError: a parameter is out of its range.
            MissingDependency: this machine lacks what the format needs.
        """
        if self.tolerance is not None and not (
            self.tolerance > 0 and math.isfinite(self.tolerance)
        ):
            raise UserError(
                f"tolerance {self.tolerance} is no positive number",
                hint="it is a part of the value range: --tolerance 0.001",
            )
        self.destinations(["model" + self.suffixes[0]])

    def check(self, generator: Generator) -> None:
        """Check what was asked and what it is asked of.

        Raises:
            UserError: a parameter is out of its range, or the generator can't be exported.
            MissingDependency: this machine lacks what the format needs.
        """
        self.ready()
        if generator.module is None and generator.onnx is None:
            raise UserError(
                f"{generator.label} is exported files alone ({', '.join(generator.files)})",
                hint="name the artifact that they were made from",
            )
        if generator.signature.needs_images:
            raise UserError(
                f"{generator.label} takes images, and no folder was named",
                hint="name one: --images DIR",
            )

    def allowed(self, kind: Kind) -> float:
        """The largest error allowed."""
        return TOLERANCES[kind] if self.tolerance is None else self.tolerance

    def judge(self, parity: Parity, kind: Kind) -> list[str]:
        """What is not good enough about the parity."""
        allowed = self.allowed(kind)
        failures = [f"on inputs {c.inputs}: {c.problem}" for c in parity.comparisons if c.problem]
        if not failures and parity.max_error > allowed:
            failures.append(
                f"the largest error is {parity.max_error:.3g} of the value range; "
                f"{allowed:g} is allowed (--tolerance)"
            )
        least = LEAST_SSIM[kind] if self.tolerance is None else 0.0
        if not failures and parity.ssim is not None and parity.ssim < least:
            failures.append(f"the worst image's SSIM is {parity.ssim:.4f}; {least} is the least")
        return failures

    def publish(self, generator: Generator, *, rejected: bool = False) -> dict[str, Path]:
        """Put the deployable files where ``path`` says, each whole or not at all.

        Args:
            generator: as exported, in memory or in an artifact.
            rejected: put ``.rejected`` into the names.

        Returns:
            Where each file now is, by its name in the artifact.

        Raises:
            UserError: they can't be written there.
        """
        contents = {name: file.read_bytes() for name, file in generator.files.items()}
        if generator.onnx is not None:
            contents["model.onnx"] = generator.onnx
        places = self.destinations(contents)
        # The main file comes last: who sees it sees the others too.
        for name in sorted(contents, key=lambda name: Path(name).suffix in self.suffixes):
            if rejected:
                places[name] = places[name].with_stem(f"{places[name].stem}.rejected")
            with write_errors(places[name].parent):
                places[name].parent.mkdir(parents=True, exist_ok=True)
            write_whole(places[name], contents[name])
        return places

    def destinations(self, names: Mapping[str, Any] | list[str]) -> dict[str, Path]:
        """Where ``path`` puts files of these names.

        Raises:
            UserError: it has a suffix of another format.
        """
        if self.path is None:
            return {}
        path = Path(self.path)
        if self.path.endswith(("/", "\\")) or path.is_dir() or not path.suffix:
            return {name: path / name for name in names}
        if path.suffix not in self.suffixes:
            raise UserError(
                f"export {self.name} writes no {path.suffix} file ({path})",
                hint=f"name a {' or '.join(self.suffixes)} file, or a folder",
            )
        return {
            name: path
            if Path(name).suffix in self.suffixes
            else path.with_suffix(Path(name).suffix)
            for name in names
        }


def as_exported(signature: Signature, fixed: Mapping[str, int]) -> Signature:
    """The signature of files in which some sides have one size.

    The batch is not among them: one of any size is run in parts.
    """
    return signature.with_sides({name: size for name, size in fixed.items() if name != BATCH})


def show(parity: Parity, allowed: float, console: Console) -> None:
    """The table of differences."""
    rows = [
        (
            ", ".join("x".join(map(str, shape)) for shape in c.inputs.values()),
            number(c.max_error, ".2g"),
            number(c.mean_error, ".2g"),
            number(c.ssim, ".4f"),
        )
        for c in parity.comparisons
    ]
    console.table(
        ("inputs", "largest error", "mean error", "SSIM"),
        rows,
        title=f"Parity: {parity.executed} against {parity.reference} "
        f"(errors as parts of the value range; {allowed:g} allowed)",
    )


def number(value: float | None, form: str) -> str:
    """A number for the table; a dash where there is none."""
    return "–" if value is None else format(value, form)
