"""What networks compute in while they are trained: float32, or bfloat16 where hardware has it.

Weights, their gradients and their averages stay float32 (Micikevicius et al. 2017, "Mixed Precision
Training", arXiv 1710.03740); bfloat16 has the range of float32, so that no loss need be scaled
(Kalamkar et al. 2019, arXiv 1905.12322).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

Precision = Literal["fp32", "bf16"]


class InBfloat16(nn.Module):
    """``network``, called as before; convolutions and products inside are of bfloat16.

    What it gives is float32 again, so that losses are worked out exactly.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Any) -> Any:
        """What the network makes of ``inputs``."""
        device = next(self.network.parameters()).device
        with torch.autocast(device.type, torch.bfloat16), quick_attention(device):
            made = self.network(*inputs)
        return in_float32(made)


@contextmanager
def quick_attention(device: torch.device) -> Iterator[None]:
    """Attention as its single products on a CPU, where the fused one is slow in bfloat16.

    Forwards and backwards, a layer of text to image takes 33 ms so, and 135 ms fused, on one core.
    """
    if device.type != "cpu":
        yield
        return
    flags = torch.backends.cuda  # the flag is named for CUDA, and rules every device
    before = flags.fp16_bf16_reduction_math_sdp_allowed()
    flags.allow_fp16_bf16_reduction_math_sdp(True)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        flags.allow_fp16_bf16_reduction_math_sdp(before)


def in_float32(made: Any) -> Any:
    """Floating-point tensors, alone or in tuples and lists, as float32; the rest as it is."""
    if isinstance(made, Tensor):
        return made.float() if made.is_floating_point() else made
    if isinstance(made, tuple | list):
        return type(made)(in_float32(part) for part in made)
    return made
