"""One small network for each way in which channels go from layer to layer.

Each takes ``(N, 4, 8, 8)`` where nothing else is said, and makes a picture of three channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from masking import Net
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations


@dataclass(frozen=True)
class Case:
    """A network, and what is known of it."""

    build: Callable[[], nn.Module]
    cut: Mapping[str, int]
    """Layers that lose half of their channels, and how many they have then."""
    left: Mapping[str, str] = field(default_factory=dict)
    """Layers that must stay whole, and a word of the reason."""
    exact: bool = True
    """Whether nothing is computed over channels: a cut is the same as masking."""
    fill: float = float("nan")
    """What is put in channels that are masked: zeros, where activations are multiplied and summed
    by code."""
    shape: tuple[int, ...] = (4, 8, 8)


def conv(inside: int, outside: int, kernel: int = 3, **settings: object) -> nn.Conv2d:
    settings.setdefault("padding", kernel // 2)
    return nn.Conv2d(inside, outside, kernel, **settings)  # type: ignore[arg-type]


def settled(norm: nn.Module) -> nn.Module:
    """A norm with statistics and scales that are not those of a new one."""
    for tensor in (*norm.parameters(), *norm.buffers()):
        if tensor.is_floating_point():
            nn.init.uniform_(tensor, 0.5, 1.5)
    return norm


def between(*layers: nn.Module, width: int = 16, out: int | None = None) -> nn.Module:
    """Layers named 1, 2, … between a convolution 0 to ``width`` channels and one to a picture."""
    return nn.Sequential(conv(4, width), *layers, conv(out or width, 3))


# -- reshaping ---------------------------------------------------------------------------------


def shuffle_by_hand(m: Net, x: Tensor) -> Tensor:
    x = m.first(x)
    n, c, h, w = x.shape
    x = x.view(n, c // 4, 2, 2, h, w).permute(0, 1, 4, 2, 5, 3)
    return m.last(x.reshape(n, c // 4, 2 * h, 2 * w))


def unshuffle_by_hand(m: Net, x: Tensor) -> Tensor:
    x = m.first(x)
    n, c, h, w = x.shape
    x = x.view(n, c, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 2, 4)
    return m.last(x.reshape(n, 4 * c, h // 2, w // 2))


def mix_groups(m: Net, x: Tensor) -> Tensor:
    x = m.second(m.first(x))
    n, c, h, w = x.shape
    return m.last(x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w))


def places_first(m: Net, x: Tensor) -> Tensor:
    x = m.first(x).permute(0, 2, 3, 1)
    return m.last(m.second(x).relu().permute(0, 3, 1, 2))


def flat_and_back(m: Net, x: Tensor) -> Tensor:
    x = m.second(m.first(x).relu().flatten(1)).relu()
    return m.last(x.reshape(x.shape[0], -1, 4, 4))


def viewed(m: Net, x: Tensor) -> Tensor:
    x = m.second(m.first(x).relu().flatten(1)).relu()
    return m.last(x.view(x.shape[0], m.width, 4, 4))


# -- attention ---------------------------------------------------------------------------------


def attend(m: Net, x: Tensor) -> Tensor:
    """As vision transformers write it: one layer for all three, unpacked by a stored number."""
    x = m.first(x)
    n, c, h, w = x.shape
    q, k, v = m.qkv(x.flatten(2).mT).view(n, h * w, 3, m.heads, -1).permute(2, 0, 3, 1, 4)
    seen = ((q @ k.mT) * m.scale).softmax(-1) @ v
    out = m.proj(seen.transpose(1, 2).reshape(n, h * w, -1)).mT.view(n, c, h, w)
    return m.last(x + out)


def attend_fused(m: Net, x: Tensor) -> Tensor:
    """As diffusers writes it: three layers and PyTorch's own attention."""
    x = m.first(x)
    n, c, h, w = x.shape
    places = x.flatten(2).mT
    size = m.q(places).shape[-1] // m.heads
    q, k, v = (
        layer(places).view(n, -1, m.heads, size).transpose(1, 2) for layer in (m.q, m.k, m.v)
    )
    seen = F.scaled_dot_product_attention(q, k, v)
    seen = seen.transpose(1, 2).reshape(n, -1, m.heads * size)
    return m.last(x + m.proj(seen).mT.reshape(n, c, h, w))


