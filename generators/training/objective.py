"""What a training run minimises: one class an objective, all driven by the one trainer."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from generators.training.precision import InBfloat16, Precision

if TYPE_CHECKING:
    from accelerate import Accelerator

Judge = Callable[[nn.Module], dict[str, float]]
"""Figures of a product, by name."""


class Objective(ABC):
    """The networks of one training run, the loss of one batch, and how the result is judged.

    A subclass puts what it trains into ``networks`` and ``optimisers`` and draws every random
    number from ``random``: then it is moved to its device, shared by several processes, saved and
    resumed without doing anything for it.
    """

    def __init__(self, seed: int) -> None:
        self.networks: dict[str, nn.Module] = {}
        """Everything whose state a checkpoint must hold, by name."""
        self.exact: frozenset[str] = frozenset()
        """Networks that are trained in fp32 whatever the others compute in."""
        self.optimisers: dict[str, Optimizer] = {}
        self.random = torch.Generator().manual_seed(seed)
        """Random numbers are drawn on the CPU: the same on every device."""
        self.device = torch.device("cpu")
        self._accelerator: Accelerator | None = None

    @abstractmethod
    def train_batch(self, images: Tensor, labels: Tensor, progress: float) -> dict[str, float]:
        """Take one optimiser step.

        Args:
            images: ``(N, C, H, W)``, on ``self.device``, in the data set's range.
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

    def alarm(self, verdict: dict[str, float]) -> str | None:
        """What is going wrong, by the judgement after an epoch; None if nothing is."""
        return None

    def start_from(self, weights: Mapping[str, Tensor]) -> list[str]:
        """Take over the tensors of ``weights`` that fit the product, by name and shape.

        Returns:
            The names that were taken.
        """
        own = {name: tensor.shape for name, tensor in self.product().state_dict().items()}
        fitting = {n: t for n, t in weights.items() if n in own and t.shape == own[n]}
        for network in self.networks.values():  # the product may be a copy of one, or its average
            inner = network.module if isinstance(network, AveragedModel) else network
            if inner.state_dict().keys() == own.keys():
                inner.load_state_dict(fitting, strict=False)
        return list(fitting)

    def prepare(self, accelerator: Accelerator, precision: Precision = "fp32") -> None:
        """Move to the accelerator's device, and share the gradients of its processes.

        Args:
            accelerator: of this process.
            precision: that networks compute in while they are trained, not while they are judged.
        """
        self._accelerator = accelerator
        self.device = accelerator.device
        for name, network in list(self.networks.items()):
            if not any(p.requires_grad for p in network.parameters()):
                network.to(self.device)
                continue
            half = precision == "bf16" and name not in self.exact
            inner = InBfloat16(network) if half else network
            self.networks[name] = accelerator.prepare(inner)
        for name, optimiser in self.optimisers.items():
            self.optimisers[name] = accelerator.prepare(optimiser)
        if accelerator.num_processes > 1:  # each draws its own latents, as it sees its own images
            self.random.manual_seed(self.random.initial_seed() + accelerator.process_index)

    def step(
        self, name: str, loss: Tensor, learning_rate: float, most_gradient: float = math.inf
    ) -> float:
        """One step of an optimiser against ``loss``; returns the loss.

        Args:
            name: of the optimiser.
            loss: a scalar.
            learning_rate: of this step.
            most_gradient: norm that gradients are clipped to.
        """
        optimiser = self.optimisers[name]
        for group in optimiser.param_groups:
            group["lr"] = learning_rate
        optimiser.zero_grad()
        if self._accelerator is None:
            torch.autograd.backward(loss)
        else:
            self._accelerator.backward(loss)
        if math.isfinite(most_gradient):
            parameters = [p for group in optimiser.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(parameters, most_gradient)
        optimiser.step()
        return loss.item()

    def bare(self, name: str) -> nn.Module:
        """A network without what shares its gradients and sets its precision."""
        network = self.networks[name]
        if self._accelerator is not None:
            network = self._accelerator.unwrap_model(network)
        return network.network if isinstance(network, InBfloat16) else network

    @property
    def average(self) -> AveragedModel:
        """The network called ``average``, where there is one: a moving average of another."""
        average = self.bare("average")
        assert isinstance(average, AveragedModel)
        return average

    def state(self) -> dict[str, Any]:
        """Everything that a resumed training needs, as tensors and plain data."""
        return {
            "networks": {name: self.bare(name).state_dict() for name in self.networks},
            "optimisers": {name: o.state_dict() for name, o in self.optimisers.items()},
            "random": self.random.get_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what :meth:`state` gave."""
        for name, network in state["networks"].items():
            self.bare(name).load_state_dict(network)
        for name, optimiser in state["optimisers"].items():
            self.optimisers[name].load_state_dict(optimiser)
        self.random.set_state(state["random"])
        if self._accelerator is not None and (own := self._accelerator.process_index):
            # The state is the first process's: the others draw on unlike it.
            common = int(torch.randint(2**62, (), generator=self.random))
            self.random.manual_seed(common + own)


def linear_decay(progress: float, start: float = 0.5) -> float:
    """The learning rate's factor: 1 until ``start``, then straight down to 0."""
    return min(1.0, (1.0 - progress) / (1.0 - start))


def cosine_decay(progress: float, warm_up: float = 0.02) -> float:
    """The learning rate's factor: up to 1 during ``warm_up``, then half a cosine down to 0.

    Loshchilov, Hutter 2016 (arXiv 1608.03983), without restarts.
    """
    if progress < warm_up:
        return (progress + 1e-3) / (warm_up + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up)))
