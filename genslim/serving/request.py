"""One caller's request, and how it is made up of what several batches brought."""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from genslim.runtimes import Arrays

Images = NDArray[np.float32]
"""``(N, C, H, W)``, in the value range of the signature."""
Shapes = tuple[tuple[int, ...], ...]
"""Of all inputs in their order, without the batch."""


@dataclass(eq=False)
class Request:
    """What one caller asked for at once, and the future that it waits on."""

    inputs: Arrays
    """An array ``(count, ...)`` for each input, checked, and nobody else's."""
    count: int
    arrived: float
    """``time.monotonic`` when it began to wait, or to wait again for what is left of it."""
    future: Future[Images] = field(default_factory=Future)
    taken: int = 0
    """How many of its images are in batches already."""
    made: int = 0
    images: Images | None = None
    """What was made so far, where it took more than one batch."""

    @property
    def left(self) -> int:
        """How many images still wait for a batch."""
        return self.count - self.taken

    @property
    def shapes(self) -> Shapes:
        """What it must have in common with others to share a batch with them."""
        return tuple(array.shape[1:] for array in self.inputs.values())

    def start(self) -> bool:
        """Mark it as being run; False where its caller cancelled it first."""
        return self.taken > 0 or self.future.set_running_or_notify_cancel()

    def receive(self, start: int, images: Images) -> None:
        """Take in the images from ``start`` on; the last ones complete the future.

        The caller gets memory of its own, whatever it does with it.
        """
        if self.future.done():  # an earlier part failed
            return
        self.made += len(images)
        if len(images) == self.count:
            self.images = images.copy()
        else:
            if self.images is None:
                self.images = np.empty((self.count, *images.shape[1:]), images.dtype)
            self.images[start : start + len(images)] = images
        if self.made == self.count:
            self.complete(self.images)

    def complete(self, outcome: Images | BaseException) -> None:
        """Give the caller its images, or what went wrong; it may have happened already."""
        if self.future.done():
            return
        # A callback that the caller added runs in here. Its Exceptions are logged by the future; a
        # SystemExit would end the thread that all callers depend on.
        with suppress(BaseException):
            if isinstance(outcome, BaseException):
                self.future.set_exception(outcome)
            else:
                self.future.set_result(outcome)


@dataclass(frozen=True)
class Part:
    """Some of a request's images, all in one batch."""

    request: Request
    start: int
    count: int

    @property
    def inputs(self) -> dict[str, NDArray[np.float32]]:
        """The inputs of these images."""
        stop = self.start + self.count
        return {name: array[self.start : stop] for name, array in self.request.inputs.items()}
