"""Pictures: planes and BGR, converted at most once, never written to."""

from __future__ import annotations

import threading

import cv2
import numpy as np
import pytest

from pipeline.arrays import Image
from pipeline.picture import Matrix, Picture, Planes, bgr_to_planes, default_matrix, planes_to_bgr, yuv_to_bgr
from tests.pipeline.videos import RGB, grey_picture, noise_planes, yuv_of


def flat(rgb: tuple[int, int, int], matrix: Matrix, full: bool, size: tuple[int, int] = (16, 8)) -> Planes:
    width, height = size
    y, u, v = yuv_of(rgb, matrix, full)
    parts = [np.full(width * height, y), np.full(width * height // 4, u), np.full(width * height // 4, v)]
    return Planes(np.concatenate(parts).astype(np.uint8).reshape(height * 3 // 2, width), matrix, full)


@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("rgb", [RGB, (0, 0, 0), (255, 255, 255), (20, 200, 90), (128, 128, 128)])
def test_a_colour_survives_every_matrix_and_range(rgb: tuple[int, int, int], matrix: Matrix, full: bool) -> None:
    planes = flat(rgb, matrix, full)
    assert planes_to_bgr(planes)[4, 8, ::-1].tolist() == pytest.approx(rgb, abs=4)
    values = np.array([*yuv_of(rgb, matrix, full), 1])
    assert (yuv_to_bgr(matrix, full) @ values)[::-1].tolist() == pytest.approx(rgb, abs=2)


@pytest.mark.parametrize("height", [2, 4, 6, 180, 270, 576])
def test_a_video_frame_has_every_row_of_the_planes(height: int) -> None:
    planes = noise_planes(16, height)
    frame = planes.to_video_frame()
    assert (frame.width, frame.height) == (16, height)
    assert np.array_equal(frame.to_ndarray(), planes.data)


def test_planes_are_views_of_i420() -> None:
    planes = noise_planes(16, 8)
    assert (planes.y.shape, planes.u.shape, planes.v.shape) == ((8, 16), (4, 8), (4, 8))
    flat_data = planes.data.reshape(-1)
    assert np.array_equal(np.concatenate([part.reshape(-1) for part in (planes.y, planes.u, planes.v)]), flat_data)
    assert all(np.shares_memory(part, planes.data) for part in (planes.y, planes.u, planes.v))
    assert np.array_equal(planes.to_video_frame().to_ndarray(), planes.data)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (2, 2), (101, 75), (64, 48)])
def test_bgr_becomes_planes_of_even_size(size: tuple[int, int]) -> None:
    planes = bgr_to_planes(grey_picture(*size, 90))
    assert (planes.width, planes.height) == (size[0] + size[0] % 2, size[1] + size[1] % 2)
    assert np.abs(planes_to_bgr(planes).astype(int) - 90).max() <= 1


def test_an_odd_edge_is_doubled() -> None:
    image = grey_picture(3, 3, 30)
    image[:, 2], image[2, :] = 200, 200
    grown = planes_to_bgr(bgr_to_planes(image))
    assert np.abs(grown[3].astype(int) - 200).max() <= 3
    assert np.abs(grown[:, 3].astype(int) - 200).max() <= 3


def test_the_conversion_happens_once_also_when_many_ask_at_once() -> None:
    picture = Picture(planes=noise_planes(320, 240))
    found: list[Image] = []
    start = threading.Barrier(8)

    def ask() -> None:
        start.wait()
        found.append(picture.bgr)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(image) for image in found}) == 1


def test_nobody_can_write_to_a_picture() -> None:
    for picture in (Picture(planes=noise_planes(16, 8)), Picture(bgr=grey_picture(16, 8, 3))):
        with pytest.raises(ValueError, match="read-only"):
            picture.bgr[0, 0] = 1
        if picture.planes is not None:
            with pytest.raises(ValueError, match="read-only"):
                picture.planes.y[0, 0] = 1


def test_opencv_refuses_to_draw_on_a_captured_picture() -> None:
    picture = Picture(bgr=grey_picture(16, 8, 3))
    with pytest.raises(cv2.error):
        cv2.rectangle(picture.bgr, (0, 0), (5, 5), (255, 0, 0))
    assert np.all(picture.bgr == 3)


def test_a_picture_is_made_of_planes_or_of_bgr() -> None:
    for wrong in ({}, {"planes": noise_planes(4, 4), "bgr": grey_picture(4, 4, 0)}):
        with pytest.raises(ValueError, match="one of them"):
            Picture(**wrong)  # type: ignore[arg-type]
    for array in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)):
        with pytest.raises(ValueError, match="H x W x 3 uint8"):
            Picture(bgr=array)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size", "matrix"),
    [
        ((720, 576), "bt601"),
        ((768, 576), "bt601"),
        ((960, 540), "bt601"),
        ((1280, 544), "bt709"),
        ((1280, 720), "bt709"),
        ((608, 1080), "bt709"),
    ],
)
def test_untagged_video_is_what_players_take_it_for(size: tuple[int, int], matrix: Matrix) -> None:
    assert default_matrix(*size) == matrix
