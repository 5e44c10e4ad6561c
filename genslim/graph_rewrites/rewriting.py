"""The name of a rewrite and of the place where it is made."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rewriting:
    """One rewrite at one place."""

    kind: str
    """One of :data:`genslim.graph_rewrites.KINDS`."""
    at: str
    """A tensor's name in the graph, as a rule that of a weight."""

    @property
    def place(self) -> str:
        """The place as people know it: a layer's name."""
        return self.at.removesuffix(".weight")
