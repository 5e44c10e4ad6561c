"""What each group of channels is worth: cut alone, at several ratios, and the SSIM that is left.

Nothing is changed for good: this is what one looks at before pruning, to know which layers to
keep and how far to go.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal

import torch
from torch import Tensor, nn

from compress.allocation import Choice
from compress.batches import in_batches, usual_batch, usual_validation
from compress.channels.groups import Group
from compress.compensation import Seen, portions, stand_in
from compress.cutting import Cutter
from compress.importance import Importance
from genslim.console import SILENT, Console
from genslim.errors import UserError
from genslim.generator import Generator, run_module
from genslim.inputs import Inputs
from genslim.metrics import ssim

Recovery = Literal["none", "closed-form"]


@dataclass(frozen=True)
class Point:
    """One group, cut to one ratio."""

    ratio: float
    """Asked for."""
    removed: int
    """Channels that went: what the rounding allows that is nearest to the ratio; may be none."""
    ssim: float
    """Mean SSIM to the original."""
    macs_saved: float
    """Of all the generator's multiply-accumulate operations, between 0 and 1."""
    cost: float | None
    """What the ranking predicted, in units of the picture's squared error; None: can't tell."""


@dataclass(frozen=True)
class Curve:
    """One group at every ratio."""

    group: str
    layers: tuple[str, ...]
    """All layers that make its channels."""
    channels: int
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Sensitivity:
    """What was found out about a generator."""

    name: str
    ratios: tuple[float, ...]
    ssim: float
    """Of the generator as it is, to its original: 1 before any step."""
    count: int
    """Inputs that SSIM is the mean over."""
    recover: Recovery
    curves: tuple[Curve, ...]
    left: Mapping[str, str] = field(default_factory=dict)
    """Layers none of whose channels can go, with the reason."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        return asdict(self)


def check(
    generator: Generator, ratios: Sequence[float], round_to: int = 8, count: int | None = None
) -> None:
    """Check what was asked, and what it is asked of.

    Raises:
        UserError: a ratio or a number is out of its range, or the generator can't be looked at.
    """
    bad = [ratio for ratio in ratios if not 0 < ratio < 1]
    if bad or not ratios:
        what = f"ratio {bad[0]} is not between 0 and 1" if bad else "no ratio was named"
        raise UserError(what, hint="try --ratios 0.25,0.5,0.75")
    if round_to < 1:
        raise UserError(f"round_to {round_to} is less than 1", hint="try --round-to 8")
    if count is not None and count < 1:
        raise UserError(f"count {count} is less than 1", hint="try --count 8")
    if generator.signature.needs_images:
        raise UserError(
            f"{generator.label} takes images, and no folder was named",
            hint="name one: --images DIR",
        )
    generator.trainable()


@torch.no_grad()
def sensitivity(
    generator: Generator,
    ratios: Sequence[float] = (0.25, 0.5, 0.75),
    *,
    groups: str = "*",
    recover: Recovery = "closed-form",
    importance: Importance = "reconstruction",
    round_to: int = 8,
    count: int | None = None,
    seed: int = 0,
    console: Console = SILENT,
) -> Sensitivity:
    """Cut each group of channels alone, and read the SSIM to the original.

    Args:
        generator: has a module; left as it is.
        ratios: how much of a group goes, each between 0 and 1.
        groups: only groups whose name, or that of one of their layers, matches this pattern.
        recover: whether the layers that a group feeds get the weights with which what is left of
            their inputs stands in for what is gone, by least squares.
        importance: by what the channels of a group are ranked.
        round_to: channel counts become multiples of this.
        count: inputs that SSIM is read on; by default 4 images or 32 latents.
        seed: of the inputs.
        console: shows progress.

    Raises:
        UserError: something of that won't do, or no group can be cut.
    """
    check(generator, ratios, round_to, count)
    cutter = Cutter(generator, round_to=round_to, importance=importance, seed=seed, console=console)
    chosen = named(cutter, groups)
    signature = generator.signature
    count = count or usual_validation(signature) // 2
    inputs = Inputs(signature, "validation", seed).draw(count)
    expected = images_of(generator.original.module, generator, inputs)

    def quality(module: nn.Module) -> float:
        made = images_of(module, generator, inputs)
        figures = ssim(made, expected, data_range=signature.data_range)
        return round(float(figures.mean()), 4)

    whole = quality(cutter.module)

    def curve(group: Group, seen: Seen) -> Curve:
        points: list[Point] = []
        read = {0: whole}
        for ratio in ratios:
            removed = nearest_count(cutter.choice, group, ratio)
            if removed not in read:
                module, _ = cutter.remove({group.name: removed})
                stand_in(module, cutter, group, removed, seen)
                read[removed] = quality(module)
            saved = round(cutter.share({group.name: removed}, "macs"), 5)
            cost = float(cutter.choice.rankings[group.name].costs[removed])
            known = None if math.isnan(cost) else cost
            points.append(Point(ratio, removed * group.width, read[removed], saved, known))
            bar.advance(note=f"{group.name}: {ratio:.0%} gone, SSIM {read[removed]:.4f}")
        channels = len(group.atoms) * group.width
        return Curve(group.name, group.layers, channels, tuple(points))

    curves = []
    with console.progress("cutting groups", len(chosen) * len(ratios)) as bar:
        if recover == "none":
            curves = [curve(group, {}) for group in chosen]
        else:
            for some, seen in portions(cutter, chosen, generator, seed):
                curves += [curve(group, seen) for group in some]
    return Sensitivity(
        generator.name, tuple(ratios), whole, count, recover, tuple(curves), dict(cutter.why)
    )


def named(cutter: Cutter, pattern: str) -> list[Group]:
    """The groups that a pattern names.

    Raises:
        UserError: there are none.
    """
    groups = list(cutter.choice.groups)
    if not groups:
        reasons = [f"{layer} {why}" for layer, why in cutter.why.items()]
        raise UserError(
            "no group of channels can be cut" + (f": {reasons[0]}" if reasons else ""),
            hint="a smaller --round-to allows smaller groups",
        )
    chosen = [g for g in groups if any(fnmatchcase(n, pattern) for n in (g.name, *g.layers))]
    if not chosen:
        shown = ", ".join(g.name for g in groups[:12]) + (", …" if groups[12:] else "")
        raise UserError(f"no group matches {pattern!r}", hint=f"there are {shown}")
    return chosen


def nearest_count(choice: Choice, group: Group, ratio: float) -> int:
    """How many atoms go: what the rounding allows that is nearest to ``ratio``."""
    wanted = ratio * len(group.atoms)
    return min(choice.allowed(group, 1.0), key=lambda count: (abs(count - wanted), count))


def images_of(module: nn.Module | None, generator: Generator, inputs: dict[str, Tensor]) -> Tensor:
    """What ``module`` makes of ``inputs``, a part at a time."""
    assert module is not None
    size = usual_batch(generator.signature)
    return in_batches(lambda part: run_module(module, generator.signature, part), inputs, size)
