"""The convolutions of a generator that can be separated: found, timed and fitted.

A :class:`Separator` looks at a generator once; any set of its layers can then be swapped.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from compress import trial
from compress.factors import bias_of, errors_of, fitted, has_phases, phases_of, rounds_for
from compress.observation import sensitivities
from compress.refit import Fit, fit, refit
from compress.splitting import (
    Convolution,
    Factors,
    nearest,
    pair,
    pointwise_first,
    put,
    reason_to_leave,
    shared_layers,
)
from compress.swap import with_swapped
from compress.trial import Trial
from genslim.console import SILENT, Console
from genslim.generator import Generator, run_module
from genslim.inputs import Inputs
from genslim.target import Target

FAILURES = (RuntimeError, ValueError, IndexError, TypeError, AssertionError, AttributeError)
"""What code raises that meets two layers where it counts on a convolution."""
AT_ONCE = 8
"""Candidates that are timed together: each holds a session."""


class Separator:
    """A generator that has been looked at, ready to be swapped layer by layer."""

    def __init__(
        self, generator: Generator, pattern: str = "*", seed: int = 0, console: Console = SILENT
    ) -> None:
        """Find the layers that can be swapped.

        Args:
            generator: has a module.
            pattern: only layers whose name matches it are looked at.
            seed: of the inputs that layers are fitted on.
            console: shows progress.
        """
        self.generator, self.seed, self.console = generator, seed, console
        self.module = generator.trainable().eval()
        self.left: dict[str, str] = {}
        """Layers that can't be swapped, with the reason."""
        shared = shared_layers(self.module)
        names = []
        for name, layer in self.module.named_modules():
            if not isinstance(layer, Convolution) or not fnmatchcase(name, pattern):
                continue
            if reason := reason_to_leave(layer):
                self.left[name] = reason
            elif name in shared:
                self.left[name] = "is used in several places"
            else:
                names.append(name)
        self.inputs = Inputs(generator.signature, "calibration", seed).draw(1)
        sizes = self._sizes(names)
        self.left |= dict.fromkeys((n for n in names if n not in sizes), "did not run")
        names = [name for name in names if name in sizes]
        failing = self._failing(names)
        self.left |= failing
        self.names: list[str] = [name for name in names if name not in failing]
        """Layers that can be swapped."""
        alike: dict[object, list[str]] = defaultdict(list)
        for name in self.names:
            alike[str(self.module.get_submodule(name)), sizes[name]].append(name)
        self.shapes: list[list[str]] = list(alike.values())
        """The same layers: those that do the same work together."""
        self.nearest: dict[str, Factors] = {}

    def _sizes(self, names: Collection[str]) -> dict[str, tuple[object, ...]]:
        """The shapes of what each layer takes in one run, for those that run."""
        seen: dict[str, tuple[object, ...]] = {}

        def note(name: str, x: object) -> None:
            seen[name] = (*seen.get(name, ()), getattr(x, "shape", None))

        handles = [
            self.module.get_submodule(name).register_forward_pre_hook(
                lambda m, args, name=name: note(name, args[0] if args else None)
            )
            for name in names
        ]
        try:
            self._run(self.module)
        finally:
            for handle in handles:
                handle.remove()
        return seen

    @torch.no_grad()
    def _run(self, module: nn.Module) -> Tensor:
        return run_module(module, self.generator.signature, self.inputs)

    def _failing(self, names: Sequence[str]) -> dict[str, str]:
        """The layers without which the code does not run, with what went wrong, by halving."""
        try:
            with_pairs = with_swapped(self.module, names, blank)
            right = self._run(with_pairs).shape == self._run(self.module).shape
            error = "" if right else "the output would change its shape"
        except FAILURES as failure:
            error = next(iter(str(failure).strip().splitlines()), type(failure).__name__)[:120]
        if not error:
            return {}
        if len(names) == 1:
            return {names[0]: f"its code counts on a convolution: {error}"}
        half = len(names) // 2
        return {**self._failing(names[:half]), **self._failing(names[half:])}

    def race(self, target: Target) -> dict[str, Trial]:
        """For each layer, how the generator does with all layers of its shape swapped.

        One layer of many gains too little to be told from noise, and alike ones gain alike.
        """
        trials: dict[str, Trial] = {}
        for start in range(0, len(self.shapes), AT_ONCE):
            some = self.shapes[start : start + AT_ONCE]
            candidates = {
                alike[0]: self.generator.variant(
                    module=with_swapped(self.module, alike, blank), onnx=None
                )
                for alike in some
            }
            found = trial.race(self.generator, candidates, target, self.console)
            trials |= {name: found[alike[0]] for alike in some for name in alike}
        return trials

    def start_of(self, name: str) -> Factors:
        """The factors that are nearest to a layer's kernel."""
        if name not in self.nearest:
            self.nearest[name] = nearest(self.layer(name))
        return self.nearest[name]

    def layer(self, name: str) -> Convolution:
        """One of the convolutions, whole."""
        layer = self.module.get_submodule(name)
        assert isinstance(layer, Convolution)
        return layer

    def split(self, names: Collection[str]) -> nn.Module:
        """A copy of the module with the nearest pairs in the place of some layers."""
        return self.with_pairs(self.module, {name: self.start_of(name) for name in names})

    @torch.no_grad()
    def refitted(self, names: Collection[str]) -> nn.Module:
        """The same, fitted to what the layers see: each to make up for those before it.

        A layer that stays whole is fitted too.
        """
        # What is fitted has whole layers, with kernels that a pair can make: so the same
        # operations run as in the original, and each finds its counterpart there.
        whole = copy.deepcopy(self.module)
        factors = {name: self.start_of(name) for name in names}
        begun: list[str] = []
        ways: dict[str, Fit] = {}
        for name, layer in whole.named_modules():
            if name in factors:
                assert isinstance(layer, Convolution)
                put(layer, factors[name], None)
                ways[name] = self._way(name, factors, begun)
            else:  # before the first swap there is nothing to make up for
                ways[name] = lambda *args: fit(*args) if begun else None
        if self.generator.dtype == torch.float32:
            refit(whole, self.generator, {}, self.seed, self.console, ways=ways)
        return self.with_pairs(whole, factors)

    def _way(self, name: str, factors: dict[str, Factors], begun: list[str]) -> Fit:
        """How to fit a layer that will be swapped, and put down that it was."""

        def fit_factors(layer: Convolution, x: Tensor, goal: Tensor, positions: Tensor) -> None:
            begun.append(name)
            rounds = rounds_for(layer, factors[name].pointwise_first)
            if rounds and has_phases(layer):
                phases = phases_of(layer, x, goal, positions)
                factors[name] = fitted(factors[name], phases, rounds)
                put(layer, factors[name], bias_of(factors[name], phases))

        return fit_factors

    @torch.no_grad()
    def costs(self) -> dict[str, float]:
        """How much each layer alone costs, about, in units of the picture's squared error.

        What is left after its refit, weighted by how much the picture hangs on each output: see
        :class:`compress.observation.Seen`. Layers that can't be fitted cost infinitely much.
        """
        costs = dict.fromkeys(self.names, float("inf"))
        if self.generator.dtype != torch.float32:
            return costs
        module = copy.deepcopy(self.module)
        layers: Mapping[str, nn.Module] = {n: module.get_submodule(n) for n in self.names}
        weights = sensitivities(self.generator, module, layers, self.seed)

        def way(name: str) -> Fit:
            def look(layer: Convolution, x: Tensor, goal: Tensor, positions: Tensor) -> None:
                rounds = rounds_for(layer, self.start_of(name).pointwise_first)
                if name in weights and rounds and has_phases(layer):
                    phases = phases_of(layer, x, goal, positions)
                    errors = errors_of(fitted(self.start_of(name), phases, 1), phases)
                    costs[name] = float((weights[name] * errors).sum())

            return look

        ways = {name: way(name) for name in self.names}
        others = {name: leave for name, _ in module.named_modules() if name not in ways}
        refit(module, self.generator, {}, self.seed, self.console, ways={**ways, **others})
        return costs

    @staticmethod
    def with_pairs(module: nn.Module, factors: Mapping[str, Factors]) -> nn.Module:
        """A copy of ``module`` in which pairs with these factors stand for layers."""
        result = copy.deepcopy(module)
        for name, own in factors.items():
            layer = result.get_submodule(name)
            assert isinstance(layer, Convolution)
            result.set_submodule(name, pair(layer, own), strict=True)
        return result


def blank(layer: Convolution) -> nn.Sequential:
    """A pair of the right shapes, for timing and trying."""
    taps = layer.kernel_size[0] * layer.kernel_size[1]
    first = pointwise_first(layer)
    channels = layer.out_channels if first else layer.in_channels
    mixing = torch.ones(layer.out_channels, layer.in_channels) / layer.in_channels
    return pair(layer, Factors(mixing, torch.ones(channels, taps) / taps, first))


def leave(layer: nn.Module, x: Tensor, goal: Tensor, positions: Tensor) -> None:
    """No fit: the layer stays as it is."""
