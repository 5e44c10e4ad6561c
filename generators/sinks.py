"""Where images are written: one sheet, or a folder of PNG files written while others are made."""

from __future__ import annotations

import os
import shutil
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from generators.sheet import write_pixels
from genslim.errors import UserError
from genslim.storage import TEMPORARY, write_errors

Pixels = NDArray[np.uint8]
"""``(N, H, W, C)``, 0 to 255."""

WRITERS = 2
"""Threads that write files."""
BATCHES_TO_WRITE = 8
"""How many batches wait to be written at most: beyond that generation waits for the disk."""
LARGEST_SHEET = 2**28
"""Pixels."""


class Sink(ABC):
    """Where images go: ``add`` each batch inside of ``writing()``, then ``finish``."""

    def __init__(self, output: Path, n: int, scale: int) -> None:
        self.output = output
        self.n = n
        self.scale = scale
        self.writing_seconds = 0.0
        self.waited_seconds = 0.0

    @abstractmethod
    def add(self, pixels: Pixels) -> None:
        """Take the next images."""

    @abstractmethod
    def finish(self) -> None:
        """Return when all is written."""

    @contextmanager
    def writing(self) -> Iterator[None]:
        """What is begun in here and not finished leaves nothing behind."""
        with write_errors(self.output.parent):
            self.output.parent.mkdir(parents=True, exist_ok=True)
        yield


class Sheet(Sink):
    """All images in one PNG, as square as possible."""

    def __init__(self, output: Path, n: int, scale: int) -> None:
        super().__init__(output, n, scale)
        if output.is_dir():
            raise UserError(f"{output} is a folder", hint="name a file, or a folder without .png")
        self._kept: list[Pixels] = []

    def add(self, pixels: Pixels) -> None:
        """Keep them; a sheet that would be too large is refused at once."""
        if (whole := self.n * pixels[0, ..., 0].size * self.scale**2) > LARGEST_SHEET:
            raise UserError(
                f"a sheet of {self.n} images would have {whole:,} pixels",
                hint=f"{LARGEST_SHEET:,} are the most: name a folder instead, -o samples",
            )
        self._kept.append(pixels)

    def finish(self) -> None:
        """Write it."""
        started = time.monotonic()
        staging = self.output.with_name(f"{TEMPORARY}{os.getpid()}-{self.output.name}")
        with write_errors(self.output.parent):
            try:
                write_pixels(np.concatenate(self._kept), staging, scale=self.scale)
                staging.replace(self.output)
            finally:
                staging.unlink(missing_ok=True)
        self.writing_seconds = self.waited_seconds = time.monotonic() - started


class Folder(Sink):
    """A PNG an image, written by threads of their own while the next images are made."""

    def __init__(self, output: Path, n: int, scale: int) -> None:
        super().__init__(output, n, scale)
        if output.suffix and not output.is_dir():
            raise UserError(
                f"{output} is neither a folder nor a sheet",
                hint="name a file that ends in .png, or a folder without a suffix",
            )
        if output.exists() and (not output.is_dir() or any(output.iterdir())):
            raise UserError(f"{output} is there already", hint="name another folder with -o")
        self._staging = output.with_name(f"{TEMPORARY}{output.name}-{os.getpid()}")
        self._digits = max(5, len(str(n - 1)))
        self._added = 0
        self._written: deque[Future[float]] = deque()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Write beside the folder, and rename what is whole."""
        with super().writing(), ThreadPoolExecutor(WRITERS, "genslim-writes") as self._writers:
            try:
                with write_errors(self.output.parent):
                    self._staging.mkdir()
                yield
            finally:
                self._writers.shutdown(cancel_futures=True)
                shutil.rmtree(self._staging, ignore_errors=True)

    def add(self, pixels: Pixels) -> None:
        """Let a thread write them; wait where too many are to be written already."""
        if len(self._written) >= BATCHES_TO_WRITE:
            self._wait_for_one()
        self._written.append(self._writers.submit(self._write, self._added, pixels))
        self._added += len(pixels)

    def finish(self) -> None:
        """Wait for the rest, and give the folder its name."""
        while self._written:
            self._wait_for_one()
        with write_errors(self.output.parent):
            if self.output.is_dir():  # it is empty
                self.output.rmdir()
            self._staging.rename(self.output)

    def _wait_for_one(self) -> None:
        started = time.monotonic()
        with write_errors(self.output.parent):
            self.writing_seconds += self._written.popleft().result()
        self.waited_seconds += time.monotonic() - started

    def _write(self, first: int, pixels: Pixels) -> float:
        """Write some images, numbered from ``first``; return the seconds it took."""
        started = time.monotonic()
        for number, picture in enumerate(pixels, first):
            image = Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)
            size = (image.width * self.scale, image.height * self.scale)
            enlarged = image.resize(size, Image.Resampling.NEAREST) if self.scale > 1 else image
            enlarged.save(self._staging / f"{number:0{self._digits}d}.png")
        return time.monotonic() - started


def sink_of(output: Path, n: int, scale: int) -> Sink:
    """A sheet where ``output`` ends in ``.png``, otherwise a folder, for ``n`` images.

    Raises:
        UserError: it can't be written there.
    """
    return (Sheet if output.suffix.lower() == ".png" else Folder)(output, n, scale)
