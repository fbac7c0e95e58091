"""Enrolment: what comes into a gallery, and each reason why something does not."""

from __future__ import annotations

import hashlib
import os
import shutil
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from engines.engine import EngineOptions
from pipeline.arrays import Image
from pipeline.errors import ConfigError, GalleryError
from pipeline.gallery.known import id_of
from pipeline.gallery.store import GalleryFile
from pipeline.infer.face_reader import FaceReader
from tools.enrol import Enrolment, Report, Rules, people_in
from tools.face_images import FaceModels, opened

RULES = Rules(alike=0.42, same=0.27)
Enrol = Callable[..., Report]


@pytest.fixture(scope="module")
def reader(shared: Path) -> Iterator[FaceReader]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FRAMELOOM_MIRROR", str(shared / "models"))
        patch.setenv("FRAMELOOM_OFFLINE", "1")
        with opened(FaceModels("yunet", "mobilefacenet", EngineOptions("onnxruntime"), 256)) as opened_reader:
            yield opened_reader


@pytest.fixture(scope="module")
def johns(shared: Path) -> dict[str, list[Path]]:
    """Ten or eleven different pictures of each of five people."""
    people = {}
    for person in sorted((shared / "data/faces/johns").iterdir()):
        different = {path.read_bytes(): path for path in sorted(person.iterdir(), reverse=True)}
        people[person.name] = sorted(different.values())
    return people


@pytest.fixture(scope="module")
def lfw(shared: Path) -> Path:
    """A face with some room around it."""
    return shared / "data/faces/lfw/images_deepfunneled/Abdullah_Gul/Abdullah_Gul_0013.jpg"


def blurred(path: Path, pixels_at_twice_the_size: float, to: Path) -> Path:
    """Write a picture at twice its size, blurred."""
    large = cv2.resize(pixels(path), None, fx=2, fy=2)
    return written(to, np.asarray(cv2.GaussianBlur(large, (0, 0), pixels_at_twice_the_size), np.uint8))


@pytest.fixture
def gallery(tmp_path: Path, reader: FaceReader) -> Iterator[GalleryFile]:
    with GalleryFile.open(tmp_path / "g.db", id_of(reader.embedder), create=True) as file:
        yield file


@pytest.fixture
def enrol(gallery: GalleryFile, reader: FaceReader) -> Enrol:
    """Enrol a person in an enrolment of its own."""

    def enrol_(name: str, *paths: Path, rules: Rules = RULES) -> Report:
        enrolment = Enrolment(gallery, reader, rules)
        enrolment.enrol(name, paths)
        return enrolment.report

    return enrol_


def reasons(report: Report) -> dict[str, str]:
    return {path.name: reason for path, reason in report.refused}


def pixels(path: Path) -> Image:
    return np.asarray(cv2.imread(str(path)), np.uint8)


def written(path: Path, image: Image) -> Path:
    assert cv2.imwrite(str(path), image)
    return path


def test_pictures_of_a_person_are_added_with_where_they_came_from(
    enrol: Enrol, gallery: GalleryFile, johns: dict[str, list[Path]], reader: FaceReader
) -> None:
    paths = johns["John_Simm"][:3]
    report = enrol("simm", *paths)
    assert (report.added, report.refused) == ({"simm": 3}, [])
    records = gallery.records("simm")
    assert [record.image for _, record in records] == [path.name for path in paths]
    for path, (_, record) in zip(paths, records, strict=True):
        assert record.image_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert record.quality > 0.5
        assert np.linalg.norm(record.vector) == pytest.approx(1, abs=1e-5)


def test_every_picture_that_cannot_be_used_has_its_reason_and_the_others_are_added(
    enrol: Enrol, gallery: GalleryFile, johns: dict[str, list[Path]], lfw: Path, tmp_path: Path
) -> None:
    good, other, another = johns["John_Simm"][0], johns["John_Simm"][1], johns["John_Salley"][0]
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "folder.jpg").mkdir()
    scenery = np.full((200, 200, 3), 127, np.uint8)
    tiny = scenery.copy()
    tiny[90:116, 90:116] = cv2.resize(pixels(good), (26, 26), interpolation=cv2.INTER_AREA)
    paths = [
        tmp_path / "text.jpg",
        tmp_path / "folder.jpg",
        tmp_path / "gone.jpg",
        written(tmp_path / "scenery.png", scenery),
        written(tmp_path / "two.png", np.hstack([pixels(good), pixels(another)])),
        blurred(lfw, 10, tmp_path / "blurred.png"),
        written(tmp_path / "tiny.png", tiny),
        good,
        Path(shutil.copy(good, tmp_path / "copy.jpg")),
        other,
    ]
    report = enrol("simm", *paths)
    assert report.added == {"simm": 2}
    found = reasons(report)
    assert found.pop("blurred.png").startswith("blurred (quality 0.")
    assert found.pop("tiny.png").startswith("small (quality 0.")
    assert found == {
        "text.jpg": "cannot be read as a picture",
        "folder.jpg": "is no file",
        "gone.jpg": "does not exist",
        "scenery.png": "no face",
        "two.png": "two faces",
        "copy.jpg": "already there",
    }
    assert [path for path, _ in report.refused] == [path for path in paths if path not in (good, other)]
    assert [person.count for person in gallery.people()] == [2]


def test_the_floor_of_quality_can_be_moved(enrol: Enrol, lfw: Path, tmp_path: Path) -> None:
    soft = blurred(lfw, 5, tmp_path / "soft.png")
    assert reasons(enrol("gul", soft, rules=Rules(min_quality=0.95)))["soft.png"].startswith("blurred (quality 0.")
    assert enrol("gul", soft, rules=Rules(min_quality=0.0)).added == {"gul": 1}


