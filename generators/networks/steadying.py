"""What discriminators are made of against mode collapse and unstable training."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


def append_minibatch_deviation(features: Tensor, group: int = 4) -> Tensor:
    """``features`` and one more channel: how much the samples of a group of 4 differ.

    A discriminator that sees it notices a generator which draws the same picture for every
    latent: a remedy against mode collapse (Karras et al. 2017, arXiv 1710.10196, section 3).
    """
    n, _, h, w = features.shape
    size = group if n % group == 0 else n
    deviation = features.unflatten(0, (size, -1)).var(dim=0, unbiased=False).add(1e-8).sqrt()
    per_group = deviation.mean(dim=(1, 2, 3))  # (N / size,)
    return torch.cat([features, per_group.repeat(size)[:, None, None, None].expand(n, 1, h, w)], 1)


def projected(features: Tensor, score: nn.Module, of_classes: Tensor) -> Tensor:
    """Logits ``(N,)``: how real ``features`` are, and how well they match their classes.

    The projection of Miyato, Koyama 2018 (arXiv 1802.05637).

    Args:
        features: ``(N, C, H, W)``.
        score: reads them with the deviation of their minibatch.
        of_classes: what the classes are compared with, ``(N, C * H * W)``.
    """
    real: Tensor = score(append_minibatch_deviation(features)).flatten()
    return real + (of_classes * features.flatten(1)).sum(1)


def spectrally_normed(network: nn.Module) -> nn.Module:
    """``network`` with every convolution's and matrix's greatest singular value held at 1.

    A discriminator whose slope is bounded gives gradients that neither vanish nor explode (Miyato
    et al. 2018, arXiv 1802.05957). Changed in place.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.Embedding):
            spectral_norm(module)
    return network
