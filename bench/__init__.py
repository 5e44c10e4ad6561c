"""Measurements of artifacts, and reports of them.

Read first: :mod:`bench.measurement`. ``measure`` is the Python API; names are resolved when first
used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.harness.measuring import measure
    from bench.measurement import Measurement

PLACES = {"measure": "harness.measuring", "Measurement": "measurement"}
"""Where each public name lives."""

__all__ = ["Measurement", "measure"]


def __getattr__(name: str) -> Any:
    if name in PLACES:
        return getattr(import_module(f"bench.{PLACES[name]}"), name)
    raise AttributeError(f"module 'bench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
