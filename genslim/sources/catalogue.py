"""Built-in generators by name, from the catalogues that installed packages announce.

A package announces one with an entry point in the group ``genslim.catalogues``: a sequence of
objects with ``name``, ``is_source``, ``build()``, ``signature()`` and ``load()``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Protocol

from torch import nn

from genslim.errors import UserError
from genslim.generator import Generator
from genslim.signature import Signature
from genslim.sources.base import Source, SourceOptions


class CatalogueEntry(Protocol):
    """What a catalogue holds."""

    @property
    def name(self) -> str:
        """What a user writes."""

    @property
    def is_source(self) -> bool:
        """Whether it is a generator."""

    def build(self) -> nn.Module:
        """The architecture, untrained."""

    def load(self) -> nn.Module:
        """The trained module."""

    def signature(self) -> Signature:
        """Its contract."""


@cache
def known() -> dict[str, CatalogueEntry]:
    """Every built-in generator, by name."""
    entries = (e for point in entry_points(group="genslim.catalogues") for e in point.load())
    return {entry.name: entry for entry in entries if entry.is_source}


class Catalogue(Source):
    """``dcgan-mnist`` and its kind."""

    kind = "catalogue"
    example = "dcgan-mnist"

    def claims(self, text: str) -> bool:
        """A name that a catalogue knows."""
        return text in known()

    def open(self, text: str, options: SourceOptions) -> Generator:
        """The shipped generator."""
        entry = known()[text]
        return Generator(
            text, entry.signature(), {"kind": self.kind, "name": text}, entry.load().eval()
        )

    def build(self, record: Mapping[str, Any]) -> nn.Module:
        """The architecture behind the recorded name."""
        if record["name"] not in known():
            raise UserError(
                f"the artifact is of {record['name']!r}, which no installed catalogue knows",
                hint="install the package that provides it",
            )
        return known()[record["name"]].build()
