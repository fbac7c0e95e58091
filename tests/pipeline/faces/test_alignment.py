"""Alignment: the fit against a general solver, the pixels against drawn marks, whatever the picture is made of."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.spec import ARCFACE_TEMPLATE, DLIB_TEMPLATE
from pipeline.arrays import Image
from pipeline.infer.alignment import align, similarity_transform
from pipeline.picture import Picture, bgr_to_planes

TEMPLATE = np.array(ARCFACE_TEMPLATE)


def turned(points: npt.ArrayLike, scale: float, degrees: float, shift: tuple[float, float]) -> npt.NDArray[np.float64]:
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.asarray(scale * np.asarray(points) @ turn.T + shift)


@given(st.floats(0.1, 10), st.floats(-180, 180), st.floats(-500, 500), st.integers(0, 2**31))
def test_the_fit_is_the_least_squares_solution_of_a_general_solver(
    scale: float, degrees: float, shift: float, seed: int
) -> None:
    points = turned(TEMPLATE, scale, degrees, (shift, -shift))
    points += np.random.default_rng(seed).normal(0, scale, points.shape)
    x, y = points.T
    one, none = np.ones(5), np.zeros(5)
    system = np.concatenate([np.stack([x, -y, one, none], 1), np.stack([y, x, none, one], 1)])
    (a, b, right, down), *_ = np.linalg.lstsq(system, TEMPLATE.T.reshape(-1), rcond=None)
    assert similarity_transform(points, TEMPLATE) == pytest.approx(
        np.array([[a, -b, right], [b, a, down]]), rel=1e-6, abs=1e-6
    )


def test_points_that_are_the_template_turned_are_taken_back_exactly() -> None:
    points = turned(TEMPLATE, 3.7, 200, (400, 300))
    matrix = similarity_transform(points, TEMPLATE)
    assert np.column_stack([points, np.ones(5)]) @ matrix.T == pytest.approx(TEMPLATE)


@pytest.mark.parametrize("points", [np.zeros((5, 2)), np.full((5, 2), np.nan), np.full((5, 2), np.inf)])
def test_points_without_extent_are_no_face(points: npt.NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match="no face"):
        similarity_transform(points, TEMPLATE)
    picture = Picture(bgr=np.full((40, 40, 3), 200, np.uint8))
    assert not align(picture, points[None].astype(np.float32), ARCFACE_TEMPLATE, (112, 112)).any()


def marked(points: npt.NDArray[np.float64], radius: int, size: tuple[int, int] = (480, 640)) -> Image:
    picture = np.full((*size, 3), 90, np.uint8)
    for number, (x, y) in enumerate(points):
        colour = [(0, 0, 255), (0, 255, 0), (255, 0, 0), (0, 255, 255), (255, 0, 255)][number]
        cv2.circle(picture, (round(x * 16), round(y * 16)), radius * 16, colour, -1, cv2.LINE_AA, 4)
    return picture


def centres(chip: Image) -> npt.NDArray[np.float64]:
    """Where the five marks are: the centre of what differs from the ground in the mark's own channels."""
    found = []
    for blue, green, red in [(0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 1, 1), (1, 0, 1)]:
        weight = np.ones(chip.shape[:2])
        for channel, on in enumerate((blue, green, red)):
            values = chip[..., channel].astype(float)
            weight *= np.clip((values - 90) / 165 if on else (90 - values) / 90, 0, 1)
        y, x = np.mgrid[: chip.shape[0], : chip.shape[1]]
        found.append(((x * weight).sum() / weight.sum(), (y * weight).sum() / weight.sum()))
    return np.array(found)


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.9, 2.1, 3.6])
@pytest.mark.parametrize("degrees", [0, 25, -90])
@pytest.mark.parametrize("form", ["bgr", "planes"])
def test_landmarks_come_to_lie_on_the_template(scale: float, degrees: float, form: str) -> None:
    middle = np.array(DLIB_TEMPLATE) - 75
    points = turned(middle, scale, degrees, (320.3, 240.7))
    bgr = marked(points, max(3, round(4 * scale)))
    picture = Picture(bgr=bgr) if form == "bgr" else Picture(planes=bgr_to_planes(bgr))
    chip = align(picture, points[None].astype(np.float32), DLIB_TEMPLATE, (150, 150))[0]
    blur = 0 if form == "bgr" else 0.7 / scale  # colour at half the resolution
    assert np.abs(centres(chip) - np.array(DLIB_TEMPLATE)).max() < 0.35 + blur


def test_what_lies_outside_the_picture_is_black() -> None:
    points = turned(np.array(ARCFACE_TEMPLATE) - 56, 1, 0, (0, 0))  # the picture begins in the middle of the face
    picture = Picture(bgr=np.full((200, 200, 3), 255, np.uint8))
    chip = align(picture, points[None].astype(np.float32), ARCFACE_TEMPLATE, (112, 112))[0]
    assert not chip[:55, :55].any()
    assert (chip[58:, 58:] == 255).all()


def test_a_face_beyond_the_picture_is_black_all_over() -> None:
    points = turned(TEMPLATE, 1, 0, (-900, -900))
    picture = Picture(bgr=np.full((50, 50, 3), 255, np.uint8))
    assert not align(picture, points[None].astype(np.float32), ARCFACE_TEMPLATE, (112, 112)).any()


def test_a_large_face_is_averaged_and_not_sampled() -> None:
    chequers = (np.indices((800, 800)).sum(axis=0) % 2 * 255).astype(np.uint8)
    picture = Picture(bgr=np.repeat(chequers[..., None], 3, axis=2))
    points = turned(TEMPLATE - 56, 6, 0, (400, 400))
    chip = align(picture, points[None].astype(np.float32), ARCFACE_TEMPLATE, (112, 112))[0]
    assert np.abs(chip[5:-5, 5:-5].astype(int) - 127).max() < 20


def test_no_faces_make_no_chips() -> None:
    picture = Picture(bgr=np.zeros((10, 10, 3), np.uint8))
    assert align(picture, np.empty((0, 5, 2), np.float32), ARCFACE_TEMPLATE, (112, 112)).shape == (0, 112, 112, 3)
