"""OpenVINO's own format: ``model.xml`` is the graph, ``model.bin`` the weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from export.exporter import Exporter, Product, as_exported
from export.graph import graph_of, kind_of
from export.onnx import metadata
from genslim.console import Console
from genslim.errors import GenslimError
from genslim.generator import Generator
from genslim.onnx_model import fixed_sides
from genslim.runtimes import runtime
from genslim.signs import for_openvino
from genslim.sources.exported import SECTION, SIGNATURE, text_of
from genslim.storage import write_errors


@dataclass(frozen=True)
class OpenVino(Exporter):
    """``model.xml`` and ``model.bin``; a Q/DQ graph stays int8."""

    name: ClassVar[str] = "openvino"
    suffixes: ClassVar[tuple[str, ...]] = (".xml",)

    precision: Literal["auto", "fp16"] = "auto"
    """auto: weights as the generator has them; fp16: stored in 16 bits, which halves the file.
    What they are computed in is the device's choice either way."""

    def ready(self) -> None:
        """OpenVINO must be installed."""
        super().ready()
        runtime("openvino").require()

    def produce(self, generator: Generator, folder: Path, console: Console) -> Product:
        """Convert the graph and save it."""
        import openvino

        graph = for_openvino(graph_of(generator, "auto"), elsewhere=True)
        kind = kind_of(graph)
        try:
            model = openvino.Core().read_model(graph)
        except RuntimeError as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise GenslimError(
                f"OpenVINO can't read the graph: {lines[-1][:200] if lines else error}",
                hint="it may lack an operator: try export onnx and ONNX Runtime",
            ) from error
        fixed = fixed_sides(graph, generator.signature)
        told = {SIGNATURE: text_of(as_exported(generator.signature, fixed))}
        for key, value in {**metadata(generator), **told}.items():
            model.set_rt_info(value, [SECTION, key])
        with write_errors(folder):
            openvino.save_model(
                model, folder / "model.xml", compress_to_fp16=self.precision == "fp16"
            )
        files = {name: folder / name for name in ("model.xml", "model.bin")}
        return Product(
            "fp16" if kind == "fp32" and self.precision == "fp16" else kind,
            files=files,
            judged_on="openvino",
            fixed=fixed,
            figures={"bytes": sum(file.stat().st_size for file in files.values())},
        )
