"""Faces in picture files: which face is meant, and why there is none."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.engine import EngineOptions
from engines.errors import ModelError
from engines.spec import ARCFACE_TEMPLATE
from pipeline.faces import Faces
from pipeline.picture import Picture
from tools.face_images import (
    RIVAL,
    FaceModels,
    aligned_chips,
    central_face,
    encode_images,
    only_face,
    opened,
    picture_at,
)

SMALL = FaceModels("yunet", "mobilefacenet", EngineOptions("onnxruntime"), short_side=256)


@pytest.fixture(autouse=True)
def at_hand(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAMELOOM_MIRROR", str(shared / "models"))
    monkeypatch.setenv("FRAMELOOM_OFFLINE", "1")


@pytest.fixture
def john(shared: Path) -> Path:
    return min((shared / "data" / "faces" / "johns" / "John_Simm").iterdir())


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.jpg"
    path.write_text("no picture")
    return path


@pytest.fixture
def blank(tmp_path: Path) -> Path:
    path = tmp_path / "blank.png"
    cv2.imwrite(str(path), np.full((200, 200, 3), 127, np.uint8))
    return path


def squares(*sides: float, scores: list[float] | None = None) -> Faces:
    """Faces side by side."""
    lefts = np.cumsum([0, *sides[:-1]])
    boxes = np.array([[left, 0, left + side, side] for left, side in zip(lefts, sides, strict=True)])
    return Faces(boxes, np.array(scores or np.linspace(0.9, 0.5, len(sides))), np.zeros((len(sides), 5, 2), np.float32))


# ---- the face of a portrait


def test_a_picture_without_a_face_has_none() -> None:
    assert only_face(Faces.empty()) == (None, "no face")
    assert central_face(Faces.empty(), Picture(bgr=np.zeros((9, 9, 3), np.uint8))) == (None, "no face")


def test_the_largest_face_is_meant_wherever_it_stands_in_the_list() -> None:
    assert only_face(squares(20)).row == 0
    assert only_face(squares(20, 60, 30)).row == 1


@pytest.mark.parametrize(
    ("sides", "reason"),
    [((50, 50), "two faces"), ((50, 20, 45), "two faces"), ((50, 48, 47), "3 faces"), ((40,) * 7, "7 faces")],
)
def test_with_a_second_face_nearly_as_large_it_is_not_clear_who_is_meant(sides: tuple[int, ...], reason: str) -> None:
    assert only_face(squares(*sides)) == (None, reason)


@given(st.lists(st.floats(5, 200), min_size=1, max_size=6))
def test_a_face_is_chosen_if_every_other_has_less_than_a_part_of_its_area(sides: list[float]) -> None:
    areas = sorted((side * side for side in sides), reverse=True)
    if len(sides) > 1 and abs(areas[1] / areas[0] - RIVAL) < 1e-3:
        return  # too near to call
    row, reason = only_face(squares(*sides))
    clear = len(sides) == 1 or areas[1] < RIVAL * areas[0]
    assert (row is not None) == clear == (reason == "")
    if row is not None:
        assert sides[row] == max(sides)


def test_the_face_nearest_to_the_centre_is_meant_however_small() -> None:
    picture = Picture(bgr=np.zeros((200, 300, 3), np.uint8))
    boxes = np.array([[0, 0, 120, 120], [140, 90, 165, 115], [200, 80, 299, 199]])
    faces = Faces(boxes, np.array([0.9, 0.6, 0.5]), np.zeros((3, 5, 2), np.float32))
    assert central_face(faces, picture) == (1, "")
    assert central_face(faces[[0, 2]], picture).row == 0


# ---- pictures


def test_a_file_that_is_no_picture_cannot_be_read(text: Path, tmp_path: Path) -> None:
    for path in (text, tmp_path / "gone.jpg", tmp_path):
        assert picture_at(path) is None


def test_each_picture_has_its_encoding_or_a_reason(john: Path, text: Path, blank: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    paths = [john, text, blank, tmp_path / "gone.jpg", john]
    found = encode_images(paths, SMALL, lambda count, total: told.append((count, total)))
    assert {path: each.reason for path, each in found.items()} == {
        john: "",
        text: "cannot be read as a picture",
        blank: "no face",
        tmp_path / "gone.jpg": "does not exist",
    }
    assert [path for path, each in found.items() if each.encoding is not None] == [john]
    assert 0.5 < found[john].quality <= 1
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]  # each picture once


def test_the_encoding_is_that_of_the_face_in_the_middle(john: Path, shared: Path, tmp_path: Path) -> None:
    other = min((shared / "data" / "faces" / "johns" / "John_Salley").iterdir())
    middle, beside = (cv2.resize(np.asarray(cv2.imread(str(path))), (150, 150)) for path in (john, other))
    cv2.imwrite(str(tmp_path / "three.png"), np.hstack([beside, middle, beside]))
    alone, three, stranger = encode_images([john, tmp_path / "three.png", other], SMALL).values()
    assert alone.encoding is not None
    assert three.encoding is not None
    assert stranger.encoding is not None
    assert float(alone.encoding @ three.encoding) > 0.85
    assert float(stranger.encoding @ three.encoding) < 0.3


def test_aligned_chips_have_the_eyes_where_the_template_has_them(john: Path, text: Path, blank: Path) -> None:
    chips = aligned_chips([john, text, blank], SMALL, ARCFACE_TEMPLATE, (112, 112))
    assert [chips[text], chips[blank]] == [None, None]
    chip = chips[john]
    assert chip is not None
    assert chip.shape == (112, 112, 3)
    framed = np.zeros((320, 320, 3), np.uint8)
    framed[104:216, 104:216] = chip
    with opened(SMALL) as reader:
        faces, _ = reader(Picture(bgr=framed))
    assert len(faces) == 1
    assert np.abs(faces.landmarks[0] - 104 - ARCFACE_TEMPLATE).mean() < 4


def test_a_model_that_is_no_encoder_is_refused_and_the_finder_given_back() -> None:
    with (
        pytest.raises(ModelError, match="'yunet' is a model for face-detect, not for face-encode"),
        opened(FaceModels("yunet", "yunet", EngineOptions("onnxruntime"))),
    ):
        pass
