"""A connection to a gallery's file: private, durable, and with sentences instead of SQLite's errors.

The file has the mode 0600 before SQLite sees it; SQLite gives `-wal` and `-shm` beside it the same mode. What is
deleted is overwritten with zeros (`secure_delete`), and temporary tables stay in memory.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import GalleryError

BESIDE = ("-wal", "-shm")
"""SQLite's files beside the gallery: what was written last, and the index of that."""


def connect(path: Path, timeout_s: float) -> sqlite3.Connection:
    """Open an existing file; nothing is read yet.

    On a disk that is read-only it is opened as `immutable`, for SQLite could not make its files beside it.

    Args:
        path: of the gallery.
        timeout_s: how long to wait for a lock.

    Raises:
        GalleryError: there is none, or changes that are in `-wal` cannot be read there.
        sqlite3.Error: it cannot be opened.
    """
    if path.is_dir():
        raise GalleryError(f"{path} is a folder: name a gallery's file in it")
    if not path.exists():
        raise GalleryError(f"there is no gallery {path}: enrol somebody with `frameloom gallery add`")
    if not path.is_file():
        raise GalleryError(f"{path} is no file: name a gallery")
    mode = "rw"
    if is_immutable(path):
        mode = "ro&immutable=1"
        wal = path.with_name(path.name + "-wal")
        if wal.exists() and wal.stat().st_size:
            raise GalleryError(
                f"{path} is on a read-only disk, and its newest changes, in {wal.name}, cannot be read there: "
                f"copy both to a disk that can be written"
            )
    else:
        keep_private(path)
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=timeout_s, isolation_level=None
    )
    for pragma in ("secure_delete = ON", "foreign_keys = ON", "temp_store = MEMORY", "synchronous = FULL"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def rewrite(connection: sqlite3.Connection, path: Path, timeout_s: float) -> None:
    """Write the file anew without what was deleted, and cut `-wal` to nothing.

    Raises:
        GalleryError: another process has been reading for longer than the timeout.
        sqlite3.Error: it cannot be written.
    """
    deadline = time.monotonic() + timeout_s
    connection.execute("VACUUM")
    while connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
        if time.monotonic() > deadline:
            raise GalleryError(
                f"it is deleted from {path}, but another program is reading what was there before: traces stay in "
                f"{path.name}-wal until all programs have closed the gallery"
            )
        time.sleep(0.01)


def create_private(path: Path) -> None:
    """Create an empty file with the mode 0600, and the folders above; one that exists stays as it is.

    Raises:
        GalleryError: it cannot be created.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            os.fchmod(descriptor, 0o600)  # the umask may have taken bits away
        finally:
            os.close(descriptor)
    except FileExistsError:
        if not path.exists():
            raise GalleryError(f"cannot create the gallery {path}: {path.parent} is no folder") from None
    except OSError as error:
        raise GalleryError(f"cannot create the gallery {path}: {error.strerror}") from error


def keep_private(path: Path) -> None:
    """Take the rights of others away from the files, where they are ours: a copy has what the umask left."""
    for file in (path, *(path.with_name(path.name + suffix) for suffix in BESIDE)):
        with contextlib.suppress(OSError):  # not there, or not ours
            mode = stat.S_IMODE(file.stat().st_mode)
            if mode & 0o077:
                file.chmod(mode & 0o700)


def is_immutable(path: Path) -> bool:
    """Whether nobody can write to the file's disk."""
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


@contextlib.contextmanager
def in_sentences(path: Path, deed: str) -> Iterator[None]:
    """Raise what SQLite raises as a GalleryError: "cannot `deed` gallery.db: why"."""
    try:
        yield
    except sqlite3.ProgrammingError:
        raise  # a mistake in the program, as a connection used by a second thread
    except sqlite3.Error as error:
        raise GalleryError(f"cannot {deed} {path}: {_reason(str(error), path)}") from error
    except OSError as error:
        raise GalleryError(f"cannot {deed} {path}: {error.strerror}") from error


def _reason(message: str, path: Path) -> str:
    reasons = {
        "locked": "another program is writing to it: try again when that has ended",
        "is not a database": "it is no gallery: name another file",
        "malformed": "it is damaged: put a copy of it back, or import an export of it",
        "readonly": "it cannot be written: copy it to where you may write",
        "unable to open": f"permission to open it, or to create files in {path.absolute().parent}, is missing",
        "is full": "no space is left on the disk; it is as it was: make room",
    }
    return next((reason for words, reason in reasons.items() if words in message), message)
