"""Weights that are computed anew at each run from other weights, computed once and for all.

Weight norm and spectral norm rebuild a layer's weight in every forward pass; reparametrised layers
(RepVGG, Ding et al. 2021, arXiv 2101.03697) merge their branches. For inference the result is all
that counts: with it in place a network is smaller, exports, and can be cut.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, remove_spectral_norm, remove_weight_norm


@torch.no_grad()
def fold(module: nn.Module, run: Callable[[], object] | None = None) -> list[str]:
    """Fold what can be folded, in place.

    Args:
        module: in evaluation mode.
        run: runs it once, where that is possible: shows layers that are given weights by code.

    Returns:
        The names of the layers that are now plain.
    """
    folded = fold_norms(module)
    if run is not None:
        folded += fold_branches(module, run)
    return folded


def fold_norms(module: nn.Module) -> list[str]:
    """Fold parametrisations, and the hooks that preceded them in PyTorch."""
    folded = []
    for name, layer in list(module.named_modules()):
        if parametrize.is_parametrized(layer):
            for tensor, parts in list(layer.parametrizations.items()):
                learned = any(True for _ in parts.parameters())
                parametrize.remove_parametrizations(layer, tensor, leave_parametrized=True)
                if learned:
                    make_parameter(layer, tensor)
            folded.append(name)
            continue
        for remove in (remove_spectral_norm, remove_weight_norm):
            if layer._forward_pre_hooks:
                with warnings.catch_warnings():  # both are deprecated; checkpoints are not
                    warnings.simplefilter("ignore")
                    try:
                        remove(layer)
                    except ValueError:  # has no such norm
                        continue
                folded.append(name)
    return folded


def make_parameter(layer: nn.Module, name: str) -> None:
    """Let a layer hold a tensor as a parameter: one computed of several is left as a buffer."""
    if name not in layer._parameters:
        value = getattr(layer, name).detach()
        delattr(layer, name)
        layer.register_parameter(name, nn.Parameter(value))


def fold_branches(module: nn.Module, run: Callable[[], object]) -> list[str]:
    """Put a layer in the place of the module that computes its weights and calls it alone."""
    before = {name: tensor.data_ptr() for name, tensor in module.named_parameters()}
    seen: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def note(layer: nn.Module, args: tuple[object, ...], out: object) -> None:
        if args and isinstance(args[0], Tensor) and isinstance(out, Tensor):
            seen[layer] = (args[0].clone(), out.clone())

    handles = [layer.register_forward_hook(note) for layer in module.modules()]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    after = {name: tensor.data_ptr() for name, tensor in module.named_parameters()}
    changed = {name.rpartition(".")[0] for name in before if before[name] != after[name]}
    folded = []
    for name in sorted(changed):
        place = name.rpartition(".")[0]
        layer = module.get_submodule(name)
        owner = module.get_submodule(place)
        if not place or layer not in seen or owner not in seen:
            continue
        if all(torch.equal(a, b) for a, b in zip(seen[layer], seen[owner], strict=True)):
            module.set_submodule(place, layer, strict=True)
            folded.append(place)
    return folded
