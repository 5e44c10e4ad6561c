"""A model's folder in Triton's repository: whole or not at all, and nothing overwritten."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from export.serving.configuration import CONFIG
from genslim.storage import TEMPORARY, write_errors, write_whole

ELSEWHERE = (errno.EXDEV, errno.EACCES, errno.EPERM, errno.EROFS)
"""Why a folder can't be made in one place and moved to another."""


def place(files: Mapping[str, bytes], home: Path) -> dict[str, Path]:
    """Put a model into its repository, or a new version of one that is there.

    Args:
        files: contents by name, the configuration among them.
        home: the model's folder; its parent is the repository.

    Returns:
        Where each file now is, by its name; and the configuration that was there before, under its
        new one.

    Raises:
        UserError: they can't be written there.
    """
    root, config = home.parent, files[CONFIG]
    version = {name: content for name, content in files.items() if name != CONFIG}
    number, kept = 1, {}
    with write_errors(home):
        root.mkdir(parents=True, exist_ok=True)
        whole = {CONFIG: config, **{f"1/{name}": each for name, each in version.items()}}
        if home.exists() or not put(whole, home, root):
            number = newest_version(home) + 1
            while not put(version, home / str(number), root):
                number += 1
            kept = configure(home, config, number)
    return {CONFIG: home / CONFIG, **{n: home / str(number) / n for n in version}, **kept}


def newest_version(home: Path) -> int:
    """The version of a model that Triton serves; 0 where there is none."""
    return max((int(p.name) for p in home.iterdir() if p.name.isdecimal()), default=0)


def put(files: Mapping[str, bytes], target: Path, root: Path) -> bool:
    """Write a folder whole: beside the repository, where no server looks, then renamed into it.

    Where that can't be, as in a repository that is mounted, it is made beside its target. A server
    that looks just then refuses it, because its configuration bears another name than the folder.

    Args:
        files: contents by their path in the folder, the configuration first.
        target: the folder; False is the answer where something is there already.
        root: the repository.
    """
    for workplace in (root.parent, target.parent):
        staging = workplace / f"{TEMPORARY}{root.name}-{target.name}-{os.getpid()}"
        try:
            for name, content in files.items():
                (staging / name).parent.mkdir(parents=True, exist_ok=True)
                (staging / name).write_bytes(content)
            staging.rename(target)
            return True
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return False
            if error.errno not in ELSEWHERE or workplace == target.parent:
                raise
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    raise AssertionError("the last workplace returned or raised")


def configure(home: Path, config: bytes, number: int) -> dict[str, Path]:
    """Give a model its configuration; what was there, if it differs, is kept and returned."""
    path = home / CONFIG
    old = path.read_bytes() if path.is_file() else None
    kept = {}
    if old is not None and old != config:
        name = f"config.before-{number}.pbtxt"
        kept[name] = home / name
        write_whole(kept[name], old)
    if old != config:
        write_whole(path, config)
    return kept
