"""The same generator as other tools run it: each as its documentation says, with its defaults.

Peers get the original's weights and calibration inputs of the same stream, and nothing of ours: no
choice of ranges, no workaround. What a peer can't do on this machine is said, not left out.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from genslim.generator import Generator, run_module
from genslim.inputs import Inputs
from genslim.onnx_graph import onnx_of
from genslim.onnx_model import load_model
from genslim.quiet import quiet
from genslim.runtimes import Arrays, Session, runtime
from genslim.runtimes.base import Execution
from genslim.target import Target

if TYPE_CHECKING:
    from torch import nn

BATCHES = 20
"""Calibration batches: 80 images, or 640 latents."""

Open = Callable[[Generator, Target], Session]


@dataclass(frozen=True)
class Peer:
    """A way to run a generator that is not ours."""

    name: str
    open: Open
    """Makes a session of the original.

    Raises:
        Exception: whatever the tool raises that can't.
    """


class ModuleSession(Session):
    """A module in PyTorch, compiled or under autocast."""

    def __init__(
        self, module: nn.Module, generator: Generator, target: Target, provider: str, precision: str
    ) -> None:
        import torch

        assert target.threads is not None
        self.module, self.signature, self.half = module, generator.signature, precision == "bf16"
        self.threads = target.threads
        self.execution = Execution("torch", torch.__version__, provider, precision, target.threads)

    def run(self, inputs: Arrays) -> dict[str, NDArray[np.float32]]:
        """Run the module."""
        import torch

        torch.set_num_threads(self.threads)
        tensors = {name: torch.from_numpy(np.asarray(array)) for name, array in inputs.items()}
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=self.half):
            images = run_module(self.module, self.signature, tensors)
        return {self.signature.images.name: images.numpy()}


def eager(generator: Generator, target: Target) -> Session:
    """PyTorch as it is."""
    return on("torch")(generator, target)


def autocast(generator: Generator, target: Target) -> Session:
    """PyTorch with products in bf16."""
    return ModuleSession(generator.trainable().eval(), generator, target, "autocast", "bf16")


def compiled(generator: Generator, target: Target) -> Session:
    """``torch.compile``."""
    import torch

    module = torch.compile(generator.trainable().eval())
    return ModuleSession(module, generator, target, "compile", "fp32")  # type: ignore[arg-type]


def on(name: str, precision: str = "auto") -> Open:
    """The original's graph on a runtime."""

    def open_there(generator: Generator, target: Target) -> Session:
        place = replace(target, runtime=name, precision=precision)  # type: ignore[arg-type]
        runtime(name).require()
        return runtime(name).open(generator, place)

    return open_there


def onnxruntime_int8(generator: Generator, target: Target) -> Session:
    """ONNX Runtime's static quantization, a scale for each channel."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """The calibration inputs."""

        def __init__(self) -> None:
            self.rest = calibration(generator)

        def get_next(self) -> Any:
            """The next batch; None after the last."""
            return next(self.rest, None)

    with tempfile.TemporaryDirectory(prefix="genslim-") as folder, quiet():
        path = Path(folder) / "model.onnx"
        model = load_model(onnx_of(generator))
        quantize_static(model, path, Reader(), quant_format=QuantFormat.QDQ, per_channel=True)
        graph = generator.variant(module=None, onnx=path.read_bytes())
    return on("onnxruntime")(graph, target)


def nncf_on_openvino(preset: str) -> Open:
    """NNCF's post-training quantization of an OpenVINO model."""

    def open_there(generator: Generator, target: Target) -> Session:
        import nncf
        import openvino

        nncf.set_log_level(logging.ERROR)
        with tempfile.TemporaryDirectory(prefix="genslim-") as folder, quiet():
            model = openvino.Core().read_model(onnx_of(generator))
            model = nncf.quantize(
                model,
                nncf.Dataset(list(calibration(generator))),
                preset=nncf.QuantizationPreset(preset),
                subset_size=BATCHES,
            )
            path = Path(folder) / "model.xml"
            openvino.save_model(model, path, compress_to_fp16=False)
            files = {"model.xml": path}
            return on("openvino")(generator.variant(module=None, files=files), target)

    return open_there


PEERS = (
    Peer("PyTorch eager", eager),
    Peer("PyTorch autocast bf16", autocast),
    Peer("torch.compile", compiled),
    Peer("ONNX Runtime fp32", on("onnxruntime")),
    Peer("ONNX Runtime INT8", onnxruntime_int8),
    Peer("OpenVINO fp32", on("openvino", "fp32")),
    Peer("OpenVINO bf16", on("openvino", "bf16")),
    Peer("NNCF INT8", nncf_on_openvino("performance")),
    Peer("NNCF INT8, mixed", nncf_on_openvino("mixed")),
)
"""The first is the baseline."""


def calibration(generator: Generator) -> Iterator[Mapping[str, Any]]:
    """Calibration inputs, a batch at a time."""
    stream = Inputs(generator.signature, "calibration")
    size = 4 if generator.signature.takes_images else 32
    for _ in range(BATCHES):
        yield {name: tensor.numpy() for name, tensor in stream.draw(size).items()}
