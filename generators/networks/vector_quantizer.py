"""A vector-quantized autoencoder of digits: an image becomes 7x7 tokens of a codebook of 128.

van den Oord, Vinyals, Kavukcuoglu 2017 (arXiv 1711.00937). The codebook follows the encoder by an
exponential moving average (its appendix A.1), gradients pass straight through the rounding, and a
code that nothing is rounded to any more starts again from a latent of the batch (Dhariwal et al.
2020, arXiv 2005.00341, section 3.2), so that the codebook stays in use. Rectifiers leak: plain ones
died in the first steps, all at once, and every image came back as the mean image.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, mse_loss, one_hot, pad

CODES = 128
DIMENSION = 8
"""Numbers of a code."""
SIDE = 7
"""Tokens are laid out in a square of this side."""
TOKENS = SIDE * SIDE
MARGIN = 2
"""MNIST's 28x28 pixels lie in 32x32; the black around them needs no token."""


class Encoder(nn.Sequential):
    """Images ``(N, 1, 32, 32)`` in [-1, 1] to latents ``(N, 8, 7, 7)``."""

    def __init__(self, width: int = 64, dimension: int = DIMENSION) -> None:
        super().__init__(
            nn.ZeroPad2d(-MARGIN),  # (N, 1, 28, 28)
            nn.Conv2d(1, width // 2, 4, 2, 1),  # (N, 32, 14, 14)
            nn.LeakyReLU(0.1),
            nn.Conv2d(width // 2, width, 4, 2, 1),  # (N, 64, 7, 7)
            nn.LeakyReLU(0.1),
            nn.Conv2d(width, width, 3, 1, 1),  # (N, 64, 7, 7)
            nn.LeakyReLU(0.1),
            nn.Conv2d(width, dimension, 1),  # (N, 8, 7, 7)
            nn.BatchNorm2d(dimension, affine=False),  # else all latents shrink to one code
        )


class Decoder(nn.Module):
    """Codes' vectors ``(N, 8, 7, 7)`` to images ``(N, 1, 32, 32)`` in [-1, 1]."""

    def __init__(self, width: int = 64, dimension: int = DIMENSION) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(dimension, width, 3, 1, 1),  # (N, 64, 7, 7)
            nn.LeakyReLU(0.1),
            nn.Conv2d(width, width, 3, 1, 1),  # (N, 64, 7, 7)
            nn.LeakyReLU(0.1),
            nn.ConvTranspose2d(width, width // 2, 4, 2, 1),  # (N, 32, 14, 14)
            nn.LeakyReLU(0.1),
            nn.ConvTranspose2d(width // 2, 1, 4, 2, 1),  # (N, 1, 28, 28)
            nn.Tanh(),
        )

    def forward(self, vectors: Tensor) -> Tensor:
        """Images, black around the 28x28 pixels that are drawn."""
        return pad(self.net(vectors), (MARGIN, MARGIN, MARGIN, MARGIN), value=-1.0)


class Codebook(nn.Module):
    """The codes and their vectors, which follow what is rounded to them."""

    vectors: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(self, codes: int = CODES, dimension: int = DIMENSION) -> None:
        super().__init__()
        self.register_buffer("vectors", torch.zeros(codes, dimension))
        self.register_buffer("counts", torch.zeros(codes))  # so much of a batch takes each
        self.register_buffer("sums", torch.zeros(codes, dimension))

    def forward(self, latents: Tensor) -> Tensor:
        """The code ``(N, 7, 7)``, int64, nearest to each latent of ``(N, 8, 7, 7)``."""
        rows = latents.movedim(1, -1)
        squared = self.vectors.square().sum(1)  # a latent's own square is the same for all codes
        return (squared - 2 * rows @ self.vectors.T).argmin(-1)

    def look_up(self, codes: Tensor) -> Tensor:
        """The vectors ``(N, 8, 7, 7)`` of codes ``(N, 7, 7)``."""
        return embedding(codes, self.vectors).movedim(-1, 1)

    @torch.no_grad()
    def follow(
        self,
        latents: Tensor,
        codes: Tensor,
        random: torch.Generator,
        *,
        restart: bool = True,
        decay: float = 0.99,
    ) -> int:
        """Move each code towards the mean of what was rounded to it.

        Args:
            latents: of a batch, ``(N, 8, 7, 7)``.
            codes: what they were rounded to, ``(N, 7, 7)``.
            random: on the CPU; draws the latents that unused codes start again from.
            restart: whether they do.
            decay: of the moving averages.

        Returns:
            How many codes were started again.
        """
        rows = latents.movedim(1, -1).flatten(0, -2)
        taken = one_hot(codes.flatten(), len(self.vectors)).to(rows)
        self.counts.lerp_(taken.sum(0), 1 - decay)
        self.sums.lerp_(taken.T @ rows, 1 - decay)
        fair = len(rows) / len(self.vectors)
        dead = self.counts < 0.03 * fair  # codes may be rare: strokes in odd places
        restarted = int(dead.sum()) if restart else 0
        if restarted:
            fresh = torch.randint(len(rows), (restarted,), generator=random).to(rows.device)
            self.counts[dead] = 0.1 * fair  # a hundred steps to prove their worth
            self.sums[dead] = rows[fresh] * 0.1 * fair
        self.vectors.copy_(self.sums / self.counts.clamp_min(1e-5)[:, None])
        return restarted


class VectorQuantizedAutoencoder(nn.Module):
    """Images to tokens and back."""

    def __init__(self, codes: int = CODES, width: int = 64) -> None:
        super().__init__()
        self.encoder = Encoder(width)
        self.codebook = Codebook(codes)
        self.decoder = Decoder(width)

    def forward(
        self, images: Tensor, random: torch.Generator | None = None, *, restart: bool = True
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruct ``images`` ``(N, 1, 32, 32)`` in [-1, 1].

        Args:
            images: what to reconstruct.
            random: where given, the codebook follows this batch.
            restart: whether unused codes start again.

        Returns:
            The reconstruction; the commitment, a scalar: the mean squared distance that latents
            have to their codes; the codes ``(N, 7, 7)``. The gradient of the reconstruction by
            the rounded latents is taken for the one by the latents themselves.
        """
        latents = self.encoder(images).float()
        codes = self.codebook(latents.detach())
        if random is not None:
            self.codebook.follow(latents.detach(), codes, random, restart=restart)
        rounded = self.codebook.look_up(codes)
        straight_through = latents + (rounded - latents).detach()
        return self.decoder(straight_through), mse_loss(latents, rounded), codes

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Images to tokens ``(N, 49)``, int64, row by row."""
        codes: Tensor = self.codebook(self.encoder(images).float())
        return codes.flatten(1)

    @torch.no_grad()
    def decode(self, tokens: Tensor) -> Tensor:
        """Tokens ``(N, 49)`` to images ``(N, 1, 32, 32)`` in [-1, 1]."""
        images: Tensor = self.decoder(self.codebook.look_up(tokens.unflatten(1, (SIDE, SIDE))))
        return images


def usage(codes: Tensor, count: int) -> dict[str, float]:
    """How much of a codebook is in use.

    Args:
        codes: all that were taken for some images, int64.
        count: how many codes there are.

    Returns:
        ``codes_used``: the share taken at least once; ``perplexity``: how many codes, all taken
        alike, would say as much: the exponential of the entropy.
    """
    shares = torch.bincount(codes.flatten(), minlength=count) / codes.numel()
    entropy = -torch.xlogy(shares, shares).sum()
    return {
        "codes_used": (shares > 0).double().mean().item(),
        "perplexity": entropy.exp().item(),
    }
