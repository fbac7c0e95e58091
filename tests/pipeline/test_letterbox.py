"""Letterbox: boxes come back to where they were, and the pixels are those that OpenCV would give."""

from __future__ import annotations

from typing import get_args

import cv2
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engines.spec import Fit
from pipeline.arrays import Image
from pipeline.infer.letterbox import SIZES_KEPT, Letterbox, Letterboxes
from pipeline.picture import Matrix, Picture, Planes, planes_to_bgr

FITS = st.sampled_from(get_args(Fit))
SIZES = st.tuples(st.integers(1, 4000), st.integers(1, 4000))
TARGETS = st.tuples(st.integers(1, 40), st.integers(1, 40)).map(lambda size: (size[0] * 32, size[1] * 32))
FRACTIONS = st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4)


@given(source=SIZES, target=TARGETS, fit=FITS, fractions=FRACTIONS)
@example(source=(1, 4000), target=(416, 416), fit="letterbox-centre", fractions=[0, 0, 1, 1])
@example(source=(4000, 1), target=(320, 416), fit="letterbox-topleft", fractions=[0, 0, 1, 1])
def test_boxes_map_to_the_input_and_back(
    source: tuple[int, int], target: tuple[int, int], fit: Fit, fractions: list[float]
) -> None:
    plan = Letterbox.plan(source, target, fit)
    box = np.array([fractions], np.float32) * np.array([source[1], source[0]] * 2, np.float32)
    assert np.abs(plan.to_source(plan.to_target(box)) - box).max() < 0.5


@given(source=SIZES, target=TARGETS, fit=FITS)
def test_the_whole_frame_becomes_the_whole_content_inside_the_target(
    source: tuple[int, int], target: tuple[int, int], fit: Fit
) -> None:
    plan = Letterbox.plan(source, target, fit)
    (top, left), (height, width) = plan.offset, plan.content
    assert top >= 0
    assert left >= 0
    assert 0 < height <= target[0] - top
    assert 0 < width <= target[1] - left
    whole = np.array([[0, 0, source[1], source[0]]], np.float32)
    inside = np.array([[left, top, left + width, top + height]], np.float32)
    np.testing.assert_allclose(plan.to_target(whole), inside, atol=1e-3)
    np.testing.assert_allclose(plan.to_source(inside), whole, atol=1e-2)
    if fit == "letterbox-centre":
        assert abs(target[0] - height - 2 * top) <= 1
        assert abs(target[1] - width - 2 * left) <= 1


@given(source=SIZES, target=TARGETS)
def test_a_letterbox_keeps_the_shape_to_half_a_pixel_and_fills_one_side(
    source: tuple[int, int], target: tuple[int, int]
) -> None:
    plan = Letterbox.plan(source, target, "letterbox-topleft")
    assert plan.content[0] == target[0] or plan.content[1] == target[1]
    scale = min(target[0] / source[0], target[1] / source[1])
    for side in (0, 1):
        assert abs(plan.content[side] - max(1, source[side] * scale)) <= 0.5 + 1e-9


@given(
    source=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    fit=FITS,
    seed=st.integers(0, 99),
)
@example(source=(1, 300), fit="letterbox-centre", seed=0)
@example(source=(300, 1), fit="letterbox-topleft", seed=0)
def test_the_content_is_what_opencv_resizes_and_the_rest_is_padding(
    source: tuple[int, int], fit: Fit, seed: int
) -> None:
    image = noise((*source, 3), seed)
    plan = Letterbox.plan(source, (96, 64), fit)
    out = plan.blank(114)
    plan.cut(Picture(bgr=image.copy()), out)
    (top, left), (height, width) = plan.offset, plan.content
    expected = np.full((96, 64, 3), 114, np.uint8)
    expected[top : top + height, left : left + width] = cv2.resize(image, (width, height))
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("fit", get_args(Fit))
def test_a_thing_in_the_picture_is_found_where_its_box_maps_to(fit: Fit) -> None:
    image = np.zeros((483, 641, 3), np.uint8)
    image[100:301, 200:501] = 255
    plan = Letterbox.plan((483, 641), (416, 416), fit)
    out = plan.blank(0)
    plan.cut(Picture(bgr=image), out)
    rows, columns = (np.flatnonzero(out[..., 0].max(axis=axis) > 127) for axis in (1, 0))
    found = np.array([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]], np.float32)
    assert np.abs(plan.to_source(found) - [200, 100, 501, 301]).max() < 1  # half a pixel of the input


