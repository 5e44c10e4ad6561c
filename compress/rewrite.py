"""Exact rewrites: the same function, computed in a way that the target is faster at.

No rewrite wins everywhere: a transposed convolution as a convolution for each phase is faster in
one precision and slower in another. So each is measured on the target, in the precision that the
generator will run in, and made only where that gained. What is rewritten:

- batch norms become part of the layers before them (:mod:`compress.norm_folding`);
- transposed convolutions become matrix products, or convolutions and pixel shuffles
  (:mod:`compress.rewriting`);
- the exported graph is rewritten (:mod:`genslim.graph_rewrites`): enlarging before a convolution,
  sums of enlarged images, branches, constants. The generator keeps its module and can be pruned
  and quantized on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from compress.step import Outcome, Step
from genslim.errors import GenslimError, UserError
from genslim.target import Target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compress.rewriting.candidates import Exact
    from compress.trial import Trial
    from genslim.console import Console
    from genslim.generator import Generator

AT_ONCE = 6
"""Candidates that are timed together: each holds a session."""
PARITY = 1e-4
"""How far a rewritten generator's pictures may be from what they were, of the value range."""


@dataclass(frozen=True)
class Rewrite(Step):
    """Rewrite layers and operations exactly, where the target is faster for it."""

    name: ClassVar[str] = "rewrite"

    precision: Literal["auto", "int8"] = "auto"
    """What it will run in: int8 where quantize --int8 comes next, else as it is."""
    always: tuple[str, ...] = ()
    """Rewrites to make without a race, by their names in the report: for a target that is not at
    hand. TensorRT has no int8 transposed convolution: --always 'matrix product' --always
    'convolution for each phase'."""

    def check(self, generator: Generator) -> None:
        """Check that the target can run it so, and that there are such rewrites."""
        from compress.rewriting.candidates import NAMES

        if unknown := set(self.always) - set(NAMES):
            raise UserError(
                f"there is no rewrite {min(unknown)!r}", hint=f"there are {', '.join(NAMES)}"
            )
        if self.precision == "int8" and generator.module is None:
            raise UserError(
                f"{generator.label} is a graph, and runs as it is", hint="leave out --precision"
            )
        if self.precision == "int8" and Target.parse(self.target).runtime == "torch":
            raise UserError(
                "PyTorch runs nothing in int8", hint="name a runtime that does: --target openvino"
            )
        super().check(generator)

    def apply(self, generator: Generator, console: Console) -> Outcome:
        """Time each rewrite, then all that gained together."""
        outcome, result = Outcome({}), generator
        if generator.module is not None:
            result = generator.variant(module=generator.trainable().eval())
            result = self.without_norms(result, outcome, console)
            result = self.with_layers(result, outcome, console)
        if self.settled_target(generator).runtime != "torch":  # which runs no graph
            result = self.with_graph(result, outcome, console)
        outcome.changes = {key: getattr(result, key) for key in ("module", "onnx", "rewrites")}
        if outcome.changed:
            moved = self.parity(generator, result)
            if moved > PARITY:
                raise GenslimError(
                    f"the rewrites moved the pictures by {moved:.1e} of the value range",
                    hint="please report this generator: each alone did not",
                )
            outcome.figures["parity"] = float(f"{moved:.1e}")
        else:
            found = any("not faster" in item["reason"] for item in outcome.left)
            outcome.figures["note"] = (
                "no rewrite was faster" if found else "nothing can be rewritten"
            )
        return outcome

    def without_norms(self, generator: Generator, outcome: Outcome, console: Console) -> Generator:
        """Batch norms folded, where that gained."""
        from compress.norm_folding import without_batch_norms
        from compress.rewriting.candidates import NORMS, Exact

        assert generator.module is not None
        module, folded = without_batch_norms(generator.module, generator)
        if not folded:
            return generator
        fold = Exact("batch norms", NORMS, lambda g: g.variant(module=module))
        return self.best(generator, [fold], outcome, console)

    def with_layers(self, generator: Generator, outcome: Outcome, console: Console) -> Generator:
        """Layers rewritten, where that gained."""
        from compress.rewriting.candidates import of_layers

        found, left = of_layers(generator)
        outcome.left += left
        return self.best(generator, found, outcome, console)

    def with_graph(self, generator: Generator, outcome: Outcome, console: Console) -> Generator:
        """The graph rewritten, where that gained."""
        from compress.rewriting.candidates import of_graph
        from genslim.onnx_graph import onnx_of

        graph = onnx_of(generator)
        return self.best(generator, list(of_graph(graph)), outcome, console, graph)

    def best(
        self,
        generator: Generator,
        candidates: Sequence[Exact],
        outcome: Outcome,
        console: Console,
        graph: bytes | None = None,
    ) -> Generator:
        """The generator with those rewrites that gained, together or the best of them alone.

        Args:
            generator: what they are compared with.
            candidates: of each place, the fastest is chosen.
            outcome: told what was made and what was left.
            console: shows progress.
            graph: the generator's, where candidates are rewrites of it: exporting takes seconds.
        """
        from compress.trial import ratios

        generator, graph = self.make_due(generator, candidates, outcome, graph)
        candidates = [each for each in candidates if each.what not in self.always]
        if not candidates:
            return generator
        base = generator if graph is None else generator.variant(module=None, onnx=graph)
        rival = self.as_it_runs(base)
        raced = outcome.figures.setdefault("latency_ratio", {})
        trials: dict[Exact, Trial] = {}
        for start in range(0, len(candidates), AT_ONCE):
            some = {each.name: each for each in candidates[start : start + AT_ONCE]}
            found = self.race(rival, {n: each.make(base) for n, each in some.items()}, console)
            trials |= {some[name]: trial for name, trial in found.items()}
            raced |= ratios(found)
        fastest: dict[str, Exact] = {}
        for each in sorted(trials, key=lambda each: trials[each].ratio, reverse=True):
            if trials[each].gained:
                fastest[each.place] = each
        chosen = sorted(fastest.values(), key=lambda each: trials[each].ratio)
        for each in list(chosen):  # a kernel that is made anew in fp16 may round
            if (moved := self.parity(base, each.make(base))) > PARITY:
                reason = f"{each.what} moves pictures by {moved:.0e} of the value range"
                outcome.left.append({"what": each.place, "reason": reason})
                chosen.remove(each)
        for each in trials.keys() - fastest.values():
            reason = f"not faster on {self.target}: {each.what}, {trials[each]}"
            if trials[each].gained:
                reason = f"{fastest[each.place].what} is faster there than {each.what}"
            outcome.left.append({"what": each.place, "reason": reason})
        if len(chosen) > 1:  # together they may gain less than the best of them alone
            together = base
            for each in chosen:
                together = each.make(together)
            trial = self.race(rival, {"all": together}, console)["all"]
            if trial.ratio > trials[chosen[0]].ratio:
                outcome.left += [
                    {"what": each.place, "reason": f"faster alone, but not with {chosen[0].place}"}
                    for each in chosen[1:]
                ]
                chosen = chosen[:1]
        for each in chosen:
            generator = each.make(generator)
            outcome.changed.append(f"{each.name}, {trials[each]}")
        return generator

    def make_due(
        self,
        generator: Generator,
        candidates: Sequence[Exact],
        outcome: Outcome,
        graph: bytes | None,
    ) -> tuple[Generator, bytes | None]:
        """The generator, and its graph, with what is made without a race."""
        for each in candidates:
            if each.what in self.always:
                generator = each.make(generator)
                if graph is not None:
                    graph = each.make(generator.variant(module=None, onnx=graph)).onnx
                outcome.changed.append(f"{each.name}, asked for")
        return generator, graph

    def race(
        self, rival: Generator, candidates: dict[str, Generator], console: Console
    ) -> dict[str, Trial]:
        """Time candidates, as they will run, beside what runs so already."""
        from compress.trial import race

        running = {name: self.as_it_runs(each) for name, each in candidates.items()}
        return race(rival, running, self.settled_target(rival), console)

    def as_it_runs(self, generator: Generator) -> Generator:
        """The generator in the precision asked for: in int8 as quantization would make it, as far
        as time goes, with any ranges.
        """
        if self.precision != "int8":
            return generator
        from compress.quantization.calibration import calibration
        from compress.quantization.pairs import Pairs
        from compress.quantization.placement import usual_placement
        from genslim.onnx_graph import onnx_of

        graph = onnx_of(generator)
        place = usual_placement(self.settled_target(generator).runtime)
        pairs = Pairs(place(graph, calibration(generator.signature, self.seed)[:1]), graph)
        return generator.variant(module=None, onnx=pairs.with_ranges(pairs.ranges).graph)

    def parity(self, before: Generator, after: Generator) -> float:
        """How far pictures moved at most, as a part of the value range; computed in fp32."""
        from compress.step import PROBES, images_of
        from genslim.inputs import Inputs
        from genslim.onnx_graph import onnx_of

        inputs = Inputs(before.signature, "validation", self.seed).draw(PROBES)
        target = replace(self.settled_target(before), precision="fp32")
        images = []
        for each in (before, after):
            plain = each.onnx is None and not each.rewrites
            graph = each if plain else each.variant(module=None, onnx=onnx_of(each))
            images.append(images_of(graph, inputs, target))
        return float((images[0] - images[1]).abs().max()) / before.signature.data_range
