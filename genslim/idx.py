"""IDX files: arrays of bytes behind a short header, as MNIST and its kind come, gzipped or not."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np

from genslim.errors import UserError

LABELS, IMAGES = 0x801, 0x803
"""Magic numbers: unsigned bytes with one dimension, and with three."""


def read_idx(path: Path, magic: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """The array of one IDX file: big-endian magic number and sizes, then unsigned bytes.

    Raises:
        UserError: it can't be read, has another magic number, or is cut short.
    """
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"can't read {path}: {error}", hint="fetch the file again") from error
    dims = magic & 0xFF
    beginning = raw[: 4 + 4 * dims]
    header = np.frombuffer(beginning[: len(beginning) // 4 * 4], dtype=">u4")
    if len(header) != 1 + dims or header[0] != magic:
        raise UserError(f"{path} is not the IDX file its name promises", hint="fetch it again")
    shape = tuple(int(side) for side in header[1:])
    body = np.frombuffer(raw, dtype=np.uint8, offset=4 + 4 * dims)
    if body.size != np.prod(shape):
        raise UserError(
            f"{path} is cut short: {body.size} bytes of {np.prod(shape)}", hint="fetch it again"
        )
    return body.reshape(shape)
