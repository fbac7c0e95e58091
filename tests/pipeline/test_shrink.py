"""Pixels made few: of any size, a mean of what was there, in its place."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pipeline.shrink import shrunk


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((360, 640), (144, 256)),
        ((1080, 1920), (90, 160)),
        ((361, 643), (90, 160)),
        ((640, 368), (160, 92)),
        ((360, 640), (257, 257)),
        ((10, 700), (2, 160)),
        ((1, 1), (1, 1)),
        ((3, 5), (1, 1)),
        ((40, 40), (90, 160)),
    ],
)
def test_a_gradient_stays_where_it_is(before: tuple[int, int], after: tuple[int, int], channels: int) -> None:
    def gradient(height: int, width: int) -> np.ndarray:
        y, x = (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width
        plane = (255 * (0.3 * y[:, None] + 0.7 * x)).astype(np.uint8)
        return plane if channels == 1 else np.dstack([plane, 255 - plane, plane // 2])

    found = shrunk(gradient(*before), after)
    assert found.shape == gradient(*after).shape
    assert found.dtype == np.uint8
    off = 2 + 255 / min(1000, min(before)) if min(before) < 20 else 4
    assert np.abs(found.astype(int) - gradient(*after)).max() <= max(off, 4)


def test_noise_is_averaged_away_and_fine_stripes_are_grey() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (720, 1280)).astype(np.uint8)
    assert shrunk(noise, (90, 160)).std() < 12
    stripes = np.zeros((360, 640), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(shrunk(stripes, (144, 256)).astype(int) - 128).max() <= 1


def test_pixels_of_that_size_are_returned_themselves() -> None:
    pixels = np.zeros((20, 30), np.uint8)
    assert shrunk(pixels, (20, 30)) is pixels
    assert shrunk(pixels[:, ::2], (20, 15)).flags.c_contiguous


def test_halving_is_the_mean_of_four() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (8, 12)).astype(np.uint8)
    expected = cv2.resize(pixels, (6, 4), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(shrunk(pixels, (4, 6)), expected)
