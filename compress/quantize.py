"""Quantization: INT8 as one Q/DQ ONNX graph, FP16 as half-precision weights.

INT8 goes in stages (:mod:`compress.quantization.int8`), each measured on the target and kept where
it paid. With ``min_ssim`` the result is a promise: layers that cost too much stay in floating point
(:mod:`compress.quantization.mixing`), and what can't hold it fails.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from compress.step import Outcome, Step
from genslim.errors import UserError
from genslim.target import Target

if TYPE_CHECKING:
    from compress.quantization.int8 import Int8, Rounded
    from compress.quantization.mixing import Mixed
    from genslim.console import Console
    from genslim.generator import Generator


@dataclass(frozen=True)
class Quantize(Step):
    """Fewer bits for weights and activations."""

    name: ClassVar[str] = "quantize"
    remedy: ClassVar[str] = "ask for less, train for more --seconds, or use --fp16"

    precision: Literal["int8", "fp16"] = "int8"
    """int8: 8-bit products, as a Q/DQ ONNX graph. fp16: half-precision weights, for GPUs."""
    min_ssim: float | None = None
    """The mean SSIM to the original that must be kept: layers are left in floating point until it
    holds."""
    recover: Literal["none", "distill"] = "distill"
    """Whether weights and ranges are trained as if quantized; fp16 needs no recovery."""
    seconds: float = 20.0
    """How long training takes."""
    rate: float = 0.3
    """The learning rate of training, as a part of that of recovery after a cut."""
    quantizer: Literal["auto", "nncf", "onnxruntime"] = "auto"
    """Whose Q/DQ pairs: auto takes those that the target is fastest with."""
    activations: Literal["auto", "symmetric", "asymmetric"] = "auto"
    """Ranges of activations; auto: symmetric for TensorRT alone, which takes no others."""
    revert: bool = True
    """Whether layers that are slower in int8 on the target stay in floating point."""
    explain: bool = False
    """Measure for each layer what its rounding costs and gains."""

    @property
    def for_tensorrt(self) -> bool:
        """Whether the graph is for TensorRT."""
        return Target.parse(self.target).runtime == "tensorrt"

    @property
    def symmetric(self) -> bool:
        """Whether ranges of activations lie evenly around zero."""
        return self.activations == "symmetric" or (self.activations == "auto" and self.for_tensorrt)

    def settled_target(self, generator: Generator) -> Target:
        """Where results are judged: TensorRT runs no graph, so ONNX Runtime stands in for it."""
        target = super().settled_target(generator)
        return replace(target, runtime="onnxruntime") if self.for_tensorrt else target

    def check(self, generator: Generator) -> None:
        """Check the numbers, and that there is something to quantize."""
        if not self.seconds > 0:
            raise UserError(f"seconds {self.seconds} is no time", hint="or use --recover none")
        if not self.rate > 0:
            raise UserError(f"rate {self.rate} is no learning rate", hint="try --rate 0.3")
        if self.min_ssim is not None and not 0 < self.min_ssim < 1:
            raise UserError(
                f"SSIM {self.min_ssim} is not between 0 and 1", hint="try --min-ssim 0.95"
            )
        if self.precision == "int8" and Target.parse(self.target).runtime == "torch":
            raise UserError(
                "PyTorch runs no Q/DQ graph", hint="name a runtime that does: --target openvino"
            )
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
        """Quantize in stages; then give up what costs too much, where it is asked for."""
        from compress.quantization.int8 import Int8

        work = Int8(self, generator, console)
        best = work.run()
        mixed = self.mixed(work, best, console)
        pairs = mixed.pairs
        outcome = Outcome({"module": None, "onnx": pairs.graph}, figures=work.figures)
        outcome.figures["ssim"] = round(mixed.ssim, 4)
        outcome.changed = [f"{p.label}: int8" for p in pairs.products if p.rounded]
        reasons = dict.fromkeys(work.slow, f"slower in int8 on {self.target}")
        reasons |= dict.fromkeys(mixed.names, "its rounding costs too much")
        outcome.left = [
            {"what": p.label, "reason": reasons.get(p.name, "the quantizer has no int8 form of it")}
            for p in pairs.products
            if not p.rounded
        ]
        if self.min_ssim is not None and mixed.ssim < self.min_ssim:
            outcome.failure = (
                f"SSIM {self.min_ssim} can't be held in int8: the best found reads {mixed.ssim:.4f}"
            )
        return outcome

    def mixed(self, work: Int8, best: Rounded, console: Console) -> Mixed:
        """What is left of the rounding where SSIM asks for it; and the table, where asked for."""
        from compress.quantization.layers import layer_times, table
        from compress.quantization.mixing import Mixed, costs_of, hold

        found = Mixed(best.pairs, best.ssim)
        missing = self.min_ssim is not None and best.ssim < self.min_ssim
        if not missing and not self.explain:
            return found
        costs = costs_of(best.pairs, best.ssim, work.ssim_of, console)
        times = layer_times(work.plain, best.pairs, self.settled_target(work.plain))
        if missing:
            assert self.min_ssim is not None
            savings = {name: before - after for name, (before, after) in times.items()}
            found = hold(found, self.min_ssim, work.ssim_of, costs, savings)
        if self.explain:
            rows: list[dict[str, Any]] = table(found.pairs, costs, times)
            work.figures["layers"] = rows
        return found
