"""Blending: exactly the picture, exactly the painting, and what lies between; planes and BGR, odd sizes."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pipeline.arrays import Image
from pipeline.picture import Matrix, Picture, Planes, yuv_to_bgr
from pipeline.render.blend import bgr_to_yuv, blend, in_form_of, side_by_side
from tests.pipeline.videos import noise_planes

PLANES = Picture(planes=noise_planes(64, 48))
ODD = Picture(bgr=np.random.default_rng(1).integers(0, 256, (47, 61, 3), np.uint8))
PAINTED = np.full((12, 16, 3), (200, 80, 40), np.uint8)
BOTH = [pytest.param(PLANES, id="planes"), pytest.param(ODD, id="bgr")]


def pixels(picture: Picture) -> Image:
    return picture.bgr if picture.planes is None else picture.planes.data


@pytest.mark.parametrize("picture", BOTH)
@pytest.mark.parametrize("keep_colours", [False, True])
def test_at_no_strength_the_picture_is_left_exactly(picture: Picture, keep_colours: bool) -> None:
    values = in_form_of(picture, PAINTED, keep_colours)
    assert np.array_equal(pixels(blend(picture, values, 0.0)), pixels(picture))


@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
@pytest.mark.parametrize("full_range", [False, True])
def test_at_full_strength_planes_become_the_painting_in_their_own_matrix_and_range(
    matrix: Matrix, full_range: bool
) -> None:
    picture = Picture(planes=Planes(noise_planes(64, 48).data, matrix, full_range))
    styled = blend(picture, in_form_of(picture, PAINTED, keep_colours=False), 1.0)
    assert styled.planes is not None
    assert (styled.planes.matrix, styled.planes.full_range) == (matrix, full_range)
    assert abs(styled.bgr.astype(int) - PAINTED[0, 0]).max() <= 3


def test_at_full_strength_bgr_of_an_odd_size_becomes_the_painting() -> None:
    styled = blend(ODD, in_form_of(ODD, PAINTED, keep_colours=False), 1.0)
    assert styled.planes is None
    assert styled.bgr.shape == (47, 61, 3)
    assert (styled.bgr == PAINTED[0, 0]).all()


@pytest.mark.parametrize("picture", BOTH)
def test_half_strength_is_the_mean(picture: Picture) -> None:
    values = in_form_of(picture, PAINTED, keep_colours=False)
    half, full = (pixels(blend(picture, values, strength)).astype(float) for strength in (0.5, 1.0))
    assert abs(half - (full + pixels(picture)) / 2).max() <= 0.5


def test_to_keep_colours_leaves_u_and_v_exactly_and_takes_the_paintings_luma() -> None:
    styled = blend(PLANES, in_form_of(PLANES, PAINTED, keep_colours=True), 1.0)
    assert styled.planes is not None
    assert PLANES.planes is not None
    assert np.array_equal(styled.planes.u, PLANES.planes.u)
    assert np.array_equal(styled.planes.v, PLANES.planes.v)
    luma = bgr_to_yuv("bt601", False)[0] @ [200, 80, 40, 1]
    assert abs(styled.planes.y - float(luma)).max() <= 0.51


def test_to_keep_colours_of_bgr_adds_the_same_to_each_channel() -> None:
    soft = Picture(bgr=np.random.default_rng(2).integers(90, 130, (47, 61, 3), np.uint8))
    styled = blend(soft, in_form_of(soft, PAINTED, keep_colours=True), 1.0).bgr
    step = styled.astype(int) - soft.bgr
    assert (step == step[..., :1]).all()
    wanted = float(bgr_to_yuv("bt601", True)[0] @ [200, 80, 40, 1])
    assert abs(cv2.transform(styled, bgr_to_yuv("bt601", True)[:1]).astype(float) - wanted).max() <= 1.5


@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
@pytest.mark.parametrize("full_range", [False, True])
def test_the_way_to_yuv_is_the_inverse_of_the_way_back(matrix: Matrix, full_range: bool) -> None:
    back = np.vstack([yuv_to_bgr(matrix, full_range), [0, 0, 0, 1]]).astype(np.float64)
    there = np.vstack([bgr_to_yuv(matrix, full_range), [0, 0, 0, 1]]).astype(np.float64)
    assert np.allclose(back @ there, np.eye(4), atol=1e-3)


@pytest.mark.parametrize("picture", BOTH)
def test_a_map_says_where(picture: Picture) -> None:
    where = np.zeros((picture.height, picture.width), np.uint8)
    where[:, picture.width // 2 // 2 * 2 :] = 255
    values = in_form_of(picture, PAINTED, keep_colours=False)
    styled, full = blend(picture, values, 1.0, where).bgr, blend(picture, values, 1.0).bgr
    middle = picture.width // 2 // 2 * 2
    assert np.array_equal(styled[:, : middle - 2], picture.bgr[:, : middle - 2])
    assert np.array_equal(styled[:, middle + 2 :], full[:, middle + 2 :])


def test_a_soft_map_and_strength_multiply() -> None:
    black = Picture(bgr=np.zeros((20, 30, 3), np.uint8))
    white = np.full((5, 5, 3), 255, np.uint8)
    styled = blend(black, (white,), 0.5, np.full((20, 30), 102, np.uint8))
    assert (styled.bgr == round(255 * 0.5 * 0.4)).all()


def test_a_map_of_another_size_is_stretched_and_an_empty_one_leaves_the_picture() -> None:
    where = np.array([[0, 255]], np.uint8).repeat(4, axis=1)
    styled = blend(ODD, (PAINTED,), 1.0, where)
    assert (styled.bgr[:, -15:] == PAINTED[0, 0]).all()
    assert blend(ODD, (PAINTED,), 1.0, np.zeros((3, 3), np.uint8)) is ODD


def test_side_by_side_is_twice_as_wide_with_the_picture_at_the_left() -> None:
    for left in (PLANES, ODD):
        right = blend(left, in_form_of(left, PAINTED, keep_colours=False), 1.0)
        both = side_by_side(left, right)
        assert (both.height, both.width) == (left.height, 2 * left.width)
        assert (both.planes is None) == (left.planes is None)
        assert np.array_equal(both.bgr[:, : left.width - 2], left.bgr[:, : left.width - 2])
        assert np.array_equal(both.bgr[:, left.width + 2 :], right.bgr[:, 2:])
    assert both.width % 2 == 0


def test_side_by_side_keeps_matrix_and_range() -> None:
    picture = Picture(planes=Planes(noise_planes(32, 32).data, "bt709", True))
    planes = side_by_side(picture, picture).planes
    assert planes is not None
    assert (planes.matrix, planes.full_range) == ("bt709", True)
    assert np.array_equal(planes.u, np.hstack([picture.planes.u] * 2))  # type: ignore[union-attr]
