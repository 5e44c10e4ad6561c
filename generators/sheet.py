"""A sheet of sample images: many small pictures in one PNG."""

from __future__ import annotations

from math import ceil, sqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor


def write_sheet(images: Tensor, path: Path, *, columns: int | None = None, scale: int = 1) -> None:
    """Lay ``images`` ``(N, 1 or 3, H, W)`` in [-1, 1] out in rows and write a PNG.

    Args:
        images: what to show.
        path: the PNG to write.
        columns: pictures in a row; as square as possible by default.
        scale: each pixel becomes a square of this many pixels.
    """
    pixels = images.detach().add(1).mul(127.5).round().clamp(0, 255).byte()
    write_pixels(pixels.permute(0, 2, 3, 1).numpy(), path, columns=columns, scale=scale)


def write_pixels(
    pixels: NDArray[np.uint8], path: Path, *, columns: int | None = None, scale: int = 1
) -> None:
    """The same of pixels ``(N, H, W, 1, 3 or 4)``."""
    n, h, w, c = pixels.shape
    columns = columns or ceil(sqrt(n))
    rows = ceil(n / columns)
    canvas = np.zeros((rows * h, columns * w, c), dtype=np.uint8)
    for index, picture in enumerate(pixels):
        top, left = index // columns * h, index % columns * w
        canvas[top : top + h, left : left + w] = picture
    image = Image.fromarray(canvas[:, :, 0] if c == 1 else canvas)
    image = image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
    image.save(path, "PNG")
