"""WatchedGallery: changes of others count within about a second; trouble keeps what was known."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import GalleryError, GalleryFailure
from pipeline.gallery import watch
from pipeline.gallery.store import GalleryFile
from pipeline.gallery.watch import READ_EVERY_S, WatchedGallery
from tests.pipeline.gallery.enrol import TOGETHER
from tests.pipeline.gallery.people import DLIB, MOBILE, encodings
from tests.pipeline.gallery.test_processes import enrolling


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gallery.db"


def enrol(path: Path, name: str) -> None:
    with GalleryFile.open(path, DLIB, create=True) as gallery:
        gallery.add(name, encodings(2))


def soon(condition: Callable[[], bool], within_s: float = 5.0) -> bool:
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


@pytest.fixture
def watched(path: Path) -> WatchedGallery:
    """Ann is known."""
    enrol(path, "Ann")
    return WatchedGallery(path, DLIB)


def test_what_is_there_is_known_from_the_start(watched: WatchedGallery) -> None:
    assert watched.matcher.names == ("Ann",)
    assert watched.known.calibration is None
    watched.close()


def test_a_change_counts_within_two_seconds(watched: WatchedGallery, path: Path) -> None:
    before = watched.matcher
    enrol(path, "Bob")
    assert soon(lambda: watched.matcher.names == ("Ann", "Bob"), within_s=2)
    with GalleryFile.open(path) as gallery:
        gallery.remove("Ann")
    assert soon(lambda: watched.matcher.names == ("Bob",), within_s=2)
    assert before.names == ("Ann",)
    assert before.search(np.zeros((1, 128), np.float32)).names == (("Ann",),)
    watched.close()


def test_another_process_that_enrols_is_seen_in_whole_enrolments(path: Path) -> None:
    watched = WatchedGallery(path, DLIB)
    assert watched.matcher.names == ()
    with enrolling(path, "other"):
        assert soon(lambda: len(watched.matcher.names) > 3)
        for _ in range(100):
            matcher = watched.matcher
            assert len(matcher) == TOGETHER * len(matcher.names)
            time.sleep(0.005)
    watched.close()


def test_a_gallery_that_does_not_exist_is_empty_until_it_appears(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    watched = WatchedGallery(path, DLIB)
    assert watched.matcher.search(np.zeros((1, 128), np.float32)).names == ((None,),)
    time.sleep(0.6)
    assert not caplog.records
    enrol(path, "Ann")
    assert soon(lambda: watched.matcher.names == ("Ann",))
    watched.close()


def test_a_gallery_that_disappears_stays_known_and_is_told_once(
    watched: WatchedGallery, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path.unlink()
    assert soon(lambda: bool(caplog.records))
    time.sleep(0.8)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "No such file or directory; the people read before stay known" in caplog.text
    assert watched.matcher.names == ("Ann",)
    for beside in path.parent.glob("gallery.db-*"):
        beside.unlink()
    enrol(path, "Bob")
    assert soon(lambda: watched.matcher.names == ("Bob",))
    assert soon(lambda: "is read again" in caplog.text)
    watched.close()


@pytest.mark.parametrize("wrong", ["text", "another embedder"])
def test_a_gallery_replaced_by_something_else_stays_known_and_is_told_once(
    watched: WatchedGallery, path: Path, tmp_path: Path, wrong: str, caplog: pytest.LogCaptureFixture
) -> None:
    other = tmp_path / "other"
    if wrong == "text":
        other.write_text("no gallery " * 1000)
    else:
        GalleryFile.open(other, MOBILE, create=True).close()
    os.replace(other, path)
    assert soon(lambda: bool(caplog.records))
    time.sleep(0.8)
    assert len(caplog.records) == 1
    assert ("it is no gallery" if wrong == "text" else "cannot be compared") in caplog.text
    assert watched.matcher.names == ("Ann",)
    watched.close()


def test_a_gallery_that_is_replaced_is_read_anew(watched: WatchedGallery, path: Path, tmp_path: Path) -> None:
    enrol(tmp_path / "other.db", "Cid")
    os.replace(tmp_path / "other.db", path)
    assert soon(lambda: watched.matcher.names == ("Cid",))
    watched.close()


def test_a_writer_in_the_middle_of_a_change_delays_nobody(watched: WatchedGallery, path: Path) -> None:
    with GalleryFile.open(path) as writer:
        writer._connection.execute("BEGIN IMMEDIATE")
        writer._connection.execute("DELETE FROM people")
        enrolled_too_early = soon(lambda: watched.matcher.names != ("Ann",), within_s=READ_EVERY_S + 0.7)
        writer._connection.execute("COMMIT")
    assert not enrolled_too_early
    assert soon(lambda: watched.matcher.names == ())
    watched.close()


def test_a_calibration_comes_and_a_damaged_one_keeps_what_was_known(
    watched: WatchedGallery, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with GalleryFile.open(path) as gallery:
        gallery.store_calibration({"nonsense": 1})
    assert soon(lambda: "calibration" in caplog.text)
    assert watched.matcher.names == ("Ann",)
    assert watched.known.calibration is None
    watched.close()


@pytest.mark.parametrize("wrong", ["text", "folder", "another embedder"])
def test_a_wrong_gallery_is_refused_at_the_start(path: Path, wrong: str) -> None:
    if wrong == "text":
        path.write_text("no gallery " * 1000)
    elif wrong == "folder":
        path.mkdir()
    else:
        GalleryFile.open(path, MOBILE, create=True).close()
    threads = threading.active_count()
    with pytest.raises(GalleryError, match=r"gallery\.db"):
        WatchedGallery(path, DLIB)
    assert soon(lambda: threading.active_count() == threads)


def test_close_ends_the_thread_and_lets_go_of_the_file(watched: WatchedGallery, path: Path) -> None:
    watched.close()
    assert not any(thread.name == "gallery" for thread in threading.enumerate())
    assert not list(path.parent.glob("gallery.db-*"))
    assert watched.matcher.names == ("Ann",)
    shutil.rmtree(path.parent)


def spoil_calibration(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("UPDATE gallery SET calibration = '{{{'")
    connection.commit()
    connection.close()


def test_an_unreadable_calibration_is_told_once_and_the_watch_goes_on(
    watched: WatchedGallery, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spoil_calibration(path)
    assert soon(lambda: bool(caplog.records))
    assert "is damaged" in caplog.text
    assert watched.matcher.names == ("Ann",)
    with GalleryFile.open(path) as gallery:
        gallery.store_calibration(None)
        gallery.add("Bob", encodings(1))
    assert soon(lambda: watched.matcher.names == ("Ann", "Bob"))
    watched.close()


def test_an_unreadable_calibration_is_refused_at_the_start(path: Path) -> None:
    enrol(path, "Ann")
    spoil_calibration(path)
    with pytest.raises(GalleryFailure, match="repeat `frameloom gallery calibrate`"):
        WatchedGallery(path, DLIB)


def test_any_trouble_at_the_first_look_is_raised_and_later_the_watch_goes_on(
    watched: WatchedGallery, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_memory(*_: object) -> None:
        raise MemoryError("10 GB")

    with monkeypatch.context() as patched:
        patched.setattr(watch, "Matcher", no_memory)
        enrol(path, "Bob")
        assert soon(lambda: "MemoryError('10 GB'); the people read before stay known" in caplog.text)
    assert soon(lambda: watched.matcher.names == ("Ann", "Bob"))
    watched.close()
    with monkeypatch.context() as patched:
        patched.setattr(GalleryFile, "encodings", no_memory)
        with pytest.raises(GalleryFailure, match="10 GB"):
            WatchedGallery(path, DLIB)


def test_a_backup_that_is_copied_over_the_gallery_is_read(watched: WatchedGallery, path: Path, tmp_path: Path) -> None:
    shutil.copyfile(path, tmp_path / "backup.db")
    enrol(path, "Bob")
    assert soon(lambda: watched.matcher.names == ("Ann", "Bob"))
    shutil.copyfile(tmp_path / "backup.db", path)
    assert soon(lambda: watched.matcher.names == ("Ann",), within_s=2)
    enrol(path, "Cid")
    assert soon(lambda: watched.matcher.names == ("Ann", "Cid"), within_s=2)
    watched.close()


def test_many_changes_in_a_row_are_read_about_once_a_second(watched: WatchedGallery, path: Path) -> None:
    seen, until, number = {id(watched.matcher): watched.matcher}, time.monotonic() + 3, 0
    with GalleryFile.open(path) as gallery:
        while time.monotonic() < until:
            gallery.add(f"person {number}", encodings(1))
            number += 1
            time.sleep(0.05)
            seen[id(watched.matcher)] = watched.matcher
    assert number > 15
    assert 2 <= len(seen) <= 5
    assert soon(lambda: len(watched.matcher.names) == number + 1, within_s=2)
    watched.close()
