"""``--input`` on a file: the usual sizes of its free sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from genslim.errors import UserError
from genslim.signature import BATCH, Signature
from genslim.sources.weights import parse_shape


def sized(signature: Signature, asked: Sequence[str], what: str) -> Signature:
    """The signature with the sizes of free sides that ``--input`` names.

    Args:
        signature: of a file.
        asked: ``[NAME:]SHAPE`` each; without names in the order of the inputs.
        what: the file, for messages.

    Raises:
        UserError: there is no such input, or it is not of such a shape.
    """
    sizes: dict[str, int] = {}
    for index, text in enumerate(asked):
        name, colon, shape = text.rpartition(":")
        matching = [s for s in signature.inputs if s.name == name]
        if not colon:
            matching = list(signature.inputs[index : index + 1])
        if not matching:
            raise UserError(
                f"{what} has no input for {text!r}",
                hint="its inputs are " + ", ".join(s.name for s in signature.inputs),
            )
        (spec,), sides = matching, parse_shape(shape)
        wrong = len(sides) != len(spec.shape)
        for side, size in zip(spec.shape, sides, strict=False):
            if isinstance(side, int):
                wrong |= side != size
            elif side != BATCH:
                wrong |= bool(size % spec.multiple_of) or sizes.setdefault(side, size) != size
        if wrong:
            multiple = f", in multiples of {spec.multiple_of}" if spec.multiple_of > 1 else ""
            taken = ", ".join(map(str, spec.shape))
            raise UserError(
                f"input {spec.name!r} of {what} can't be {shape}",
                hint=f"it is ({taken}){multiple}",
            )
    inputs = tuple(
        replace(spec, sizes={**(spec.sizes or {}), **own})
        if (own := {side: n for side, n in sizes.items() if side in spec.shape})
        else spec
        for spec in signature.inputs
    )
    return replace(signature, inputs=inputs)
