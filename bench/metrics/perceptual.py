"""LPIPS of Zhang et al. 2018 (CVPR): distance between the activations of a trained network.

The network's weights are the user's to bring, nothing is downloaded: a state dict of torchvision's
AlexNet or VGG16, told apart by its shapes, as ``.safetensors`` or as a PyTorch file (read as
weights only). The heads that weigh the channels (version 0.1) are those that torchmetrics ships,
unless the file has its own, ``lin0.model.1.weight`` to ``lin4.model.1.weight``. torchvision itself
is not needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from genslim.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""ImageNet's means and deviations, for images in [-1, 1]."""
EPSILON = 1e-8
LEAST_SIDE = 32
"""Smaller images vanish in the poolings."""


@dataclass(frozen=True)
class Architecture:
    """The convolutions of a network, and after which of them its activations are compared."""

    heads: str
    """Name of the heads' file."""
    first: tuple[int, int, int]
    """Kernel, stride and padding of the first convolution; the others keep the size."""
    plan: tuple[int | str, ...]
    """Channels of each convolution (a ReLU follows); ``pool`` between, ``tap`` after a stage."""
    kernels: tuple[int, ...]
    """Side of the kernel of each convolution."""
    pool: int
    """Side of the poolings, which halve."""

    def build(self) -> nn.Sequential:
        """The network without weights; numbered as torchvision numbers ``features``."""
        from torch import nn

        layers: list[nn.Module] = []
        inside, number = 3, 0
        for part in self.plan:
            if part == "pool":
                layers.append(nn.MaxPool2d(self.pool, 2))
            elif isinstance(part, int):
                side = self.kernels[number]
                stride, padding = self.first[1:] if number == 0 else (1, side // 2)
                layers += [nn.Conv2d(inside, part, side, stride, padding), nn.ReLU()]
                inside, number = part, number + 1
        return nn.Sequential(*layers)

    @property
    def taps(self) -> frozenset[int]:
        """Numbers of the layers whose outputs are compared."""
        found, number = [], -1
        for part in self.plan:
            if part == "tap":
                found.append(number)
            else:
                number += 2 if isinstance(part, int) else 1
        return frozenset(found)


# fmt: off
ARCHITECTURES = {
    "AlexNet": Architecture(
        "alex", (11, 4, 2),
        (64, "tap", "pool", 192, "tap", "pool", 384, "tap", 256, "tap", 256, "tap"),
        (11, 5, 3, 3, 3), 3,
    ),
    "VGG16": Architecture(
        "vgg", (3, 1, 1),
        (64, 64, "tap", "pool", 128, 128, "tap", "pool", 256, 256, 256, "tap", "pool",
         512, 512, 512, "tap", "pool", 512, 512, 512, "tap"),
        (3,) * 13, 2,
    ),
}
# fmt: on


@dataclass(frozen=True)
class Lpips:
    """The distance, with its weights loaded."""

    name: str
    """``AlexNet`` or ``VGG16``."""
    network: nn.Sequential
    taps: frozenset[int]
    heads: tuple[Tensor, ...]
    """Weights of the channels at each tap, ``(1, C, 1, 1)``."""

    def __call__(
        self,
        images: Tensor,
        reference: Tensor,
        *,
        value_range: tuple[float, float],
        batch: int = 16,
    ) -> Tensor:
        """Distance of each image.

        Args:
            images: ``(N, C, H, W)``, float32; sides of at least 32. Grey ones are shown in all
                three colours, and what lies outside of the value range is clipped, as on a screen.
            reference: the same shape.
            value_range: the least and the greatest value of a pixel.
            batch: how many are compared at a time.

        Returns:
            ``(N,)``, not negative; 0 means equal.
        """
        import torch

        with torch.no_grad():
            pairs = zip(images.split(batch), reference.split(batch), strict=True)
            return torch.cat([self.of_batch(a, b, value_range) for a, b in pairs])

    def of_batch(
        self, images: Tensor, reference: Tensor, value_range: tuple[float, float]
    ) -> Tensor:
        """Distance of a few images, ``(N,)``."""
        from torch.nn.functional import conv2d

        from bench.metrics.features import mapped, with_channels

        shift, scale = (images.new_tensor(v).reshape(1, 3, 1, 1) for v in (SHIFT, SCALE))
        ours, theirs = (
            (mapped(with_channels(part, 3), value_range, (-1.0, 1.0)) - shift) / scale
            for part in (images, reference)
        )
        total = images.new_zeros(len(images))
        heads = iter(self.heads)
        for number, layer in enumerate(self.network):
            ours, theirs = layer(ours), layer(theirs)
            if number in self.taps:
                gap = (unit(ours) - unit(theirs)).square()
                total = total + conv2d(gap, next(heads)).mean((1, 2, 3))
        return total


def unit(activations: Tensor) -> Tensor:
    """Activations ``(N, C, H, W)`` with length 1 across the channels."""
    return activations / (activations.square().sum(1, keepdim=True) + EPSILON).sqrt()


def open_lpips(path: str | Path) -> Lpips:
    """Load the weights.

    Raises:
        UserError: there is no such file, or it holds other weights.
    """
    path = Path(path)
    state = read_state(path)
    for name, architecture in ARCHITECTURES.items():
        network = architecture.build()
        wanted = {f"features.{key}": tuple(v.shape) for key, v in network.state_dict().items()}
        shapes = {k: tuple(v.shape) for k, v in state.items() if k.startswith("features.")}
        if wanted == shapes:
            network.load_state_dict({k.removeprefix("features."): state[k] for k in wanted})
            own = any(k.startswith("lin") for k in state)
            heads = heads_of(state if own else shipped_heads(architecture.heads), name)
            return Lpips(name, network.eval().requires_grad_(False), architecture.taps, heads)
    raise UserError(
        f"{path} holds no weights of {' or '.join(ARCHITECTURES)} as torchvision names them",
        hint="save torchvision.models.alexnet(weights=...).state_dict()",
    )


def heads_of(state: Mapping[str, Tensor], name: str) -> tuple[Tensor, ...]:
    """The five heads out of a state dict.

    Raises:
        UserError: one is missing.
    """
    keys = [f"lin{n}.model.1.weight" for n in range(5)]
    if missing := [key for key in keys if key not in state]:
        raise UserError(
            f"the heads of LPIPS for {name} lack {missing[0]}",
            hint="leave lin*.model.1.weight out of the file to use those of torchmetrics",
        )
    return tuple(state[key].float() for key in keys)


def shipped_heads(name: str) -> Mapping[str, Tensor]:
    """The heads that torchmetrics ships; its package is found and not imported, as that is slow."""
    from importlib.util import find_spec

    spec = find_spec("torchmetrics")
    assert spec is not None, "torchmetrics is a dependency"
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "functional" / "image" / "lpips_models"
    return read_state(folder / f"{name}.pth")


def read_state(path: Path) -> Mapping[str, Tensor]:
    """The tensors of a safetensors or PyTorch file, read as weights only, in float32.

    Raises:
        UserError: it can't be read.
    """
    import pickle

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
        return {k: v.float() for k, v in state.items()}
    except FileNotFoundError:
        raise UserError(
            f"no file {path}", hint="name weights of torchvision's AlexNet or VGG16"
        ) from None
    except (
        OSError, RuntimeError, ValueError, AttributeError, EOFError,
        SafetensorError, pickle.UnpicklingError,
    ) as error:  # fmt: skip
        reason = str(error).strip().partition("\n")[0][:120]
        raise UserError(
            f"{path} can't be read as weights ({reason})",
            hint="name a .safetensors file, or a state dict saved by torch.save",
        ) from error
