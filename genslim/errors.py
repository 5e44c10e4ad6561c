"""Errors that a user can act on: one line each, and the exit status that goes with it.

Every message says what was asked and what exists; ``hint`` says what to do next.
"""

from __future__ import annotations

from typing import Any


class GenslimError(Exception):
    """The base of all errors this package raises on purpose."""

    exit_status = 2

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        self.message = message
        self.hint = hint
        super().__init__(f"{message}; {hint}" if hint else message)


class UserError(GenslimError):
    """Asked for something that can't be: a missing file, a wrong shape, a ratio of 2."""

    exit_status = 2


class GateFailed(GenslimError):
    """Everything ran, and the result is not good enough.

    Args:
        message: what was asked and what came out.
        hint: what to do.
        kept: the generator as it came out, where there is one.
    """

    exit_status = 1

    def __init__(self, message: str, *, hint: str | None = None, kept: Any = None) -> None:
        super().__init__(message, hint=hint)
        self.kept = kept


class MissingDependency(GenslimError):
    """This machine lacks something: a library, a driver, a device."""

    exit_status = 3
