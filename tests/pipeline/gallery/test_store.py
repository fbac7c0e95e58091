"""GalleryFile: what goes in comes out, by name; nothing of a removed person stays."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import GalleryError, GalleryFailure
from pipeline.gallery.records import EmbedderId
from pipeline.gallery.store import GalleryFile
from tests.pipeline.gallery.people import DLIB, MOBILE, encodings


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gallery.db"


def files(path: Path) -> list[Path]:
    return sorted(path.parent.glob(path.name + "*"))


def test_encodings_come_back_bit_by_bit_with_their_people(path: Path) -> None:
    ann, bob = encodings(3, seed=1), encodings(2, seed=2)
    with GalleryFile.open(path, DLIB, create=True) as gallery:
        gallery.add("Bob", bob[:1])
        gallery.add("Ann", ann)
        gallery.add("Bob", bob[1:])
    with GalleryFile.open(path) as gallery:
        assert gallery.embedder == DLIB
        assert [(each.name, each.count, each.quality) for each in gallery.people()] == [
            ("Ann", 3, 0.502),
            ("Bob", 2, 0.501),
        ]
        everybody, only_ann = gallery.encodings(), gallery.encodings("Ann")
        records = gallery.records("Bob")
    assert everybody.names == ("Bob", "Ann")
    np.testing.assert_array_equal(everybody.vectors, np.stack([each.vector for each in bob + ann]))
    np.testing.assert_array_equal(everybody.persons, [0, 0, 1, 1, 1])
    np.testing.assert_allclose(everybody.qualities, [0.5, 0.501, 0.5, 0.501, 0.502], rtol=1e-6)
    assert len(set(everybody.ids.tolist())) == 5
    assert everybody.vectors.dtype == np.float32
    assert everybody.vectors.flags.c_contiguous
    assert only_ann.names == ("Ann",)
    np.testing.assert_array_equal(only_ann.vectors, everybody.vectors[2:])
    for (name, found), stored in zip(records, bob, strict=True):
        assert name == "Bob"
        assert (found.quality, found.image, found.image_sha256, found.created_at) == (
            stored.quality,
            stored.image,
            stored.image_sha256,
            stored.created_at,
        )


def test_vectors_are_stored_as_little_endian_float32(path: Path) -> None:
    (encoding,) = encodings(1)
    with GalleryFile.open(path, DLIB, create=True) as gallery:
        gallery.add("Ann", [encoding])
    blob = sqlite3.connect(path).execute("SELECT vector FROM encodings").fetchone()[0]
    np.testing.assert_array_equal(np.frombuffer(blob, "<f4"), encoding.vector)


def test_a_hundred_thousand_encodings_load_in_well_under_a_second(path: Path) -> None:
    one = replace(encodings(1)[0], image_sha256="")
    with GalleryFile.open(path, DLIB, create=True) as gallery:
        gallery.add_records((f"person {number % 20_000}", one) for number in range(100_000))
        seconds = []
        for _ in range(3):
            began = time.thread_time()
            assert gallery.encodings().vectors.shape == (100_000, 128)
            seconds.append(time.thread_time() - began)
    assert min(seconds) < 0.7


def test_a_new_gallery_is_empty(path: Path) -> None:
    with GalleryFile.open(path, MOBILE, create=True) as gallery:
        assert gallery.people() == []
        assert gallery.encodings().vectors.shape == (0, 512)
        assert gallery.calibration() is None
        assert gallery.has_image("0" * 64) is None


def test_an_image_is_known_by_its_sha256(path: Path) -> None:
    (encoding,) = encodings(1)
    with GalleryFile.open(path, DLIB, create=True) as gallery:
        gallery.add("Ann", [encoding, replace(encoding, image_sha256="")])
        assert gallery.has_image(encoding.image_sha256) == "Ann"
        assert gallery.has_image("f" * 64) is None
        assert gallery.has_image("") is None


def test_nothing_of_a_removed_person_is_left_in_any_file(path: Path) -> None:
    gone = encodings(40, seed=1, image="holiday")
    with (
        GalleryFile.open(path, DLIB, create=True) as gallery,
        GalleryFile.open(path, read_only=True) as reader,  # keeps -wal and -shm where they are
    ):
        for number in range(20):  # pages of both, mixed
            gallery.add("Rosalind Unforgotten", gone[2 * number : 2 * number + 2])
            gallery.add(f"person {number}", encodings(2, seed=100 + number))
        assert len(reader.people()) == 21
        before = b"".join(file.read_bytes() for file in files(path))
        assert b"Rosalind" in before
        assert all(each.vector.tobytes() in before for each in gone)
        gallery.remove("Rosalind Unforgotten")
        assert [each.name for each in reader.people()] == sorted(f"person {number}" for number in range(20))
        after = [file.read_bytes() for file in files(path)]
    assert len(after) == 3
    for content in after:
        assert b"Rosalind" not in content
        assert b"holiday" not in content
        for each in gone:
            assert each.vector.tobytes()[:16] not in content
            assert each.image_sha256.encode() not in content


def test_an_old_name_is_erased_like_a_person(path: Path) -> None:
    with GalleryFile.open(path, DLIB, create=True) as gallery:
        gallery.add("Rosalind", encodings(2))
        gallery.rename("Rosalind", "Ros")
        assert gallery.encodings().names == ("Ros",)
        assert all(b"Rosalind" not in file.read_bytes() for file in files(path))


def test_a_removal_says_when_a_reader_keeps_old_pages(path: Path) -> None:
    with GalleryFile.open(path, DLIB, create=True, timeout_s=0.1) as gallery:
        gallery.add("Ann", encodings(2))
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN")
        other.execute("SELECT * FROM people").fetchall()
        with pytest.raises(GalleryFailure, match=r"deleted from .* traces stay in gallery\.db-wal"):
            gallery.remove("Ann")
        assert gallery.people() == []
        other.close()


def test_rename_refuses_a_name_that_is_taken(path: Path) -> None:
    with GalleryFile.open(path, DLIB, create=True) as gallery:
        gallery.add("Ann", encodings(1))
        gallery.add("Bob", encodings(1))
        with pytest.raises(GalleryError, match="'Bob' already"):
            gallery.rename("Ann", "Bob")
        gallery.rename("Ann", "Ann")
        gallery.rename("Bob", "bob")
        assert gallery.encodings().names == ("Ann", "bob")


@pytest.mark.parametrize("deed", ["remove", "rename", "encodings", "records"])
def test_a_name_that_nobody_has_is_named(path: Path, deed: str) -> None:
    with GalleryFile.open(path, DLIB, create=True) as gallery:
        gallery.add("Ann", encodings(1))
        with pytest.raises(GalleryError, match="nobody named 'ann'"):
            getattr(gallery, deed)(*(("ann", "x") if deed == "rename" else ("ann",)))


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("  Ann ", "Ann"),
        ("Zoe\u0308", "Zo\u00eb"),
        ("O'Neil; DROP TABLE people", "O'Neil; DROP TABLE people"),
        ("\u738b\u5c0f\u660e", "\u738b\u5c0f\u660e"),
        ("x" * 200, "x" * 200),
    ],
)
def test_names_are_stripped_and_composed(path: Path, given: str, stored: str) -> None:
    with GalleryFile.open(path, DLIB, create=True) as gallery:
        gallery.add(given, encodings(1))
        assert gallery.encodings(given).names == (stored,)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("", "is empty"),
        (" \t", "is empty"),
        ("x" * 201, "201 characters"),
        ("Ann\nBob", "control character"),
        ("Ann\x1b[31m", "control character"),
        ("Ann\u202egnp", "control character"),
        ("\udcff", "control character"),
    ],
)
def test_names_that_could_not_be_shown_are_refused(path: Path, given: str, words: str) -> None:
    with GalleryFile.open(path, DLIB, create=True) as gallery:
        gallery.add("Ann", encodings(1))
        with pytest.raises(GalleryError, match=words):
            gallery.add(given, encodings(1))
        with pytest.raises(GalleryError, match=words):
            gallery.rename("Ann", given)
        assert gallery.encodings().names == ("Ann",)


@pytest.mark.parametrize(
    ("vector", "words"),
    [
        (np.full(128, np.nan, np.float32), "not finite"),
        (np.r_[np.zeros(127), np.inf].astype(np.float32), "not finite"),
        (np.zeros(128, np.float32), "all zeros"),
        (np.full(128, 1e300), "not finite"),
        (np.zeros(512, np.float32), r"shape \(512,\)"),
        (np.zeros((1, 128), np.float32), r"shape \(1, 128\)"),
    ],
)
def test_one_bad_encoding_keeps_all_of_its_people_out(path: Path, vector: np.ndarray, words: str) -> None:
    good = encodings(2)
    with GalleryFile.open(path, DLIB, create=True) as gallery:
        gallery.add("Ann", good)
        with pytest.raises(GalleryError, match=words):
            gallery.add("Bob", [good[0], replace(good[1], vector=vector)])
        assert [(each.name, each.count) for each in gallery.people()] == [("Ann", 2)]


@pytest.mark.parametrize("quality", [float("inf"), float("nan"), -0.01, 1.01])
def test_a_quality_that_is_not_from_0_to_1_is_refused(path: Path, quality: float) -> None:
    with GalleryFile.open(path, DLIB, create=True) as gallery:
        with pytest.raises(GalleryError, match="has the quality"):
            gallery.add("Ann", [replace(encodings(1)[0], quality=quality)])
        assert gallery.people() == []


def test_a_picture_whose_name_is_no_unicode_can_be_stored(path: Path) -> None:
    with GalleryFile.open(path, DLIB, create=True) as gallery:
        gallery.add("Ann", [replace(encodings(1)[0], image="ann-\udce9.jpg")])
        assert gallery.records()[0][1].image == "ann-\\udce9.jpg"


def test_a_cosine_encoding_must_be_normalised(path: Path) -> None:
    one = replace(encodings(1)[0], vector=np.full(512, 1 / np.sqrt(512), np.float32))
    with GalleryFile.open(path, MOBILE, create=True) as gallery:
        gallery.add("Ann", [one])
        with pytest.raises(GalleryError, match="length 2, but"):
            gallery.add("Ann", [replace(one, vector=2 * one.vector)])


@pytest.mark.parametrize(
    "other", [replace(DLIB, sha256="e" * 64), replace(DLIB, metric="cosine"), replace(DLIB, dimensions=64), MOBILE]
)
def test_another_embedder_is_refused_and_both_are_named(path: Path, other: EmbedderId) -> None:
    GalleryFile.open(path, DLIB, create=True).close()
    for create in (False, True):
        with pytest.raises(GalleryError) as refused:
            GalleryFile.open(path, other, create=create)
        assert str(DLIB) in str(refused.value)
        assert str(other) in str(refused.value)
    GalleryFile.open(path, replace(DLIB, name="another label")).close()


def test_a_calibration_stays_while_people_come_and_go(path: Path) -> None:
    document = {"threshold": 0.82, "bound": None, "points": [1, 2.5]}
    with GalleryFile.open(path, DLIB, create=True) as gallery:
        gallery.store_calibration(document)
        gallery.add("Ann", encodings(1))
        gallery.remove("Ann")
        assert gallery.calibration() == document
        gallery.store_calibration(None)
        assert gallery.calibration() is None


def test_version_tells_that_another_connection_has_written(path: Path) -> None:
    with GalleryFile.open(path, DLIB, create=True) as writer, GalleryFile.open(path, read_only=True) as reader:
        seen = [reader.version(), reader.version()]
        writer.add("Ann", encodings(1))
        seen.append(reader.version())
        writer.remove("Ann")
        seen.append(reader.version())
    assert seen[0] == seen[1]
    assert len(set(seen)) == 3


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_all_files_are_private_whatever_the_umask(path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with GalleryFile.open(path, DLIB, create=True) as gallery:
            gallery.add("Ann", encodings(1))
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in files(path)}
    finally:
        os.umask(before)
    assert modes == {"gallery.db": 0o600, "gallery.db-shm": 0o600, "gallery.db-wal": 0o600}


def test_a_copy_that_others_may_read_becomes_private(path: Path) -> None:
    GalleryFile.open(path, DLIB, create=True).close()
    path.chmod(0o644)
    with GalleryFile.open(path) as gallery:
        gallery.add("Ann", encodings(1))
        assert {stat.S_IMODE(file.stat().st_mode) for file in files(path)} == {0o600}


def test_another_thread_is_refused(path: Path) -> None:
    with GalleryFile.open(path, DLIB, create=True) as gallery:
        refused = []

        def use() -> None:
            try:
                gallery.people()
            except sqlite3.ProgrammingError as error:
                refused.append(error)

        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
    assert len(refused) == 1


def test_two_who_enrol_a_picture_at_once_store_it_once(path: Path) -> None:
    shared, own = encodings(1, seed=1)[0], encodings(1, seed=2)[0]
    with GalleryFile.open(path, DLIB, create=True) as first, GalleryFile.open(path) as second:
        assert first.has_image(shared.image_sha256) is None
        assert second.has_image(shared.image_sha256) is None
        assert first.add("Ann", [shared]) == []
        (left_out,) = second.add("Anna", [shared, own])
        assert (left_out.person, left_out.encoding, left_out.holder) == ("Anna", shared, "Ann")
        assert second.add_records([("Ann", shared), ("Cid", shared)]) == 0
        assert [(each.name, each.count) for each in first.people()] == [("Ann", 1), ("Anna", 1)]


def test_a_picture_is_stored_once_within_an_enrolment(path: Path) -> None:
    (one,) = encodings(1)
    with GalleryFile.open(path, DLIB, create=True) as gallery:
        (left_out,) = gallery.add("Ann", [one, replace(one, image="copy.jpg")])
        assert (left_out.encoding.image, left_out.holder) == ("copy.jpg", "Ann")
        without = replace(one, image_sha256="")
        assert gallery.add("Ann", [without, without]) == []
        assert [each.count for each in gallery.people()] == [3]


def test_the_embedder_of_a_gallery_that_is_not_there_yet_is_nobodys(path: Path) -> None:
    assert GalleryFile.embedder_of(path) is None
    path.touch()
    assert GalleryFile.embedder_of(path) is None
    sqlite3.connect(path).execute("PRAGMA journal_mode = WAL").connection.close()
    assert path.stat().st_size == 4096
    assert GalleryFile.embedder_of(path) is None
    with GalleryFile.open(path, MOBILE, create=True) as gallery:
        assert gallery.people() == []
    assert GalleryFile.embedder_of(path) == MOBILE


@pytest.mark.parametrize("stored", ["{{{", "", b"\xff\xfe", "[" * 100_000])
def test_a_calibration_that_cannot_be_read_is_damage(path: Path, stored: object) -> None:
    with GalleryFile.open(path, DLIB, create=True) as gallery:
        gallery._connection.execute("UPDATE gallery SET calibration = ?", (stored,))
        with pytest.raises(GalleryFailure, match=r"calibration stored in .*gallery\.db is damaged .*: repeat"):
            gallery.calibration()
        gallery.store_calibration({"threshold": 1})
        assert gallery.calibration() == {"threshold": 1}


def test_a_copy_of_the_file_is_whole_once_its_writer_has_closed_it(path: Path, tmp_path: Path) -> None:
    GalleryFile.open(path, DLIB, create=True).close()
    with GalleryFile.open(path, read_only=True) as reader:  # or SQLite would empty -wal by itself
        with GalleryFile.open(path) as gallery:
            gallery.add("Ann", encodings(2))
        (tmp_path / "copy.db").write_bytes(path.read_bytes())
        assert len(reader.encodings()) == 2
    with GalleryFile.open(tmp_path / "copy.db") as copy:
        assert copy.encodings().names == ("Ann",)
