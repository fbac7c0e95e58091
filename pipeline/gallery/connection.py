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

from pipeline.errors import GalleryError, GalleryFailure
from pipeline.gallery.private_file import SQLITE_BESIDE, kind_of

PATIENCE_MS = 100
"""How long closing waits for readers, who are done with a large gallery in about a second; the next one tries again."""


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
        GalleryFailure: another process has been reading for longer than the timeout.
        sqlite3.Error: it cannot be written.
    """
    deadline = time.monotonic() + timeout_s
    connection.execute("VACUUM")
    while connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
        if time.monotonic() > deadline:
            raise GalleryFailure(
                f"it is deleted from {path}, but another program is reading what was there before: traces stay in "
                f"{path.name}-wal until all programs have closed the gallery"
            )
        time.sleep(0.01)


def copy_back_log(connection: sqlite3.Connection) -> None:
    """Move what is in `-wal` into the file, so that a copy of the file is whole; not while others are reading."""
    connection.execute(f"PRAGMA busy_timeout = {PATIENCE_MS}")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def keep_private(path: Path) -> None:
    """Take the rights of others away from the files, where they are ours: a copy has what the umask left."""
    for file in (path, *(path.with_name(path.name + suffix) for suffix in SQLITE_BESIDE)):
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
        kind, reason = _reason(str(error), path)
        raise kind(f"cannot {deed} {path}: {reason}") from error
    except OSError as error:
        raise kind_of(error)(f"cannot {deed} {path}: {error.strerror or error}") from error


def _reason(message: str, path: Path) -> tuple[type[GalleryError], str]:
    damaged = "it is damaged: put a copy of it back, or import an export of it"
    reasons: dict[str, tuple[type[GalleryError], str]] = {
        "locked": (GalleryFailure, "another program is writing to it: try again when that has ended"),
        "is not a database": (GalleryError, "it is no gallery: name another file"),
        "malformed": (GalleryFailure, damaged),
        "decode to UTF-8": (GalleryFailure, damaged),
        "readonly": (GalleryError, "it cannot be written: copy it to where you may write"),
        "unable to open": (
            GalleryError,
            f"permission to open it, or to create files in {path.absolute().parent}, is missing",
        ),
        "is full": (GalleryFailure, "no space is left on the disk; it is as it was: make room"),
        "disk I/O error": (GalleryFailure, "the disk fails, or is full: make room, or copy it to another disk"),
    }
    return next((reason for words, reason in reasons.items() if words in message), (GalleryFailure, message))
