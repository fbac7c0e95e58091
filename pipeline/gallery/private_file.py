"""Files that only their owner can read, and that are whole or not there.

A file is written beside its place as `.NAME.PID-RANDOM.unfinished`, and gets its name when it is finished. What a
process that was killed has left there is deleted when the same file is written again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import GalleryError, GalleryFailure

ENDING = ".unfinished"
SQLITE_BESIDE = ("-wal", "-shm")
"""SQLite's files beside a database: what was written last, and the index of that."""
WRONG_PATH = frozenset(
    {
        errno.EACCES,
        errno.EEXIST,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EPERM,
        errno.EROFS,
    }
)
"""Errors that another path does not have."""


def kind_of(error: OSError) -> type[GalleryError]:
    """Return what to raise: GalleryError where the path is at fault, GalleryFailure where the disk is."""
    return GalleryError if error.errno in WRONG_PATH else GalleryFailure


@contextlib.contextmanager
def unfinished(path: Path) -> Iterator[Path]:
    """Yield a new empty file beside `path`, of the mode 0600, to be renamed or linked.

    It is deleted in the end, with SQLite's files beside it.

    Raises:
        OSError: it cannot be created.
    """
    _delete_what_was_left(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{ENDING}")
    descriptor = os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        try:
            os.fchmod(descriptor, 0o600)  # the umask may have taken bits away
        finally:
            os.close(descriptor)
        yield beside
    finally:
        for suffix in ("", *SQLITE_BESIDE):
            beside.with_name(beside.name + suffix).unlink(missing_ok=True)


def _delete_what_was_left(path: Path) -> None:
    """Delete what processes that are no more have left beside a file, and SQLite's files beside that."""
    suffixes = "|".join(("", *SQLITE_BESIDE))
    pattern = re.compile(rf"\.{re.escape(path.name)}\.(\d+)-[0-9a-f]{{8}}{re.escape(ENDING)}({suffixes})")
    for file in list(path.parent.iterdir()):
        if (match := pattern.fullmatch(file.name)) and not _is_running(int(match[1])):
            file.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