@given(source=SIZES, target=TARGETS, fit=FITS, fractions=FRACTIONS)
def test_points_map_as_the_corners_of_boxes_do(
    source: tuple[int, int], target: tuple[int, int], fit: Fit, fractions: list[float]
) -> None:
    plan = Letterbox.plan(source, target, fit)
    box = np.array([fractions], np.float32) * np.array([target[1], target[0]] * 2, np.float32)
    points = plan.points_to_source(box.reshape(1, 2, 2))
    np.testing.assert_array_equal(points.reshape(1, 4), plan.to_source(box))
    corner = [fractions[0] * target[1] - plan.offset[1], fractions[1] * target[0] - plan.offset[0]]
    by_hand = [corner[0] * source[1] / plan.content[1], corner[1] * source[0] / plan.content[0]]
    np.testing.assert_allclose(points[0, 0], by_hand, rtol=1e-4, atol=1e-2)


def test_pictures_of_many_sizes_are_cut_one_after_the_other() -> None:
    letterboxes = Letterboxes((64, 96), "letterbox-centre", 7)
    for number in [*range(SIZES_KEPT + 3), 0, 1, 1]:
        image = noise((40 + number, 90 - number, 3), number)
        plan, cut = letterboxes.cut(Picture(bgr=image.copy()))
        alone = plan.blank(7)
        plan.cut(Picture(bgr=image), alone)
        np.testing.assert_array_equal(cut, alone)
        assert plan == Letterbox.plan(image.shape[:2], (64, 96), "letterbox-centre")
    assert cut is letterboxes.cut(Picture(bgr=noise((41, 89, 3), 5)))[1]


@pytest.mark.parametrize("full_range", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", get_args(Matrix))
@pytest.mark.parametrize("size", [(272, 640), (144, 176), (1080, 1920), (4, 64), (64, 2)])
def test_cutting_planes_is_close_to_converting_first(size: tuple[int, int], matrix: Matrix, full_range: bool) -> None:
    planes = smooth_planes(size, matrix, full_range)
    plan = Letterbox.plan(size, (416, 416), "letterbox-centre")
    direct, converted = plan.blank(114), plan.blank(114)
    plan.cut(Picture(planes=planes), direct)
    plan.cut(Picture(bgr=planes_to_bgr(planes)), converted)
    assert np.abs(direct.astype(int) - converted.astype(int)).mean() < 1.5


@pytest.mark.parametrize("full_range", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", get_args(Matrix))
def test_planes_keep_pure_colours(matrix: Matrix, full_range: bool) -> None:
    luma, blue, red = (76, 85, 255) if full_range else (81, 90, 240)  # red in BT.601
    data = np.concatenate([np.full(64 * 64, luma), np.full(32 * 32, blue), np.full(32 * 32, red)]).astype(np.uint8)
    planes = Planes(data.reshape(96, 64), matrix, full_range)
    plan = Letterbox.plan((64, 64), (32, 32), "stretch")
    out = plan.blank(0)
    plan.cut(Picture(planes=planes), out)
    expected = planes_to_bgr(planes)[0, 0].astype(int)
    assert np.abs(out.astype(int) - expected).max() <= 2
    if matrix == "bt601":
        assert np.abs(out.astype(int) - [0, 0, 255]).max() <= 3


def noise(shape: tuple[int, ...], seed: int) -> Image:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def smooth_planes(size: tuple[int, int], matrix: Matrix, full_range: bool) -> Planes:
    """A picture as cameras take them: no detail finer than a few pixels, colours that exist."""
    coarse = np.random.default_rng(0).integers(40, 216, (6, 8, 3), np.uint8)
    bgr = np.asarray(cv2.resize(coarse, (size[1], size[0]), interpolation=cv2.INTER_CUBIC), np.uint8)
    return Planes(np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV_I420), np.uint8), matrix, full_range)
