"""A network's channels, read off one run of it.

The network runs once on a small input below a dispatch mode, which sees every operation of ATen
with its real arguments: no graph has to be captured, so control flow, custom autograd functions
and reshapes by hand are seen as what they do. Each weight gets labels along the axes that it can
lose; :mod:`compress.channels.rules` says what each operation makes of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils.weak import WeakIdKeyDictionary

from compress.channels.labels import Ids, Labels, Plane, Planes, ids, thin, varying
from compress.channels.operations import short_name, tensors_in
from compress.channels.rules import Product, State, rule_of
from compress.channels.rules.pointwise import meet
from compress.channels.survivors import Mixing
from compress.channels.watching import Watching
from genslim.generator import Generator, run_module

Slot = tuple[str, int]
"""A parameter or buffer by name, and one of its axes."""

SILENT = frozenset({"fill", "zero", "normal", "uniform", "_local_scalar_dense", "is_nonzero"})


@dataclass
class Trace:
    """What one run showed."""

    labels: Labels
    slots: dict[Slot, Ids]
    """The labels along each axis of each weight that can lose something."""
    products: list[Product]
    """Convolutions and matrix products, in the order in which they ran."""
    mixing: Mapping[int, Mixing]
    """Operations that compute something over channels, by their place in the run."""

    def with_labels(self, labels: Labels) -> Trace:
        """The same run where more labels are united."""
        return Trace(
            labels,
            {slot: labels.find(found) for slot, found in self.slots.items()},
            [Product(p.macs, labels.find(p.inside), labels.find(p.outside)) for p in self.products],
            self.mixing,
        )


class Tracer(Watching):
    """Follows labels through every operation."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.labels = Labels()
        self.slots: dict[Slot, Ids] = {}
        self.state = State(self.labels, self.planes_of)
        self.planes: Any = WeakIdKeyDictionary()
        self.joint: list[Plane] = []
        self.mixing: dict[int, Mixing] = {}
        self.names: dict[int, str] = {}
        self.places: dict[tuple[int, torch.Size], str] = {}
        self.homes: set[tuple[str, int]] = set()
        self.made: dict[int, Planes] = {}
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            self.names.setdefault(id(tensor), name)
            self.places.setdefault((tensor.data_ptr(), tensor.shape), name)
            self.homes.add((name, tensor.data_ptr()))

    def planes_of(self, tensor: Any) -> Planes:
        """The planes of an activation or a weight; none where nothing of it can go."""
        if not isinstance(tensor, Tensor):
            return []
        known = self.planes.get(tensor)
        if known is None:
            name = self.names.get(id(tensor)) or self.places.get(
                (tensor.data_ptr(), tensor.shape) if tensor.numel() else (0, tensor.shape)
            )
            known = self.planes_of_weight(name, tensor) if name else []
            if name and (name, tensor.data_ptr()) not in self.homes:
                # Its data were put in its place by code: it goes as what it was computed from.
                source = self.made.get(tensor.data_ptr(), [])
                known = meet(
                    self.state,
                    [(known, tensor.shape), (source, tensor.shape)],
                    tensor.shape,
                    "an assignment",
                )
            self.planes[tensor] = known
        result: Planes = known
        return result

    def planes_of_weight(self, name: str, tensor: Tensor) -> Planes:
        """A plane along each of the first two axes of a weight that are longer than one."""
        axes = [axis for axis in range(tensor.ndim) if tensor.shape[axis] > 1][:2]
        planes = []
        for axis in axes:
            if (name, axis) not in self.slots:
                self.slots[name, axis] = self.labels.fresh(tensor.shape[axis])
            planes.append(self.labels.along(tensor.shape, axis, self.slots[name, axis]))
        return planes

    def look(
        self, index: int, func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any
    ) -> None:
        """Follow the labels of what went into the operation."""
        made = tensors_in(out)
        if made and short_name(func) not in SILENT:
            with _disable_current_modes():
                before = self.labels.mixtures
                self.follow(func, args, kwargs, out, made)
                if self.labels.mixtures > before:
                    sources = [self.planes_of(t) for t in tensors_in(args)]
                    results = [self.planes_of(t) for t in made]
                    self.mixing[index] = Mixing(short_name(func), sources, results)

    def follow(
        self,
        func: Any,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        out: Any,
        made: Sequence[Tensor],
    ) -> None:
        """Give each result its planes."""
        name = short_name(func)
        labelled = [t for t in tensors_in((args, kwargs)) if self.planes_of(t)]
        if not labelled:
            return
        results, rule = None, rule_of(func)
        try:
            if rule is not None:
                results = rule(self.state, func, args, kwargs, out)
        except (RuntimeError, IndexError, AssertionError, ValueError, TypeError) as error:
            reason = f"{name} can't be followed ({type(error).__name__})"
        else:
            reason = f"{name} is not understood"
        if results is None:
            for tensor in labelled:
                for plane in self.planes_of(tensor):
                    self.labels.fix(ids(plane), reason)
            return
        for tensor, planes in zip(made, results, strict=False):
            compact = [self.labels.compact(plane) for plane in planes]
            compact = [plane for plane in compact if self.labels.any_free(ids(thin(plane)))]
            assert all(p.shape == tensor.shape for p in compact), (name, tensor.shape)
            self.planes[tensor] = compact
            self.made[tensor.data_ptr()] = compact
            self.joint += [p for p in compact if len(varying(p)) > 1]

    def straighten(self) -> None:
        """Let what is left of every tensor be a box: labels go by one axis, the longest.

        Places of heads, of channel shuffles: each loses the same ones.
        """
        before = -1
        while before != self.labels.unions:
            before = self.labels.unions
            for plane in map(self.labels.compact, self.joint):
                if axes := varying(plane):
                    longest = max(axes, key=lambda axis: plane.shape[axis])
                    self.labels.unite_across(plane, (longest,))


def trace(generator: Generator, module: nn.Module, inputs: Mapping[str, Tensor]) -> Trace:
    """Run ``module`` once and follow its channels; what reaches the picture is fixed.

    Args:
        generator: says how the module is called.
        module: in evaluation mode.
        inputs: one of each, ``(1, ...)``.
    """
    tracer = Tracer(module)
    with torch.no_grad(), without_fast_paths():
        with tracer:
            images = run_module(module, generator.signature, inputs)
        for plane in tracer.planes_of(images):
            tracer.labels.fix(ids(plane), "is the picture's")
    tracer.straighten()
    found = Trace(tracer.labels, tracer.slots, tracer.state.products, tracer.mixing)
    return found.with_labels(tracer.labels)


@contextmanager
def without_fast_paths() -> Iterator[None]:
    """Let attention layers run as the operations that they consist of."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
