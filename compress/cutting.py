"""Cutting channels: which go together, which are missed least, how many of each group.

A :class:`Cutter` looks at a generator once and then cuts it as often and as far as one likes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Literal

from torch import Tensor, nn

from compress.allocation import Choice, Counts, Measure, globally, uniform, uniform_to_size
from compress.channels.cutting import Cuttable
from compress.channels.groups import Group
from compress.channels.trying import cuttable
from compress.importance import Importance, Ranker
from compress.observation import observe
from genslim.console import SILENT, Console
from genslim.generator import Generator

Allocation = Literal["global", "uniform"]


@dataclass
class Cut:
    """Which layers lost channels and which did not."""

    changed: list[str] = field(default_factory=list)
    left: list[dict[str, str]] = field(default_factory=list)
    kept: dict[str, Tensor] = field(default_factory=dict)
    """For each layer that lost channels, the original's channels that it kept, int64."""


class Cutter:
    """A generator that has been looked at, ready to be cut."""

    def __init__(
        self,
        generator: Generator,
        *,
        round_to: int = 8,
        importance: Importance = "reconstruction",
        keep: Sequence[str] = (),
        seed: int = 0,
        console: Console = SILENT,
    ) -> None:
        """Find the channels and rank them.

        Args:
            generator: has a module.
            round_to: channel counts become multiples of this.
            importance: by what the channels of a group are ranked.
            keep: layers whose names match one of these patterns keep all their channels.
            seed: of the inputs that are looked at, and of a random ranking.
            console: shows progress.
        """
        self.module = generator.trainable().eval()
        self.known: Cuttable = cuttable(generator, self.module)
        self.why: dict[str, str] = dict(self.known.left)
        groups = [g for g in self.known.groups if self._may_go(g, round_to, keep)]
        rankings = {}
        if groups:
            seen = observe(generator, self.module, seed)
            ranker = Ranker(importance, generator, self.module, self.known.graph, seen, seed)
            with console.progress("ranking channels", len(groups)) as bar:
                for group in groups:
                    rankings[group.name] = ranker.ranking(group)
                    bar.advance(note=group.name)
        self.choice = Choice(self.known.graph, groups, rankings, round_to)

    def _may_go(self, group: Group, round_to: int, keep: Sequence[str]) -> bool:
        """Whether channels of the group may go; where not, say why."""
        pinned = [n for n in group.layers if any(fnmatchcase(n, pattern) for pattern in keep)]
        few = len(group.counts(round_to)) < 2
        if pinned:
            also = "" if pinned == list(group.layers) else f" with {pinned[0]}"
            self._note(group, f"kept as asked{also}")
        elif few:
            self._note(group, f"has only {len(group.atoms) * group.width} channels")
        return not pinned and not few

    def _note(self, group: Group, reason: str) -> None:
        for layer in group.layers:
            self.why.setdefault(layer, reason)

    def counts(self, ratio: float, of: Measure, allocation: Allocation) -> Counts:
        """How many atoms of each group go."""
        if allocation == "global":
            return globally(self.choice, ratio, of)
        if of == "channels":
            return uniform(self.choice, ratio)
        return uniform_to_size(self.choice, ratio, of)

    def cut(
        self, ratio: float, of: Measure = "channels", allocation: Allocation = "global"
    ) -> tuple[nn.Module, Cut]:
        """A copy of the module without ``ratio`` of what ``of`` names, and what was cut."""
        counts = self.counts(ratio, of, allocation)
        return self.remove(counts, f"can't lose {ratio:.0%} in steps of {self.choice.round_to}")

    def remove(self, counts: Mapping[str, int], whole: str = "") -> tuple[nn.Module, Cut]:
        """A copy of the module without so many atoms of each group, those that are missed least.

        Args:
            counts: how many go, by the group's name.
            whole: why a group that loses none keeps all.
        """
        gone = {
            name: self.choice.rankings[name].order[:count].numpy()
            for name, count in counts.items()
            if count
        }
        module, kept = self.known.without(self.module, gone)
        graph = self.known.graph
        cut = Cut(kept=kept)
        for layer in graph.makers:
            if layer in kept:
                before = graph.channels_of(layer)
                cut.changed.append(f"{layer}: {before} to {len(kept[layer])} channels")
            else:
                cut.left.append({"what": layer, "reason": self.why.get(layer, whole)})
        return module, cut

    def share(self, counts: Mapping[str, int], of: Measure) -> float:
        """Which share of the whole goes with so many atoms of each group."""
        volume = self.choice.volume(of)
        return 1 - volume(dict(counts)) / volume({})

    def with_rounding(self, round_to: int) -> Choice:
        """The same choice in other steps."""
        return replace(self.choice, round_to=round_to)
