"""Variational autoencoders: what a decoder needs to know of an image, and no more than that.

Kingma, Welling 2013 (arXiv 1312.6114): the negated bound on the likelihood is the reconstruction's
cross-entropy and the KL divergence of the posterior from the prior. Where the divergence weighs
more than 1 (Higgins et al. 2017, "beta-VAE", ICLR), posteriors together fill the prior better, and
samples of the prior look more like reconstructions. It is warmed up from 0 (Bowman et al. 2015,
arXiv 1511.06349): at full weight from the start the posterior may collapse onto the prior before
the decoder has learned to read a latent.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy

from generators.networks.classes import CLASSES, asking_for
from generators.networks.vae import STYLE, reparameterised
from generators.training.objective import Judge, Objective, cosine_decay

ACTIVE = 0.01
"""A number of the latent is in use where its posteriors diverge by more nats than this from the
prior (Lucas et al. 2019, arXiv 1911.02469, who call the others collapsed)."""
COLLAPSED = 0.1
"""Where less than this share of a latent is in use, the posterior has collapsed."""
BRIGHTEST = 1 - 2**-8
"""Bfloat16 rounds what is brighter to 1, of which the cross-entropy would make 100 a pixel."""


class Use(nn.Module):
    """How far the posteriors of each number of the latent are from the prior: a moving average."""

    nats: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("nats", torch.zeros(size))

    @torch.no_grad()
    def follow(self, divergence: Tensor) -> None:
        """Take in a batch: ``(N, size)``, in nats."""
        self.nats.lerp_(divergence.mean(0), 0.02)

    def active(self) -> float:
        """The share of the latent that is in use."""
        return (self.nats > ACTIVE).double().mean().item()


class Variational(Objective):
    """An encoder of images and their classes, and a decoder of latents, which is the product."""

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        *,
        judge: Judge,
        seed: int,
        kl_warm_up: float = 0.1,
        kl_weight: float = 2.0,
        lr: float = 1e-3,
    ) -> None:
        """Set up both.

        Args:
            encoder: images in [0, 1] and classes to mean and log variance, ``(N, 22)`` each.
            decoder: latents ``(N, 32)`` to images in [0, 1].
            judge: figures of a decoder.
            seed: of what is drawn from posteriors.
            kl_warm_up: share of the training in which the divergence's weight rises to its full.
            kl_weight: of the divergence, in the end.
            lr: greatest learning rate.
        """
        super().__init__(seed)
        self.judge_decoder = judge
        self.kl_warm_up = kl_warm_up
        self.kl_weight = kl_weight
        self.lr = lr
        self.networks = {
            "encoder": encoder.to(memory_format=torch.channels_last),  # type: ignore[call-overload]
            "decoder": decoder.to(memory_format=torch.channels_last),  # type: ignore[call-overload]
            "use": Use(STYLE),
        }
        parameters = [*encoder.parameters(), *decoder.parameters()]
        self.optimisers = {"both": torch.optim.AdamW(parameters, lr, weight_decay=1e-2)}

    def train_batch(self, images: Tensor, labels: Tensor, progress: float) -> dict[str, float]:
        """One step on ``images`` in [-1, 1]; losses are in nats an image."""
        clean = (images + 1) / 2
        mean, log_variance = self.networks["encoder"].train()(clean, labels)
        noise = torch.randn(mean.shape, generator=self.random).to(self.device)
        z = asking_for(labels, reparameterised(mean, log_variance, noise))
        made = self.networks["decoder"].train()(z)
        errors = binary_cross_entropy(made.clamp(max=BRIGHTEST), clean, reduction="sum")
        reconstruction = errors / len(images)
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance) / 2  # (N, 22)
        self.use.follow(divergence)
        kl = divergence.sum(1).mean()
        loss = reconstruction + self.weight(progress) * kl
        self.step("both", loss, self.lr * cosine_decay(progress))
        return {"reconstruction": reconstruction.item(), "kl": kl.item()}

    def weight(self, progress: float) -> float:
        """Of the divergence."""
        warm = progress >= self.kl_warm_up
        return self.kl_weight if warm else self.kl_weight * progress / self.kl_warm_up

    @property
    def use(self) -> Use:
        """What watches over the posterior."""
        use = self.bare("use")
        assert isinstance(use, Use)
        return use

    def judge(self) -> dict[str, float]:
        """What the judge says of the decoder, and the share of the latent that is in use."""
        return {**self.judge_decoder(self.product()), "active_latents": self.use.active()}

    def alarm(self, verdict: dict[str, float]) -> str | None:
        """Whether the decoder has stopped to read its latent."""
        active = verdict["active_latents"]
        if active >= COLLAPSED:
            return None
        return (
            f"posterior collapse: {active:.0%} of the latent is in use; "
            f"try --option kl_warm_up=0.5 or --option kl_weight={self.kl_weight / 2:g}"
        )

    def product(self) -> nn.Module:
        """The decoder."""
        return self.bare("decoder").eval()

    @torch.no_grad()
    def sheet(self) -> Tensor:
        """Ten rows of the ten digits, drawn of the prior, the same latents every time."""
        style = torch.randn(100, STYLE, generator=torch.Generator().manual_seed(0))
        z = asking_for(torch.arange(100) % CLASSES, style)
        images: Tensor = self.product()(z.to(self.device))
        return images * 2 - 1
