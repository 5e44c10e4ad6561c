"""Which of ten classes a latent asks for: read off the latent itself.

The class is the place of the greatest of a latent's first ten numbers. So a prior of plain latents
draws all ten digits alike, no mode can be dropped, and a conditional generator has one input like
any other.
"""

from __future__ import annotations

import torch
from torch import Tensor

LATENT = 32
CLASSES = 10


def class_of(z: Tensor) -> Tensor:
    """The class ``(N,)``, int64, that latents ``z`` ``(N, 32)`` ask for."""
    return z[:, :CLASSES].argmax(1)


def with_one_hot(z: Tensor) -> Tensor:
    """``z`` with its first ten numbers replaced by 1 for the greatest and 0 for the others."""
    head, rest = z[:, :CLASSES], z[:, CLASSES:]
    return torch.cat([(head == head.amax(1, keepdim=True)).to(z.dtype), rest], 1)


def asking_for(classes: Tensor, rest: Tensor) -> Tensor:
    """Latents ``(N, 32)`` that ask for ``classes`` ``(N,)``, with ``rest`` ``(N, 22)``."""
    one_hot = torch.nn.functional.one_hot(classes, CLASSES).to(rest.dtype)
    return torch.cat([one_hot, rest], 1)
