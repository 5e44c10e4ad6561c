"""The rules by the names of the operations, and what a rule is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from compress.channels.labels import Ids, Labels, Planes

LEAST_GROUPS = 8
"""Norms and convolutions with so many groups lose whole groups; with fewer, channels of each."""


@dataclass(frozen=True)
class Product:
    """A convolution or matrix product: what it costs, by the labels of its two sides."""

    macs: int
    inside: Ids
    """Labels of what it sums over; empty where nothing of that can go."""
    outside: Ids
    """Labels of what it makes; empty where nothing of that can go."""


@dataclass
class State:
    """What is known while a network runs."""

    labels: Labels
    planes_of: Callable[[Any], Planes]
    products: list[Product] = field(default_factory=list)


Rule = Callable[[State, Any, Sequence[Any], dict[str, Any], Any], list[Planes]]
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule for operations of ATen."""

    def register(function: Rule) -> Rule:
        for name in names:
            RULES[name] = function
        return function

    return register


def whole_groups(groups: int) -> bool:
    """Whether layers with so many groups of channels lose whole groups."""
    return groups >= LEAST_GROUPS