def attend_over_channels(m: Net, x: Tensor) -> Tensor:
    """As Restormer does: channels look at channels."""
    x = m.first(x)
    q, k, v = (y.flatten(2) for y in m.qkv(x).chunk(3, 1))
    weights = (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT).softmax(-1)
    return m.last(x + m.proj((weights @ v).view_as(x)))


def attend_by_torch(m: Net, x: Tensor) -> Tensor:
    x = m.first(x)
    places = x.flatten(2).mT
    return m.last(x + m.attention(places, places, places)[0].mT.view_as(x))


# -- frequencies -------------------------------------------------------------------------------


def frequencies_side_by_side(m: Net, x: Tensor) -> Tensor:
    x = m.first(x)
    seen = torch.fft.rfft2(x)
    real, imaginary = m.second(torch.cat([seen.real, seen.imag], 1)).relu().chunk(2, 1)
    return m.last(x + torch.fft.irfft2(torch.complex(real, imaginary), s=x.shape[2:]))


def frequencies_in_turn(m: Net, x: Tensor) -> Tensor:
    """As LaMa does."""
    x = m.first(x)
    seen = torch.view_as_real(torch.fft.rfft2(x)).permute(0, 1, 4, 2, 3)
    n, _, _, h, w = seen.shape
    seen = m.second(seen.reshape(n, -1, h, w)).relu()
    seen = torch.view_as_complex(seen.view(n, -1, 2, h, w).permute(0, 1, 3, 4, 2).contiguous())
    return m.last(torch.fft.irfft2(seen, s=x.shape[2:]))


def transformed_channels(m: Net, x: Tensor) -> Tensor:
    return m.last(torch.fft.fft(m.first(x), dim=1).abs())


# -- sums and joins ----------------------------------------------------------------------------


def dense(m: Net, x: Tensor) -> Tensor:
    x = m.first(x)
    a = m.a(x).relu()
    b = m.b(torch.cat([x, a], 1)).relu()
    return m.last(torch.cat([x, a, b], 1))


def excite(m: Net, x: Tensor) -> Tensor:
    x = m.first(x).relu()
    return m.last(x * m.up(m.down(x.mean((2, 3), keepdim=True)).relu()).sigmoid())


def cut_up(m: Net, x: Tensor) -> Tensor:
    a, b = m.first(x)[:, : m.half], m.first(x)[:, m.half :]
    return m.last(a.tanh() * b)


def split_by_number(m: Net, x: Tensor) -> Tensor:
    a, b = torch.split(m.first(x), m.part, 1)
    return m.last(a.tanh() * b)


def split_unevenly(m: Net, x: Tensor) -> Tensor:
    a, b = torch.split(m.first(x), m.parts, 1)
    return m.last(torch.cat([m.second(a), b], 1))


