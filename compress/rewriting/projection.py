"""A transposed convolution of a single pixel as what it is: a matrix product.

Generators of latents begin with one: "project and reshape" in the figure of DCGAN (Radford, Metz,
Chintala 2015, arXiv 1511.06434). The batch norm and the activation that follow are taken along:
done on the product's rows, before they are reshaped to a picture, runtimes fuse all of it.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compress.followers import Followers
from genslim.generator import Generator, run_module

ELEMENTWISE = (nn.ReLU, nn.LeakyReLU)
"""Activations that don't care about shapes."""
TOLERANCE = 1e-4
"""Of the value range: how far pictures may move by taking followers along."""


@dataclass(frozen=True)
class Projection:
    """A layer that can be rewritten, and what is taken along."""

    layer: str
    norm: str | None = None
    activation: str | None = None

    @torch.no_grad()
    def __call__(self, module: nn.Module) -> nn.Module:
        """A copy of ``module`` in which a matrix product stands in the layer's place."""
        result = copy.deepcopy(module)
        layer = result.get_submodule(self.layer)
        assert isinstance(layer, nn.ConvTranspose2d)
        weight, bias = layer.weight, layer.bias  # (I, O, kh, kw), (O,)
        if self.norm:
            norm = result.get_submodule(self.norm)
            assert isinstance(norm, nn.BatchNorm2d)
            scale, shift = as_affine(norm)
            weight = weight * scale[:, None, None]
            bias = shift if bias is None else shift + scale * bias
            result.set_submodule(self.norm, nn.Identity(), strict=True)
        shape = tuple(weight.shape[1:])
        product = nn.Linear(weight.shape[0], weight[0].numel(), bias is not None)
        product.weight.copy_(weight.flatten(1).T)
        if bias is not None:
            product.bias.copy_(bias.repeat_interleave(shape[1] * shape[2]))
        parts: list[nn.Module] = [nn.Flatten(), product]
        if self.activation:
            parts.append(result.get_submodule(self.activation))
            result.set_submodule(self.activation, nn.Identity(), strict=True)
        rewritten = nn.Sequential(*parts, nn.Unflatten(1, shape)).train(layer.training)
        result.set_submodule(self.layer, rewritten, strict=True)
        return result


def as_affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """The scale and the shift ``(C,)`` that a batch norm applies outside training."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.running_var + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight
    shift = -norm.running_mean * scale
    return scale, shift if norm.bias is None else shift + norm.bias


@torch.no_grad()
def projections(module: nn.Module, generator: Generator) -> dict[str, Projection]:
    """Every transposed convolution of ``module`` that only ever sees single pixels, by name.

    The norm and the activation after it are found by running the module, and taken along where
    its pictures stay the same.
    """
    runs = Followers(module, generator)
    found = {}
    for name, layer in module.named_modules():
        seen = runs.seen(name)
        if not isinstance(layer, nn.ConvTranspose2d) or not seen or not is_projection(layer):
            continue
        if any(x.shape[2:] != (1, 1) for x, _ in seen):
            continue
        norm = runs.after(name, nn.BatchNorm2d)
        activation = runs.after(norm or name, ELEMENTWISE)
        found[name] = Projection(name)
        for candidate in (Projection(name, norm, activation), Projection(name, norm)):
            images = run_module(candidate(module), generator.signature, runs.inputs)
            if (
                float((images - runs.images).abs().max())
                <= TOLERANCE * generator.signature.data_range
            ):
                found[name] = candidate
                break
    return found


def is_projection(layer: nn.ConvTranspose2d) -> bool:
    """Whether ``layer`` turns one pixel into exactly its kernel's window."""
    return (
        layer.groups == 1
        and layer.padding == (0, 0)
        and layer.output_padding == (0, 0)
        and layer.dilation == (1, 1)
    )
