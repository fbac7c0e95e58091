"""Face quality: each property alone on real or turned faces, the least one counts and is named."""

from __future__ import annotations

import warnings
from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from engines.spec import ARCFACE_TEMPLATE
from pipeline.arrays import FloatArray, Image
from pipeline.faces import Faces
from pipeline.infer.alignment import align
from pipeline.infer.face_quality import EYES_APART, PROPERTIES, SCORE, measure
from pipeline.picture import Picture
from tests.pipeline.faces.conftest import Portrait

SIZE, SHARPNESS, POSE, SURE = range(4)
HEAD = np.array([[-32, 0, 0], [32, 0, 0], [0, 37, 38], [-26, 70, 4], [26, 70, 4]], float)
"""Five landmarks of a head that looks ahead: x right, y down, z towards the camera; the tip of the nose stands out."""
CRISP: Image = np.random.default_rng(1).integers(0, 256, (1, 112, 112, 3)).astype(np.uint8)


def faces(landmarks: FloatArray, score: float = 0.9) -> Faces:
    points = np.asarray(landmarks, np.float32).reshape(-1, 5, 2)
    return Faces(np.tile([0, 0, 50, 50], (len(points), 1)), np.full(len(points), score), points)


def head(yaw: float = 0, pitch: float = 0, roll: float = 0, scale: float = 1) -> FloatArray:
    """Return the (1, 5, 2) landmarks of the head turned by degrees, as a camera far away sees it."""
    a, b, c = np.deg2rad([yaw, pitch, roll])
    turn_y = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    turn_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    turn_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    turned = scale * HEAD @ (turn_z @ turn_x @ turn_y).T + [300, 200, 0]
    return np.asarray(turned[None, :, :2], np.float32)


def chips_of(portraits: list[Portrait], sigma: float) -> Image:
    chips = []
    for picture, landmarks in portraits:
        pixels = picture.bgr if not sigma else cv2.GaussianBlur(picture.bgr, (0, 0), sigma)
        chips.append(align(Picture(bgr=np.asarray(pixels, np.uint8)), landmarks, ARCFACE_TEMPLATE, (112, 112)))
    return np.concatenate(chips)


def test_the_more_a_real_face_is_blurred_the_less_sharp_it_is(portraits: list[Portrait]) -> None:
    found = faces(np.concatenate([each.landmarks for each in portraits]))
    measured = [measure(found, chips_of(portraits, sigma)) for sigma in (0, 1, 2, 3, 5)]
    sharpness = [each.properties[:, SHARPNESS] for each in measured]
    for sharper, softer in pairwise(sharpness):
        assert softer.mean() < sharper.mean()
    assert (sharpness[3] <= sharpness[0]).all()
    assert sharpness[0].mean() > 0.7
    assert sharpness[-1].mean() < 0.2
    for other in (SIZE, POSE, SURE):  # blur changes nothing else
        assert (measured[0].properties[:, other] == measured[-1].properties[:, other]).all()


def test_the_edge_of_a_close_portrait_is_no_detail(portraits: list[Portrait]) -> None:
    """An aligned face reaches beyond a picture that is cut close around it, and there it is black."""
    chips, marks = [], []
    for picture, landmarks in portraits:
        soft = np.asarray(cv2.GaussianBlur(picture.bgr, (0, 0), 5), np.uint8)
        left, top = (landmarks[0].min(axis=0) - 32).round().astype(int).clip(0)
        right, bottom = (landmarks[0].max(axis=0) + 32).round().astype(int)
        marks.append(landmarks - np.array([left, top], np.float32))
        close = Picture(bgr=np.ascontiguousarray(soft[top:bottom, left:right]))
        chips.append(align(close, marks[-1], ARCFACE_TEMPLATE, (112, 112)))
    sharpness = measure(faces(np.concatenate(marks)), np.concatenate(chips)).properties[:, SHARPNESS]
    assert sharpness.mean() < 0.3


def test_neither_light_nor_contrast_makes_a_face_sharp(portraits: list[Portrait]) -> None:
    chips = chips_of(portraits, 1)
    found = faces(np.concatenate([each.landmarks for each in portraits]))
    plain = measure(found, chips).properties[:, SHARPNESS]
    dark = measure(found, (chips * 0.6 + 20).round().astype(np.uint8)).properties[:, SHARPNESS]
    assert abs(plain.mean() - dark.mean()) < 0.1  # whole levels of grey are a little detail
    assert np.corrcoef(plain, dark)[0, 1] > 0.95


@pytest.mark.parametrize("part", [-0.1, 0, 0.25, 0.5, 1, 3])
def test_size_is_the_distance_of_the_eyes_on_a_line_from_useless_to_good(part: float) -> None:
    apart = EYES_APART[0] + part * (EYES_APART[1] - EYES_APART[0])
    for roll in (0, 45, 90):
        quality = measure(faces(head(roll=roll, scale=apart / 64)), CRISP)
        assert quality.properties[0, SIZE] == pytest.approx(np.clip(part, 0, 1), abs=1e-4)