def written_in_place(m: Net, x: Tensor) -> Tensor:
    x = m.first(x)
    y = torch.zeros_like(x)
    y[:, : x.shape[1] // 2] = x[:, x.shape[1] // 2 :]
    y[:, x.shape[1] // 2 :] = m.second(x)[:, : x.shape[1] // 2]
    return m.last(y)


def sum_in_place(m: Net, x: Tensor) -> Tensor:
    x = m.first(x)
    x += m.second(x)
    x.mul_(0.5).relu_()
    return m.last(x)


def sorted_channels(m: Net, x: Tensor) -> Tensor:
    return m.last(m.second(m.first(x)).sort(1).values)


def inverted(m: Net, x: Tensor) -> Tensor:
    x = m.first(x)
    square = x.flatten(2) @ x.flatten(2).mT + torch.eye(x.shape[1])
    return m.last((torch.linalg.inv(square) @ x.flatten(2)).view_as(x))


class Scaled(nn.Module):
    """A learned matrix of a module of its own."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(outside, inside) * 0.3)
        self.offset = nn.Parameter(torch.randn(outside))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("oc,nchw->nohw", self.matrix, x) + self.offset[:, None, None]


def normed_by_hand(m: Net, x: Tensor) -> Tensor:
    x = m.first(x)
    mean, variance = x.mean(1, keepdim=True), x.var(1, keepdim=True, correction=0)
    return m.last((x - mean) * (variance + 1e-6).rsqrt() * m.scale)


def tied() -> nn.Module:
    net = nn.Sequential(conv(4, 16), conv(16, 16), nn.ReLU(), conv(16, 16), conv(16, 3))
    net[3].weight = net[1].weight
    return net


def channels_last_norm() -> nn.Module:
    norm = settled(nn.LayerNorm(16))
    return Net(places_first, first=conv(4, 16), second=norm, last=conv(16, 3))


CASES: dict[str, Case] = {
    "convolutions": Case(
        lambda: between(nn.ReLU(), conv(16, 24), out=24), {"0": 8, "2": 12}, {"3": "picture"}
    ),
    "transposed": Case(
        lambda: between(nn.ConvTranspose2d(16, 24, 4, 2, 1), settled(nn.BatchNorm2d(24)), out=24),
        {"0": 8, "1": 12},
    ),
    "transposed, few groups": Case(
        lambda: between(nn.ConvTranspose2d(16, 24, 4, 2, 1, groups=2), out=24), {"0": 8, "1": 12}
    ),
    "transposed, many groups": Case(
        lambda: between(nn.ConvTranspose2d(16, 32, 4, 2, 1, groups=8), out=32), {"0": 8, "1": 16}
    ),
    "transposed depthwise": Case(
        lambda: between(nn.ConvTranspose2d(16, 16, 4, 2, 1, groups=16)), {"0": 8, "1": 8}
    ),
    "few groups": Case(
        lambda: between(conv(16, 24, groups=2), nn.ReLU(), conv(24, 32, groups=4), out=32),
        {"0": 8, "1": 12, "3": 16},
    ),
    "many groups": Case(
        lambda: between(conv(16, 32, groups=8), conv(32, 64, groups=16), out=64),
        {"0": 8, "1": 16, "2": 32},
    ),
    "depthwise": Case(lambda: between(conv(16, 16, groups=16)), {"0": 8, "1": 8}),
    "depthwise, two each": Case(
        lambda: between(conv(16, 32, groups=16), nn.GELU(), out=32), {"0": 8, "1": 16}
    ),
    "linear": Case(
        lambda: nn.Sequential(
            nn.Linear(8, 32), settled(nn.BatchNorm1d(32)), nn.ReLU(), nn.Linear(32, 24), nn.Tanh(),
            nn.Linear(24, 3 * 16), nn.Unflatten(1, (3, 4, 4)),
        ),
        {"0": 16, "3": 12},
        {"5": "picture"},
        shape=(8,),
    ),
    "batch norm": Case(lambda: between(settled(nn.BatchNorm2d(16)), nn.ReLU()), {"0": 8}),
    "instance norm": Case(
        lambda: between(settled(nn.InstanceNorm2d(16, affine=True)), nn.ReLU()), {"0": 8}
    ),
    "tracked instance norm": Case(
        lambda: between(settled(nn.InstanceNorm2d(16, track_running_stats=True))), {"0": 8}
    ),
    "many normed groups": Case(
        lambda: between(settled(nn.GroupNorm(8, 32)), width=32), {"0": 16}
    ),
    "few normed groups": Case(
        lambda: between(settled(nn.GroupNorm(2, 16)), nn.SiLU()), {"0": 8}, exact=False
    ),
    "layer norm": Case(channels_last_norm, {"first": 8}, exact=False),
    "norm by hand": Case(
        lambda: Net(
            normed_by_hand, first=conv(4, 16), last=conv(16, 3),
            scale=nn.Parameter(torch.rand(1, 16, 1, 1)),
        ),
        {"first": 8},
        exact=False,
    ),
    "local response norm": Case(lambda: between(nn.LocalResponseNorm(3)), {}, {"0": ""}),
    "prelu": Case(lambda: between(nn.PReLU(16), conv(16, 16), nn.PReLU()), {"0": 8, "2": 8}),
    "dense block": Case(
        lambda: Net(
            dense, first=conv(4, 16), a=conv(16, 8), b=conv(24, 8), last=conv(32, 3)
        ),
        {"first": 8, "a": 4, "b": 4},
    ),
    "channels by slices": Case(
        lambda: Net(cut_up, first=conv(4, 32), last=conv(16, 3), half=16), {"first": 16}
    ),
    "channels by a stored split": Case(
        lambda: Net(split_by_number, first=conv(4, 32), last=conv(16, 3), part=16), {"first": 16}
    ),
    "channels by an uneven split": Case(
        lambda: Net(
            split_unevenly, first=conv(4, 24), second=conv(8, 8), last=conv(24, 3), parts=[8, 16]
        ),
        {"first": 12, "second": 4},
    ),
    "chunks": Case(
        lambda: Net(
            lambda m, x: m.last(m.first(x).chunk(2, 1)[0].sigmoid() * m.first(x).chunk(2, 1)[1]),
            first=conv(4, 32), last=conv(16, 3),
        ),
        {"first": 16},
    ),
    "gated linear units": Case(
        lambda: Net(
            lambda m, x: m.last(F.glu(m.first(x), 1)), first=conv(4, 32), last=conv(16, 3)
        ),
        {"first": 16},
    ),
    "frequencies, parts side by side": Case(
        lambda: Net(
            frequencies_side_by_side, first=conv(4, 16), second=conv(32, 32, 1), last=conv(16, 3)
        ),
        {"first": 8, "second": 16},
    ),
    "frequencies, parts in turn": Case(
        lambda: Net(
            frequencies_in_turn, first=conv(4, 16), second=conv(32, 48, 1), last=conv(24, 3)
        ),
        {"first": 8, "second": 24},
    ),
    "transformed channels": Case(
        lambda: Net(transformed_channels, first=conv(4, 16), last=conv(16, 3)),
        {},
        {"first": "transformed"},
    ),
    "stack": Case(
        lambda: Net(
            lambda m, x: m.last(torch.stack([m.a(x), m.b(x)]).mean(0)),
            a=conv(4, 16), b=conv(4, 16), last=conv(16, 3),
        ),
        {"a": 8, "b": 8},
    ),
    "maxout": Case(
        lambda: Net(
            lambda m, x: m.last(torch.maximum(m.a(x), m.b(x))),
            a=conv(4, 16), b=conv(4, 16), last=conv(16, 3),
        ),
        {"a": 8, "b": 8},
    ),
    "flat and back": Case(
        lambda: Net(
            flat_and_back, first=conv(4, 16), second=nn.Linear(16 * 64, 16 * 16), last=conv(16, 3)
        ),
        {"first": 8, "second": 128},
    ),
    "a view by a stored width": Case(
        lambda: Net(
            viewed, first=conv(4, 16), second=nn.Linear(16 * 64, 32 * 16), last=conv(32, 3),
            width=32,
        ),
        {"first": 8, "second": 256},
    ),
    "places first": Case(
        lambda: Net(places_first, first=conv(4, 16), second=nn.Linear(16, 24), last=conv(24, 3)),
        {"first": 8, "second": 12},
    ),
    "pixel shuffle": Case(
        lambda: nn.Sequential(conv(4, 64), nn.PixelShuffle(2), nn.ReLU(), conv(16, 3)), {"0": 32}
    ),
    "pixel unshuffle": Case(
        lambda: nn.Sequential(conv(4, 16), nn.PixelUnshuffle(2), conv(64, 3)), {"0": 8}
    ),
    "pixel shuffle by hand": Case(
        lambda: Net(shuffle_by_hand, first=conv(4, 64), last=conv(16, 3)), {"first": 32}
    ),
    "pixel unshuffle by hand": Case(
        lambda: Net(unshuffle_by_hand, first=conv(4, 16), last=conv(64, 3)), {"first": 8}
    ),
    "a shuffled picture": Case(
        lambda: nn.Sequential(conv(4, 16), conv(16, 12), nn.PixelShuffle(2)),
        {"0": 8},
        {"1": "picture"},
    ),
    "channel shuffle": Case(
        lambda: Net(
            mix_groups, first=conv(4, 16), second=conv(16, 16, groups=2), last=conv(16, 3, groups=1)
        ),
        {"first": 8, "second": 8},
    ),
    "channel shuffle layer": Case(
        lambda: between(conv(16, 16, groups=2), nn.ChannelShuffle(2), conv(16, 16, groups=2)),
        {"0": 8, "1": 8, "3": 8},
    ),
    "attention": Case(
        lambda: Net(
            attend, first=conv(4, 16), qkv=nn.Linear(16, 48), proj=nn.Linear(16, 16),
            last=conv(16, 3), heads=2, scale=8**-0.5,
        ),
        {"first": 8, "proj": 8, "qkv": 24},
        fill=0.0,
    ),
    "fused attention": Case(
        lambda: Net(
            attend_fused, first=conv(4, 32), q=nn.Linear(32, 32), k=nn.Linear(32, 32),
            v=nn.Linear(32, 32), proj=nn.Linear(32, 32), last=conv(32, 3), heads=8,
        ),
        {"first": 16, "q": 16, "k": 16, "v": 16, "proj": 16},
    ),
    "attention over channels": Case(
        lambda: Net(
            attend_over_channels, first=conv(4, 16), qkv=conv(16, 48, 1), proj=conv(16, 16, 1),
            last=conv(16, 3),
        ),
        {"first": 8, "proj": 8, "qkv": 24},
        exact=False,
    ),
    "PyTorch's attention": Case(
        lambda: Net(
            attend_by_torch, first=conv(4, 16), last=conv(16, 3),
            attention=nn.MultiheadAttention(16, 2, batch_first=True),
        ),
        {},
        {"first": ""},
    ),
    "residual": Case(
        lambda: Net(
            lambda m, x: m.last(m.first(x) + m.b(m.a(m.first(x)).relu()) * 0.2),
            first=conv(4, 16), a=conv(16, 24), b=conv(24, 16), last=conv(16, 3),
        ),
        {"first": 8, "a": 12, "b": 8},
    ),
    "residual to the picture": Case(
        lambda: Net(
            lambda m, x: x[:, :3] + m.last(m.first(x).relu()), first=conv(4, 16), last=conv(16, 3)
        ),
        {"first": 8},
        {"last": "fixed size"},
    ),
    "squeeze and excite": Case(
        lambda: Net(
            excite, first=conv(4, 16), down=conv(16, 8, 1), up=conv(8, 16, 1), last=conv(16, 3)
        ),
        {"first": 8, "down": 4, "up": 8},
    ),
    "a learned scale": Case(
        lambda: Net(
            lambda m, x: m.last(m.first(x) * m.scale),
            first=conv(4, 16), last=conv(16, 3), scale=nn.Parameter(torch.rand(1, 16, 1, 1)),
        ),
        {"first": 8},
    ),
    "a learned constant": Case(
        lambda: Net(
            lambda m, z: m.last(m.constant * m.style(z)[:, :, None, None]),
            constant=nn.Parameter(torch.rand(1, 16, 4, 4)), style=nn.Linear(8, 16),
            last=conv(16, 3),
        ),
        {"style": 8},
        shape=(8,),
    ),
    "a fixed pattern": Case(
        lambda: Net(
            lambda m, x: m.last(m.first(x) + torch.ones(16, 1, 1) * 0.3),
            first=conv(4, 16), last=conv(16, 3),
        ),
        {},
        {"first": "fixed size"},
    ),
    "upsampling": Case(
        lambda: between(
            nn.Upsample(scale_factor=2), conv(16, 16),
            nn.Upsample(scale_factor=2, mode="bilinear"), conv(16, 16),
            nn.Upsample(scale_factor=2, mode="bicubic"), nn.AvgPool2d(2), nn.MaxPool2d(2),
        ),
        {"0": 8, "2": 8, "4": 8},
    ),
    "padding": Case(
        lambda: between(
            nn.ReflectionPad2d(1), conv(16, 16, padding=0), nn.ZeroPad2d(1),
            conv(16, 16, padding=0), nn.ReplicationPad2d(1),
            conv(16, 16, padding_mode="reflect"), nn.ConstantPad2d(1, 0.5),
        ),
        {"0": 8, "2": 8, "4": 8, "6": 8},
    ),
    "padded channels": Case(
        lambda: Net(
            lambda m, x: m.last(F.pad(m.first(x), (0, 0, 0, 0, 4, 4))),
            first=conv(4, 16), last=conv(24, 3),
        ),
        {"first": 8},
    ),
    "tied weights": Case(tied, {"0": 8, "1": 8, "3": 8}),
    "a layer used twice": Case(
        lambda: Net(
            lambda m, x: m.last(m.body(m.body(m.first(x)).relu())),
            first=conv(4, 16), body=conv(16, 16), last=conv(16, 3),
        ),
        {"first": 8, "body": 8},
    ),
    "in-place sum": Case(
        lambda: Net(sum_in_place, first=conv(4, 16), second=conv(16, 16), last=conv(16, 3)),
        {"first": 8, "second": 8},
    ),
    "written in place": Case(
        lambda: Net(written_in_place, first=conv(4, 16), second=conv(16, 16), last=conv(16, 3)),
        {"first": 8, "second": 8},
    ),
    "sorted": Case(
        lambda: Net(sorted_channels, first=conv(4, 16), second=conv(16, 16), last=conv(16, 3)),
        {"first": 8},
        {"second": "sort"},
    ),
    "an inverse": Case(
        lambda: Net(inverted, first=conv(4, 16), last=conv(16, 3)), {}, {"first": "fixed size"}
    ),
    "a matrix of its own": Case(
        lambda: between(Scaled(16, 24), nn.ReLU(), out=24), {"0": 8, "1.matrix": 12}
    ),
    "spectral norm": Case(
        lambda: between(nn.utils.spectral_norm(conv(16, 16)), nn.ReLU()), {"0": 8, "1": 8}
    ),
    "parametrised norms": Case(
        lambda: between(
            parametrizations.spectral_norm(conv(16, 16)), nn.ReLU(),
            parametrizations.weight_norm(conv(16, 16)),
        ),
        {"0": 8, "1": 8, "3": 8},
    ),
    "weight norm": Case(
        lambda: between(nn.utils.weight_norm(conv(16, 16)), nn.ReLU()), {"0": 8, "1": 8}
    ),
    "along one axis": Case(
        lambda: nn.Sequential(
            nn.Flatten(2), nn.Conv1d(4, 16, 3, padding=1), nn.ReLU(), nn.Conv1d(16, 3, 1),
            nn.Unflatten(2, (8, 8)),
        ),
        {"1": 8},
    ),
}  # fmt: skip
