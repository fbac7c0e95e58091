"""Files that are whole or not there, whenever the process is killed or the disk is full.

What is in them becomes code on a GPU, so they are read only where this user or root has written them.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

UNFINISHED = ".unfinished"
"""Ending of a file that is being written; one that nobody is writing was left by a killed process."""


def read_whole(path: Path) -> bytes:
    """Return a file's content.

    Raises:
        OSError: it cannot be read, is a link to somewhere else or no file, or belongs to another user than this or
            root.
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK)) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        if status.st_uid not in trusted_users():
            raise PermissionError(errno.EPERM, f"it belongs to user {status.st_uid}, neither to you nor to root")
        return file.read()


def trusted_users() -> tuple[int, int]:
    """Return the ids of the users whose files are used: who runs this, and root."""
    return os.geteuid(), 0


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
