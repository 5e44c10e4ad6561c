"""Which module works on what another makes, found by running the network once."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from genslim.generator import Generator, run_module
from genslim.inputs import Inputs

Kind = type[nn.Module] | tuple[type[nn.Module], ...]


class Followers:
    """The leaves of a module as they ran: what went in and what came out.

    Args:
        module: in evaluation mode.
        generator: says how it is called.
        count: inputs of the run.
    """

    @torch.no_grad()
    def __init__(self, module: nn.Module, generator: Generator, count: int = 4) -> None:
        self.module = module
        self.inputs = Inputs(generator.signature, "validation").draw(count)
        self.calls: list[tuple[str, Tensor, Tensor]] = []
        """Kept, so that no tensor's place is used again."""
        handles = [
            leaf.register_forward_hook(lambda _, x, y, name=name: self._note(name, x, y))
            for name, leaf in module.named_modules()
            if not list(leaf.children())
        ]
        try:
            self.images = run_module(module, generator.signature, self.inputs)
        finally:
            for handle in handles:
                handle.remove()

    def _note(self, name: str, x: tuple[object, ...], y: object) -> None:
        if x and isinstance(x[0], Tensor) and isinstance(y, Tensor):
            self.calls.append((name, x[0], y))

    def seen(self, name: str) -> list[tuple[Tensor, Tensor]]:
        """What went into a module and what came out, each time that it ran."""
        return [(x, y) for called, x, y in self.calls if called == name]

    def after(self, name: str, kind: Kind) -> str | None:
        """The one module of a kind that works on what ``name`` makes, if no other module does.

        What is not a module may still read it: compare the pictures after a change.
        """
        made = self.seen(name)
        if len(made) != 1:
            return None
        of, found = made[0][1], []
        for called, x, y in self.calls:
            if x is of and called != name:
                found.append(called)
                if y is of:  # done in place: what follows sees another value
                    break
        alone = len(found) == 1 and isinstance(self.module.get_submodule(found[0]), kind)
        return found[0] if alone and len(self.seen(found[0])) == 1 else None


def names_of(module: nn.Module, kind: Kind) -> Iterable[str]:
    """The names of the modules of a kind."""
    return [name for name, layer in module.named_modules() if isinstance(layer, kind)]
