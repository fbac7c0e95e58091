"""Files that are whole or not there, whenever the process is killed or the disk is full."""

from __future__ import annotations

import os
from pathlib import Path

UNFINISHED = ".unfinished"
"""Ending of a file that is being written; one that nobody is writing was left by a killed process."""


def read_whole(path: Path) -> bytes:
    """Return a file's content.

    Raises:
        OSError: it cannot be read, or is a link to somewhere else.
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW)) as file:
        return file.read()


def write_whole(path: Path, content: bytes) -> None:
    """Give a file its content: written beside it, on the disk, then renamed. Nobody else may write it meanwhile.

    Raises:
        OSError: it cannot be written; what was there is as it was.
    """
    beside = path.with_name(f".{path.name}{UNFINISHED}")
    beside.unlink(missing_ok=True)
    try:
        with open(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """Let the new names in a folder reach the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
