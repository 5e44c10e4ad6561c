"""A trained generator and its contract: what every step takes and gives back."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from genslim.errors import UserError
from genslim.graph_rewrites.rewriting import Rewriting
from genslim.signature import Signature


@dataclass(frozen=True)
class StepRecord:
    """One step that a generator went through, as it stands in the artifact."""

    name: str
    parameters: Mapping[str, Any]
    report: Mapping[str, Any] = field(default_factory=dict)
    """What the step did: changed and left layers, figures, seconds. Plain JSON."""


@dataclass(frozen=True)
class Generator:
    """A generator in one of its two forms: a torch module, or an ONNX graph (quantized, exported).

    Immutable by contract: steps copy the module before they change it.
    """

    name: str
    """For people: ``dcgan-mnist``, or the weights file's stem."""
    signature: Signature
    source: Mapping[str, Any]
    """How to build the original architecture: the ``kind`` of a source and what it needs."""
    module: nn.Module | None = None
    onnx: bytes | None = None
    """A serialised ONNX model; what runs, where it is given."""
    rewrites: tuple[Rewriting, ...] = ()
    """Made in the module's graph whenever it is exported."""
    files: Mapping[str, Path] = field(default_factory=dict)
    """Exported files beside the graph (``engine.plan``, ``model.xml``), by name."""
    steps: tuple[StepRecord, ...] = ()
    path: Path | None = None
    """The artifact folder it was loaded from, if any."""
    ancestor: Generator | None = None
    """What the first step was applied to; None before any step. See :attr:`original`."""

    @property
    def original(self) -> Generator:
        """The generator before all steps: what recovery learns from and quality is judged by."""
        return self.ancestor or self

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type of the module's parameters; float32 without a module."""
        if self.module is None:
            return torch.float32
        return next((p.dtype for p in self.module.parameters()), torch.float32)

    def trainable(self) -> nn.Module:
        """A copy of the module, to change at will.

        Raises:
            UserError: this generator is only a graph.
        """
        if self.module is None:
            form = "an ONNX graph" if self.onnx is not None else "exported files"
            done = ", ".join(step.name for step in self.steps)
            raise UserError(
                f"{self.label} is {form} {f'(after {done})' if done else 'without a module'}: "
                "its weights can't be changed",
                hint="name an artifact from before that step"
                if done
                else "name what it was exported from: weights, or package.module:factory",
            )
        return copy.deepcopy(self.module)

    @property
    def label(self) -> str:
        """The artifact folder if there is one, else the name."""
        return str(self.path) if self.path else self.name

    def variant(self, **changes: Any) -> Generator:
        """This generator with some fields replaced; its original stays what it was."""
        return replace(self, path=None, ancestor=self.original, **changes)

    def with_step(self, record: StepRecord, **changes: Any) -> Generator:
        """This generator after one more step; ``changes`` are the fields that it replaced."""
        return self.variant(steps=(*self.steps, record), **changes)

    @torch.no_grad()
    def __call__(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Run the module in PyTorch.

        Args:
            inputs: a float32 tensor for each input of the signature.

        Returns:
            The images, ``(N, C, H, W)``, float32.
        """
        assert self.module is not None, "only a generator with a module runs in PyTorch"
        return run_module(self.module, self.signature, inputs)


def run_module(module: nn.Module, signature: Signature, inputs: Mapping[str, Tensor]) -> Tensor:
    """Call ``module`` with the signature's inputs, in its own type; images come back float32."""
    dtype = next((p.dtype for p in module.parameters()), torch.float32)
    # Copies: some networks write into what they are given.
    images = module(*(inputs[spec.name].to(dtype, copy=True) for spec in signature.inputs))
    if isinstance(images, tuple | list):
        images = images[0]
    assert isinstance(images, Tensor)
    return images.float()


def check_finite(module: nn.Module) -> None:
    """Raise UserError if a weight is NaN or infinite, naming the tensor."""
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            bad = int((~torch.isfinite(tensor)).sum())
            raise UserError(
                f"{bad} of the {tensor.numel()} weights in {name!r} are NaN or infinite",
                hint="use weights from a sound checkpoint",
            )
