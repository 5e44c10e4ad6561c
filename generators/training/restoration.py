"""Restoring images: a network is shown what was degraded and compared with what it was.

The loss is a smooth absolute error (Charbonnier et al. 1994, "Two deterministic half-quadratic
regularization algorithms for computed imaging", ICIP), as in Lai et al. 2017 (LapSRN, arXiv
1704.03915): a squared error for errors far below its smoothness, an absolute one above. Each step
degrades anew, so that no image is seen twice alike. What is judged and shipped is a moving average.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from generators.training.averaging import averaged
from generators.training.degradation import Degradation, Pairs
from generators.training.objective import Judge, Objective, cosine_decay

SHOWN = 12
"""Images on a sheet, three times each: a square of six by six."""


class Restoration(Objective):
    """A network against what is done to its images."""

    def __init__(
        self,
        network: nn.Module,
        degradation: Degradation,
        *,
        judge: Judge,
        shown: Tensor,
        seed: int,
        value_range: tuple[float, float] = (0.0, 1.0),
        lr: float = 1e-3,
        smoothness: float = 0.01,
        most_gradient: float = math.inf,
    ) -> None:
        """Set up the network and its average.

        Args:
            network: the degradation's inputs to clean images, about [0, 1].
            degradation: what is to be undone.
            judge: figures of a network.
            shown: clean images ``(N, C, H, W)`` in [0, 1]; the first of them are on the sheet.
            seed: of the degradations.
            value_range: of the images trained on.
            lr: greatest learning rate.
            smoothness: of the loss, of a range of 1.
            most_gradient: norm that gradients are clipped to.
        """
        super().__init__(seed)
        self.degradation = degradation
        self.judge_network = judge
        self.shown = shown[:SHOWN]
        self.value_range = value_range
        self.lr = lr
        self.smoothness = smoothness
        self.most_gradient = most_gradient
        self.networks = {
            "network": network.to(memory_format=torch.channels_last),  # type: ignore[call-overload]
            "average": averaged(network),
        }
        self.optimisers = {"network": torch.optim.Adam(network.parameters(), lr)}

    def train_batch(self, images: Tensor, labels: Tensor, progress: float) -> dict[str, float]:
        """One step on ``images``, degraded anew."""
        low, high = self.value_range
        pairs = self.degradation.degraded((images - low) / (high - low), self.random)
        made = self.networks["network"].train()(*pairs.inputs)
        loss = smooth_error(made, pairs, self.smoothness)
        rate = self.lr * cosine_decay(progress)
        value = self.step("network", loss, rate, self.most_gradient)
        self.average.update_parameters(self.bare("network"))
        return {"loss": value}

    def judge(self) -> dict[str, float]:
        """What the judge says of the averaged network."""
        return self.judge_network(self.product())

    def product(self) -> nn.Module:
        """The averaged network."""
        product: nn.Module = self.average.module
        return product.eval()

    @torch.no_grad()
    def sheet(self) -> Tensor:
        """Of each image what was given, what was made of it, and what it was, side by side."""
        clean = self.shown.to(self.device)
        pairs = self.degradation.degraded(clean, torch.Generator().manual_seed(0))
        given = interpolate(pairs.inputs[0], clean.shape[2:], mode="nearest")
        triples = torch.stack([given, self.product()(*pairs.inputs), clean], 1)
        return triples.flatten(0, 1).clamp(0, 1) * 2 - 1


def smooth_error(made: Tensor, pairs: Pairs, smoothness: float) -> Tensor:
    """The mean of ``sqrt(error² + smoothness²) - smoothness`` where images are compared."""
    error = (made - pairs.clean).square().add(smoothness**2).sqrt() - smoothness
    where = pairs.where.expand_as(error)
    return (error * where).sum() / where.sum()
