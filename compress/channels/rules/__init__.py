"""What each operation does to channels: which labels it unites, and which its result carries.

One function for each kind of operation, registered under the names that PyTorch's dispatcher has
for them. An operation without a rule keeps every channel that reaches it.
"""

from __future__ import annotations

from typing import Any

import torch

from compress.channels.operations import short_name
from compress.channels.rules import fourier, layout, norms, pointwise, products, reductions
from compress.channels.rules.registry import RULES, Product, Rule, State

__all__ = [
    "Product",
    "State",
    "fourier",
    "layout",
    "norms",
    "pointwise",
    "products",
    "reductions",
    "rule_of",
]


def rule_of(func: Any) -> Rule | None:
    """The rule for an operation; None where there is none."""
    rule = RULES.get(short_name(func))
    if rule is None and torch.Tag.pointwise in func.tags:
        return pointwise.pointwise
    return rule
