"""The tables of a gallery file, version by version.

A new file is made by all steps, an older one by those that it lacks, always in one transaction: a step that fails
leaves the file as it was. There is no copy of the old file, for it would keep people that are removed later.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import GalleryError
from pipeline.gallery.connection import connect, in_sentences
from pipeline.gallery.private_file import unfinished
from pipeline.gallery.records import EmbedderId

APPLICATION_ID = 0x46724C6D
"""Marks an SQLite file as ours: "FrLm"."""

STEPS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE gallery (
            id INTEGER PRIMARY KEY CHECK (id = 1),
            embedder TEXT NOT NULL,
            embedder_sha256 TEXT NOT NULL,
            metric TEXT NOT NULL,
            dimensions INTEGER NOT NULL)""",
        """CREATE TABLE people (
            id INTEGER PRIMARY KEY,
            name TEXT NOT NULL UNIQUE,
            created_at TEXT NOT NULL)""",
        """CREATE TABLE encodings (
            id INTEGER PRIMARY KEY,
            person_id INTEGER NOT NULL REFERENCES people (id) ON DELETE CASCADE,
            vector BLOB NOT NULL,
            image TEXT NOT NULL,
            created_at TEXT NOT NULL)""",
        "CREATE INDEX encodings_of_person ON encodings (person_id)",
    ),
    (
        "ALTER TABLE gallery ADD COLUMN calibration TEXT",
        "ALTER TABLE encodings ADD COLUMN quality REAL NOT NULL DEFAULT 1.0",
        "ALTER TABLE encodings ADD COLUMN image_sha256 TEXT NOT NULL DEFAULT ''",
        "CREATE INDEX encodings_of_image ON encodings (image_sha256)",
    ),
)
"""What makes version n + 1 of version n. Vectors are little-endian float32; calibration is a JSON document."""

VERSION = len(STEPS)


def create(path: Path, embedder: EmbedderId, timeout_s: float) -> None:
    """Make a gallery of nobody, and the folders above: it is there as a whole or not at all, even after a kill.

    Where another process makes it at the same time, its gallery stays.

    Raises:
        GalleryError: it cannot be made.
    """
    place = Path(os.path.realpath(path))
    with in_sentences(path, "create the gallery"):
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise GalleryError(f"cannot create the gallery {path}: {place.parent} is no folder") from None
        with unfinished(place) as new:
            with contextlib.closing(connect(new, timeout_s)) as connection:
                bring_up_to_date(connection, path, embedder)
            _give_name(new, place)


def _give_name(new: Path, place: Path) -> None:
    """Give a file its name, unless there is one of that name."""
    try:
        os.link(new, place)
    except FileExistsError:
        return
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP):
            raise
        if not place.exists():  # a disk that knows no hard links
            new.replace(place)


def version_of(connection: sqlite3.Connection, path: object) -> int:
    """Return the version of a file's tables; 0: it is empty.

    Raises:
        GalleryError: it belongs to another program, or to a newer version of this one.
    """
    application_id = int(connection.execute("PRAGMA application_id").fetchone()[0])
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    tables = int(connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
    if application_id != APPLICATION_ID and (tables or application_id or version):
        raise GalleryError(f"{path} is an SQLite file of another program, no gallery: name another file")
    if version > VERSION:
        raise GalleryError(
            f"{path} has version {version} of the gallery's tables, and this program knows up to {VERSION}: "
            f"install a newer Frameloom"
        )
    return version


def bring_up_to_date(
    connection: sqlite3.Connection,
    path: object,
    embedder: EmbedderId | None = None,
    steps: Sequence[Sequence[str]] = STEPS,
) -> None:
    """Take all steps that are missing, in one transaction; a file that is up to date is only read.

    Args:
        connection: with no transaction begun.
        path: of the file, for messages.
        embedder: whose encodings a new file will hold.
        steps: of the tables, version by version.

    Raises:
        GalleryError: as `version_of`, or the file is empty and no embedder is given.
        sqlite3.Error: it cannot be read or written.
    """
    version = version_of(connection, path)
    if version == len(steps):
        return
    if version == 0:
        if embedder is None:
            raise GalleryError(f"{path} is empty: enrol somebody with `frameloom gallery add`")
        _turn_wal_on(connection)
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = version_of(connection, path)  # another process may have been faster
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        for step in steps[version:]:
            for statement in step:
                connection.execute(statement)
        if version == 0 and embedder is not None:
            connection.execute(
                "INSERT INTO gallery (id, embedder, embedder_sha256, metric, dimensions) VALUES (1, ?, ?, ?, ?)",
                (embedder.name, embedder.sha256, embedder.metric, embedder.dimensions),
            )
        connection.execute(f"PRAGMA user_version = {len(steps)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _turn_wal_on(connection: sqlite3.Connection) -> None:
    """Set the write-ahead log; SQLite does not wait by itself while another process is doing the same."""
    deadline = time.monotonic() + connection.execute("PRAGMA busy_timeout").fetchone()[0] / 1e3
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
