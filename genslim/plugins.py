"""The groups of commands that packages announce as entry points in ``genslim.commands``."""

from __future__ import annotations

from importlib.metadata import entry_points

from genslim.command import Group


def groups() -> dict[str, Group]:
    """Every group, by name."""
    return {point.name: point.load() for point in entry_points(group="genslim.commands")}
