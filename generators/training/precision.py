"""What networks compute in while they are trained: float32, or bfloat16 where hardware has it.

Weights, their gradients and their averages stay float32 (Micikevicius et al. 2017, "Mixed Precision
Training", arXiv 1710.03740); bfloat16 has the range of float32, so that no loss need be scaled
(Kalamkar et al. 2019, arXiv 1905.12322).
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

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
        with torch.autocast(device.type, torch.bfloat16):
            made = self.network(*inputs)
        return in_float32(made)


def in_float32(made: Any) -> Any:
    """Floating-point tensors, alone or in tuples and lists, as float32; the rest as it is."""
    if isinstance(made, Tensor):
        return made.float() if made.is_floating_point() else made
    if isinstance(made, tuple | list):
        return type(made)(in_float32(part) for part in made)
    return made
