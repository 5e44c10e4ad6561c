"""One run of a network, and what some of its modules see of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn

from genslim.generator import Generator, run_module


def hooked(
    module: nn.Module,
    names: Sequence[str],
    generator: Generator,
    inputs: Mapping[str, Tensor],
    *,
    before: Callable[[str, tuple[object, ...]], None] | None = None,
    after: Callable[[str, tuple[object, ...], object], None] | None = None,
) -> None:
    """Run ``module`` once, telling what goes into some modules and what comes out.

    Args:
        module: in evaluation mode.
        names: of the modules to look at.
        generator: says how the module is called.
        inputs: of the run.
        before: told a module's name and its arguments.
        after: told its result as well.
    """
    handles = []
    for name in names:
        layer = module.get_submodule(name)
        if before is not None:
            handles.append(
                layer.register_forward_pre_hook(lambda _, args, name=name: before(name, args))
            )
        if after is not None:
            handles.append(
                layer.register_forward_hook(lambda _, args, out, name=name: after(name, args, out))
            )
    try:
        run_module(module, generator.signature, inputs)
    finally:
        for handle in handles:
            handle.remove()
