"""Operations of ATen as a dispatch mode sees them: their names, and the tensors in and out."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def tensors_in(value: Any) -> list[Tensor]:
    """Every tensor in nested arguments, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, list | tuple):
        return [t for v in value for t in tensors_in(v)]
    if isinstance(value, dict):
        return [t for v in value.values() for t in tensors_in(v)]
    return []


def first_tensor(out: Any) -> Tensor:
    """The main result of an operation."""
    return tensors_in(out)[0]


def short_name(func: Any) -> str:
    """``convolution`` for ``aten.convolution.default``; ``relu`` for ``aten.relu_.default``."""
    name: str = func._schema.name.partition("::")[2]
    return name.removesuffix("_") if name.endswith("_") and not name.startswith("__") else name
