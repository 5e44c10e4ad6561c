"""What is seen of a generator before it is cut: what goes into its layers, and what counts of it.

Second moments of the inputs tell which channels can stand in for others. How much an error in a
layer's output moves the picture is told by gradients of random projections of the picture
(Hutchinson 1989): the mean square of the gradient of ``<v, picture>`` for white ``v`` is the sum
of squares of the derivatives of all pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import TypeVar

import torch
from torch import Tensor, nn

from compress.batches import in_batches, usual_calibration
from compress.norms import train_mode
from genslim.generator import Generator, run_module
from genslim.inputs import Inputs
from genslim.signature import Signature

T = TypeVar("T")

PRODUCTS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
POSITIONS = 4096
"""Places of the input that moments are taken over at least."""
PROBES = 3
"""Random projections that gradients are taken of, of an image or of a batch of latents each."""


@dataclass(frozen=True)
class Seen:
    """What activations and gradients of the original say, by the names of layers."""

    moments: Mapping[str, Tensor]
    """Mean products of the input channels, ``(C, C)`` float32."""
    weights: Mapping[str, Tensor]
    """How much a unit of squared error in each output channel, at every place, adds to the
    picture's squared error, ``(O,)`` float32."""


def enough(signature: Signature, positions: int, least: int, most: int) -> int:
    """How many inputs hold so many positions: an image many, a latent without sides one."""
    held = max(prod(spec.concrete(1)[2:]) for spec in signature.inputs)
    return min(most, max(least, -(-positions // held)))


def observe(generator: Generator, module: nn.Module, seed: int = 0) -> Seen:
    """Run ``module`` on calibration inputs, forwards and then backwards."""
    layers = {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, PRODUCTS) and getattr(layer, "groups", 1) == 1
    }
    moments = input_moments(generator, module, layers, seed)
    weights = differentiable(module, lambda: sensitivities(generator, module, layers))
    return Seen(moments, weights or {})


def differentiable(module: nn.Module, run: Callable[[], T]) -> T | None:
    """What ``run`` finds with gradients of ``module``; None where it has none.

    Some networks write into what gradients need in evaluation, and as a rule not where they learn.
    """
    try:
        return run()
    except RuntimeError:
        pass
    try:
        train_mode(module, adapt_norms=False)
        return run()
    except RuntimeError:
        return None
    finally:
        module.eval()


@torch.no_grad()
def input_moments(
    generator: Generator, module: nn.Module, layers: Mapping[str, nn.Module], seed: int = 0
) -> dict[str, Tensor]:
    """The mean products of the input channels, ``(C, C)`` float32, of every layer, by its name."""
    signature = generator.signature
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}

    def record(name: str, layer: nn.Module, x: Tensor) -> None:
        channels = x.flatten(0, -2).T if isinstance(layer, nn.Linear) else x.transpose(0, 1)
        rows = channels.flatten(1)  # (C, positions)
        sums[name] = sums.get(name, torch.zeros(())) + rows @ rows.T
        counts[name] = counts.get(name, 0) + rows.shape[1]

    handles = [
        layer.register_forward_pre_hook(lambda m, x, name=name: record(name, m, x[0]))
        for name, layer in layers.items()
    ]
    # Some layers see each input at one place only.
    least = 4 if signature.takes_images else 128
    count = enough(signature, POSITIONS, least, usual_calibration(signature))
    inputs = Inputs(signature, "calibration", seed).draw(count)
    try:
        in_batches(lambda part: run_module(module, signature, part), inputs, 64)
    finally:
        for handle in handles:
            handle.remove()
    return {name: total / counts[name] for name, total in sums.items()}


def sensitivities(
    generator: Generator, module: nn.Module, layers: Mapping[str, nn.Module], seed: int = 0
) -> dict[str, Tensor]:
    """How much the picture hangs on each output channel of every layer: see :class:`Seen`."""
    signature = generator.signature
    totals: dict[str, Tensor] = {}

    def record(name: str, layer: nn.Module) -> Callable[[Tensor], None]:
        axis = -1 if isinstance(layer, nn.Linear) else 1

        def add(gradient: Tensor) -> None:
            square = gradient.square().transpose(axis, -1).flatten(0, -2)
            totals[name] = totals.get(name, torch.zeros(())) + square.sum(0)

        return add

    def watch(name: str, layer: nn.Module, out: Tensor) -> None:
        if out.requires_grad:
            out.register_hook(record(name, layer))

    handles = [
        layer.register_forward_hook(lambda m, _, out, name=name: watch(name, m, out))
        for name, layer in layers.items()
    ]
    stream = Inputs(signature, "calibration", seed + 1)
    runs, size = PROBES, enough(signature, POSITIONS // 16, 1, 32)
    random = torch.Generator().manual_seed(seed)
    wanted = [p.requires_grad for p in module.parameters()]
    try:
        # Biases are cheap to differentiate by, and make every layer's output want its gradient.
        for parameter in module.parameters():
            parameter.requires_grad_(parameter.ndim < 2)
        with torch.enable_grad():
            for _ in range(runs):
                inputs = {k: v.requires_grad_() for k, v in stream.draw(size).items()}
                images = run_module(module, signature, inputs)
                probe = torch.randn(images.shape, generator=random)
                leaves = [*inputs.values(), *(p for p in module.parameters() if p.requires_grad)]
                torch.autograd.grad((images * probe).sum(), leaves, allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
        for parameter, grad in zip(module.parameters(), wanted, strict=True):
            parameter.requires_grad_(grad)
    return {name: total / (runs * size) for name, total in totals.items()}
