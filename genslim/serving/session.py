"""``genslim.Session``: one generator on one device, for many callers at once.

A session of a runtime (:mod:`genslim.runtimes.base`) runs one batch for one caller; this one is
shared by all threads of a program, and puts their requests together into batches.
"""

from __future__ import annotations

import math
import weakref
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from genslim.errors import UserError
from genslim.generator import Generator
from genslim.inputs import Inputs, Purpose
from genslim.loading import load
from genslim.runtimes import Execution
from genslim.serving.batcher import Batcher
from genslim.serving.checks import checked
from genslim.serving.device import Device
from genslim.serving.request import Images
from genslim.serving.statistics import Statistics
from genslim.signature import Holes, Prior, Signature
from genslim.target import Device as Place
from genslim.target import Precision, Target

MAX_BATCH = 32
"""Images in a batch at most, unless told otherwise."""
GPU_WAIT = 0.002
"""Seconds that a request may wait for others on a GPU, unless told otherwise."""
BATCHES_WAITING = 8
"""How many full batches wait in the queue at most, unless told otherwise."""
DRAWN_AT_ONCE = 64
"""Inputs of a stream come from the prior in such portions, whatever the batch."""


class Session:
    """A generator that many threads use at once: their requests are run together, in batches.

        with genslim.Session("dcgan-mnist", runtime="openvino", threads=2) as session:
            images = session.generate({"z": latents})

    Every caller gets the images of its own inputs, in their order. A batch is run when it is full,
    when its first request has waited for ``max_wait``, or when for a quarter of that nobody new
    came; while the device is busy, requests gather without any wait. Requests share a batch where
    their shapes are equal but for the number of images; one that is larger than a batch takes
    several, and turns with the others.

    What a caller does harms no other. Inputs of the wrong names, shapes, types or values are
    refused before they wait. Where a batch fails, or an image is not finite, its requests are run
    one by one, and only the culprit's future holds the exception. Cancelled futures are not run.

    All methods may be called from any thread.

    Args:
        source: a :class:`~genslim.Generator`, or whatever :func:`genslim.load` opens: a built-in
            name, weights, an exported file, an artifact or run folder. None: the newest run's
            newest artifact.
        runtime: ``openvino``, ``onnxruntime``, ``torch`` or ``tensorrt``.
        device: ``cpu``, or ``cuda``: the first NVIDIA GPU.
        threads: of the CPU that a batch is computed with. None: all that the process may use.
        precision: what floating-point layers are computed in: ``auto``, ``fp32`` or ``bf16``.
        max_batch: images in a batch at most. Graphs that take one batch alone are filled up to it.
        max_wait: seconds that a request may wait for others while the device has nothing to do, 0
            or more. None: 0 on a CPU, where two images take nearly twice as long as one, so that
            waiting loses (2 busy cores, 16 callers of the DCGAN: 1944 images per second with 0, in
            batches of 8, and 1321 with 0.002, in batches of 16); 0.002 on a GPU, not measured.
        queue_size: requests are accepted while fewer images than this wait; the others' callers
            wait for room. A request larger than a batch counts for one batch, as that is what it
            holds others up for. None: eight full batches.
        images: a folder of images that :meth:`stream` draws from, for generators that take images.
        input: ``[NAME:]SHAPE`` of inputs that can't be told from the source.
        weights: a file of weights for a factory's module.

    Raises:
        UserError: there is no such source, or a setting is out of its range.
        MissingDependency: the runtime can't be used on this machine.
        GenslimError: it can't run this generator.
    """

    def __init__(
        self,
        source: str | Path | Generator | None = None,
        *,
        runtime: str = "openvino",
        device: Place = "cpu",
        threads: int | None = None,
        precision: Precision = "auto",
        max_batch: int = MAX_BATCH,
        max_wait: float | None = None,
        queue_size: int | None = None,
        images: str | Path | None = None,
        input: str | tuple[str, ...] = (),  # noqa: A002  the word of the command line
        weights: str | Path | None = None,
    ) -> None:
        if max_wait is None:
            max_wait = GPU_WAIT if device == "cuda" else 0.0
        limits = {"max_batch": max_batch, "threads": threads, "queue_size": queue_size}
        choices = {"device": (device, Place), "precision": (precision, Precision)}
        check_settings(limits, max_wait, choices)
        generator = (
            source
            if isinstance(source, Generator)
            else load(source, images=images, input=input, weights=weights)
        )
        self.signature = generator.signature
        """What goes in and what comes out."""
        target = Target(runtime, max_batch, threads, precision, device)
        self.target = target.settled(self.signature)
        """Where it runs; its batch is ``max_batch``."""
        opened = Device(generator, self.target)
        self.execution: Execution = opened.execution
        """What really executes: the runtime, its version, backend, precision and threads."""
        self._batcher = Batcher(
            opened.run,
            opened.close,
            max_batch=max_batch,
            max_wait=max_wait,
            queue_size=queue_size or BATCHES_WAITING * max_batch,
        )
        # Whoever forgets to close it, or leaves the program, loses nothing that was accepted.
        self._closing = weakref.finalize(self, self._batcher.close)
        try:
            self._warm_up(max_batch)
        except BaseException:
            self.close(wait=False)
            raise

    def _warm_up(self, max_batch: int) -> None:
        """Run a full batch and a single image, for which runtimes prepare when they first come."""
        anything = replace(
            self.signature,
            inputs=tuple(
                spec
                if isinstance(spec.draw, Prior | Holes)
                else replace(spec, draw=Prior("uniform"))  # instead of a folder's images
                for spec in self.signature.inputs
            ),
        )
        stream = Inputs(anything, "timing")
        for count in dict.fromkeys((max_batch, 1)):
            self.generate(numpy_of(stream, count))
        self._batcher.reset_statistics()

    def generate(self, inputs: Mapping[str, ArrayLike], *, timeout: float | None = None) -> Images:
        """Make the images of some inputs, and wait for them.

        Args:
            inputs: an array ``(N, ...)`` for each input of the signature, N at least 1.
            timeout: the longest wait for room in the queue, in seconds; None waits as long as it
                takes.

        Returns:
            The images ``(N, C, H, W)``, float32 in the value range of the signature, in memory of
            the caller's own.

        Raises:
            UserError: the inputs are not what the signature says, or the session is closed.
            QueueFull: there was no room for ``timeout`` seconds.
            GenslimError: the runtime fails on these inputs, or an image of them is not finite.
            CancelledError: the session was closed without waiting.
        """
        future = self.submit(inputs, timeout=timeout)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # Ctrl-C: nobody waits any more
            raise

    def submit(
        self, inputs: Mapping[str, ArrayLike], *, timeout: float | None = None
    ) -> Future[Images]:
        """Let a request wait for its batch, and return at once.

        Where the queue is full, wait for room first: callers are held back to what the device can
        do. In a coroutine, which must not be held back so, either of

            await asyncio.wrap_future(session.submit(inputs, timeout=0))  # QueueFull: later, or no
            await asyncio.to_thread(session.generate, inputs)

        Args:
            inputs: as of :meth:`generate`; copied, so that the arrays may be used again.
            timeout: the longest wait for room in seconds, 0 for none; None waits as long as it
                takes.

        Returns:
            A future of what :meth:`generate` returns, or of its exception. It can be cancelled for
            as long as it waits. Callbacks that are added to it run in the thread that hands images
            out, so they must be short.

        Raises:
            UserError: the inputs are not what the signature says, or the session is closed.
            QueueFull: there was no room for ``timeout`` seconds.
        """
        arrays, count = checked(inputs, self.signature)
        return self._batcher.submit(arrays, count, timeout)

    def stream(
        self,
        inputs: int | Mapping[str, ArrayLike],
        *,
        batch: int | None = None,
        ahead: int = 2,
        seed: int = 0,
    ) -> Iterator[Images]:
        """Make images batch after batch, while the caller is busy with those before.

        Args:
            inputs: arrays as of :meth:`generate`, or how many to draw as the signature says:
                from a prior, or from the folder of images.
            batch: images in each batch; the last may be smaller. None: ``max_batch``.
            ahead: batches that are computed or wait beyond the one that the caller has, at most.
            seed: of inputs that are drawn. An input depends on the seed and its number alone,
                whatever the batch and however many.

        Returns:
            Batches of images ``(batch, C, H, W)``, in order. Closing the iterator cancels what was
            not made yet.

        Raises:
            UserError: the inputs are not what the signature says, or a number is below 1.
        """
        batch = self.target.batch or MAX_BATCH if batch is None else batch
        check_settings({"batch": batch, "ahead": ahead}, 0.0, {})
        if isinstance(inputs, int):
            check_settings({"inputs": inputs}, 0.0, {})
            portions = drawn(self.signature, inputs, batch, seed)
        else:
            portions = sliced(*checked(inputs, self.signature), batch)
        return self._images_of(portions, ahead)

    def _images_of(self, portions: Iterator[dict[str, Any]], ahead: int) -> Iterator[Images]:
        waiting: deque[Future[Images]] = deque()
        try:
            for portion in portions:
                waiting.append(self.submit(portion))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    @property
    def statistics(self) -> Statistics:
        """What was done since the session was opened."""
        return self._batcher.statistics()

    def close(self, *, wait: bool = True) -> None:
        """Accept nothing more. Closing again does nothing.

        Args:
            wait: make all that was accepted, and return when every caller has its images. False:
                return at once; futures of what waits are cancelled, and a request that some images
                were made of already ends with a UserError. The batch that is being run is finished.
        """
        self._closing.detach()
        self._batcher.close(wait=wait)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close: after an exception without waiting, as nobody will ask for the rest."""
        self.close(wait=kind is None)


def check_settings(
    counts: Mapping[str, int | None],
    max_wait: float,
    choices: Mapping[str, tuple[str, Any]],
) -> None:
    """Raise UserError where a count is below 1, a wait negative, or a choice none of its type."""
    for name, count in counts.items():
        if count is not None and (not isinstance(count, int) or count < 1):
            raise UserError(f"{name} is {count}", hint="it is a whole number of 1 or more")
    if not 0 <= max_wait < math.inf:
        raise UserError(f"max_wait is {max_wait}", hint="it is a number of seconds, 0 or more")
    for name, (choice, choices_of_it) in choices.items():
        if choice not in get_args(choices_of_it):
            raise UserError(
                f"{name} is {choice!r}", hint="there are " + ", ".join(get_args(choices_of_it))
            )


def drawn(
    signature: Signature, count: int, batch: int, seed: int, purpose: Purpose = "quality"
) -> Iterator[dict[str, NDArray[Any]]]:
    """``count`` inputs in portions of ``batch``, each the same whatever the batch."""
    stream = Inputs(signature, purpose, seed)
    held = numpy_of(stream, DRAWN_AT_ONCE)
    for start in range(0, count, batch):
        size = min(batch, count - start)
        while len(next(iter(held.values()))) < size:
            more = numpy_of(stream, DRAWN_AT_ONCE)
            held = {name: np.concatenate([array, more[name]]) for name, array in held.items()}
        yield {name: array[:size] for name, array in held.items()}
        held = {name: array[size:] for name, array in held.items()}


def sliced(
    inputs: Mapping[str, NDArray[Any]], count: int, batch: int
) -> Iterator[dict[str, NDArray[Any]]]:
    """``inputs`` in portions of ``batch``."""
    for start in range(0, count, batch):
        yield {name: array[start : start + batch] for name, array in inputs.items()}


def numpy_of(stream: Inputs, count: int) -> dict[str, NDArray[Any]]:
    """The next inputs of a stream as arrays."""
    return {name: tensor.numpy() for name, tensor in stream.draw(count).items()}
