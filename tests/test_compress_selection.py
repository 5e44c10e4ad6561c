"""Channels are removed by what the others can't make up for."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from compress import selection
from compress.cutting import Cutter
from compress.observation import observe
from compress.selection import consumer_of
from genslim.generator import Generator
from genslim.signature import BATCH, Input, Output, Prior, Signature


@settings(max_examples=40, deadline=None)
@given(channels=st.integers(3, 9), outputs=st.integers(1, 6), seed=st.integers(0, 1000))
def test_the_cost_is_the_error_that_least_squares_leaves(
    channels: int, outputs: int, seed: int
) -> None:
    torch.manual_seed(seed)
    x = torch.randn(400, channels) @ (torch.eye(channels) + 0.3 * torch.randn(channels, channels))
    layer = nn.Linear(channels, outputs, bias=False)
    before = selection.RIDGE
    selection.RIDGE = 1e-7
    try:
        columns = torch.arange(channels)[:, None]
        consumer = consumer_of(layer, x.T @ x / len(x), columns, torch.ones(outputs))
    finally:
        selection.RIDGE = before
    wanted = layer(x).detach()
    removed: list[int] = []
    for _ in range(channels - 1):
        left = torch.tensor([c for c in range(channels) if c not in removed])
        costs = dict(zip(left.tolist(), consumer.costs(left).tolist(), strict=True))
        for channel in set(range(channels)) - set(removed):
            rest = [c for c in range(channels) if c not in (*removed, channel)]
            fitted = torch.linalg.lstsq(x[:, rest].double(), wanted.double()).solution
            error = (x[:, rest].double() @ fitted - wanted).square().sum(1).mean()
            # What earlier removals cost is in the error too, and not in the cost.
            spent = error_without(x, wanted, removed)
            scale = float(wanted.square().sum(1).mean())
            assert costs[channel] == pytest.approx(float(error - spent), rel=0.05, abs=1e-2 * scale)
        gone = min(set(range(channels)) - set(removed), key=lambda c: float(costs[c]))
        consumer.remove(torch.tensor([gone]))
        removed.append(gone)


def error_without(x: torch.Tensor, wanted: torch.Tensor, removed: list[int]) -> torch.Tensor:
    rest = [c for c in range(x.shape[1]) if c not in removed]
    fitted = torch.linalg.lstsq(x[:, rest].double(), wanted.double()).solution
    return (x[:, rest].double() @ fitted - wanted).square().sum(1).mean()


def test_of_channels_that_say_the_same_one_stays_whatever_their_weights() -> None:
    torch.manual_seed(0)
    first, second = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 3, 3, padding=1)
    with torch.no_grad():
        # Channels 8 to 15 repeat the first eight at ten times the size: magnitude would keep them.
        first.weight[8:] = 10 * first.weight[:8]
        first.bias[8:] = 10 * first.bias[:8]  # type: ignore[index]
    generator = pictures_from(nn.Sequential(first, nn.ReLU(), second))
    _, cut = Cutter(generator).cut(0.5, allocation="uniform")
    kept = cut.kept["0"].tolist()
    assert len(kept) == 8
    assert sorted(channel % 8 for channel in kept) == list(range(8))


def test_channels_that_several_layers_take_count_for_all_of_them() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Conv2d(3, 16, 1)
            self.left, self.right = nn.Conv2d(16, 3, 1), nn.Conv2d(16, 3, 1)
            with torch.no_grad():
                self.left.weight[:, 4:] = 0  # reads the first four
                self.right.weight[:, :12] = 0  # reads the last four

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.head(x)
            images: torch.Tensor = self.left(y) + 0.01 * self.right(y)
            return images

    torch.manual_seed(0)
    _, cut = Cutter(pictures_from(Two())).cut(0.5, allocation="uniform")
    # Scales differ by a hundred, yet each layer's own output is what counts.
    assert cut.kept["head"].tolist() == [0, 1, 2, 3, 12, 13, 14, 15]


def test_channels_that_feed_many_inputs_each_are_ranked_by_all_of_them() -> None:
    torch.manual_seed(0)
    head, tail = nn.Conv2d(3, 16, 1), nn.Linear(16 * 16 * 16, 3 * 16 * 16)  # 256 inputs a channel
    with torch.no_grad():
        head.weight[::2] *= 0.01
        head.bias.zero_()  # type: ignore[union-attr]
    module = nn.Sequential(head, nn.Flatten(), tail, nn.Unflatten(1, (3, 16, 16)))
    _, cut = Cutter(pictures_from(module)).cut(0.5, allocation="uniform")
    assert cut.kept["0"].tolist() == list(range(1, 16, 2))


def test_moments_are_mean_products_of_inputs(tiny_gan: Generator) -> None:
    module = tiny_gan.trainable()
    moments = observe(tiny_gan, module).moments
    assert set(moments) == {"net.0", "net.3", "net.6", "net.9"}
    for seen in moments.values():
        assert torch.allclose(seen, seen.T)
        assert float(torch.linalg.eigvalsh(seen.double()).min()) > -1e-4
    ones = moments["net.0"][:10, :10]  # one hot: what class a latent is
    assert torch.equal(ones, ones.diag().diag())
    assert float(ones.diagonal().sum()) == pytest.approx(1, rel=1e-5)


def pictures_from(module: nn.Module) -> Generator:
    shape = (BATCH, 3, 16, 16)
    signature = Signature((Input("x", shape, Prior()),), (Output("images", shape, (-1.0, 1.0)),))
    return Generator("from-noise", signature, {}, module.eval())
