"""Several processes at one gallery, some of them killed."""

from __future__ import annotations

import contextlib
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.gallery.store import GalleryFile
from tests.pipeline.gallery.enrol import TOGETHER


@contextlib.contextmanager
def enrolling(path: Path, name: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.pipeline.gallery.enrol", str(path), name]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield process
        finally:
            process.kill()


def integrity(path: Path) -> str:
    connection = sqlite3.connect(path)
    try:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])
    finally:
        connection.close()


def test_kill_9_leaves_only_whole_enrolments(tmp_path: Path) -> None:
    path = tmp_path / "gallery.db"
    chance = random.Random(0)
    people = 0
    for attempt in range(10):
        with enrolling(path, f"attempt {attempt}") as process:
            time.sleep(chance.uniform(0, 0.15))
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert integrity(path) == "ok"
        with GalleryFile.open(path) as gallery:
            counts = [each.count for each in gallery.people()]
            assert set(counts) <= {TOGETHER}
            assert len(counts) >= people
            people = len(counts)
            assert len(gallery.encodings()) == TOGETHER * people
    assert people > 10


def test_two_writers_and_a_reader_see_only_whole_enrolments(tmp_path: Path) -> None:
    path = tmp_path / "gallery.db"
    with enrolling(path, "one"), enrolling(path, "two"), GalleryFile.open(path, read_only=True) as reader:
        until, seen = time.monotonic() + 20, 0
        names: set[str] = set()
        while time.monotonic() < until and len(names) < 2:
            snapshot = reader.encodings()
            assert len(snapshot) == TOGETHER * len(snapshot.names)
            assert len(snapshot) >= seen
            seen = len(snapshot)
            names = {name.split()[0] for name in snapshot.names}
    assert names == {"one", "two"}
    assert integrity(path) == "ok"


def test_processes_that_make_the_gallery_at_once_all_get_it(tmp_path: Path) -> None:
    path = tmp_path / "gallery.db"
    with contextlib.ExitStack() as running:
        threads = [
            threading.Thread(target=lambda name=name: running.enter_context(enrolling(path, name))) for name in "abc"
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        until = time.monotonic() + 20
        with GalleryFile.open(path, read_only=True) as reader:
            while time.monotonic() < until and len({name[0] for name in reader.encodings().names}) < 3:
                time.sleep(0.05)
            assert {name[0] for name in reader.encodings().names} == {"a", "b", "c"}


@pytest.mark.parametrize("left", ["nothing", "no tables"])
def test_a_process_killed_while_it_made_the_file_does_not_stop_the_next(tmp_path: Path, left: str) -> None:
    path = tmp_path / "gallery.db"
    path.touch(mode=0o600)
    if left == "no tables":
        sqlite3.connect(path).execute("PRAGMA journal_mode = WAL").connection.close()
    with enrolling(path, "next"):
        pass
    assert integrity(path) == "ok"
