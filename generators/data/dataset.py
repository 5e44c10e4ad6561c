"""What the one training loop asks of a data set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor


class Dataset(Protocol):
    """Images to train on or to judge by."""

    @property
    def facts(self) -> dict[str, str]:
        """What a recipe says of the data: ``name``, and the ``sha256`` of what was read."""

    def __len__(self) -> int:
        """How many examples an epoch has."""

    def batches(self, size: int, random: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch in a new order, in batches of ``size``; a shorter rest is left out.

        Yields:
            images ``(size, C, H, W)``, float32, in the data set's own range, and labels
            ``(size,)``, int64; 0 where there are no classes.
        """
