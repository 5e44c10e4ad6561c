"""Swapping layers of a module for others that take their place."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

from torch import nn


def with_swapped(
    module: nn.Module, names: Iterable[str], make: Callable[[Any], nn.Module]
) -> nn.Module:
    """A copy of ``module`` in which ``make`` of each named layer stands in the layer's place."""
    result = copy.deepcopy(module)
    for name in names:
        result.set_submodule(name, make(result.get_submodule(name)), strict=True)
    return result
