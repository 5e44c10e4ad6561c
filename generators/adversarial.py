"""Adversarial training: the non-saturating loss and a moving average of the generator.

The loss is Goodfellow et al. 2014 (arXiv 1406.2661, section 3). The exponential moving average of
the generator's weights (Yazici et al. 2018, arXiv 1806.04498) is what is judged and shipped: it
averages out the circling of the two players.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.optim.swa_utils import AveragedModel

from generators.objective import Objective, linear_decay

Judge = Callable[[nn.Module], dict[str, float]]


class Adversarial(Objective):
    """A generator of latents against a discriminator of images and their classes."""

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        *,
        latent: int,
        class_of: Callable[[Tensor], Tensor],
        judge: Judge,
        seed: int,
        lr: float = 3e-4,
        average_decay: float = 0.999,
    ) -> None:
        self.generator = generator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.discriminator = discriminator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = AveragedModel(
            generator, avg_fn=partial(warmed_average, average_decay), use_buffers=True
        )
        self.latent = latent
        self.class_of = class_of
        self.judge_generator = judge
        self.random = torch.Generator().manual_seed(seed)
        self.lr = lr
        betas = (0.5, 0.999)  # less momentum than usual, which destabilises adversarial training
        self.optimisers = (
            torch.optim.Adam(generator.parameters(), lr, betas),
            torch.optim.Adam(discriminator.parameters(), lr, betas),
        )

    def train_batch(self, images: Tensor, labels: Tensor, progress: float) -> dict[str, float]:
        """One step of the discriminator, then one of the generator, on the same fakes."""
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = self.lr * linear_decay(progress)
        generator_step, discriminator_step = self.optimisers
        z = torch.randn(len(images), self.latent, generator=self.random)
        fakes, classes = self.generator(z), self.class_of(z)

        self.discriminator.requires_grad_(True)
        real = self.discriminator(images, labels)
        fake = self.discriminator(fakes.detach(), classes)
        discriminator_loss = softplus(-real).mean() + softplus(fake).mean()
        discriminator_step.zero_grad()
        discriminator_loss.backward()
        discriminator_step.step()

        self.discriminator.requires_grad_(False)
        generator_loss = softplus(-self.discriminator(fakes, classes)).mean()
        generator_step.zero_grad()
        generator_loss.backward()
        generator_step.step()
        self.average.update_parameters(self.generator)
        return {
            "generator_loss": generator_loss.item(),
            "discriminator_loss": discriminator_loss.item(),
        }

    def judge(self) -> dict[str, float]:
        """What the judge says of the averaged generator."""
        return self.judge_generator(self.product())

    def product(self) -> nn.Module:
        """The averaged generator."""
        product: nn.Module = self.average.module
        return product.eval()

    @torch.no_grad()
    def sheet(self) -> Tensor:
        """One hundred samples of the averaged generator, the same latents every time."""
        z = torch.randn(100, self.latent, generator=torch.Generator().manual_seed(0))
        images: Tensor = self.product()(z)
        return images


def warmed_average(decay: float, average: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
    """Exponential moving average that forgets its start quickly: decay rises to its full value."""
    if not average.is_floating_point():
        return current  # a counter
    n = int(count)
    return average.lerp(current, 1 - min(decay, (1 + n) / (10 + n)))
