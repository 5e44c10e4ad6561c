"""Modules named by patterns on the command line: ``head.*``."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from genslim.errors import UserError

SHOWN = 8
"""Names that an error gives as examples."""


def matching(module: nn.Module, patterns: Sequence[str]) -> list[str]:
    """The modules inside ``module`` whose names match a pattern."""
    names = [name for name, _ in module.named_modules() if name]
    return [name for name in names if any(fnmatchcase(name, p) for p in patterns)]


def check_patterns(module: nn.Module, patterns: Sequence[str], what: str) -> None:
    """Raise UserError, speaking of a ``what``, where a pattern matches no module."""
    for pattern in patterns:
        if not matching(module, [pattern]):
            names = [name for name, _ in module.named_modules() if name]
            shown = ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
            raise UserError(f"no {what} matches {pattern!r}", hint=f"there are {shown}")
