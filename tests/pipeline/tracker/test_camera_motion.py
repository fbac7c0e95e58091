"""A camera that moves: found in pictures, and no thing loses its number by it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pipeline.arrays import Image
from pipeline.picture import Picture, bgr_to_planes
from pipeline.postprocess.tracker import Tracker, TrackerOptions
from pipeline.postprocess.tracker.camera_motion import STILL, CameraMotion
from tests.pipeline.tracker.scenes import Where, numbers_of, watch

WIDTH, HEIGHT = 640, 360
CORNERS = np.array([[50.0, 50, 1], [600, 50, 1], [320, 330, 1]])
NO_BOXES = np.empty((0, 4))


def world() -> Image:
    """Return a large picture that has something at every scale, as the world has."""
    rng, picture = np.random.default_rng(2), np.zeros((1000, 2500, 3))
    for size in (10, 30, 100, 300):
        noise = rng.uniform(0, 1, (1000 // size + 1, 2500 // size + 1, 3))
        picture += cv2.resize(noise, (2500, 1000), interpolation=cv2.INTER_CUBIC)
    return np.asarray((picture * 60).clip(0, 255), np.uint8)


WORLD = world()


def view(left: float, top: float = 300.0, turn: float = 0.0, zoom: float = 1.0) -> tuple[Picture, np.ndarray]:
    """Return what a camera sees, and the (2, 3) matrix from the world to it."""
    matrix = cv2.getRotationMatrix2D((left + WIDTH / 2, top + HEIGHT / 2), turn, zoom)
    matrix[:, 2] -= np.array([left, top])
    return Picture(bgr=np.asarray(cv2.warpAffine(WORLD, matrix, (WIDTH, HEIGHT)), np.uint8)), matrix


@pytest.mark.parametrize(
    ("shift", "turn", "zoom"), [(0.0, 0.0, 1.0), (25.0, 0.0, 1.0), (-10.0, 3.0, 1.0), (5.0, 0.0, 1.05)]
)
@pytest.mark.parametrize("as_planes", [False, True])
def test_motion_is_found_to_a_pixel(shift: float, turn: float, zoom: float, as_planes: bool) -> None:
    camera = CameraMotion()
    (before, to_before), (after, to_after) = view(500), view(500 + shift, 300 + shift / 2, turn, zoom)
    if as_planes:
        before, after = (Picture(planes=bgr_to_planes(each.bgr)) for each in (before, after))
    assert camera.since_last(before, NO_BOXES).tolist() == STILL.tolist()
    found = camera.since_last(after, NO_BOXES)
    whole = np.vstack([to_before, [0, 0, 1]])
    truth = CORNERS @ (to_after @ np.linalg.inv(whole)).T
    np.testing.assert_allclose(CORNERS @ found.T, truth, atol=1.0)


def test_things_that_move_are_not_taken_for_the_camera() -> None:
    camera, boxes = CameraMotion(), np.array([[0.0, 0, 450, 360]])
    (before, _), (after, _), (other, _) = view(500), view(500), view(530)
    moved = after.bgr.copy()
    moved[:, :450] = other.bgr[:, :450]  # most of the picture goes elsewhere: a bus
    camera.since_last(before, boxes)
    found = camera.since_last(Picture(bgr=moved), boxes)
    np.testing.assert_allclose(CORNERS @ found.T, CORNERS[:, :2], atol=0.5)


@pytest.mark.parametrize("bgr", [np.zeros((HEIGHT, WIDTH, 3), np.uint8), np.zeros((2, 2, 3), np.uint8)])
def test_where_nothing_is_to_be_seen_nothing_moves(bgr: Image) -> None:
    camera = CameraMotion()
    for _ in range(2):
        assert camera.since_last(Picture(bgr=bgr.copy()), NO_BOXES).tolist() == STILL.tolist()
    assert camera.since_last(view(500)[0], NO_BOXES).tolist() == STILL.tolist()  # another size
    assert camera.since_last(None, NO_BOXES).tolist() == STILL.tolist()


@pytest.mark.parametrize(("camera_motion", "is_kept"), [(True, True), (False, False)])
def test_a_jolt_of_the_camera_costs_no_number_where_it_is_allowed_for(camera_motion: bool, is_kept: bool) -> None:
    def left(time_s: float) -> float:
        """The camera stands, and is then turned to and fro by jolts of two box widths."""
        return 500.0 + (80.0 if round(time_s * 10) % 4 > 1 else 0.0) * (time_s > 0.45)

    def standing(x: float, y: float) -> Where:
        return lambda time_s: (x - left(time_s), y, 40.0, 80.0)

    tracker = Tracker(TrackerOptions(camera_motion=camera_motion))
    things = [standing(700, 100), standing(820, 200), standing(940, 120)]
    times = [frame / 10 for frame in range(16)]
    seen = watch(tracker, things, times, lambda time_s: view(left(time_s))[0])
    assert all((numbers_of(seen, thing) == {thing + 1}) is is_kept for thing in range(3))
