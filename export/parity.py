"""Parity: does the exported file make the pictures that the generator makes?

Both run on the same inputs, drawn for this purpose alone, on three shapes or more: several batch
sizes and, where height and width are free, a second size. What was baked in by accident shows.
"""

from __future__ import annotations

import copy
import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from genslim.errors import GenslimError
from genslim.generator import Generator
from genslim.inputs import Inputs
from genslim.metrics import SSIM_WINDOW, compare
from genslim.runtimes import Session, runtime
from genslim.signature import BATCH, Signature
from genslim.target import Target

LATENT_BATCHES = (1, 3, 16)
IMAGE_BATCHES = (1, 2)
FIXED_BATCH = 3
"""Of images whose sides are fixed: the third shape to try."""


@dataclass(frozen=True)
class Comparison:
    """The differences on inputs of one shape. Errors are parts of the value range: 0.01 is 1 %."""

    inputs: dict[str, list[int]]
    """The shape of each input."""
    max_error: float | None
    """None: an output is NaN or infinite, or has another shape."""
    mean_error: float | None
    ssim: float | None
    """The worst image's. None: as with ``max_error``, or images of less than 11 pixels a side."""
    problem: str | None = None
    """What is wrong beyond a difference."""


@dataclass(frozen=True)
class Parity:
    """How the exported file compares with its reference."""

    reference: str
    """What it was compared with: ``torch fp32`` or ``onnxruntime int8+fp32``."""
    executed: str
    """What ran the exported file: ``openvino fp32``."""
    data_range: float
    comparisons: tuple[Comparison, ...]

    @property
    def max_error(self) -> float:
        """The largest error, as a part of the value range; infinite where there is a problem."""
        found = [math.inf if c.max_error is None else c.max_error for c in self.comparisons]
        return max(found)

    @property
    def ssim(self) -> float | None:
        """The worst image's SSIM, where SSIM is defined."""
        found = [c.ssim for c in self.comparisons if c.ssim is not None]
        return min(found, default=None)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        largest = self.max_error
        return {
            **asdict(self),
            "comparisons": [asdict(c) for c in self.comparisons],
            "max_error": largest if math.isfinite(largest) else None,
            "ssim": self.ssim,
        }


def measure(reference: Generator, exported: Generator, on: str) -> Parity:
    """Run both on the same inputs and compare.

    Args:
        reference: its module runs in PyTorch as fp32, its graph on ONNX Runtime.
        exported: what was exported; the sizes to try are those of its signature.
        on: the runtime that runs ``exported``.

    Raises:
        UserError: inputs can't be drawn (images, and no folder named).
        GenslimError: a runtime refuses one of them.
    """
    target = untimed(on, reference.signature)
    with (
        open_reference(reference) as expected,
        runtime(on).open(exported, target) as session,
    ):
        found = [
            compare_on(
                signature,
                batch,
                expected,
                session,
                optional=signature is not exported.signature,
            )
            for signature, batch in shapes(exported.signature)
        ]
        return Parity(
            str(expected.execution),
            str(session.execution),
            reference.signature.data_range,
            tuple(comparison for comparison in found if comparison is not None),
        )


def open_reference(generator: Generator) -> Session:
    """A session of the generator as it was before the export: the module in fp32, or the graph."""
    if generator.onnx is None:
        assert generator.module is not None
        if generator.dtype != torch.float32:
            generator = replace(generator, module=copy.deepcopy(generator.module).float())
        name = "torch"
    else:
        name = "onnxruntime"
    return runtime(name).open(generator, untimed(name, generator.signature))


def untimed(name: str, signature: Signature) -> Target:
    """A target on as many threads as PyTorch has, which OMP_NUM_THREADS may have limited."""
    return Target(name, threads=torch.get_num_threads()).settled(signature)


def compare_on(
    signature: Signature, batch: int, expected: Session, session: Session, *, optional: bool
) -> Comparison | None:
    """Compare on ``batch`` inputs of the signature's usual sizes.

    None where the shape is ``optional`` and the generator itself does not take it, or no image is
    as large.
    """
    name = signature.images.name
    try:
        drawn = {n: t.numpy() for n, t in Inputs(signature, "parity").draw(batch).items()}
        want = torch.from_numpy(expected.run(drawn)[name])
    except Exception:  # whatever the generator's own code raises about a size
        if optional:
            return None
        raise
    shape = {name: list(array.shape) for name, array in drawn.items()}
    try:
        got = torch.from_numpy(np.array(session.run(drawn)[name], np.float32))
    except Exception as error:  # runtimes raise what they like where a shape was baked in
        line = str(error).strip().splitlines()[-1][:160]
        return Comparison(shape, None, None, None, f"it does not run: {line}")
    if got.shape != want.shape:
        return Comparison(
            shape, None, None, None, f"shape {list(got.shape)}, not {list(want.shape)}"
        )
    if not bool(torch.isfinite(got).all()):
        return Comparison(shape, None, None, None, "outputs are NaN or infinite")
    if not bool(torch.isfinite(want).all()):
        raise GenslimError("the generator itself makes NaN or infinity", hint="use sound weights")
    difference = (got - want).abs() / signature.data_range
    ssim = None
    if min(want.shape[2:]) >= SSIM_WINDOW:
        ssim = min(compare(got, want, data_range=signature.data_range).ssim)
    return Comparison(shape, float(difference.max()), float(difference.mean()), ssim)


def shapes(signature: Signature) -> list[tuple[Signature, int]]:
    """Signatures with the sizes to try, and the batch to try each at: three or more."""
    images = signature.takes_images
    tried = [(signature, batch) for batch in (IMAGE_BATCHES if images else LATENT_BATCHES)]
    other = other_sizes(signature)
    if other:
        if len(other) > 1:  # keep one: with unlike sides, mixing them up shows
            del other[next(iter(other))]
        inputs = tuple(
            replace(spec, sizes={**(spec.sizes or {}), **other}) for spec in signature.inputs
        )
        tried.append((replace(signature, inputs=inputs), 1))
    elif images:
        tried.append((signature, FIXED_BATCH))
    return tried


def other_sizes(signature: Signature) -> dict[str, int]:
    """Another size of each free side that is legal: about three quarters of the usual one."""
    steps: dict[str, int] = {}
    usual: dict[str, int] = {}
    for spec in signature.inputs:
        for side, size in (spec.sizes or {}).items():
            if side in spec.shape and side != BATCH:
                steps[side] = math.lcm(steps.get(side, 1), spec.multiple_of)
                usual[side] = size
    other = {}
    for side, step in steps.items():
        smaller = max(step, usual[side] * 3 // 4 // step * step)
        other[side] = smaller if smaller < usual[side] else usual[side] + step
    return other
