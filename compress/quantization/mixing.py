"""Which products stay in floating point, by what their rounding costs the picture: measured.

Each product is put back alone and the picture is read again. Those whose rounding costs most for
what it saves are put back first, as many as the SSIM asked for needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from compress.quantization.pairs import Pairs
from genslim.console import Console

FEW = 8
"""Of so many products at most each is tried rounded again: every try is a look at the picture."""


@dataclass
class Mixed:
    """Products in floating point, and what that came to."""

    pairs: Pairs
    ssim: float
    names: list[str] = field(default_factory=list)
    """Of the products in floating point."""


def costs_of(
    pairs: Pairs, ssim: float, ssim_of: Callable[[Pairs], float], console: Console
) -> dict[str, float]:
    """What the rounding of each product costs: the SSIM without it less the SSIM with it.

    Args:
        pairs: all rounded.
        ssim: of ``pairs``.
        ssim_of: reads the SSIM of a graph.
        console: shows progress.
    """
    names = [product.name for product in pairs.products if product.rounded]
    costs = {}
    with console.progress("what each layer's rounding costs", len(names)) as bar:
        for name in names:
            costs[name] = ssim_of(pairs.without([name])) - ssim
            bar.advance(note=f"{name}: {costs[name]:+.4f}")
    return costs


def hold(
    start: Mixed,
    least: float,
    ssim_of: Callable[[Pairs], float],
    costs: Mapping[str, float],
    savings: Mapping[str, float],
) -> Mixed:
    """The fewest products in floating point with which SSIM is at least ``least``.

    Products are ordered by what they cost for each millisecond that they save; how many of them
    are needed is found by bisection, and those that turn out not to be are rounded again.

    Args:
        start: all rounded.
        least: what is asked.
        ssim_of: reads the SSIM of a graph.
        costs: of each product, from :func:`costs_of`.
        savings: milliseconds that each saves by being rounded, where that is known.

    Returns:
        What holds it; else the best that was found.
    """
    usual = sorted(savings.values())[len(savings) // 2] if savings else 1.0

    def worth(name: str) -> float:
        return costs[name] / max(savings.get(name, usual), 0.05 * usual, 1e-9)

    order = sorted(costs, key=worth, reverse=True)
    best = start

    def tried(names: list[str]) -> Mixed:
        nonlocal best
        changed = start.pairs.without(names)
        found = Mixed(changed, ssim_of(changed), names)
        if found.ssim > best.ssim:
            best = found
        return found

    low, high, holding = 0, len(order) - 1, None  # all of them would leave nothing in int8
    count = 1
    while low < high:  # doubling first: few are needed as a rule
        found = tried(order[:count])
        if found.ssim >= least:
            holding, high = found, count
        else:
            low = count
        count = min(high, 2 * count) if holding is None else (low + high) // 2
        if count == low:
            break
    if holding is None:
        return best
    few = len(holding.names) <= FEW
    for name in reversed(holding.names[:-1]) if few else ():
        found = tried([other for other in holding.names if other != name])
        if found.ssim >= least:
            holding = found
    return holding
