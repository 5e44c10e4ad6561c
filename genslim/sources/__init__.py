"""Sources: everything that a user can name, tried in this order."""

from genslim.sources.base import Source, SourceOptions
from genslim.sources.catalogue import Catalogue, known
from genslim.sources.diffusers import DiffusersFolder
from genslim.sources.exported import Exported
from genslim.sources.factory import Factory
from genslim.sources.weights import Weights

SOURCES: tuple[Source, ...] = (
    Catalogue(),
    DiffusersFolder(),
    Weights(),
    Exported(),
    Factory(),
)

__all__ = ["SOURCES", "Source", "SourceOptions", "known"]
