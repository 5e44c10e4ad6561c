"""Biases that make up for what rounding does to means, layer after layer.

Rounding and clipping move the mean of what a layer makes; its bias moves it back (Nagel et al.
2019, arXiv 1906.04721, section 4.2). Layers are corrected in the order in which they run, each on
what the corrected ones before it give.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from compress.batches import usual_calibration
from compress.hooks import hooked
from genslim.generator import Generator, run_module
from genslim.inputs import Inputs


@torch.no_grad()
def correct_biases(
    student: nn.Module, teacher: Generator, names: Sequence[str], seed: int = 0
) -> None:
    """Move the biases of ``student``'s layers, in place.

    Args:
        student: rounds in its forward pass.
        teacher: the same module, which does not.
        names: of layers that both have.
        seed: of the inputs.
    """
    assert teacher.module is not None
    inputs = Inputs(teacher.signature, "calibration", seed).draw(
        usual_calibration(teacher.signature)
    )
    biased = [n for n in names if getattr(student.get_submodule(n), "bias", None) is not None]
    wanted: dict[str, Tensor] = {}

    def note(name: str, _: tuple[object, ...], out: object) -> None:
        assert isinstance(out, Tensor)
        wanted[name] = means(student.get_submodule(name), out)

    hooked(teacher.module, biased, teacher, inputs, after=note)

    def correct(layer: nn.Module, _: object, out: Tensor, name: str) -> Tensor:
        moved = wanted[name] - means(layer, out)
        assert isinstance(layer.bias, Tensor)
        layer.bias += moved
        return out + (
            moved if isinstance(layer, nn.Linear) else moved.view(-1, *[1] * (out.ndim - 2))
        )

    handles = [
        student.get_submodule(name).register_forward_hook(
            lambda layer, args, out, name=name: correct(layer, args, out, name)
        )
        for name in biased
    ]
    try:
        run_module(student, teacher.signature, inputs)
    finally:
        for handle in handles:
            handle.remove()


def means(layer: nn.Module, out: Tensor) -> Tensor:
    """The mean of each channel that a layer makes, ``(O,)``."""
    axis = out.ndim - 1 if isinstance(layer, nn.Linear) else 1
    return out.movedim(axis, 0).flatten(1).mean(1)
