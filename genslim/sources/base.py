"""What a source is: something a user names, and the generator behind it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from genslim.generator import Generator


@dataclass(frozen=True)
class SourceOptions:
    """What a user says beside the source, where it can't be told from the source itself."""

    images: str | None = None
    """A folder of images that image inputs are drawn from."""
    input: tuple[str, ...] = ()
    """``[NAME:]SHAPE`` of each input, the batch first: ``z:1,100`` or ``1,3,64,64``."""
    weights: str | None = None
    """A file of weights for a factory's module."""
    value_range: tuple[float, float] | None = None
    """Least and greatest value of a pixel that the generator makes."""


class Source(ABC):
    """One kind of source. Opening it never executes code from a file."""

    kind: ClassVar[str]
    """Stands in the artifact, so that loading finds the source again."""
    example: ClassVar[str]
    """What a user would write, for messages."""

    @abstractmethod
    def claims(self, text: str) -> bool:
        """Whether ``text`` names a source of this kind. Cheap: opens nothing large."""

    @abstractmethod
    def open(self, text: str, options: SourceOptions) -> Generator:
        """The generator that ``text`` names, with its weights.

        Raises:
            UserError: it is damaged, or not what its name promises.
            MissingDependency: a library is needed that is not installed.
        """

    @abstractmethod
    def build(self, record: Mapping[str, Any]) -> nn.Module:
        """The original architecture from the record in an artifact, with arbitrary weights."""
