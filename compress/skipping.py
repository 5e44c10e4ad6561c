"""Blocks that are left out, in a network that still runs the same operations as before.

Closed-form recovery knows what is added to a layer's output by the place of an operation in the run
(:mod:`compress.flow`). So while it looks, blocks that are left out run, and what they make is
dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes


class Skipped(nn.Module):
    """Runs a block that takes and gives one tensor of the same shape, and gives its input on."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        """``x``, as it came."""
        with _disable_current_modes():
            own = x.clone()  # the block may write into it
        self.block(own)
        return x


@contextmanager
def skipping(module: nn.Module, original: nn.Module, names: Sequence[str]) -> Iterator[None]:
    """Let identities of ``module`` be skipped blocks of ``original`` for a while."""
    for name in names:
        module.set_submodule(name, Skipped(original.get_submodule(name)), strict=True)
    try:
        yield
    finally:
        for name in names:
            module.set_submodule(name, nn.Identity(), strict=True)
