"""A sweep: how fast each artifact is at other batches and numbers of threads, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from genslim.errors import UserError
from genslim.timing import Samples


@dataclass(frozen=True)
class Sweep:
    """Which settings to measure at: every batch with every number of threads."""

    batches: tuple[int, ...] = ()
    """Empty: the measurement's own."""
    threads: tuple[int, ...] = ()
    """Empty: the measurement's own."""
    rounds: int = 15
    """At each setting."""
    seconds: float = 60.0
    """For all settings together; never less than 5 rounds at each."""

    @classmethod
    def parse(cls, batches: str | None, threads: str | None, *, seconds: float) -> Sweep | None:
        """Read what a command line says, numbers with commas between.

        Returns:
            None where neither is said.

        Raises:
            UserError: not whole numbers from 1 on.
        """
        if batches is None and threads is None:
            return None
        return cls(
            numbers("batches", batches) if batches is not None else (),
            numbers("threads", threads) if threads is not None else (),
            seconds=seconds,
        )


def numbers(flag: str, text: str) -> tuple[int, ...]:
    """Whole numbers from 1 on, each once, in rising order.

    Raises:
        UserError: there is none, or something else.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words or not all(word.isdecimal() and int(word) > 0 for word in words):
        raise UserError(
            f"{flag} {text!r} are no whole numbers from 1 on", hint=f"write --{flag} 1,2,4"
        )
    return tuple(sorted({int(word) for word in words}))


@dataclass(frozen=True)
class Point:
    """One artifact at one setting: samples, or the reason why there are none."""

    artifact: str
    """Its name; ``baseline`` is the original as everything is compared with it."""
    runtime: str
    batch: int
    threads: int
    samples: Samples | None = None
    """Sample ``i`` is of the same round in every point of the same batch and threads."""
    reason: str | None = None
    """Why it could not run."""

    @property
    def images_per_second(self) -> float | None:
        """One batch after the other, at the median latency."""
        return self.samples.throughput(self.batch) if self.samples else None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Point:
        """Rebuild a point."""
        samples = data["samples"]
        return cls(**{**data, "samples": Samples.from_json(samples) if samples else None})
