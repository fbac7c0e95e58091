"""Exports and imports: everything comes back, nothing comes in twice, nothing bad comes in at all."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import GalleryError, GalleryFailure
from pipeline.gallery import archive
from pipeline.gallery.store import GalleryFile
from tests.pipeline.gallery.people import DLIB, MOBILE, encodings


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "gallery.db"
    with GalleryFile.open(path, DLIB, create=True) as gallery:
        gallery.add("Ann", encodings(3, seed=1))
        gallery.add("Zo\u00eb", encodings(2, seed=2))
    return path


@pytest.fixture
def exported(path: Path, tmp_path: Path) -> Path:
    file = tmp_path / "gallery.npz"
    with GalleryFile.open(path, read_only=True) as gallery:
        assert archive.export(gallery, file) == 5
    return file


def test_an_export_brings_everything_to_a_new_gallery(path: Path, exported: Path, tmp_path: Path) -> None:
    assert archive.import_into(tmp_path / "new.db", exported) == (5, 0)
    with GalleryFile.open(path) as old, GalleryFile.open(tmp_path / "new.db") as new:
        assert new.embedder == DLIB
        for (name, one), (other_name, other) in zip(old.records(), new.records(), strict=True):
            assert name == other_name
            np.testing.assert_array_equal(one.vector, other.vector)
            assert one.quality == pytest.approx(other.quality, abs=1e-7)
            assert (one.image, one.image_sha256, one.created_at) == (other.image, other.image_sha256, other.created_at)


def test_an_export_is_private_and_leaves_nothing_else(exported: Path) -> None:
    assert stat.S_IMODE(exported.stat().st_mode) == 0o600
    assert not list(exported.parent.glob(".*"))


def test_an_export_is_plain_arrays(exported: Path) -> None:
    with np.load(exported, allow_pickle=False) as arrays:
        assert arrays["encodings"].shape == (5, 128)
        assert arrays["encodings"].dtype == np.float32
        assert arrays["names"].tolist() == ["Ann"] * 3 + ["Zo\u00eb"] * 2
        assert json.loads(str(arrays["embedder"])) == asdict(DLIB)
        assert arrays["format"] == 1


def test_an_empty_gallery_is_exported_and_imported(tmp_path: Path) -> None:
    with GalleryFile.open(tmp_path / "empty.db", MOBILE, create=True) as gallery:
        assert archive.export(gallery, tmp_path / "empty.npz") == 0
    assert archive.import_into(tmp_path / "new.db", tmp_path / "empty.npz") == (0, 0)


def test_what_is_there_already_is_left_out_and_counted(path: Path, exported: Path) -> None:
    with GalleryFile.open(path) as gallery:
        gallery.remove("Zo\u00eb")
    assert archive.import_into(path, exported) == (2, 3)
    assert archive.import_into(path, exported) == (0, 5)


def test_another_embedders_gallery_takes_nothing(exported: Path, tmp_path: Path) -> None:
    with GalleryFile.open(tmp_path / "other.db", MOBILE, create=True):
        pass
    with pytest.raises(GalleryError, match=r"holds encodings of mobilefacenet .* with those of dlib-resnet"):
        archive.import_into(tmp_path / "other.db", exported)
    with GalleryFile.open(tmp_path / "other.db") as gallery:
        assert gallery.people() == []


def changed(**arrays: Any) -> Callable[[Path], None]:
    def change(file: Path) -> None:
        with np.load(file) as loaded:
            kept = {name: loaded[name] for name in loaded} | arrays
        np.savez(file, **{name: array for name, array in kept.items() if array is not None})

    return change


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-300])


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[700] ^= 0xFF
    file.write_bytes(content)


def plain(file: Path) -> None:
    with file.open("wb") as opened:
        np.save(opened, np.zeros(3))


class Evil:
    """Writes a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return open, ("/tmp/frameloom-unpickled", "w")


