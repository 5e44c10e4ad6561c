"""Adversarial training, and what keeps it steady and varied.

Losses: the non-saturating one of Goodfellow et al. 2014 (arXiv 1406.2661, section 3), and the hinge
(Lim, Ye 2017, arXiv 1705.02894; Miyato et al. 2018, arXiv 1802.05957). Several discriminators,
each of its own start, give a loss that none of them can dominate (Durugkar et al. 2016, arXiv
1611.01673). What is judged and shipped is a moving average of the generator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import relu, softplus

from generators.training.averaging import averaged
from generators.training.objective import Judge, Objective, linear_decay

Loss = Literal["non-saturating", "hinge"]

RARE = 0.02
"""Where the rarest of ten digits has less than this share of the samples, a mode is lost."""


class Adversarial(Objective):
    """A generator of latents against discriminators of images and their classes."""

    def __init__(
        self,
        generator: nn.Module,
        discriminators: Sequence[nn.Module],
        *,
        latent: int,
        class_of: Callable[[Tensor], Tensor],
        judge: Judge,
        seed: int,
        lr: float = 3e-4,
        loss: Loss = "non-saturating",
        augment: int = 0,
    ) -> None:
        """Set up both players.

        Args:
            generator: latents ``(N, latent)`` to images.
            discriminators: each ``(images, classes) -> logits (N,)``.
            latent: size of a latent, drawn from the normal distribution.
            class_of: the class that a latent asks for.
            judge: figures of a generator.
            seed: of the latents.
            lr: learning rate of both players.
            loss: the players' loss.
            augment: images, real and drawn alike, are shifted by up to so many pixels before a
                discriminator sees them (Zhao et al. 2020, DiffAugment, arXiv 2006.10738), so that
                it can't learn the training set by heart.
        """
        super().__init__(seed)
        self.latent = latent
        self.class_of = class_of
        self.judge_generator = judge
        self.lr = lr
        self.loss = loss
        self.augment = augment
        self.players = [f"discriminator-{index}" for index in range(len(discriminators))]
        self.networks = {
            "generator": generator.to(memory_format=torch.channels_last),  # type: ignore[call-overload]
            "average": averaged(generator),
        }
        betas = (0.5, 0.999)  # less momentum than usual, which destabilises adversarial training
        self.optimisers = {"generator": torch.optim.Adam(generator.parameters(), lr, betas)}
        for name, network in zip(self.players, discriminators, strict=True):
            self.networks[name] = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            self.optimisers[name] = torch.optim.Adam(network.parameters(), lr, betas)

    def train_batch(self, images: Tensor, labels: Tensor, progress: float) -> dict[str, float]:
        """One step of each discriminator, then one of the generator, on the same fakes."""
        lr = self.lr * linear_decay(progress)
        z = torch.randn(len(images), self.latent, generator=self.random).to(self.device)
        fakes, classes = self.networks["generator"](z), self.class_of(z)

        discriminator_loss = 0.0
        for name in self.players:
            discriminator = self.networks[name].requires_grad_(True)
            real = discriminator(self.augmented(images), labels)
            fake = discriminator(self.augmented(fakes.detach()), classes)
            loss = self.discriminator_loss(real, fake)
            discriminator_loss += self.step(name, loss, lr) / len(self.players)
            discriminator.requires_grad_(False)

        scores = [self.networks[name](self.augmented(fakes), classes) for name in self.players]
        loss = torch.stack([self.generator_loss(score) for score in scores]).mean()
        generator_loss = self.step("generator", loss, lr)
        self.average.update_parameters(self.bare("generator"))
        return {"generator_loss": generator_loss, "discriminator_loss": discriminator_loss}

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """What a discriminator minimises, of its logits for both."""
        if self.loss == "hinge":
            return relu(1 - real).mean() + relu(1 + fake).mean()
        return softplus(-real).mean() + softplus(fake).mean()

    def generator_loss(self, fake: Tensor) -> Tensor:
        """What the generator minimises, of a discriminator's logits."""
        return -fake.mean() if self.loss == "hinge" else softplus(-fake).mean()

    def augmented(self, images: Tensor) -> Tensor:
        """``images``, all shifted by the same random number of pixels, the edge repeated."""
        if not self.augment:
            return images
        most = self.augment
        dx, dy = torch.randint(-most, most + 1, (2,), generator=self.random).tolist()
        padded = nn.functional.pad(images, (most,) * 4, mode="replicate")
        h, w = images.shape[2:]
        return padded[:, :, most + dy : most + dy + h, most + dx : most + dx + w]

    def judge(self) -> dict[str, float]:
        """What the judge says of the averaged generator."""
        return self.judge_generator(self.product())

    def alarm(self, verdict: dict[str, float]) -> str | None:
        """Whether a mode is lost, where the judge counts modes."""
        least = verdict.get("least_digit", 1.0)
        if least >= RARE:
            return None
        return (
            f"mode collapse: the rarest digit has {least:.1%} of the samples; "
            "try --option loss=hinge, --option spectral_norm=true or --option discriminators=2"
        )

    def product(self) -> nn.Module:
        """The averaged generator."""
        product: nn.Module = self.average.module
        return product.eval()

    @torch.no_grad()
    def sheet(self) -> Tensor:
        """One hundred samples of the averaged generator, the same latents every time."""
        z = torch.randn(100, self.latent, generator=torch.Generator().manual_seed(0))
        images: Tensor = self.product()(z.to(self.device))
        return images
