"""Quantization: INT8 as one Q/DQ ONNX graph, FP16 as a graph of that type.

INT8 goes in stages (:mod:`compress.quantization.int8`), each measured on the target and kept where
it paid. With ``min_ssim`` the result is a promise: layers that cost too much stay in floating point
(:mod:`compress.quantization.mixing`), and what can't hold it fails. In FP16 what it can't hold on
real inputs stays FP32 (:mod:`compress.half_guard`).
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
    """int8: 8-bit products, as a Q/DQ ONNX graph. fp16: 16-bit everything that fp16 can hold, as an
    ONNX graph, for GPUs: CPUs compute it in fp32."""
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
    """Ranges of activations; auto: symmetric for TensorRT, which takes no others, and where the
    target is clearly faster with them: OpenVINO on some CPUs with AMX."""
    revert: bool = True
    """Whether layers that are slower in int8 on the target stay in floating point."""
    explain: bool = False
    """Measure for each layer what its rounding costs and gains."""

    @property
    def for_tensorrt(self) -> bool:
        """Whether the graph is for TensorRT."""
        return Target.parse(self.target).runtime == "tensorrt"

    @property
    def symmetric(self) -> bool | None:
        """Whether ranges of activations lie evenly around zero; None: as the target is faster."""
        if self.activations == "auto":
            return True if self.for_tensorrt else None
        return self.activations == "symmetric"

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
        self.check_float(generator)
        super().check(generator)

    def check_float(self, generator: Generator) -> None:
        """Raise UserError where there is nothing in fp32 to quantize: a module, or a graph."""
        from genslim.onnx_model import float_type, load_model

        graph, kind = generator.onnx, str(generator.dtype).removeprefix("torch.")
        if generator.module is None and graph is not None:
            kind = float_type(graph)
            if any(node.op_type == "QuantizeLinear" for node in load_model(graph).graph.node):
                kind = "int8"
        elif graph is not None or generator.module is None:
            generator.trainable()  # refuses files alone
        if kind != "float32":
            raise UserError(
                f"{generator.label} is {'an ONNX graph in ' * (graph is not None)}{kind} already",
                hint="name an artifact or a file from before",
            )

    def apply(self, generator: Generator, console: Console) -> Outcome:
        """Quantize."""
        return (
            self.to_int8(generator, console)
            if self.precision == "int8"
            else self.to_fp16(generator)
        )

    def to_fp16(self, generator: Generator) -> Outcome:
        """Make the graph fp16, but for what fp16 can't hold on real inputs."""
        from compress.half_guard import beyond_half, nodes_kept
        from compress.quantization.calibration import calibration
        from genslim.half import to_fp16
        from genslim.onnx_graph import onnx_of
        from genslim.onnx_model import load_model

        graph = onnx_of(generator)
        beyond = beyond_half(graph, calibration(generator.signature, self.seed, graph))
        kept = nodes_kept(graph, beyond)
        half = to_fp16(graph, beyond)
        result = generator.variant(module=None, onnx=half)
        nodes = len(load_model(graph).graph.node)
        return Outcome(
            {"module": None, "onnx": half},
            changed=[f"{nodes - len(kept)} of {nodes} operations: float32 to float16"],
            left=[{"what": name, "reason": f"stays fp32: {reason}"} for name, reason in kept],
            figures={
                "ssim": round(self.ssim_of(result), 4),
                "executed": self.executed(result),
            },
        )

    def executed(self, result: Generator) -> str:
        """What the target's runtime really computes a graph in."""
        from genslim.runtimes import runtime

        target = self.settled_target(result)
        with runtime(target.runtime).open(result, target) as session:
            return str(session.execution)

    def to_int8(self, generator: Generator, console: Console) -> Outcome:
        """Quantize in stages; then give up what costs too much, where it is asked for."""
        from compress.quantization.int8 import Int8

        work = Int8(self, generator, console)
        best = work.run()
        mixed = self.mixed(work, best, console)
        pairs = mixed.pairs
        outcome = Outcome({"module": None, "onnx": pairs.graph}, figures=work.figures)
        outcome.figures["ssim"] = round(mixed.ssim, 4)
        outcome.figures["executed"] = self.executed(
            generator.variant(module=None, onnx=pairs.graph)
        )
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
        times = work.times or layer_times(work.plain, best.pairs, work.target)
        if missing:
            assert self.min_ssim is not None
            savings = {name: before - after for name, (before, after) in times.items()}
            found = hold(found, self.min_ssim, work.ssim_of, costs, savings)
        if self.explain:
            rows: list[dict[str, Any]] = table(found.pairs, costs, times)
            work.figures["layers"] = rows
        return found