NAN = np.ones((5, 128), np.float32)
NAN[4, 7] = np.nan


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (changed(encodings=NAN), "not finite"),
        (changed(encodings=np.zeros((5, 64), np.float32)), r"shape \(5, 64\) instead of \(5, 128\)"),
        (changed(encodings=np.zeros((4, 128), np.float32)), r"instead of \(4,\)"),
        (changed(encodings=np.zeros((5, 128), np.int64)), "int64"),
        (changed(encodings=np.float32(1)), "damaged"),
        (changed(names=np.array(["Ann"])), "its names are"),
        (changed(names=np.array(["Ann", "Bob", "C\nD", "E", "F"])), "control character"),
        (changed(qualities=np.array(["high"] * 5)), "its qualities are"),
        (changed(names=np.array([Evil()] * 5)), "no export of a gallery"),
        (changed(images=None), "lacks images"),
        (changed(format=np.array(2)), "format 2"),
        (changed(embedder=np.array("[]")), "does not say which embedder"),
        (changed(embedder=np.array(json.dumps(asdict(DLIB) | {"metric": "l1"}))), "does not say which embedder"),
        (changed(embedder=np.array(json.dumps(asdict(DLIB) | {"dimensions": "x"}))), "does not say which embedder"),
        (changed(embedder=np.array(json.dumps(asdict(DLIB) | {"sha256": 6}))), "does not say which embedder"),
        (changed(embedder=np.array(json.dumps(asdict(DLIB) | {"name": None}))), "does not say which embedder"),
        (changed(embedder=np.array(json.dumps(asdict(DLIB) | {"name": "\x1b[2J"}))), "does not say which embedder"),
        (changed(embedder=np.array("[" * 100_000)), "does not say which embedder"),
        (changed(encodings=np.full((5, 128), 1e300)), "not finite"),
        (changed(encodings=np.eye(5, 128, 1)[::-1] * 0), "all zeros"),
        (changed(qualities=np.full(5, 1.5)), r"quality 1\.5: give one from 0 to 1"),
        (changed(qualities=np.full(5, -0.1)), r"quality -0\.1: give one from 0 to 1"),
        (changed(image_sha256=np.array(["\udcff"] * 5)), "no sha256"),
        (changed(created_at=np.array(["\udcff"] * 5)), "no ISO 8601 time"),
        (cut, "damaged"),
        (flip, "damaged"),
        (lambda file: file.write_bytes(b""), "damaged"),
        (lambda file: file.write_text("name,encoding\n"), "damaged"),
        (plain, "no .npz file"),
        (lambda file: file.unlink(), "No such file"),
        (lambda file: (file.unlink(), file.mkdir()), "Is a directory"),
    ],
)
def test_a_bad_file_is_told_and_brings_nothing_in(
    path: Path, exported: Path, change: Callable[[Path], object], words: str
) -> None:
    change(exported)
    with GalleryFile.open(path) as gallery:
        gallery.remove("Ann")
    for place in (path, path.with_name("new.db")):
        with pytest.raises(GalleryError, match=words):
            archive.import_into(place, exported)
    assert not path.with_name("new.db").exists()
    with GalleryFile.open(path) as gallery:
        assert [(each.name, each.count) for each in gallery.people()] == [("Zo\u00eb", 2)]
    assert not Path("/tmp/frameloom-unpickled").exists()


def test_an_export_that_cannot_be_written_keeps_the_one_before(path: Path, exported: Path) -> None:
    before = exported.read_bytes()
    with GalleryFile.open(path) as gallery:
        with pytest.raises(GalleryError, match="there is no folder"):
            archive.export(gallery, exported / "below.npz")
        gallery.add("Ann", [replace(encodings(1)[0], image="new.jpg")])
        archive.export(gallery, exported)
    assert exported.read_bytes() != before


def test_pictures_that_somebody_has_are_not_imported_under_another_name(path: Path, exported: Path) -> None:
    with GalleryFile.open(path) as gallery:
        gallery.rename("Ann", "Anna")
    assert archive.import_into(path, exported) == (0, 5)


@pytest.mark.parametrize("alias", ["itself", "a link", "a hard link"])
def test_an_export_never_overwrites_the_gallery(path: Path, alias: str) -> None:
    target = path.with_name("alias.npz")
    if alias == "itself":
        target = path
    elif alias == "a link":
        target.symlink_to(path)
    else:
        os.link(path, target)
    with GalleryFile.open(path, read_only=True) as gallery, pytest.raises(GalleryError, match="is the gallery itself"):
        archive.export(gallery, target)
    with GalleryFile.open(path) as gallery:
        assert gallery.encodings().names == ("Ann", "Zo\u00eb")


def test_an_export_overwrites_no_file_that_is_none(path: Path, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear Ann")
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04")
    np.savez(tmp_path / "other.npz", weights=np.zeros(3))
    os.mkfifo(tmp_path / "pipe")
    with GalleryFile.open(path, read_only=True) as gallery:
        for name in ("letter.txt", "cut.npz", "other.npz", "pipe", "gallery.db-wal"):
            with pytest.raises(GalleryError, match=f"{name} is there already, and is no export"):
                archive.export(gallery, tmp_path / name)
    assert (tmp_path / "letter.txt").read_text() == "dear Ann"


def test_a_folder_is_no_file_to_export_to_and_none_is_made(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with GalleryFile.open(path, read_only=True) as gallery:
        for name in (".", "", "..", "/"):
            with pytest.raises(GalleryError, match="is a folder: name a file in it"):
                archive.export(gallery, Path(name))
        with pytest.raises(GalleryError, match=r"there is no folder .*a/b, make it first"):
            archive.export(gallery, tmp_path / "a" / "b" / "x.npz")
    assert not (tmp_path / "a").exists()


def test_an_export_to_a_full_disk_fails_and_leaves_nothing(path: Path, disk_of: Callable[[str], Path]) -> None:
    disk = disk_of("4k")
    with (
        GalleryFile.open(path, read_only=True) as gallery,
        pytest.raises(GalleryFailure, match=r"^cannot write the export .*x\.npz: No space left on device$"),
    ):
        archive.export(gallery, disk / "x.npz")
    assert not list(disk.iterdir())


def test_what_a_killed_export_left_is_deleted_by_the_next(path: Path, tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = tmp_path / f".x.npz.{ended.pid}-0123abcd.unfinished"
    under_way = tmp_path / f".x.npz.{os.getpid()}-0123abcd.unfinished"
    of_another = tmp_path / f".y.npz.{ended.pid}-0123abcd.unfinished"
    for file in (left, under_way, of_another):
        shutil.copy(path, file)
    with GalleryFile.open(path, read_only=True) as gallery:
        archive.export(gallery, tmp_path / "x.npz")
    assert [file.exists() for file in (left, under_way, of_another)] == [False, True, True]
