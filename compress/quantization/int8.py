"""INT8 in stages, each kept only where it paid.

Where the pairs go is raced on the target. Then come the stages that are quick: ranges chosen by
the picture, channels of unlike range made alike. Training follows where it is asked for; products
that the target is faster with in floating point go back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from compress.batches import usual_rate
from compress.norm_folding import folded, without_batch_norms
from compress.quantization.calibration import calibration, histograms_of
from compress.quantization.equalization import equalized
from compress.quantization.layers import Times, layer_times
from compress.quantization.pairs import Pairs, Range
from compress.quantization.placement import PLACEMENTS, Placement
from compress.quantization.ranges import CHOICES
from compress.quantization.training import Rounding, shared_tensors
from compress.trial import race, ratios
from genslim.errors import UserError
from genslim.generator import Generator
from genslim.onnx_graph import onnx_of
from genslim.processes import has_amx
from genslim.target import Target

if TYPE_CHECKING:
    from torch import nn

    from compress.quantize import Quantize
    from genslim.console import Console

CLEARLY = 0.9
"""How much faster than with the first pairs, which are the best for the picture, a generator must
be with others. NNCF's with sums made Real-ESRGAN x4plus-anime 5 % faster, at an SSIM of 0.973
instead of 0.982."""

WORTH_A_ZERO_POINT = 0.001
"""SSIM that a range must gain by lying unevenly around zero. Of 21 ranges of Real-ESRGAN
x4plus-anime two made up for three quarters of what even ranges cost, 0.816 instead of 0.866."""


@dataclass(frozen=True)
class Rounded:
    """A generator as a Q/DQ graph."""

    of: Generator
    """What was rounded."""
    pairs: Pairs
    ssim: float
    """Mean, to the original, on inputs that nothing is fitted on."""
    ranges: str = ""
    """Which of :data:`.ranges.CHOICES`."""
    own: Mapping[str, Range] = field(default_factory=dict)
    """By group, the ranges as they were chosen, before some were made symmetric."""


class Int8:
    """One generator on its way to int8.

    Args:
        step: says what is asked.
        generator: a module, or a graph alone: then the stages that change weights are left out.
        console: shows progress.
    """

    def __init__(self, step: Quantize, generator: Generator, console: Console) -> None:
        self.step, self.console = step, console
        if generator.module is None:
            self.plain = generator.variant(onnx=folded(onnx_of(generator)))
        else:
            module, _ = without_batch_norms(generator.trainable().eval(), generator)
            self.plain = generator.variant(module=module)
        self.figures: dict[str, Any] = {}
        """What goes into the step's report."""
        self.uneven: set[str] = set()
        """Groups that keep their zero point where the others have none."""
        self.slow: list[str] = []
        """Products that went back because the target is faster with them in floating point."""
        self.times: Times = {}
        """How long each product takes, before any went back."""

    @cached_property
    def batches(self) -> list[Mapping[str, Any]]:
        """Calibration inputs."""
        return calibration(self.plain.signature, self.step.seed, self.graph)

    def ssim_of(self, pairs: Pairs) -> float:
        """Mean SSIM of a graph to the original on inputs that nothing is fitted on."""
        return self.step.ssim_of(self.plain.variant(module=None, onnx=pairs.graph))

    @cached_property
    def graph(self) -> bytes:
        """Of the generator as it is: exporting takes seconds."""
        return onnx_of(self.plain)

    @cached_property
    def placed(self) -> tuple[Placement, Pairs]:
        """How the pairs are placed, as the target is fastest; and the graph with them."""
        found = self.placements()
        first = next(iter(found))
        best = first
        if not self.step.for_tensorrt and len(found) > 1:
            candidates = {
                name: self.plain.variant(module=None, onnx=pairs.graph)
                for name, (_, pairs) in found.items()
            }
            baseline = self.plain.variant(module=None, onnx=self.graph)
            trials = race(baseline, candidates, self.target, self.console)
            fastest = min(trials, key=lambda name: trials[name].ratio)
            if trials[fastest].ratio < CLEARLY * trials[first].ratio:
                best = fastest
            self.figures["latency_ratio"] = ratios(trials)
            if trials[best].ratio > 1:
                self.console.warn(f"int8 is slower than float on {self.target}: {trials[best]}")
        self.figures["quantizer"] = best
        return found[best]

    @cached_property
    def symmetric(self) -> bool:
        """Whether ranges of activations lie evenly around zero: where the target wants it.

        They hold half as many numbers where values are mostly of one sign. But on a CPU with AMX
        OpenVINO's quickest kernels take no zero point.
        """
        if self.step.symmetric is not None:
            return self.step.symmetric
        if self.target.runtime != "openvino" or not has_amx():
            return False
        pairs = self.placed[1]
        even = pairs.with_ranges({name: self.evened(r) for name, r in pairs.ranges.items()})
        trials = race(
            self.plain.variant(module=None, onnx=pairs.graph),
            {"symmetric": self.plain.variant(module=None, onnx=even.graph)},
            self.target,
            self.console,
        )
        self.figures["latency_ratio_of_symmetric_ranges"] = ratios(trials)["symmetric"]
        return trials["symmetric"].ratio < CLEARLY

    def evened(self, chosen: Range) -> Range:
        """A symmetric range; one that begins at zero has no zero point to subtract anyway."""
        at_zero = chosen.low >= 0 and self.step.symmetric is None
        return chosen if at_zero else chosen.symmetric()

    def with_zero_points(self, even: Rounded) -> Rounded:
        """Ranges as they were chosen where that gains, those first that gain most by themselves."""
        groups = [g for g, own in even.own.items() if self.evened(own) != own]

        def with_own(group: str, of: Rounded) -> Rounded:
            pairs = of.pairs.with_ranges({group: even.own[group]})
            return replace(of, pairs=pairs, ssim=self.ssim_of(pairs))

        gains: dict[str, float] = {}
        with self.console.progress("weighing zero points", len(groups)) as bar:
            for group in groups:
                gains[group] = with_own(group, even).ssim - even.ssim
                bar.advance(note=f"{group}: {gains[group]:+.4f}")
        best = even
        for group in sorted(gains, key=lambda g: -gains[g]):
            if gains[group] < WORTH_A_ZERO_POINT / 2:
                break  # the last of them seldom gain more together than alone
            found = with_own(group, best)
            if found.ssim - best.ssim >= WORTH_A_ZERO_POINT:
                best = found
                self.uneven.add(group)
        return best

    def placements(self) -> dict[str, tuple[Placement, Pairs]]:
        """The graph with the pairs of each quantizer that may be used and can.

        Raises:
            UserError: none of them rounds anything.
        """
        known = {
            name: place
            for quantizer, places in PLACEMENTS.items()
            if self.step.quantizer in ("auto", quantizer)
            for name, place in places.items()
        }
        found = {}
        with self.console.progress("placing Q/DQ pairs", len(known)) as bar:
            for name, place in known.items():
                try:
                    pairs = Pairs(place(self.graph, self.batches[:1]), self.graph)
                    pairs = pairs.with_ranges(pairs.ranges)
                except Exception as error:  # a quantizer raises what it likes
                    reason = " ".join(str(error).split())[:120]
                    self.figures.setdefault("quantizers_that_failed", {})[name] = reason
                    continue
                if any(product.rounded for product in pairs.products):
                    found[name] = place, pairs
                bar.advance(note=name)
        if not found:
            raise UserError(
                f"nothing of {self.plain.label} could be quantized",
                hint="it needs convolutions or matrix products; try --fp16",
            )
        return found

    def ranged(self, generator: Generator, pairs: Pairs) -> list[Rounded]:
        """The generator rounded, with ranges chosen in each of the ways there are."""
        seen = histograms_of(pairs, self.batches)
        transposed = {p.group for p in pairs.products if p.group and p.kind == "ConvTranspose"}
        found = []
        with self.console.progress("choosing ranges", len(CHOICES)) as bar:
            for name, choose in CHOICES.items():
                ranges = {group: choose(histogram) for group, histogram in seen.items()}
                # OpenVINO runs transposed convolutions in int8 only without a zero point.
                ranges |= {name: ranges[name].settled() for name in transposed if name in ranges}
                own = ranges
                if self.symmetric:
                    ranges = own | {g: self.evened(own[g]) for g in own.keys() - self.uneven}
                chosen = pairs.with_ranges(ranges)
                found.append(Rounded(generator, chosen, self.ssim_of(chosen), name, own))
                bar.advance(note=f"{name}: SSIM {found[-1].ssim:.4f}")
        return found

    def pairs_of(self, module: nn.Module) -> Pairs:
        """The graph of the same module with other weights."""
        place, pairs = self.placed
        assert self.plain.module is not None
        before, shapes = self.plain.module.state_dict(), shared_tensors(self.plain.module, pairs)
        changed = {n: t for n, t in module.state_dict().items() if not t.equal(before[n])}
        if changed.keys() <= shapes.keys():
            return pairs.with_tensors({n: t.numpy().reshape(shapes[n]) for n, t in changed.items()})
        graph = onnx_of(self.plain.variant(module=module))
        return Pairs(place(graph, self.batches[:1]), graph)

    def run(self) -> Rounded:
        """All stages; the best of what they came to."""
        found = self.ranged(self.plain, self.placed[1])
        best = self.best(found)
        self.figures["ssim_with_whole_ranges"] = round(found[0].ssim, 4)
        self.figures["ssim_after_ranges"] = round(best.ssim, 4)
        if self.symmetric and self.step.symmetric is None:
            best = self.with_zero_points(best)
            self.figures["zero_points"] = len(self.uneven)
            self.figures["ssim_with_zero_points"] = round(best.ssim, 4)
        if self.plain.module is None:
            self.figures["without_module"] = "channels are not equalized, nothing is trained"
            self.console.info(f"a graph has no module: {self.figures['without_module']}")
        else:
            best = self.refitted(best)
        self.figures["ranges"] = best.ranges
        return self.slow_layers_back(best) if self.step.revert else best

    def refitted(self, best: Rounded) -> Rounded:
        """The best after the stages that change weights, which take a module."""
        module, groups = equalized(self.plain, self.plain.trainable(), self.step.seed, self.console)
        self.figures["equalized_groups"] = 0
        if groups:
            variant = self.plain.variant(module=module)
            equal = self.best(self.ranged(variant, self.pairs_of(module)))
            self.figures["ssim_after_equalization"] = round(equal.ssim, 4)
            if equal.ssim > best.ssim:
                self.figures["equalized_groups"] = len(groups)
                best = equal
        if self.step.recover == "distill":
            trained = self.trained(best)
            self.figures["ssim_after_training"] = round(trained.ssim, 4)
            best = self.best([best, trained])
        return best

    @cached_property
    def target(self) -> Target:
        """Where it will run, settled."""
        return self.step.settled_target(self.plain)

    def slow_layers_back(self, best: Rounded) -> Rounded:
        """Products that are slower in int8 back in floating point, where that makes all faster."""
        self.times = layer_times(best.of, best.pairs, self.target)
        slow = [name for name, (before, after) in self.times.items() if after > before]
        if not slow or len(slow) == sum(product.rounded for product in best.pairs.products):
            return best
        pairs = best.pairs.without(slow)
        candidate = self.plain.variant(module=None, onnx=pairs.graph)
        baseline = self.plain.variant(module=None, onnx=best.pairs.graph)
        trial = race(baseline, {"back": candidate}, self.target, self.console)["back"]
        if not trial.gained:
            return best
        self.slow = slow
        return replace(best, pairs=pairs, ssim=self.ssim_of(pairs))

    def trained(self, start: Rounded) -> Rounded:
        """The same after training with rounding in the forward pass."""
        from compress.checkpoint import current
        from compress.distill import distill

        student = start.of.trainable()
        rounding = Rounding(student, start.pairs)
        with rounding.applied():
            done = distill(
                student,
                start.of.original,
                seconds=self.step.seconds,
                seed=self.step.seed,
                # Lower: gradients pass the rounding as if it were not there.
                learning_rate=self.step.rate * usual_rate(start.of.signature),
                adapt_norms=False,
                checkpoint=current(),
                console=self.console,
                what="training as if quantized",
            )
        self.figures["training_steps"] = done.steps
        pairs = rounding.learned()
        return replace(start, pairs=pairs, ssim=self.ssim_of(pairs))

    def best(self, found: list[Rounded]) -> Rounded:
        """The one whose pictures are nearest to the original's; the first of equals."""
        return max(found, key=lambda each: round(each.ssim, 4))
