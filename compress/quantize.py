"""Quantization: INT8 as one Q/DQ ONNX graph, FP16 as half-precision weights.

INT8 is post-training quantization (:mod:`compress.qdq`). Before it, the weights may be trained for
a short while as if they were quantized already, with the original as the teacher; both results are
tried on the target and the better one is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from compress.step import Outcome, Step
from genslim.errors import UserError

if TYPE_CHECKING:
    from torch import nn

    from genslim.console import Console
    from genslim.generator import Generator


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
                f"{generator.label} is {generator.dtype} already",
                hint="name an artifact from before",
            )
        super().check(generator)

    def apply(self, generator: Generator, console: Console) -> Outcome:
        """Quantize."""
        return (
            self.to_int8(generator, console)
            if self.precision == "int8"
            else self.to_fp16(generator)
        )

    def to_fp16(self, generator: Generator) -> Outcome:
        """Halve every weight."""
        module = generator.trainable().half()
        outcome = Outcome({"module": module}, changed=["all weights: float32 to float16"])
        outcome.figures["ssim"] = round(self.ssim_of(generator.variant(module=module)), 4)
        return outcome

    def to_int8(self, generator: Generator, console: Console) -> Outcome:
        """Quantize as it is and, where asked, after recovery; keep what is nearer the original."""
        from compress.qdq import products, quantized_graph

        graph = quantized_graph(generator, self.seed)
        plain = self.ssim_of(generator.variant(module=None, onnx=graph))
        outcome = Outcome({"module": None}, figures={"ssim_before_recovery": round(plain, 4)})
        kept = plain
        if self.recover == "distill":
            trained = self.recovered(generator, console)
            again = quantized_graph(generator.variant(module=trained), self.seed)
            better = self.ssim_of(generator.variant(module=None, onnx=again))
            outcome.figures["ssim_after_recovery"] = round(better, 4)
            if better > plain:
                graph, kept = again, better
            else:
                outcome.left.append(
                    {
                        "what": "recovery",
                        "reason": f"SSIM {better:.4f} after it, {plain:.4f} without",
                    }
                )
        outcome.changes["onnx"] = graph
        outcome.figures["ssim"] = round(kept, 4)
        rounded, whole = products(graph)
        outcome.changed = [f"{name}: int8" for name in rounded]
        outcome.left += [
            {"what": n, "reason": "the quantizer has no int8 form of it"} for n in whole
        ]
        return outcome

    def recovered(self, generator: Generator, console: Console) -> nn.Module:
        """A copy of the module trained with rounding in its forward pass."""
        from compress.batches import usual_rate
        from compress.checkpoint import current
        from compress.distill import distill
        from compress.fake_quant import fake_quantized
        from compress.qdq import calibration_batch
        from genslim.generator import run_module
        from genslim.inputs import Inputs

        student = generator.trainable()
        stream = Inputs(generator.signature, "calibration", self.seed)
        with fake_quantized(student) as hooks:
            student.eval()
            for _ in range(4):
                run_module(student, generator.signature, stream.draw(calibration_batch(generator)))
            for hook in hooks:
                hook.learning = False
            distill(
                student,
                generator.original,
                seconds=self.seconds,
                seed=self.seed,
                # Somewhat lower: gradients pass the rounding as if it were not there.
                learning_rate=0.7 * usual_rate(generator.signature),
                adapt_norms=False,
                exact=True,  # bf16 would round once more
                checkpoint=current(),
                console=console,
                what="training as if quantized",
            )
        return student
