"""Interruptions that wait: Ctrl-C and SIGTERM reach a program when it has put its work away."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """What came while signals wait."""

    def __init__(self) -> None:
        self.number = 0
        """The signal that waits; 0 for none."""
        self._before = {number: signal.getsignal(number) for number in SIGNALS}

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """The handler: the first signal waits; one who asks twice does not want to."""
        if self.number:
            self.deliver(number)
        self.number = number

    def deliver(self, number: int) -> None:
        """Let the signal do what it would have done at once; returns where that is nothing."""
        self.release()
        signal.raise_signal(number)
        self.number = 0
        self.hold()

    def hold(self) -> None:
        """Make signals wait that anyone listens to."""
        for number, before in self._before.items():
            if before not in (signal.SIG_IGN, None):
                signal.signal(number, self)

    def release(self) -> None:
        """Put the handlers back that were there."""
        for number, before in self._before.items():
            if before is not None:
                signal.signal(number, before)


@contextmanager
def held() -> Iterator[Interruption]:
    """Let signals wait inside: ask for ``number`` now and then, and ``deliver`` it.

    Outside of the main thread, which alone gets signals, nothing waits.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    interruption.hold()
    try:
        yield interruption
    finally:
        interruption.release()
