"""Regions around faces: where they lie, and what is cut out of the picture."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.infer.face_crops import cut, enlarged_inside, square_around
from pipeline.picture import Picture

NUMBERED = np.arange(40 * 60 * 3, dtype=np.uint32).reshape(40, 60, 3).astype(np.uint8)


def box(*sides: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.array(sides, np.float32)


@pytest.mark.parametrize(
    ("sides", "scale", "expected"),
    [
        ((10, 20, 30, 40), 1.0, (10, 20, 20, 20)),
        ((10, 20, 30, 30), 1.0, (10, 15, 20, 20)),
        ((10, 20, 20, 40), 1.5, (0, 15, 30, 30)),
        ((0, 0, 10, 10), 2.0, (-5, -5, 20, 20)),
        ((5, 5, 5, 5), 1.1, (4, 4, 1, 1)),
    ],
)
def test_a_square_has_the_centre_of_the_box(sides: tuple[float, ...], scale: float, expected: tuple[int, ...]) -> None:
    assert square_around(box(*sides), scale) == expected


@pytest.mark.parametrize(
    ("sides", "scale", "expected"),
    [
        ((20, 10, 30, 20), 2.0, (15, 5, 20, 20)),
        ((20, 10, 30, 16), 2.0, (15, 7, 20, 12)),
        ((0, 0, 10, 10), 2.0, (0, 0, 20, 20)),
        ((50, 30, 60, 40), 2.0, (40, 20, 20, 20)),
        ((10, 10, 30, 30), 4.0, (0, 0, 40, 40)),
        ((35, 10, 55, 30), 4.0, (20, 0, 40, 40)),
        ((0, 0, 60, 40), 2.7, (0, 0, 60, 40)),
        ((-30, -30, 90, 90), 2.7, (10, 0, 40, 40)),
        ((5, 5, 5, 5), 2.7, (4, 4, 2, 2)),
    ],
)
def test_an_enlarged_box_is_moved_into_the_picture(
    sides: tuple[float, ...], scale: float, expected: tuple[int, ...]
) -> None:
    assert enlarged_inside(box(*sides), scale, Picture(bgr=NUMBERED.copy())) == expected


@pytest.mark.parametrize("left", [-7, 0, 5, 50])
@pytest.mark.parametrize("top", [-7, 0, 5, 35])
def test_what_is_cut_is_what_lies_there_and_black_outside(left: int, top: int) -> None:
    around = np.pad(NUMBERED, ((50, 50), (50, 50), (0, 0)))
    expected = around[50 + top : 62 + top, 50 + left : 66 + left]
    np.testing.assert_array_equal(cut(Picture(bgr=NUMBERED.copy()), (left, top, 16, 12), (12, 16)), expected)


@pytest.mark.parametrize("region", [(-30, 0, 20, 20), (60, 0, 20, 20), (0, 40, 20, 20), (0, -20, 20, 20)])
def test_a_region_beside_the_picture_is_black(region: tuple[int, int, int, int]) -> None:
    np.testing.assert_array_equal(cut(Picture(bgr=NUMBERED.copy()), region, (8, 8)), np.zeros((8, 8, 3)))


def test_a_region_is_resized() -> None:
    halves = np.zeros((20, 20, 3), np.uint8)
    halves[:, 10:] = 200
    crop = cut(Picture(bgr=halves), (0, 0, 20, 20), (10, 40))
    assert crop.shape == (10, 40, 3)
    assert crop[:, :18].max() == 0
    assert crop[:, 22:].min() == 200
