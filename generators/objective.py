"""What a training run minimises: one class an objective, all driven by the one trainer."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Objective(ABC):
    """The networks of one training run, the loss of one batch, and how the result is judged."""

    @abstractmethod
    def train_batch(self, images: Tensor, labels: Tensor, progress: float) -> dict[str, float]:
        """Take one optimiser step.

        Args:
            images: ``(N, C, H, W)`` in [-1, 1].
            labels: ``(N,)``, int64.
            progress: how much of the training is done, in [0, 1): schedules follow it.

        Returns:
            The losses, by name.
        """

    @abstractmethod
    def judge(self) -> dict[str, float]:
        """The quality of what would be shipped now, measured on data or latents held apart."""

    @abstractmethod
    def product(self) -> nn.Module:
        """The network whose weights are shipped, in evaluation mode."""

    def sheet(self) -> Tensor | None:
        """Sample images ``(N, C, H, W)`` in [-1, 1] to look at, if the product draws any."""
        return None


def linear_decay(progress: float, start: float = 0.5) -> float:
    """The learning rate's factor: 1 until ``start``, then straight down to 0."""
    return min(1.0, (1.0 - progress) / (1.0 - start))
