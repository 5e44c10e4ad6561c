"""Generators of a user's own, opened as ``networks:NAME``: what no library here recognises.

Each function at the end returns one with random weights. Classic designs are written out anew, as
small as tests want them.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ResidualBlock(nn.Module):
    """Two reflected 3x3 convolutions with instance norm, added to what came in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3),
            nn.InstanceNorm2d(width),
            nn.ReLU(inplace=True),
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3),
            nn.InstanceNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class CycleGan(nn.Module):
    """The generator of Zhu et al. 2017 (arXiv 1703.10593): nine residual blocks at a quarter."""

    def __init__(self, width: int = 32, blocks: int = 9) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(3, width, 7)]
        layers += [nn.InstanceNorm2d(width), nn.ReLU(inplace=True)]
        for _ in range(2):
            layers += [nn.Conv2d(width, 2 * width, 3, 2, 1)]
            width *= 2
            layers += [nn.InstanceNorm2d(width), nn.ReLU(inplace=True)]
        layers += [ResidualBlock(width) for _ in range(blocks)]
        for _ in range(2):
            layers += [nn.ConvTranspose2d(width, width // 2, 3, 2, 1, output_padding=1)]
            width //= 2
            layers += [nn.InstanceNorm2d(width), nn.ReLU(inplace=True)]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(width, 3, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class Pix2Pix(nn.Module):
    """The U-Net of Isola et al. 2016 (arXiv 1611.07004): each level is joined to its mirror."""

    def __init__(self, width: int = 32, levels: int = 6) -> None:
        super().__init__()
        widths = [min(width * 2**i, width * 8) for i in range(levels)]
        self.downs = nn.ModuleList()
        self.ups = nn.ModuleList()
        for level, outside in enumerate(widths):
            inside = widths[level - 1] if level else 3
            down: list[nn.Module] = [nn.LeakyReLU(0.2)] if level else []
            edge = level in (0, levels - 1)
            down.append(nn.Conv2d(inside, outside, 4, 2, 1, bias=edge))
            if not edge:
                down.append(nn.BatchNorm2d(outside))
            self.downs.append(nn.Sequential(*down))
        for level in reversed(range(1, levels)):
            inside = widths[level] * (1 if level == levels - 1 else 2)
            up: list[nn.Module] = [
                nn.ReLU(),
                nn.ConvTranspose2d(inside, widths[level - 1], 4, 2, 1, bias=False),
                nn.BatchNorm2d(widths[level - 1]),
            ]
            if level >= 4:
                up.append(nn.Dropout(0.5))
            self.ups.append(nn.Sequential(*up))
        self.last = nn.Sequential(nn.ReLU(), nn.ConvTranspose2d(2 * width, 3, 4, 2, 1), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for down in self.downs:
            x = down(x)
            skips.append(x)
        skips.pop()
        for up in self.ups:
            x = torch.cat([up(x), skips.pop()], 1)
        return self.last(x)


class Stylised(nn.Module):
    """A convolution whose input channels a style scales, as Karras et al. 2020 (1912.04958) do."""

    def __init__(self, inside: int, outside: int, style: int, kernel: int = 3) -> None:
        super().__init__()
        self.style = nn.Linear(style, inside)
        self.conv = nn.Conv2d(inside, outside, kernel, padding=kernel // 2, bias=False)
        self.strength = nn.Parameter(torch.full((outside, 1, 1), 0.1))
        self.bias = nn.Parameter(torch.zeros(outside, 1, 1))
        self.register_buffer("noise", torch.randn(1, 1, 32, 32))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        scale = self.style(w) + 1  # (N, inside)
        energy = self.conv.weight.square().sum((2, 3)) @ scale.square().mT  # (outside, N)
        x = self.conv(x * scale[:, :, None, None]) * (energy.mT + 1e-8).rsqrt()[:, :, None, None]
        noise = self.noise[:, :, : x.shape[2], : x.shape[3]]
        return F.leaky_relu(x + self.strength * noise + self.bias, 0.2)


class StyleGan(nn.Module):
    """A mapping network, a learned constant, and two stylised convolutions at 8, 16 and 32."""

    def __init__(self, latent: int = 64, width: int = 64, levels: int = 3) -> None:
        super().__init__()
        self.mapping = nn.Sequential(
            *(m for _ in range(4) for m in (nn.Linear(latent, latent), nn.LeakyReLU(0.2)))
        )
        self.constant = nn.Parameter(torch.randn(1, width, 4, 4))
        self.first = Stylised(width, width, latent)
        self.levels = nn.ModuleList(
            nn.ModuleList([Stylised(width, width, latent), Stylised(width, width, latent)])
            for _ in range(levels)
        )
        self.rgb = nn.ModuleList(nn.Conv2d(width, 3, 1) for _ in range(levels))

    def forward(self, z: Tensor) -> Tensor:
        w = self.mapping(z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt())
        x = self.first(self.constant.expand(z.shape[0], -1, -1, -1), w)
        images = torch.zeros_like(x[:, :3])
        for (up, same), rgb in zip(self.levels, self.rgb, strict=True):
            x = same(up(F.interpolate(x, scale_factor=2.0, mode="nearest"), w), w)
            images = F.interpolate(images, scale_factor=2.0, mode="bilinear") + rgb(x)
        return images


class Unfolded(nn.Module):
    """The decoder of a small VAE: a linear layer seen as a picture of many channels."""

    def __init__(self, latent: int = 32, width: int = 128) -> None:
        super().__init__()
        self.width = width
        self.linear = nn.Linear(latent, width * 4 * 4)
        self.net = nn.Sequential(
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.ConvTranspose2d(width, width // 2, 4, 2, 1),
            nn.BatchNorm2d(width // 2),
            nn.ReLU(),
            nn.ConvTranspose2d(width // 2, width // 4, 4, 2, 1),
            nn.ReLU(),
            nn.ConvTranspose2d(width // 4, 3, 4, 2, 1),
            nn.Sigmoid(),
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.net(self.linear(z).view(-1, self.width, 4, 4))


class Perceptron(nn.Module):
    """The generator of Goodfellow et al. 2014 (arXiv 1406.2661): linear layers alone."""

    def __init__(self, latent: int = 64) -> None:
        super().__init__()
        widths = [latent, 128, 256, 512]
        layers: list[nn.Module] = []
        for inside, outside in pairwise(widths):
            layers += [nn.Linear(inside, outside), nn.BatchNorm1d(outside), nn.LeakyReLU(0.2)]
        self.net = nn.Sequential(*layers, nn.Linear(widths[-1], 28 * 28), nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        return self.net(z).view(z.size(0), 1, 28, 28)


class Gated(nn.Module):
    """Half of the channels say how much of the other half passes (Yu et al. 2018, 1806.03589)."""

    def __init__(self, inside: int, outside: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inside, 2 * outside, 3, stride, dilation, dilation)

    def forward(self, x: Tensor) -> Tensor:
        features, gate = self.conv(x).chunk(2, 1)
        return F.elu(features) * torch.sigmoid(gate)


class Inpainter(nn.Module):
    """A picture and what of it is missing, to the whole picture."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.encode = nn.Sequential(
            Gated(4, width), Gated(width, 2 * width, 2), Gated(2 * width, 2 * width)
        )
        self.widen = nn.Sequential(*(Gated(2 * width, 2 * width, dilation=d) for d in (2, 4, 8)))
        self.decode = Gated(2 * width, width)
        self.last = nn.Conv2d(2 * width, 3, 3, 1, 1)
        self.skip = Gated(4, width)

    def forward(self, picture: Tensor, mask: Tensor) -> Tensor:
        both = torch.cat([picture * (1 - mask), mask], 1)
        x = self.widen(self.encode(both))
        x = self.decode(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        made = torch.sigmoid(self.last(torch.cat([x, self.skip(both)], 1)))
        return picture * (1 - mask) + made * mask


class SrResNet(nn.Module):
    """The generator of Ledig et al. 2016 (arXiv 1609.04802), four times as large."""

    class Block(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(width, width, 3, 1, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.PReLU(),
                nn.Conv2d(width, width, 3, 1, 1, bias=False),
                nn.BatchNorm2d(width),
            )

        def forward(self, x: Tensor) -> Tensor:
            return x + self.body(x)

    def __init__(self, width: int = 64, blocks: int = 8) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Conv2d(3, width, 9, 1, 4), nn.PReLU())
        self.body = nn.Sequential(
            *(self.Block(width) for _ in range(blocks)),
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
        )
        up = (nn.Conv2d(width, 4 * width, 3, 1, 1), nn.PixelShuffle(2), nn.PReLU())
        more = (nn.Conv2d(width, 4 * width, 3, 1, 1), nn.PixelShuffle(2), nn.PReLU())
        self.tail = nn.Sequential(*up, *more, nn.Conv2d(width, 3, 9, 1, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(x)
        return self.tail(x + self.body(x))


class Shuffled(nn.Module):
    """Half of the channels pass, the other half is convolved, and both are interleaved.

    Ma et al. 2018 (arXiv 1807.11164).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.branch = nn.Sequential(
            nn.Conv2d(half, half, 1, bias=False),
            nn.BatchNorm2d(half),
            nn.ReLU(),
            nn.Conv2d(half, half, 3, 1, 1, groups=half, bias=False),
            nn.BatchNorm2d(half),
            nn.Conv2d(half, half, 1, bias=False),
            nn.BatchNorm2d(half),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, 1)
        x = torch.cat([left, self.branch(right)], 1)
        n, c, h, w = x.shape
        return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


class Excited(nn.Module):
    """An inverted residual with squeeze and excitation, as in MobileNetV3 (arXiv 1905.02244)."""

    def __init__(self, width: int, grow: int = 2) -> None:
        super().__init__()
        inner = width * grow
        self.widen = nn.Sequential(
            nn.Conv2d(width, inner, 1, bias=False),
            nn.BatchNorm2d(inner),
            nn.Hardswish(),
            nn.Conv2d(inner, inner, 3, 1, 1, groups=inner, bias=False),
            nn.BatchNorm2d(inner),
            nn.Hardswish(),
        )
        self.squeeze = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(inner, inner // 4, 1),
            nn.ReLU(),
            nn.Conv2d(inner // 4, inner, 1),
            nn.Hardsigmoid(),
        )
        self.narrow = nn.Sequential(nn.Conv2d(inner, width, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        wide = self.widen(x)
        return x + self.narrow(wide * self.squeeze(wide))


class Attentive(nn.Module):
    """Every place looks at every other: the self-attention of Zhang et al. 2018 (1805.08318)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(width, width // 2, 1)
        self.key = nn.Conv2d(width, width // 2, 1)
        self.value = nn.Conv2d(width, width, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        weights = (self.query(x).flatten(2).mT @ self.key(x).flatten(2)).softmax(-1)
        seen = self.value(x).flatten(2) @ weights.mT
        return x + self.gamma * seen.view_as(x)


class Layered(nn.Module):
    """Latents ``(N, 64)`` to 32x32 pictures: at each size, a block of the given kind."""

    def __init__(self, block: type[nn.Module], width: int = 64, latent: int = 64) -> None:
        super().__init__()
        self.start = nn.ConvTranspose2d(latent, width, 4)
        self.levels = nn.Sequential(
            *(
                nn.Sequential(block(width), nn.Upsample(scale_factor=2), nn.Conv2d(width, width, 1))
                for _ in range(3)
            )
        )
        self.last = nn.Sequential(nn.ReLU(), nn.Conv2d(width, 3, 3, 1, 1), nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        return self.last(self.levels(self.start(z[:, :, None, None])))


def cyclegan_resnet() -> nn.Module:
    return CycleGan()


def pix2pix_unet() -> nn.Module:
    return Pix2Pix()


def stylegan() -> nn.Module:
    return StyleGan()


def vae_decoder() -> nn.Module:
    return Unfolded()


def mlp_gan() -> nn.Module:
    return Perceptron()


def gated_inpainting() -> nn.Module:
    return Inpainter()


def srresnet() -> nn.Module:
    return SrResNet()


def shufflenet() -> nn.Module:
    return Layered(Shuffled)


def mobilenet() -> nn.Module:
    return Layered(Excited)


def self_attention() -> nn.Module:
    return Layered(Attentive)
