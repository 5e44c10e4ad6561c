"""The shapes that an engine takes: an optimization profile from the signature and from flags.

An engine is built for a range of shapes of each input, and tuned for one of them: ``min``, ``opt``
and ``max`` in TensorRT's words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from genslim.errors import UserError
from genslim.signature import BATCH, Input, Signature
from genslim.sources.weights import parse_shape
from genslim.target import Target

End = Literal["min", "opt", "max"]
ENDS: tuple[End, ...] = ("min", "opt", "max")
Profile = dict[str, dict[str, list[int]]]
"""``min``, ``opt`` and ``max`` of each input with a free side: ``{"z": {"min": [1, 32], ...}}``."""

LATENT_BATCH_MOST = 64
IMAGE_BATCH_MOST = 4
"""The largest batches, where no other is asked for: of engines, and that a server gathers."""
LONGEST_SIDE = 1024
"""Sides of at least this fit the engine, or of twice the usual size if that is more."""


def profile_of(
    parsed: Mapping[str, tuple[int, ...]],
    signature: Signature,
    asked: Mapping[End, Sequence[str]],
) -> Profile:
    """The range of shapes of each input that is dynamic in the network.

    Where nothing is asked, the usual shape is the signature's at the target's usual batch; the
    greatest batch is 64 for latents and 4 for images; sides go from a quarter of the usual to 1024
    or twice the usual.

    Args:
        parsed: the shape of each input as the parser read it; -1 for a free side.
        signature: says what the free sides are, their usual size and what they are multiples of.
        asked: ``[NAME:]SHAPE`` for each end.

    Raises:
        UserError: a shape that is asked for names no input, has another rank, sides that are fixed
            otherwise or no legal multiple, or the ends are not in order.
    """
    batch = Target().settled(signature).batch
    assert batch is not None
    shapes = {end: read_shapes(asked.get(end, ()), parsed, f"--{end}") for end in ENDS}
    profile: Profile = {}
    for spec in signature.inputs:
        sides = parsed[spec.name]
        wanted = {end: shapes[end].get(spec.name) for end in ENDS}
        for end in ENDS:
            check(spec, sides, wanted[end], f"--{end}")
        if -1 not in sides:
            continue
        ranges = [
            side_range(
                spec,
                axis,
                batch,
                {end: shape[axis] for end, shape in wanted.items() if shape},
                pictured=signature.takes_images,
            )
            if side == -1
            else (side, side, side)
            for axis, side in enumerate(sides)
        ]
        for axis, (least, usual, most) in enumerate(ranges):
            if not least <= usual <= most:
                raise UserError(
                    f"side {axis} of input {spec.name!r} would go from {least} to {most}, "
                    f"tuned for {usual}",
                    hint="name shapes in order: --min, --opt, --max",
                )
        profile[spec.name] = {
            end: list(shape) for end, shape in zip(ENDS, zip(*ranges, strict=True), strict=True)
        }
    return profile


def read_shapes(
    texts: Sequence[str], parsed: Mapping[str, tuple[int, ...]], flag: str
) -> dict[str, tuple[int, ...]]:
    """Shapes by the input that they are for; one without a name is for the first.

    Raises:
        UserError: a shape is none, or names no input.
    """
    found = {}
    for text in texts:
        name, _, shape = text.rpartition(":")
        name = name or next(iter(parsed))
        if name not in parsed:
            raise UserError(
                f"{flag} {text}: no input is called {name!r}",
                hint=f"there are {', '.join(parsed)}",
            )
        found[name] = parse_shape(shape)
    return found


def check(spec: Input, sides: tuple[int, ...], wanted: tuple[int, ...] | None, flag: str) -> None:
    """Raise UserError where an input can't have the shape that is wanted."""
    if wanted is None:
        return
    name = f"{flag} {'x'.join(map(str, wanted))}"
    shown = "x".join(str(s) if p == -1 else str(p) for s, p in zip(spec.shape, sides, strict=True))
    if len(wanted) != len(sides) or any(
        p not in (-1, w) for p, w in zip(sides, wanted, strict=True)
    ):
        raise UserError(f"{name}: input {spec.name!r} is {shown}", hint="fill in its free sides")
    for side, parsed, value in zip(spec.shape, sides, wanted, strict=True):
        if parsed == -1 and side != BATCH and value % spec.multiple_of:
            raise UserError(
                f"{name}: {side} {value} is no multiple of {spec.multiple_of}",
                hint=f"this generator takes sides that are multiples of {spec.multiple_of}",
            )


def side_range(
    spec: Input,
    axis: int,
    usual_batch: int,
    asked: Mapping[End, int] | None = None,
    *,
    pictured: bool | None = None,
) -> tuple[int, int, int]:
    """Least, usual and greatest size of one dynamic dimension.

    What is asked for moves the defaults that it would otherwise cross.

    Args:
        spec: the input.
        axis: which of its dimensions.
        usual_batch: the target's.
        asked: sizes that were asked for.
        pictured: whether the batch is one of pictures; by default as the input itself is. A mask is
            none, and has the batch of its picture.
    """
    asked = asked or {}
    if spec.shape[axis] == BATCH:
        pictured = spec.pictured if pictured is None else pictured
        most = IMAGE_BATCH_MOST if pictured else LATENT_BATCH_MOST
        least, usual, most = 1, usual_batch, max(most, usual_batch)
    else:
        usual, step = spec.concrete(1)[axis], spec.multiple_of
        least = max(step, usual // 4 // step * step)
        most = max(LONGEST_SIDE // step * step, 2 * usual)
    given_least, given_most = asked.get("min"), asked.get("max")
    usual = asked.get("opt", min(max(usual, given_least or usual), given_most or usual))
    least = given_least or min(least, usual)
    most = given_most or max(most, usual)
    return least, usual, most
