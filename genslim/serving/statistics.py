"""What a session has done so far."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Statistics:
    """Counts since a session was opened."""

    requests: int = 0
    """Accepted."""
    failed: int = 0
    """Ended with an exception; those that callers cancelled are not among them."""
    images: int = 0
    """Made."""
    batches: int = 0
    """Run on the device, retries of failed ones among them."""
    most_waiting: int = 0
    """The greatest number of images that ever waited in the queue."""
    busy_seconds: float = 0.0
    """In which the device ran."""
    seconds: float = 0.0
    """From the first request to the end of the last batch."""

    @property
    def mean_batch(self) -> float:
        """Images in a batch."""
        return self.images / self.batches if self.batches else 0.0

    @property
    def images_per_second(self) -> float:
        """From the first request to the end of the last batch, pauses of all callers included."""
        return self.images / self.seconds if self.seconds else 0.0

    @property
    def busy(self) -> float:
        """The share of that time in which the device ran."""
        return self.busy_seconds / self.seconds if self.seconds else 0.0