def test_a_picture_that_is_there_already_says_whose_it_is(enrol: Enrol, johns: dict[str, list[Path]]) -> None:
    first, second = johns["John_Simm"][:2]
    enrol("simm", first)
    again = enrol("simm", first, second)
    assert (again.added, reasons(again)) == ({"simm": 1}, {first.name: "already there"})
    assert reasons(enrol("eve", first)) == {first.name: "already there, as simm"}


def test_somebody_who_looks_like_another_is_refused_also_within_one_enrolment(
    gallery: GalleryFile, reader: FaceReader, johns: dict[str, list[Path]]
) -> None:
    enrolment = Enrolment(gallery, reader, RULES)
    enrolment.enrol("simm", johns["John_Simm"][:2])
    enrolment.enrol("savage", johns["John_Savage"][:2])
    enrolment.enrol("eve", johns["John_Simm"][2:4])
    assert enrolment.report.added == {"simm": 2, "savage": 2, "eve": 0}
    for reason in reasons(enrolment.report).values():
        assert reason.startswith("looks like simm (0.")
        assert float(reason.rpartition("(")[2].rstrip(")")) > 0.6
    assert [person.name for person in gallery.people()] == ["savage", "simm"]


def test_twins_are_added_when_it_is_said(enrol: Enrol, johns: dict[str, list[Path]]) -> None:
    enrol("simm", johns["John_Simm"][0])
    assert enrol("twin", johns["John_Simm"][1]).added == {"twin": 0}
    assert enrol("twin", johns["John_Simm"][1], rules=Rules(alike=0.42, allow_alike=True)).added == {"twin": 1}


@pytest.mark.parametrize("known", [0, 3])
def test_a_picture_unlike_the_persons_others_is_refused_wherever_it_stands(
    enrol: Enrol, johns: dict[str, list[Path]], known: int
) -> None:
    own, strange = johns["John_Simm"], johns["John_Salley"][0]
    if known:
        enrol("simm", *own[:known])
    for place in range(3):
        fresh = own[known + 3 * place : known + 3 * place + 2]
        report = enrol("simm", *fresh[: place % 2], strange, *fresh[place % 2 :])
        assert report.added == {"simm": 2}, report
        assert reasons(report)[strange.name].startswith("unlike the other pictures of simm (")


def test_of_two_unlike_pictures_both_are_refused_for_none_can_be_called_the_wrong_one(
    enrol: Enrol, johns: dict[str, list[Path]]
) -> None:
    report = enrol("both", johns["John_Shimkus"][0], johns["John_Salley"][0])
    assert report.added == {"both": 0}
    assert len(report.refused) == 2
    for reason in reasons(report).values():
        assert reason.startswith("unlike the other picture of both (")
    assert enrol("both", *johns["John_Shimkus"][:2]).added == {"both": 2}
    assert enrol("both", johns["John_Salley"][0]).added == {"both": 0}


def test_progress_is_told_after_each_picture(
    gallery: GalleryFile, reader: FaceReader, johns: dict[str, list[Path]], tmp_path: Path
) -> None:
    told: list[None] = []
    Enrolment(gallery, reader, RULES).enrol(
        "simm", [johns["John_Simm"][0], tmp_path / "gone.jpg"], lambda: told.append(None)
    )
    assert len(told) == 2


@pytest.mark.parametrize("second", ["Jose\u0301", " José ", "José"])
def test_a_name_written_in_another_way_is_the_same_person(
    enrol: Enrol, gallery: GalleryFile, johns: dict[str, list[Path]], second: str
) -> None:
    """File systems of some machines give names decomposed: é as e and an accent."""
    first, other = johns["John_Simm"][:2]
    enrol("José", first)
    report = enrol(second, first, other)
    assert reasons(report) == {first.name: "already there"}
    assert [(person.name, person.count) for person in gallery.people()] == [("José", 2)]


def test_a_name_that_cannot_be_stored_adds_nothing(
    enrol: Enrol, gallery: GalleryFile, johns: dict[str, list[Path]]
) -> None:
    with pytest.raises(GalleryError, match="control character"):
        enrol("a\tb", johns["John_Simm"][0])
    assert gallery.people() == []


# ---- a folder per person


def test_each_folder_is_a_person_and_only_pictures_count(tmp_path: Path) -> None:
    for name in ("bob/2.JPG", "bob/1.png", "bob/notes.txt", "ann/x.jpeg", "empty/notes.txt", "loose.jpg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    found = [(name, [path.name for path in paths]) for name, paths in people_in(tmp_path)]
    assert found == [("ann", ["x.jpeg"]), ("bob", ["1.png", "2.JPG"])]


def test_a_folder_without_people_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "loose.jpg").write_bytes(b"")
    with pytest.raises(ConfigError, match="none of its folders has pictures; it wants a folder per person"):
        list(people_in(tmp_path))
    for path in (tmp_path / "gone", tmp_path / "loose.jpg"):
        with pytest.raises(ConfigError, match="name a folder that has a folder per person"):
            list(people_in(path))


def test_names_of_folders_need_no_letters_of_ours(tmp_path: Path) -> None:
    for name in ("猫", unicodedata.normalize("NFD", "José")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.jpg").write_bytes(b"")
    assert [unicodedata.normalize("NFC", name) for name, _ in people_in(tmp_path)] == ["José", "猫"]
    assert os.listdir(tmp_path)
