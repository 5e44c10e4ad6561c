"""A module that gives what some of its inner layers make beside its images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from compress.batches import Batch
from genslim.generator import run_module
from genslim.signature import Signature


class Watched(nn.Module):
    """``module`` with inputs by name, and its images and features as a list of float32 tensors.

    A wrapper rather than hooks on the module itself: what prepares a module for several processes
    or for bf16 takes hold of the wrapper, and the module inside stays as it was.

    Args:
        module: what runs.
        signature: of its inputs and images.
        features: names of modules inside, and which of their channels count; None for all. The
            channels are axis 1 of ``(N, C, H, W)``, and the last of anything else.
    """

    def __init__(
        self,
        module: nn.Module,
        signature: Signature,
        features: Mapping[str, Tensor | None],
    ) -> None:
        super().__init__()
        self.module = module
        self.signature = signature
        self.features = dict(features)

    def forward(self, inputs: Batch) -> list[Tensor]:
        """The images, then each feature in the order of ``features``."""
        found: dict[str, Tensor] = {}
        handles = [
            self.module.get_submodule(name).register_forward_hook(
                lambda _, __, made, name=name: keep(found, name, made)
            )
            for name in self.features
        ]
        try:
            images = run_module(self.module, self.signature, inputs)
        finally:
            for handle in handles:
                handle.remove()
        return [images, *(chosen(found[name], index) for name, index in self.features.items())]


def keep(found: dict[str, Tensor], name: str, made: Any) -> None:
    """Put what a module made down; returns nothing, so that the hook changes nothing."""
    found[name] = made[0] if isinstance(made, tuple | list) else made


def chosen(feature: Tensor, index: Tensor | None) -> Tensor:
    """The channels of a feature that count, float32."""
    if index is not None:
        axis = 1 if feature.ndim == 4 else -1
        feature = feature.index_select(axis, index.to(feature.device))
    return feature.float()
