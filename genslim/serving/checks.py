"""What a caller sends, checked before anybody else's images depend on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from genslim.errors import UserError
from genslim.signature import BATCH, Input, Signature


def checked(
    inputs: Mapping[str, ArrayLike], signature: Signature
) -> tuple[dict[str, NDArray[Any]], int]:
    """Copies of the inputs as the signature has them, and how many images they ask for.

    Args:
        inputs: an array ``(N, ...)`` for each input of the signature, N at least 1. Other types of
            numbers than the signature's are converted where that is usual: float64, integers.
        signature: the generator's.

    Raises:
        UserError: an input is missing, unknown, of another shape or type, NaN or infinite.
    """
    wanted = {spec.name for spec in signature.inputs}
    if not isinstance(inputs, Mapping) or set(inputs) != wanted:
        given = (
            ", ".join(map(str, inputs)) if isinstance(inputs, Mapping) else type(inputs).__name__
        )
        raise UserError(
            f"the inputs are {given or 'none'}; this generator takes {', '.join(sorted(wanted))}",
            hint="name an array for each: "
            + ", ".join(f"{spec.name!r} {shown(spec.shape)}" for spec in signature.inputs),
        )
    sizes: dict[str, int] = {}
    arrays = {spec.name: check(inputs[spec.name], spec, sizes) for spec in signature.inputs}
    return arrays, len(next(iter(arrays.values())))


def check(value: ArrayLike, spec: Input, sizes: dict[str, int]) -> NDArray[Any]:
    """One input as an array of the signature's shape and type, nobody else's memory.

    Args:
        value: what the caller sent.
        spec: what is wanted.
        sizes: of the symbolic dimensions seen so far, by name; new ones are added.

    Raises:
        UserError: it is not what is wanted.
    """
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:  # a ragged list, a tensor on a GPU
        raise UserError(
            f"input {spec.name!r} is no array: {str(error).splitlines()[0][:200]}",
            hint=f"an array {shown(spec.shape)} of {spec.dtype} is wanted",
        ) from error
    if not np.can_cast(array.dtype, spec.dtype, "same_kind"):
        raise UserError(
            f"input {spec.name!r} is of type {array.dtype}", hint=f"{spec.dtype} is wanted"
        )
    if not fits(array.shape, spec, sizes):
        multiple = f", sides in multiples of {spec.multiple_of}" if spec.multiple_of > 1 else ""
        known = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise UserError(
            f"input {spec.name!r} is of shape {shown(array.shape)}",
            hint=f"{shown(spec.shape)} is wanted{multiple}" + (f", {known}" if known else ""),
        )
    with np.errstate(over="ignore"):
        own = np.array(array, dtype=spec.dtype, order="C")
    if not np.isfinite(own).all():
        raise UserError(
            f"input {spec.name!r} holds {int((~np.isfinite(own)).sum())} values that are NaN or "
            f"infinite in {spec.dtype}",
            hint="send finite numbers",
        )
    return own


def fits(shape: tuple[int, ...], spec: Input, sizes: dict[str, int]) -> bool:
    """Whether a shape is one that ``spec`` allows, beside the sizes known from other inputs.

    Sizes of new symbolic dimensions are added to ``sizes``, where all fits.
    """
    if len(shape) != len(spec.shape) or 0 in shape:
        return False
    found = dict(sizes)
    for side, size in zip(spec.shape, shape, strict=True):
        wanted = side if isinstance(side, int) else found.setdefault(side, size)
        symbolic = isinstance(side, str) and side != BATCH
        if size != wanted or (symbolic and size % spec.multiple_of):
            return False
    sizes.update(found)
    return True


def shown(shape: tuple[int | str, ...]) -> str:
    """A shape for people: ``(batch, 3, height, width)``."""
    return f"({', '.join(map(str, shape))})"
