"""Galleries that are missing, wrong, damaged, locked or not writable: a sentence, and nothing is lost."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import GalleryError, GalleryFailure
from pipeline.gallery.connection import in_sentences
from pipeline.gallery.store import GalleryFile
from tests.pipeline.gallery.people import DLIB, encodings


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "gallery.db"
    with GalleryFile.open(path, DLIB, create=True) as gallery:
        gallery.add("Ann", encodings(30))
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


def make_other_program(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE urls (url TEXT)")
    connection.close()


@pytest.mark.parametrize("create", [False, True])
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.write_text("name,age\nann,7\n" * 100), "it is no gallery"),
        (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(5000)), "it is no gallery"),
        (make_other_program, "of another program"),
        (lambda path: os.mkfifo(path), "is no file"),
    ],
)
def test_what_is_no_gallery_is_refused_and_left_alone(
    tmp_path: Path, make: Callable[[Path], object], words: str, create: bool
) -> None:
    make(tmp_path / "x.db")
    before = contents(tmp_path)
    with pytest.raises(GalleryError, match=words) as refused:
        GalleryFile.open(tmp_path / "x.db", DLIB, create=create)
    assert str(tmp_path / "x.db") in str(refused.value)
    assert contents(tmp_path) == before


def test_a_missing_gallery_is_named_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match=r"there is no gallery .*x\.db: enrol somebody"):
        GalleryFile.open(tmp_path / "x.db")
    assert not list(tmp_path.iterdir())


def test_an_empty_file_is_no_gallery_yet(tmp_path: Path) -> None:
    (tmp_path / "x.db").touch()
    with pytest.raises(GalleryError, match="is empty"):
        GalleryFile.open(tmp_path / "x.db", DLIB)
    GalleryFile.open(tmp_path / "x.db", DLIB, create=True).close()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(GalleryError, match="cannot create the gallery"):
        GalleryFile.open(tmp_path / "file" / "x.db", DLIB, create=True)


def test_a_damaged_page_is_told_and_nothing_is_written(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for page in range(1, len(content) // 4096):
        content[4096 * page : 4096 * page + 64] = b"\xa5" * 64
    path.write_bytes(content)
    with pytest.raises(GalleryFailure, match="it is damaged"), GalleryFile.open(path) as gallery:
        gallery.encodings()
    assert path.read_bytes() == bytes(content)


def test_a_gallery_that_was_cut_off_is_damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(GalleryFailure, match="it is damaged"), GalleryFile.open(path) as gallery:
        gallery.encodings()


@pytest.mark.parametrize("vector", [b"", bytes(511), np.full(128, np.nan, "<f4").tobytes()])
def test_stored_encodings_that_cannot_be_compared_are_damage(path: Path, vector: bytes) -> None:
    connection = sqlite3.connect(path)
    connection.execute("UPDATE encodings SET vector = ? WHERE id = 3", (vector,))
    connection.commit()
    connection.close()
    with GalleryFile.open(path) as gallery, pytest.raises(GalleryFailure, match="damaged, for it holds encodings"):
        gallery.encodings()


def test_a_writer_waits_for_another_and_then_says_so(path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with GalleryFile.open(path, timeout_s=0.2) as gallery:
        assert len(gallery.encodings()) == 30  # readers do not wait
        with pytest.raises(GalleryFailure, match="another program is writing to it: try again"):
            gallery.add("Bob", encodings(1))
        other.execute("ROLLBACK")
        gallery.add("Bob", encodings(1))
    other.close()


def test_read_only_is_kept(path: Path) -> None:
    with GalleryFile.open(path, read_only=True) as gallery:
        with pytest.raises(GalleryError, match="it cannot be written"):
            gallery.add("Bob", encodings(1))
        with pytest.raises(GalleryError, match="it cannot be written"):
            gallery.remove("Ann")
        assert gallery.encodings().names == ("Ann",)


def test_a_read_only_disk_is_read_and_writing_is_a_sentence(disk_of: Callable[[str], Path]) -> None:
    disk = disk_of("2m")
    path = disk / "gallery.db"
    with GalleryFile.open(path, DLIB, create=True) as gallery:
        gallery.add("Ann", encodings(3))
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    for read_only in (True, False):
        with GalleryFile.open(path, DLIB, read_only=read_only) as gallery:
            assert gallery.encodings().names == ("Ann",)
            assert gallery.version() == gallery.version()
            with pytest.raises(GalleryError, match="it cannot be written"):
                gallery.add("Bob", encodings(1))
            with pytest.raises(GalleryError, match="it cannot be written"):
                gallery.remove("Ann")
    with pytest.raises(GalleryError, match=r"cannot create the gallery .*Read-only file system"):
        GalleryFile.open(disk / "new.db", DLIB, create=True)
    assert contents(disk).keys() == {"gallery.db"}


def test_changes_that_a_read_only_disk_hides_are_told(disk_of: Callable[[str], Path], tmp_path: Path) -> None:
    disk = disk_of("2m")
    with GalleryFile.open(tmp_path / "gallery.db", DLIB, create=True) as gallery:
        gallery.add("Ann", encodings(3))
        for file in tmp_path.glob("gallery.db*"):
            (disk / file.name).write_bytes(file.read_bytes())
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(GalleryError, match=r"newest changes, in gallery\.db-wal, cannot be read there"):
        GalleryFile.open(disk / "gallery.db")


def test_a_full_disk_keeps_what_was_there(disk_of: Callable[[str], Path]) -> None:
    with GalleryFile.open(disk_of("400k") / "gallery.db", DLIB, create=True) as gallery:
        gallery.add("Ann", encodings(3))
        with pytest.raises(GalleryFailure, match="no space is left"):
            gallery.add("Bob", encodings(1000))
        assert [(each.name, each.count) for each in gallery.people()] == [("Ann", 3)]


def test_a_gallery_that_finds_no_space_is_not_made(disk_of: Callable[[str], Path]) -> None:
    disk = disk_of("12k")
    with pytest.raises(GalleryFailure, match=r"^cannot create the gallery .*new\.db: "):
        GalleryFile.open(disk / "new.db", DLIB, create=True)
    assert not list(disk.iterdir())


def test_a_new_gallery_is_made_where_a_link_points(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "disk" / "gallery.db")
    GalleryFile.open(tmp_path / "link.db", DLIB, create=True).close()
    assert [file.name for file in (tmp_path / "disk").iterdir()] == ["gallery.db"]


def test_a_gallery_without_its_embedder_is_damaged(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("DELETE FROM gallery")
    connection.commit()
    connection.close()
    with pytest.raises(GalleryFailure, match="is damaged, for it names no embedder"):
        GalleryFile.open(path)


@pytest.mark.parametrize(
    ("error", "wrong_request", "words"),
    [
        (sqlite3.OperationalError("disk I/O error"), False, "the disk fails, or is full"),
        (sqlite3.OperationalError("database or disk is full"), False, "no space is left"),
        (sqlite3.OperationalError("database is locked"), False, "another program is writing"),
        (sqlite3.DatabaseError("database disk image is malformed"), False, "it is damaged"),
        (sqlite3.OperationalError("something new"), False, "something new"),
        (OSError(errno.EIO, "Input/output error"), False, "Input/output error"),
        (OSError(errno.ENOSPC, "No space left on device"), False, "No space left"),
        (sqlite3.DatabaseError("file is not a database"), True, "it is no gallery"),
        (sqlite3.OperationalError("attempt to write a readonly database"), True, "it cannot be written"),
        (PermissionError(errno.EACCES, "Permission denied"), True, "Permission denied"),
        (OSError(errno.ENAMETOOLONG, "File name too long"), True, "File name too long"),
    ],
)
def test_failures_of_the_disk_are_no_wrong_requests(
    path: Path, error: Exception, wrong_request: bool, words: str
) -> None:
    with pytest.raises(GalleryError, match=words) as raised, in_sentences(path, "read"):
        raise error
    assert raised.value.request_was_wrong is wrong_request


def test_a_disk_without_hard_links_holds_a_gallery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")  # as Linux says it of FAT

    monkeypatch.setattr(os, "link", refuse)
    with GalleryFile.open(tmp_path / "new.db", DLIB, create=True) as gallery:
        gallery.add("Ann", encodings(1))
    assert [file.name for file in tmp_path.iterdir()] == ["new.db"]
