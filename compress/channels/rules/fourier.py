"""What Fourier transforms and complex numbers do to channels.

Fast Fourier convolution (Chi et al., NeurIPS 2020), which LaMa inpaints with, transforms each
channel, lays real and imaginary parts side by side as channels, mixes them and transforms back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from compress.channels.labels import Planes, ids, varying
from compress.channels.rules.reductions import mixed_along
from compress.channels.rules.registry import State, rule


@rule("_fft_r2c", "_fft_c2r", "_fft_c2c")
def transformed(
    state: State, func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any
) -> list[Planes]:
    """Everything along the axes that are transformed hangs on everything."""
    over = [axis % out.ndim for axis in args[1]]
    planes: Planes = []
    for plane in (state.labels.compact(p) for p in state.planes_of(args[0])):
        if set(varying(plane)) <= set(over):
            state.labels.fix(ids(plane), f"is transformed along its channels by {func}")
        else:
            planes.append(mixed_along(state, plane, over, out.shape))
    return [planes]


@rule("view_as_real")
def in_two_parts(
    state: State, func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any
) -> list[Planes]:
    """Both parts of a number go with it."""
    return [[plane.unsqueeze(-1).expand(out.shape) for plane in state.planes_of(args[0])]]


@rule("view_as_complex")
def in_one(
    state: State, func: Any, args: Sequence[Any], kwargs: dict[str, Any], out: Any
) -> list[Planes]:
    """A number goes where either of its parts does."""
    planes: Planes = []
    for plane in state.planes_of(args[0]):
        real, imaginary = plane.unbind(-1)
        state.labels.unite_planes(real, imaginary)
        if varying(whole := state.labels.compact(real)):
            planes.append(whole)
    return [planes]