def test_a_shrunk_picture_has_smaller_faces_and_nothing_else_counts_in_their_size(portraits: list[Portrait]) -> None:
    marks = np.concatenate([each.landmarks for each in portraits])
    chips = np.repeat(CRISP, len(marks), axis=0)
    whole, half, quarter = (measure(faces(np.float32(factor) * marks), chips).properties for factor in (1, 0.5, 0.25))
    assert (whole[:, SIZE] > 0.9).mean() > 0.9
    assert (half[:, SIZE] < whole[:, SIZE]).all()
    assert (quarter[:, SIZE] < half[:, SIZE]).all()
    assert np.abs(quarter[:, POSE] - whole[:, POSE]).max() < 1e-3


def test_a_head_that_turns_is_worth_less_and_less_to_all_four_sides() -> None:
    assert measure(faces(head()), CRISP).properties[0, POSE] == 1
    angles = (0, 15, 30, 45, 60, 75)
    for kind in ("yaw", "pitch"):
        for sign in (1, -1):
            pose = [measure(faces(head(**{kind: sign * angle})), CRISP).properties[0, POSE] for angle in angles]
            assert all(more >= less for more, less in pairwise(pose))
            assert pose[1] > 0.5
            assert pose[-1] < 0.05


def test_to_the_left_is_as_bad_as_to_the_right() -> None:
    for angle in (10, 20, 30, 40):
        left, right = (measure(faces(head(yaw=each)), CRISP).properties[0, POSE] for each in (angle, -angle))
        assert left == pytest.approx(right, abs=1e-4)


def test_a_tilted_head_looks_at_the_camera_all_the_same() -> None:
    for yaw in (0, 25):
        upright = measure(faces(head(yaw=yaw)), CRISP).properties[0, POSE]
        for roll in (30, 90, 180, -60):
            assert measure(faces(head(yaw=yaw, roll=roll)), CRISP).properties[0, POSE] == pytest.approx(
                upright, abs=1e-3
            )


@pytest.mark.parametrize("part", [-0.5, 0, 0.25, 0.75, 1, 1.4])
def test_how_sure_the_finder_is_counts_on_a_line(part: float) -> None:
    score = SCORE[0] + part * (SCORE[1] - SCORE[0])
    assert measure(faces(head(), score), CRISP).properties[0, SURE] == pytest.approx(np.clip(part, 0, 1), abs=1e-4)


@pytest.mark.parametrize(
    ("landmarks", "score", "chip", "worst"),
    [
        (head(scale=(EYES_APART[0] + 2) / 64), 0.9, CRISP, "small"),
        (head(), 0.9, np.full_like(CRISP, 128), "blurred"),
        (head(yaw=60), 0.9, CRISP, "turned away"),
        (head(), 0.35, CRISP, "doubtful"),
    ],
)
def test_the_worst_property_is_the_quality_and_is_named(
    landmarks: FloatArray, score: float, chip: Image, worst: str
) -> None:
    quality = measure(faces(landmarks, score), chip)
    place = PROPERTIES.index(worst)
    assert quality.worst(0) == worst
    assert quality.values[0] == quality.properties[0, place] < 0.2
    assert np.delete(quality.properties[0], place).min() > quality.values[0]


def test_each_face_has_its_own_quality_and_no_faces_have_none() -> None:
    three = np.concatenate([head(), head(yaw=60), head(scale=(EYES_APART[0] + 2) / 64)])
    quality = measure(faces(three), np.repeat(CRISP, 3, axis=0))
    assert [quality.worst(row) for row in (1, 2)] == ["turned away", "small"]
    assert quality.values.shape == (3,)
    assert quality.values.dtype == np.float32
    assert measure(Faces.empty(), CRISP[:0]).values.shape == (0,)


@pytest.mark.parametrize("value", [0.0, 17.0, 1e20, np.nan, np.inf])
def test_points_that_are_no_face_have_no_quality_and_make_no_noise(value: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quality = measure(faces(np.full((1, 5, 2), value)), CRISP)
    assert quality.values.tolist() == [0]
    assert not np.isnan(quality.properties).any()


def test_a_face_whose_mouth_is_between_its_eyes_looks_nowhere() -> None:
    flat = np.array([[[0, 50], [60, 50], [30, 50], [10, 50], [50, 50]]], np.float32)
    assert measure(faces(flat), CRISP).properties[0, POSE] == 0


@settings(max_examples=60, deadline=None)
@given(
    arrays.arrays(np.float32, (2, 5, 2), elements=st.floats(-(2.0**14), 2.0**14, width=32)),
    st.floats(0, 1),
    arrays.arrays(np.uint8, (2, 4, 4, 3)),
)
def test_every_property_is_in_0_to_1_and_the_least_is_the_quality(
    points: FloatArray, score: float, small: Image
) -> None:
    chips = small.repeat(28, axis=1).repeat(28, axis=2)
    quality = measure(faces(points, score), chips)
    assert ((quality.properties >= 0) & (quality.properties <= 1)).all()
    assert (quality.values == quality.properties.min(axis=1)).all()
