"""Calibration inputs, and what activations look like on them: kept, and used again by content.

A second quantization of the same network on the same inputs finds its histograms in the cache,
whatever else is asked of it. What is kept is named by a hash of what it was made from, so that
nothing stale is ever read.
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from compress.quantization.pairs import Pairs
from compress.quantization.placement import Batches
from compress.quantization.ranges import Histogram, histograms
from genslim.inputs import Inputs
from genslim.onnx_model import fixed_sides
from genslim.signature import BATCH, Signature

BATCHES = 4
"""Batches that ranges are read on."""
KEPT = 64
"""Files in the cache at most; those that were used longest ago go first."""


def calibration(
    signature: Signature, seed: int, graph: bytes | None = None
) -> list[Mapping[str, Any]]:
    """The calibration inputs of a generator: images hold many positions, a latent makes one.

    Where a graph is given that takes batches of one size alone, they are of that size, and more.
    """
    stream = Inputs(signature, "calibration", seed)
    size = 4 if signature.takes_images else 128
    count = BATCHES
    if graph is not None and (fixed := fixed_sides(graph, signature).get(BATCH)):
        size, count = fixed, BATCHES * -(-size // fixed)
    return [
        {name: tensor.numpy() for name, tensor in stream.draw(size).items()} for _ in range(count)
    ]


def histograms_of(pairs: Pairs, batches: Batches) -> dict[str, Histogram]:
    """The histograms of a graph's activations, out of the cache where they were made before."""
    place = folder() / f"{key(pairs, batches)}.npz"
    with suppress(OSError, ValueError, KeyError, EOFError):  # a damaged file is as good as none
        with np.load(place, allow_pickle=False) as kept:
            ends, counts, names = kept["ends"], kept["counts"], kept["names"]
        os.utime(place)
        return {
            str(name): Histogram(float(low), float(high), count)
            for name, (low, high), count in zip(names, ends, counts, strict=True)
        }
    found = histograms(pairs, batches)
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        names=np.array(list(found), dtype=str),
        ends=np.array([(h.low, h.high) for h in found.values()], np.float64).reshape(-1, 2),
        counts=np.array([h.counts for h in found.values()]),
    )
    with suppress(OSError):  # a full or read-only disk costs the next run some seconds, no more
        put(place, buffer.getvalue())
    return found


def key(pairs: Pairs, batches: Batches) -> str:
    """A hash of everything that histograms depend on."""
    hashed = hashlib.sha256(pairs.original)
    for name, tensors in pairs.groups.items():
        hashed.update(repr((name, tensors)).encode())
    for batch in batches:
        for name, array in sorted(batch.items()):
            hashed.update(f"{name} {array.dtype} {array.shape}".encode())
            hashed.update(np.ascontiguousarray(array).tobytes())
    return hashed.hexdigest()


def folder() -> Path:
    """Where the cache is: ``$GENSLIM_CACHE``, or below the user's cache folder."""
    if named := os.environ.get("GENSLIM_CACHE"):
        return Path(named) / "calibration"
    usual = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(usual) / "genslim" / "calibration"


def put(place: Path, content: bytes) -> None:
    """Write a file whole or not at all, and drop the oldest beyond :data:`KEPT`."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=place.parent, delete=False) as file:
        file.write(content)
    Path(file.name).replace(place)
    files = sorted(place.parent.glob("*.npz"), key=lambda file: file.stat().st_mtime)
    for old in files[:-KEPT]:
        old.unlink(missing_ok=True)
