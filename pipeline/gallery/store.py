"""The gallery's file: people and their encodings in SQLite.

Several processes may read while one writes; whoever is killed leaves the gallery as it was before the change that it
was making. A `GalleryFile` belongs to the thread that opened it (sqlite3 raises ProgrammingError in any other); each
thread opens its own, and what it returns may go anywhere.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from pipeline.arrays import FloatArray
from pipeline.errors import GalleryError, GalleryFailure
from pipeline.gallery import schema
from pipeline.gallery.connection import connect, copy_back_log, in_sentences, is_immutable, rewrite
from pipeline.gallery.records import EmbedderId, Encoding, LeftOut, Person, Snapshot, checked_name, checked_record

BUSY_S = 5.0
"""How long to wait for another process that is writing: an enrolment's transaction takes milliseconds."""
VECTOR = np.dtype("<f4")


class GalleryFile:
    """One open gallery; see `open`."""

    def __init__(self, path: Path, connection: sqlite3.Connection, embedder: EmbedderId, timeout_s: float) -> None:
        self.path = path
        self.embedder = embedder
        self._connection = connection
        self._timeout_s = timeout_s
        self._changed = False

    @classmethod
    def open(
        cls,
        path: str | Path,
        embedder: EmbedderId | None = None,
        *,
        create: bool = False,
        read_only: bool = False,
        timeout_s: float = BUSY_S,
    ) -> GalleryFile:
        """Open a gallery; one of an older version is brought up to date.

        Args:
            path: of the file.
            embedder: whose encodings it must hold; None: whichever they are.
            create: make the gallery if there is no file, or an empty one; needs an embedder.
            read_only: never change it, but for its mode where others could read it.
            timeout_s: how long to wait for a lock.

        Raises:
            GalleryError: there is none, it is no gallery, of another embedder, newer, damaged, locked or not permitted.
        """
        path = Path(path)
        if create and embedder is not None and not path.exists():
            schema.create(path, embedder, timeout_s)
        with in_sentences(path, "open"):
            connection = connect(path, timeout_s)
            try:
                schema.bring_up_to_date(connection, path, embedder if create else None)
                row = connection.execute("SELECT embedder, embedder_sha256, metric, dimensions FROM gallery").fetchone()
                if row is None:
                    raise GalleryFailure(f"{path} is damaged, for it names no embedder: put a copy of it back")
                found = EmbedderId(*row)
                if embedder is not None and not found.same_encodings_as(embedder):
                    raise GalleryError(
                        f"{path} holds encodings of {found}, which cannot be compared with those of {embedder}: "
                        f"use the embedder {found.name}, or another gallery"
                    )
                connection.execute(f"PRAGMA query_only = {int(read_only)}")
            except BaseException:
                connection.close()
                raise
        return cls(path, connection, found, timeout_s)

    @staticmethod
    def embedder_of(path: str | Path) -> EmbedderId | None:
        """Return whose encodings a gallery holds; None: there is none yet, or an empty file.

        Raises:
            GalleryError: as `open`.
        """
        path = Path(path)
        if not path.exists():
            return None
        with in_sentences(path, "open"), contextlib.closing(connect(path, BUSY_S)) as connection:
            if schema.version_of(connection, path) == 0:
                return None
        with GalleryFile.open(path, read_only=True) as gallery:
            return gallery.embedder

    def close(self) -> None:
        """Close the file; the last one to close it tidies up SQLite's files beside it."""
        if self._changed:
            with contextlib.suppress(sqlite3.Error):  # then the next writer does it
                copy_back_log(self._connection)
        self._connection.close()

    def __enter__(self) -> GalleryFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # --- reading ------------------------------------------------------------------------------------------------

    def people(self) -> list[Person]:
        """Return everybody, by name."""
        with in_sentences(self.path, "read"):
            rows = self._connection.execute(
                "SELECT name, count(encodings.id), people.created_at, coalesce(max(quality), 0) FROM people "
                "LEFT JOIN encodings ON person_id = people.id GROUP BY people.id ORDER BY name"
            ).fetchall()
        return [Person(*row) for row in rows]

    def encodings(self, name: str | None = None) -> Snapshot:
        """Return all encodings, or those of one person, as arrays.

        Raises:
            GalleryError: nobody has that name, or the file is damaged.
        """
        rows = self._rows("encodings.id, name, vector, quality", name)
        if not rows:
            return Snapshot.empty(self.embedder.dimensions)
        ids, owners, blobs, qualities = zip(*rows, strict=True)
        names = tuple(dict.fromkeys(owners))
        place = {owner: row for row, owner in enumerate(names)}
        return Snapshot(
            self._matrix(blobs),
            names,
            np.fromiter((place[owner] for owner in owners), np.int32, len(rows)),
            np.array(qualities, np.float32),
            np.array(ids, np.int64),
        )

    def records(self, name: str | None = None) -> list[tuple[str, Encoding]]:
        """Return (person, encoding) of everybody or of one person, with where each encoding came from.

        Raises:
            GalleryError: nobody has that name, or the file is damaged.
        """
        rows = self._rows("name, vector, quality, image, image_sha256, encodings.created_at", name)
        vectors = self._matrix([row[1] for row in rows])
        return [(row[0], Encoding(vector, *row[2:])) for row, vector in zip(rows, vectors, strict=True)]

    def has_image(self, sha256: str) -> str | None:
        """Return who has an encoding of the picture with that sha256; None: nobody."""
        if not sha256:
            return None
        with in_sentences(self.path, "read"):
            row = self._connection.execute(
                f"SELECT name FROM {JOINED} WHERE image_sha256 = ? ORDER BY encodings.id",
                (sha256,),
            ).fetchone()
        return None if row is None else str(row[0])

    def calibration(self) -> Any | None:
        """Return the JSON document that `store_calibration` stored; None: nothing was calibrated.

        Raises:
            GalleryFailure: it is damaged.
        """
        with in_sentences(self.path, "read"):
            (text,) = self._connection.execute("SELECT calibration FROM gallery").fetchone()
        try:
            return None if text is None else json.loads(text)
        except (TypeError, ValueError, RecursionError) as error:
            raise GalleryFailure(
                f"the calibration stored in {self.path} is damaged ({error}): repeat `frameloom gallery calibrate`"
            ) from error

    def version(self) -> int:
        """Return a number that another one's change of the gallery changes; asking takes microseconds."""
        with in_sentences(self.path, "read"):
            if is_immutable(self.path):
                return self.path.stat().st_mtime_ns
            return int(self._connection.execute("PRAGMA data_version").fetchone()[0])

    # --- writing ------------------------------------------------------------------------------------------------

    def add(self, name: str, encodings: Sequence[Encoding]) -> list[LeftOut]:
        """Add encodings to a person, who is new or known, in one transaction.

        A picture is stored once (`image_sha256`), whoever else enrols it at the same time.

        Returns:
            The encodings that were left out, because somebody has their picture.

        Raises:
            GalleryError: as `add_records`; then none was added.
        """
        return self._add([(name, encoding) for encoding in encodings], skip_known=False)

    def add_records(self, records: Iterable[tuple[str, Encoding]], *, skip_known: bool = False) -> int:
        """Add encodings of any people in one transaction, but for pictures that somebody has, as `add`.

        Args:
            records: (person, encoding).
            skip_known: leave out what the person has already, number by number.

        Returns:
            How many were added.

        Raises:
            GalleryError: a name or an encoding cannot be stored, or the file not be written; then none was added.
        """
        records = list(records)
        return len(records) - len(self._add(records, skip_known))

    def _add(self, records: Sequence[tuple[str, Encoding]], skip_known: bool) -> list[LeftOut]:
        checked = []
        for name, encoding in records:
            person, vector = checked_record(name, encoding, self.embedder)
            checked.append((person, vector.astype(VECTOR).tobytes(), encoding))
        with self._changing("add to"):
            known = set(self._connection.execute(f"SELECT name, vector FROM {JOINED}")) if skip_known else set()
            left_out = []
            for person, blob, encoding in checked:
                holder = person if (person, blob) in known else self.has_image(encoding.image_sha256)
                if holder is not None:
                    left_out.append(LeftOut(person, encoding, holder))
                    continue
                if skip_known:
                    known.add((person, blob))
                self._insert(person, blob, encoding)
        return left_out

    def remove(self, name: str) -> None:
        """Delete a person and every trace of them in the files.

        Raises:
            GalleryError: nobody has that name; or the person is gone, but others keep old pages in `-wal` in use.
        """
        with self._changing("remove from"):
            person = self._person(name)
            self._connection.execute("DELETE FROM people WHERE id = ?", (person,))
        self.erase_traces()

    def rename(self, old: str, new: str) -> None:
        """Give a person another name.

        Raises:
            GalleryError: nobody has the old name, or somebody has the new one.
        """
        checked = checked_name(new)
        with self._changing("rename in"):
            person = self._person(old)
            if self._find(checked) not in (None, person):
                raise GalleryError(f"{self.path} has a {checked!r} already: choose another name")
            self._connection.execute("UPDATE people SET name = ? WHERE id = ?", (checked, person))
        self.erase_traces()

    def store_calibration(self, document: Any | None) -> None:
        """Keep a JSON document about the threshold, whoever comes and goes; it must name nobody. None deletes it."""
        text = None if document is None else json.dumps(document, allow_nan=False)
        with self._changing("calibrate"):
            self._connection.execute("UPDATE gallery SET calibration = ?", (text,))

    def erase_traces(self) -> None:
        """Write the files anew without what was deleted.

        Raises:
            GalleryError: another process is reading, for longer than the timeout.
        """
        with in_sentences(self.path, "erase the traces of what was deleted from"):
            rewrite(self._connection, self.path, self._timeout_s)

    # --- rows ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _changing(self, deed: str) -> Iterator[None]:
        with in_sentences(self.path, deed):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
                self._changed = True
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _rows(self, columns: str, name: str | None) -> list[tuple[Any, ...]]:
        """Return rows of encodings with their people, a person's rows side by side."""
        with in_sentences(self.path, "read"):
            person = None if name is None else self._person(name)
            chosen = "" if person is None else "WHERE people.id = ?"
            return self._connection.execute(
                f"SELECT {columns} FROM {JOINED} {chosen} ORDER BY people.id, encodings.id",
                () if person is None else (person,),
            ).fetchall()

    def _matrix(self, blobs: Sequence[bytes]) -> FloatArray:
        size = VECTOR.itemsize * self.embedder.dimensions
        whole = all(len(blob) == size for blob in blobs)
        vectors = np.frombuffer(b"".join(blobs) if whole else b"", VECTOR)
        if not whole or not np.isfinite(vectors).all():
            raise GalleryFailure(
                f"{self.path} is damaged, for it holds encodings that are not {self.embedder.dimensions} finite "
                f"numbers: put a copy of it back, or import an export of it"
            )
        return vectors.astype(np.float32, copy=False).reshape(-1, self.embedder.dimensions)

    def _find(self, name: str) -> int | None:
        row = self._connection.execute("SELECT id FROM people WHERE name = ?", (name,)).fetchone()
        return None if row is None else int(row[0])

    def _person(self, name: str) -> int:
        found = self._find(checked_name(name))
        if found is None:
            raise GalleryError(f"{self.path} has nobody named {name!r}: see `frameloom gallery list`")
        return found

    def _insert(self, person: str, vector: bytes, encoding: Encoding) -> None:
        found = self._find(person)
        if found is None:
            now = datetime.now(timezone.utc).isoformat(timespec="seconds")
            found = self._connection.execute(
                "INSERT INTO people (name, created_at) VALUES (?, ?)", (person, now)
            ).lastrowid
        image = encoding.image.encode(errors="backslashreplace").decode()  # names of files need not be Unicode
        origin = (float(encoding.quality), image, encoding.image_sha256, encoding.created_at)
        self._connection.execute(
            "INSERT INTO encodings (person_id, vector, quality, image, image_sha256, created_at) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (found, vector, *origin),
        )


JOINED = "encodings JOIN people ON person_id = people.id"
