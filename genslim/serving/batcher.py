"""Micro-batching: requests of many threads are run together, and each gets its own images.

Two threads: one puts batches together and runs them, the other hands images out meanwhile, so that
the device does not wait for callers to be woken.

Own code, because the libraries that do this are servers (Triton, LitServe, mosec), or, inside one
process (batched 0.1.5), have no limit to their queue, drop what waits when they are shut down, and
fail a whole batch for one bad request.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genslim.errors import GenslimError, UserError
from genslim.runtimes import Arrays
from genslim.serving.line import Line
from genslim.serving.request import Images, Part, Request
from genslim.serving.statistics import Statistics

GLANCES = 4
"""How often the arrivals are looked at in the longest wait: it ends when nobody came between."""

Outcome = Images | Exception


class QueueFull(GenslimError):
    """There was no room in the queue for as long as the caller would wait."""


class Batcher:
    """Runs the requests of all threads in batches.

    Args:
        run: takes an array ``(N, ...)`` for each input and returns N images, N up to ``max_batch``;
            called from one thread alone.
        finish: called from that thread when nothing will be run any more.
        max_batch: images in a batch at most.
        max_wait: seconds that a request may wait for others to share its batch with.
        queue_size: a request is accepted while fewer images than this wait, of which a request
            that is larger than a batch counts for one batch.
    """

    def __init__(
        self,
        run: Callable[[Arrays], Images],
        finish: Callable[[], None],
        *,
        max_batch: int,
        max_wait: float,
        queue_size: int,
    ) -> None:
        self._run = run
        self._finish = finish
        self._max_batch = max_batch
        self._max_wait = max_wait
        self._queue_size = queue_size
        # A session that nobody holds is closed by the collection of garbage, in whichever thread.
        self._lock = threading.RLock()
        self._work = threading.Condition(self._lock)
        self._room = threading.Condition(self._lock)
        self._line = Line(max_batch)
        self._closed = False
        self._done: SimpleQueue[list[tuple[Part, Outcome]] | None] = SimpleQueue()
        self._counts = Statistics()
        self._requests = 0
        self._began: float | None = None
        self._threads = [
            threading.Thread(target=work, name=f"genslim-session-{name}", daemon=True)
            for name, work in (("runs", self._run_all), ("hands-out", self._hand_out))
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, inputs: Arrays, count: int, timeout: float | None) -> Future[Images]:
        """Let a request wait for its batch; it waits for room first, ``timeout`` s at most.

        Raises:
            QueueFull: there was no room for so long.
            UserError: the session is closed.
        """
        until = None if timeout is None else time.monotonic() + timeout
        with self._lock:
            while not self._closed and self._line.length >= self._queue_size:
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    raise QueueFull(
                        f"the queue is full: {self._line.images} images wait, and none was taken "
                        f"for {timeout:g} s",
                        hint="ask for less, wait longer, or make the queue larger (queue_size)",
                    )
                self._room.wait(left)
            if self._closed:
                raise UserError("the session is closed", hint="open another: genslim.Session(…)")
            request = Request(inputs, count, time.monotonic())
            before, self._began = self._line.images, self._began or request.arrived
            self._line.add(request)
            self._requests += 1
            # Woken for the first and when a batch is full, and not for each that comes between.
            if not before or before < self._max_batch <= self._line.images:
                self._work.notify()
            if self._line.length < self._queue_size:
                self._room.notify()
        return request.future

    def close(self, *, wait: bool = True) -> None:
        """Accept nothing more, and end.

        Args:
            wait: run all that was accepted, and return when the last caller has its images. False:
                return at once; what waits is cancelled, what is being run comes to its end.
        """
        with self._lock:
            self._closed = True
            dropped = [] if wait else self._line.clear()
            self._work.notify()
            self._room.notify_all()
        for request in dropped:
            if not request.future.cancel():  # some of it has been run
                request.complete(UserError("the session was closed before all images were made"))
        # A callback of a future may close the session: no thread can wait for itself.
        if wait and threading.current_thread() not in self._threads:
            for thread in self._threads:
                thread.join()

    def statistics(self) -> Statistics:
        """What was done so far."""
        with self._lock:
            return replace(self._counts, requests=self._requests, most_waiting=self._line.most)

    def reset_statistics(self) -> None:
        """Count anew."""
        with self._lock:
            self._counts, self._requests, self._began = Statistics(), 0, None
            self._line.most = self._line.images

    def _run_all(self) -> None:
        """What the first thread does: batch after batch, until closed and nothing waits.

        Images are handed out once the next batch is about to run, if one is there: the callers
        whom they wake would hold Python's lock while the device waits.
        """
        made: list[tuple[Part, Outcome]] = []
        try:
            while True:
                parts = self._next(wait=not made)
                if parts is None:
                    break
                joined = join(parts) if parts else {}
                if made:
                    self._done.put(made)
                made = self._outcomes(parts, joined) if parts else []
        finally:
            self.close(wait=False)  # nobody shall wait for a thread that is gone
            self._done.put(None)
            self._finish()

    def _next(self, *, wait: bool) -> list[Part] | None:
        """The next batch; None when there will be no more.

        Args:
            wait: for a request, and for others to share its batch. False: an empty batch where
                none is ready.
        """
        with self._lock:
            while wait and not self._line.images and not self._closed:
                self._work.wait()
            if wait and not self._line.images:
                return None
            if self._line.images and not self._gather(wait=wait):
                return []
            # None may be left: cancelled, or dropped when the session was closed meanwhile.
            parts = self._line.take() if self._line.images else []
            self._room.notify()
            return parts

    def _gather(self, *, wait: bool) -> bool:
        """Wait for others that fit into the batch of the first, for as long as some come.

        Returns:
            Whether the batch shall be run now; True after a wait.
        """
        first, seen = self._line.first, 0
        until = first.arrived + self._max_wait
        while not self._closed and seen < (waiting := self._line.beside(first)) < self._max_batch:
            left = until - time.monotonic()
            if left <= 0:
                break
            if not wait:
                return False
            seen = waiting
            self._work.wait(min(left, self._max_wait / GLANCES))
        return True

    def _outcomes(self, parts: list[Part], joined: Arrays) -> list[tuple[Part, Outcome]]:
        """Run a batch; where it fails, run its requests one by one, so that one fails alone."""
        whole = self._attempt(joined)
        outcomes: list[tuple[Part, Outcome]] = []
        if isinstance(whole, Exception):
            for part in parts:
                outcome = whole if len(parts) == 1 else self._attempt(part.inputs)
                if isinstance(outcome, Exception):
                    self._give_up(part.request)
                outcomes.append((part, outcome))
            return outcomes
        start = 0
        for part in parts:
            outcomes.append((part, whole[start : start + part.count]))
            start += part.count
        return outcomes

    def _attempt(self, inputs: Arrays) -> Outcome:
        """Run some inputs; an exception is an outcome too."""
        begun = time.monotonic()
        try:
            outcome: Outcome = self._run(inputs)
        except Exception as error:  # whatever a runtime raises belongs to the callers
            outcome = error
        ended = time.monotonic()
        with self._lock:
            counts = self._counts
            made = 0 if isinstance(outcome, Exception) else len(outcome)
            self._counts = replace(
                counts,
                images=counts.images + made,
                batches=counts.batches + 1,
                busy_seconds=counts.busy_seconds + ended - begun,
                seconds=ended - (self._began or begun),
            )
        return outcome

    def _hand_out(self) -> None:
        """What the second thread does: give callers what they wait for."""
        while (batch := self._done.get()) is not None:
            for part, outcome in batch:
                if isinstance(outcome, Exception):
                    part.request.complete(outcome)
                else:
                    part.request.receive(part.start, outcome)

    def _give_up(self, request: Request) -> None:
        """What is left of a request that failed is not run."""
        with self._lock:
            self._line.drop(request)
            self._counts = replace(self._counts, failed=self._counts.failed + 1)
            self._room.notify()


def join(parts: list[Part]) -> dict[str, NDArray[Any]]:
    """The inputs of all parts, one after another."""
    inputs = [part.inputs for part in parts]
    if len(inputs) == 1:
        return inputs[0]
    return {name: np.concatenate([each[name] for each in inputs]) for name in inputs[0]}
