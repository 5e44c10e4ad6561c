"""Writing to a user's disk: whole or not at all, and one clear line when it can't be done."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from genslim.errors import GenslimError, UserError

TEMPORARY = ".tmp-"
"""What is still being written starts with this; whoever finds it may delete it."""

REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "it is read-only",
    errno.EACCES: "you may not write there",
    errno.EPERM: "you may not write there",
    errno.ENOTDIR: "a part of the path is a file",
    errno.EEXIST: "something is there already",
    errno.ENOTEMPTY: "something is there already",
    errno.EFBIG: "a file would become too large",
}


@contextmanager
def write_errors(place: Path) -> Iterator[None]:
    """Turn the operating system's refusals while writing to ``place`` into a UserError.

    Libraries that write through foreign code (safetensors) report a full disk in words of their
    own; those are recognised too.
    """
    try:
        yield
    except GenslimError:
        raise
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else None
        if number is None and "(os error " in str(error):
            number = int(str(error).rpartition("(os error ")[2].partition(")")[0])
        if number is None:
            raise
        reason = REASONS.get(number, os.strerror(number))
        raise UserError(
            f"can't write to {place}: {reason}", hint="name another folder with -o, or make room"
        ) from error


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file so that a reader sees the old content or the new, never a part.

    Raises:
        UserError: it can't be written; what was there stays.
    """
    data = content.encode() if isinstance(content, str) else content
    staging = path.with_name(f"{TEMPORARY}{path.name}-{os.getpid()}")
    with write_errors(path.parent):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            staging.write_bytes(data)
            staging.replace(path)
        finally:
            staging.unlink(missing_ok=True)
