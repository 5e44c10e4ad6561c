"""Quantization: INT8 as one Q/DQ ONNX graph, FP16 as half-precision weights.

INT8 is post-training quantization by NNCF's ONNX backend (weights symmetric for each channel,
activations by their range on calibration inputs), whose Q/DQ graph every runtime here reads.
Before it, the weights may be trained for a short while as if they were quantized already, with
the original as the teacher; both results are tried on the target and the better one is kept.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from torch import nn

from compress.distill import distill
from compress.fake_quant import fake_quantized
from compress.step import Outcome, Step
from genslim.console import Console
from genslim.errors import UserError
from genslim.generator import Generator, run_module
from genslim.inputs import Inputs
from genslim.onnx_graph import load_model, onnx_of

MOVES = ("Reshape", "Unsqueeze", "Squeeze", "Transpose", "Flatten")
"""Operators that only move values about."""
CALIBRATION_BATCH = 16
CALIBRATION_INPUTS = 320


@dataclass(frozen=True)
class Quantize(Step):
    """Fewer bits for weights and activations."""

    name: ClassVar[str] = "quantize"

    precision: Literal["int8", "fp16"] = "int8"
    """int8: 8-bit products, as a Q/DQ ONNX graph. fp16: half-precision weights, for GPUs."""
    recover: Literal["none", "distill"] = "distill"
    """How quality is won back before rounding; fp16 needs no recovery."""
    seconds: float = 20.0
    """How long recovery takes."""

    def check(self, generator: Generator) -> None:
        """Check the time, and that there is something to quantize."""
        if self.seconds <= 0:
            raise UserError(f"seconds {self.seconds} is no time", hint="or use --recover none")
        generator.trainable()  # refuses graphs
        if str(generator.dtype) != "torch.float32":
            raise UserError(
                f"{generator.label} is {generator.dtype} already", hint="name an artifact from before"
            )
        super().check(generator)

    def apply(self, generator: Generator, console: Console) -> Outcome:
        """Quantize."""
        return self.to_int8(generator, console) if self.precision == "int8" else self.to_fp16(generator)

    def to_fp16(self, generator: Generator) -> Outcome:
        """Halve every weight."""
        module = generator.trainable().half()
        outcome = Outcome({"module": module}, changed=["all weights: float32 to float16"])
        outcome.figures["ssim"] = round(self.ssim_of(replace(generator, module=module)), 4)
        return outcome

    def to_int8(self, generator: Generator, console: Console) -> Outcome:
        """Quantize as it is and, where asked, after recovery; keep what is nearer the original."""
        graph = quantized_graph(generator, self.seed)
        plain = self.ssim_of(replace(generator, module=None, onnx=graph))
        outcome = Outcome({"module": None}, figures={"ssim_before_recovery": round(plain, 4)})
        kept = plain
        if self.recover == "distill":
            trained = self.recovered(generator, console)
            again = quantized_graph(replace(generator, module=trained), self.seed)
            better = self.ssim_of(replace(generator, module=None, onnx=again))
            outcome.figures["ssim_after_recovery"] = round(better, 4)
            if better > plain:
                graph, kept = again, better
            else:
                outcome.left.append(
                    {"what": "recovery", "reason": f"SSIM {better:.4f} after it, {plain:.4f} without"}
                )
        outcome.changes["onnx"] = graph
        outcome.figures["ssim"] = round(kept, 4)
        rounded, whole = products(graph)
        outcome.changed = [f"{name}: int8" for name in rounded]
        outcome.left += [{"what": n, "reason": "the quantizer has no int8 form of it"} for n in whole]
        return outcome

    def recovered(self, generator: Generator, console: Console) -> nn.Module:
        """A copy of the module trained with rounding in its forward pass."""
        student = generator.trainable()
        stream = Inputs(generator.signature, "calibration", self.seed)
        with fake_quantized(student) as hooks:
            student.eval()
            for _ in range(4):
                run_module(student, generator.signature, stream.draw(CALIBRATION_BATCH))
            for hook in hooks:
                hook.learning = False
            distill(
                student,
                generator.original,
                seconds=self.seconds,
                seed=self.seed,
                learning_rate=5e-4,
                recalibrate=False,
                console=console,
                what="training as if quantized",
            )
        return student


def quantized_graph(generator: Generator, seed: int) -> bytes:
    """The generator's graph with Q/DQ pairs, calibrated on inputs of the calibration stream."""
    with quiet_nncf() as nncf:
        stream = Inputs(generator.signature, "calibration", seed)
        count = CALIBRATION_INPUTS // CALIBRATION_BATCH
        batches = [
            {name: tensor.numpy() for name, tensor in stream.draw(CALIBRATION_BATCH).items()}
            for _ in range(count)
        ]
        model = nncf.quantize(
            load_model(onnx_of(generator)), nncf.Dataset(batches), subset_size=count
        )
    return bytes(model.SerializeToString())


def products(graph: bytes) -> tuple[list[str], list[str]]:
    """The convolutions and matrix products of a Q/DQ graph: those in int8, and the others."""
    nodes = load_model(graph).graph.node
    maker = {output: node for node in nodes for output in node.output}

    def is_int8(name: str) -> bool:
        """Whether a tensor comes out of a DequantizeLinear, moved about at most."""
        while (node := maker.get(name)) and node.op_type in MOVES:
            name = node.input[0]
        return node is not None and node.op_type == "DequantizeLinear"

    found = [n for n in nodes if n.op_type in ("Conv", "ConvTranspose", "MatMul", "Gemm")]
    rounded = [n.name for n in found if all(is_int8(name) for name in n.input[:2])]
    return rounded, [n.name for n in found if n.name not in set(rounded)]


@contextmanager
def quiet_nncf() -> Iterator[object]:
    """NNCF without its log lines and progress bars."""
    import contextlib
    import io

    import nncf

    nncf.set_log_level(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield nncf
