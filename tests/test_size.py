"""Parameters and MACs, counted from the module, from its graph, and by hand."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import genslim
from genslim import Generator, Signature
from genslim.onnx_graph import export_module
from genslim.signature import BATCH, Input, Output, Prior
from genslim.size import Size, size_of


def image_net(module: nn.Module, sides: tuple[int, int, int] = (3, 8, 6)) -> Generator:
    spec = Input("x", (BATCH, *sides), Prior())
    signature = Signature((spec,), (Output("images", (BATCH, 3, 8, 6), (0.0, 1.0)),))
    return Generator("net", signature, {}, module.eval())


def as_graph(generator: Generator) -> Generator:
    assert generator.module is not None
    blob = export_module(copy.deepcopy(generator.module), generator.signature)
    return replace(generator, module=None, onnx=blob)


class Attention(nn.Module):
    """Products of activations with activations count as well."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Conv2d(3, 4, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        q = self.query(x).flatten(2)
        return (q @ q.transpose(1, 2)).unsqueeze(1)


BY_HAND = {
    "conv": (nn.Conv2d(3, 5, 3, padding=1), 3 * 5 * 9 + 5, 3 * 5 * 9 * 48),
    "strided": (nn.Conv2d(3, 5, 3, 2, 1, bias=False), 3 * 5 * 9, 3 * 5 * 9 * 12),
    "depthwise": (nn.Conv2d(3, 3, 3, padding=1, groups=3), 3 * 9 + 3, 3 * 9 * 48),
    "transposed": (nn.ConvTranspose2d(3, 5, 4, 2, 1), 3 * 5 * 16 + 5, 3 * 5 * 16 * 48),
    "grouped": (nn.Conv2d(3, 6, 3, padding=1, groups=3), 6 * 9 + 6, 6 * 9 * 48),
    "linear": (nn.Linear(6, 7), 6 * 7 + 7, 6 * 7 * 3 * 8),
    "two": (
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.PReLU(4), nn.Conv2d(4, 3, 3)),
        (12 + 4) + 4 + (108 + 3),
        12 * 48 + 108 * 6 * 4,
    ),
    "attention": (Attention(), 12, 12 * 48 + 4 * 4 * 48),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_counts_by_hand(name: str) -> None:
    module, parameters, macs = BY_HAND[name]
    assert size_of(image_net(module)) == Size(parameters, macs)


@pytest.mark.parametrize("name", BY_HAND)
def test_the_graph_counts_like_the_module(name: str) -> None:
    generator = image_net(BY_HAND[name][0])
    assert size_of(as_graph(generator)) == size_of(generator)


def test_the_dcgan_counts_alike_once_norms_are_folded(tiny_gan: Generator) -> None:
    module, graph = size_of(tiny_gan), size_of(as_graph(tiny_gan))
    assert (
        graph.macs
        == module.macs
        == 32 * 768 * 16 + 4 * 4 * 768 * 128 * 16 + (8 * 8 * 128 * 64 * 16 + 16 * 16 * 64 * 16)
    )
    norms = 2 * (768 + 128 + 64)
    assert module.parameters - norms <= graph.parameters <= module.parameters


def test_an_upscaler_counts_at_its_usual_size(compact_weights: Path) -> None:
    generator = genslim.load(compact_weights)
    taps = (3 * 16 + 16 * 16 + 16 * 16 + 16 * 12) * 9
    assert size_of(generator).macs == size_of(as_graph(generator)).macs == taps * 64 * 64
    larger = genslim.load(compact_weights, input="1,3,128,64")
    assert size_of(larger).macs == 2 * taps * 64 * 64


def test_half_precision_counts_the_same(tiny_gan: Generator) -> None:
    half = replace(tiny_gan, module=copy.deepcopy(tiny_gan.module).to(torch.bfloat16))  # type: ignore[union-attr]
    assert size_of(half) == size_of(tiny_gan)
