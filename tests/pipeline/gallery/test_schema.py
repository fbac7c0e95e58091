"""Versions of the gallery's tables: older ones are brought up to date or left as they are, newer ones refused."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import GalleryError
from pipeline.gallery import schema
from pipeline.gallery.store import GalleryFile
from tests.pipeline.gallery.people import DLIB, encodings

VERSION_1 = """
    PRAGMA application_id = 0x46724C6D;
    PRAGMA user_version = 1;
    CREATE TABLE gallery (id INTEGER PRIMARY KEY CHECK (id = 1), embedder TEXT NOT NULL, embedder_sha256 TEXT NOT NULL,
        metric TEXT NOT NULL, dimensions INTEGER NOT NULL);
    CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, created_at TEXT NOT NULL);
    CREATE TABLE encodings (id INTEGER PRIMARY KEY,
        person_id INTEGER NOT NULL REFERENCES people (id) ON DELETE CASCADE, vector BLOB NOT NULL,
        image TEXT NOT NULL, created_at TEXT NOT NULL);
    CREATE INDEX encodings_of_person ON encodings (person_id);
"""
"""As it was before qualities, hashes of images and calibrations."""
VECTOR = encodings(1)[0].vector


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "gallery.db"
    connection = sqlite3.connect(path)
    connection.executescript(VERSION_1)
    connection.execute("INSERT INTO gallery VALUES (1, ?, ?, ?, ?)", (DLIB.name, DLIB.sha256, "l2", 128))
    connection.execute("INSERT INTO people VALUES (7, 'Ann', '2025-01-01T00:00:00+00:00')")
    connection.execute(
        "INSERT INTO encodings VALUES (3, 7, ?, 'ann.jpg', '2025-01-01T00:00:00+00:00')", (VECTOR.tobytes(),)
    )
    connection.commit()
    connection.close()
    return path


def shape_of(path: Path) -> dict[str, list[tuple[object, ...]]]:
    connection = sqlite3.connect(path)
    names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master ORDER BY name")]
    shape = {name: connection.execute(f"PRAGMA table_info({name})").fetchall() for name in names}
    connection.close()
    return shape


def test_an_older_gallery_is_brought_up_to_date_with_its_people(old: Path, tmp_path: Path) -> None:
    with GalleryFile.open(old, DLIB) as gallery:
        ((name, encoding),) = gallery.records()
        assert (name, encoding.image, encoding.quality, encoding.image_sha256) == ("Ann", "ann.jpg", 1.0, "")
        np.testing.assert_array_equal(encoding.vector, VECTOR)
        gallery.add("Ann", encodings(1, seed=1))
        gallery.store_calibration({"threshold": 0.8})
    GalleryFile.open(tmp_path / "new.db", DLIB, create=True).close()
    assert shape_of(old) == shape_of(tmp_path / "new.db")


def test_a_migration_that_fails_leaves_the_older_gallery_as_it_was(old: Path) -> None:
    before, shape = old.read_bytes(), shape_of(old)
    steps = (*schema.STEPS, ("CREATE TABLE extra (x)", "INSERT INTO no_such_table VALUES (1)"))
    connection = sqlite3.connect(old, isolation_level=None)
    with pytest.raises(sqlite3.OperationalError, match="no_such_table"):
        schema.bring_up_to_date(connection, old, steps=steps)
    connection.close()
    assert shape_of(old) == shape
    assert old.read_bytes() == before
    with GalleryFile.open(old) as gallery:
        assert gallery.encodings().names == ("Ann",)


def test_a_newer_gallery_is_refused_and_left_alone(old: Path) -> None:
    connection = sqlite3.connect(old)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = old.read_bytes()
    with pytest.raises(GalleryError, match=r"version 99 .* knows up to 2: install a newer Frameloom"):
        GalleryFile.open(old)
    assert old.read_bytes() == before
