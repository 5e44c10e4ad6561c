"""What a student learns from: inputs, and what the original makes of them, used a few times each.

The original is much slower than the student, so its images are kept and used again, far apart:
more steps in the same time. Used at once, so few images at a time would be learned by heart.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from compress.batches import Batch
from genslim.inputs import Inputs, stream_seed

USES = 3
"""How often each of the original's images is learned from, on average."""
BLOCK = 8, 32
"""Batches that the original makes images for at a time, and inputs, at least."""
MOST_BYTES = 2**28
"""Of inputs and images that are kept; the oldest go first."""


class Pool:
    """Batches drawn at random from all that the original made so far.

    Two pools made alike give the same batches in the same order.

    Args:
        teacher: inputs in, its images and features out; a batch at a time.
        inputs: where inputs come from.
        batch_size: inputs a batch.
        device: where everything is kept.
    """

    def __init__(
        self,
        teacher: Callable[[Batch], list[Tensor]],
        inputs: Inputs,
        batch_size: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self.teacher = teacher
        self.inputs = inputs
        self.batch_size = batch_size
        self.block: int = max(BLOCK[0], BLOCK[1] // batch_size)
        """Batches that the teacher makes images for at a time."""
        self.device = torch.device(device)
        self._random = torch.Generator().manual_seed(stream_seed("pool", inputs.seed))
        self._given = 0
        self._blocks = 0
        self._slots = 0
        self._names: list[str] = []
        self._kept: list[Tensor] = []
        """Inputs by ``_names``, then what the teacher made of them: a ring of blocks."""

    def next(self) -> tuple[Batch, list[Tensor]]:
        """A batch of inputs, and the images and features of the original."""
        if self._given % (USES * self.block) == 0:
            self._keep(self._draw())
        self._given += 1
        index = self._choose().to(self.device)
        picked = [tensor[index] for tensor in self._kept]
        count = len(self._names)
        return dict(zip(self._names, picked[:count], strict=True)), picked[count:]

    def skip(self, batches: int) -> None:
        """Go on as if ``batches`` had been given, at the price of what would still be kept."""
        blocks = -(-batches // (USES * self.block))
        for block in range(blocks):
            drawn = self._draw()
            if block == 0 or block >= blocks - self._slots:
                self._keep(drawn)
            else:
                self._blocks += 1
        made = self._blocks
        for given in range(batches):
            self._blocks = given // (USES * self.block) + 1
            self._choose()
        self._blocks, self._given = made, batches

    def _choose(self) -> Tensor:
        """Places in the ring, ``(batch_size,)``."""
        filled = min(self._blocks, self._slots) * self.block * self.batch_size
        return torch.randint(filled, (self.batch_size,), generator=self._random)

    def _draw(self) -> Batch:
        return self.inputs.draw(self.block * self.batch_size)

    @torch.no_grad()
    def _keep(self, drawn: Batch) -> None:
        """Let the teacher make a block, and put it in the oldest's place."""
        drawn = {name: tensor.to(self.device) for name, tensor in drawn.items()}
        parts = [
            self.teacher({n: t[start : start + self.batch_size] for n, t in drawn.items()})
            for start in range(0, self.block * self.batch_size, self.batch_size)
        ]
        block = [*drawn.values(), *(torch.cat(made) for made in zip(*parts, strict=True))]
        size = self.block * self.batch_size
        if not self._kept:
            self._names = list(drawn)
            self._slots = max(1, MOST_BYTES // sum(tensor.nbytes for tensor in block))
            # Taken whole at once: an operating system gives memory when it is first written to.
            self._kept = [t.new_empty(self._slots * size, *t.shape[1:]) for t in block]
        start = self._blocks % self._slots * size
        for ring, tensor in zip(self._kept, block, strict=True):
            ring[start : start + size] = tensor
        self._blocks += 1
