"""How long and in what portions a training goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Schedule:
    """What decides, together with the data, what a training ends in.

    Trainings of equal schedules end alike, so that one can go on where another was interrupted.
    """

    epochs: int
    batch_size: int = 64
    """Images a step, of all processes together."""
    seed: int = 0
    """Of the order of the data."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Everything else that was chosen, as text: the recipe's options, the weights begun with."""
