"""The ground: a camera whose place is known says how fast people walk before it, and it comes out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipeline.frame import UNTRACKED, Detections, Frame
from pipeline.picture import Picture
from pipeline.postprocess.zones.ground import GroundMap, ground_fault
from pipeline.postprocess.zones.stage import WatchZones
from tests.pipeline.zones.scenes import INFO, LABELS, PIXELS, Thing, make_frame, names, run, stage, zone

Vector = npt.NDArray[np.float64]
TALL_M, WIDE_M = 1.75, 0.5


@dataclass
class Camera:
    """A pinhole over the ground at east 0, north 0, that looks north and down."""

    high_m: float = 5.0
    down_degrees: float = 25.0
    focal: float = 500.0

    def project(self, places: Vector) -> Vector:
        """Return (N, 2) pixels of (N, 3) east, north and height, in metres."""
        down = np.radians(self.down_degrees)
        east, north, up = places[:, 0], places[:, 1], places[:, 2] - self.high_m
        depth = north * np.cos(down) - up * np.sin(down)
        below = -north * np.sin(down) - up * np.cos(down)
        return np.stack([320 + self.focal * east / depth, 240 + self.focal * below / depth], axis=1)

    def box(self, east: float, north: float) -> Vector:
        """Return the box of somebody who stands there."""
        corners = [(east + side * WIDE_M / 2, north, height) for side in (-1, 1) for height in (0, TALL_M)]
        pixels = self.project(np.array(corners))
        return np.concatenate([pixels.min(axis=0), pixels.max(axis=0)])

    def ground(self, places: list[tuple[float, float]]) -> tuple[tuple[float, float, float, float], ...]:
        """Return the setting that tells of places, with pixels as a person reads them off a picture."""
        pixels = self.project(np.array([(east, north, 0) for east, north in places])).round()
        return tuple((x, y, *place) for (x, y), place in zip(pixels.tolist(), places, strict=True))


CAMERA = Camera()
GROUND = CAMERA.ground([(-4, 8), (4, 8), (4, 24), (-4, 24)])


def walkers(fps: float, noise: float, seed: int = 0, seconds: float = 4) -> tuple[list[Frame], Vector, list[Vector]]:
    """Return frames of people who walk, their true speeds, and the true velocities of their boxes' centres."""
    random = np.random.default_rng(seed)
    starts = np.array([(-3, 20), (-3, 9), (3, 12), (0, 22), (1, 10), (-2, 15), (2, 18), (0, 12)], np.float64)
    steps = np.array([(0, -2), (1.4, 0), (-1, 1), (0.5, -3), (-0.5, 2), (1, 1), (-1.2, -1.2), (0, 0.8)], np.float64)
    frames, centres = [], []
    for index in range(int(seconds * fps)):
        places = starts + steps * index / fps
        boxes = np.array([CAMERA.box(*place) for place in places])
        later = np.array([CAMERA.box(*place) for place in places + steps * 1e-4])
        moved = (later - boxes) * 1e4
        velocities = (moved[:, :2] + moved[:, 2:]) / 2
        centres.append(velocities)
        seen = boxes + random.normal(0, noise, boxes.shape)
        frame = Frame("cam", index, index / fps, index / fps, Picture(bgr=PIXELS), labels=LABELS)
        frame.detections = Detections(
            seen.astype(np.float32),
            np.full(len(boxes), 0.9, np.float32),
            np.zeros(len(boxes), np.int32),
            track_ids=np.arange(1, len(boxes) + 1, dtype=np.int32),
            velocities=velocities.astype(np.float32),
        )
        frames.append(frame)
    return frames, np.hypot(*steps.T), centres


def measured(frames: list[Frame]) -> Vector:
    """Return (frames, people) speeds."""
    watching = WatchZones([], {"cam": GROUND}, [INFO])
    run(watching, frames)
    return np.array([frame.detections.speeds_m_s for frame in frames if frame.detections is not None])


def jacobian_speeds(frames: list[Frame], velocities: list[Vector]) -> Vector:
    """Return (frames, people): the velocities of the boxes' centres, taken to the ground where the feet are."""
    ground = GroundMap(GROUND)
    speeds = []
    for frame, velocity in zip(frames, velocities, strict=True):
        assert frame.detections is not None
        boxes = frame.detections.boxes.astype(np.float64)
        feet = np.stack([(boxes[:, 0] + boxes[:, 2]) / 2, boxes[:, 3]], axis=1)
        speeds.append(np.hypot(*((ground.at(feet + velocity * 1e-4) - ground.at(feet)) * 1e4).T))
    return np.array(speeds)


def errors(found: Vector, true: Vector) -> Vector:
    """Return the relative errors, from when a second of each was seen."""
    second = len(found) // 4
    relative: Vector = np.abs(found[second:] / true - 1)
    assert not np.isnan(relative).any()
    return relative


@pytest.mark.parametrize("fps", [5, 10, 25, 60])
def test_speeds_without_noise_are_right(fps: float) -> None:
    frames, true, _ = walkers(fps, noise=0)
    assert errors(measured(frames), true).max() < 0.05


def test_speeds_of_boxes_that_tremble_by_a_pixel_are_right_within_5_percent() -> None:
    frames, true, centres = walkers(25, noise=1)
    ours, theirs = errors(measured(frames), true), errors(jacobian_speeds(frames, centres), true)
    assert np.median(ours) < 0.05
    assert np.median(ours) < np.median(theirs) / 2


def test_a_speed_is_said_when_enough_was_seen_and_no_longer_when_it_is_old() -> None:
    frames, *_ = walkers(10, noise=0, seconds=1)
    found = measured(frames)
    assert np.isnan(found[:4]).all()
    assert np.isfinite(found[4:]).all()
    watching = WatchZones([], {"cam": GROUND}, [INFO])
    run(watching, frames)
    assert frames[-1].detections is not None
    carried = [Frame("cam", 10 + i, 1 + i / 10, 0, Picture(bgr=PIXELS), predicted=True) for i in range(15)]
    for frame in carried:
        frame.detections = frames[-1].detections
    run(watching, carried)
    speeds = [frame.detections.speeds_m_s for frame in carried if frame.detections is not None]
    assert np.isfinite(np.array(speeds[:9])).all()
    assert np.isnan(np.array(speeds[12:])).all()


def test_a_box_that_is_cut_off_by_the_picture_says_nothing_of_where_it_stands() -> None:
    ground = ((100, 100, 0, 0), (500, 100, 4, 0), (500, 400, 4, 3), (100, 400, 0, 3))
    cut = [make_frame([Thing(1, 300, 480 + 5 * i, tall=300)], i / 10, clip=True) for i in range(20)]
    run(WatchZones([], {"cam": ground}, [INFO]), cut)
    speeds = [frame.detections.speeds_m_s for frame in cut if frame.detections is not None]
    assert len(speeds) == 20
    assert np.isnan(np.array(speeds)).all()


def test_objects_without_a_track_and_places_above_the_horizon_have_no_speed() -> None:
    sky = float(CAMERA.project(np.array([(0.0, 1e9, 0.0)]))[0, 1])
    frames = [make_frame([Thing(UNTRACKED, 300, 300), Thing(7, 300, sky - 5, tall=8)], i / 10) for i in range(20)]
    assert np.isnan(measured(frames)).all()


def test_pictures_of_half_the_size_give_the_same_speeds() -> None:
    ground = ((100, 100, 0, 0), (500, 100, 4, 0), (500, 400, 4, 3), (100, 400, 0, 3))  # 1 m is 100 px
    large = [make_frame([Thing(1, 150 + 10 * i, 300)], i / 10) for i in range(20)]
    small = [make_frame([Thing(1, 75 + 5 * i, 150, tall=50)], i / 10, size=(320, 240)) for i in range(20)]
    for frames in (large, small):
        run(WatchZones([], {"cam": ground}, [INFO]), frames)
        assert frames[-1].detections is not None
        assert frames[-1].detections.speeds_m_s == pytest.approx(1.0, abs=1e-3)


def test_detections_that_others_hold_are_not_written_to() -> None:
    frame = make_frame([Thing(1, 300, 300)], 0)
    shared = frame.detections
    run(WatchZones([], {"cam": GROUND}, [INFO]), [frame])
    assert shared is not None
    assert shared.speeds_m_s is None
    assert frame.detections is not None
    assert frame.detections.speeds_m_s is not None


def test_too_fast_is_in_metres_per_second_where_the_ground_is_known() -> None:
    ground = ((100, 100, 0, 0), (500, 100, 4, 0), (500, 400, 4, 3), (100, 400, 0, 3))
    yard = zone(polygon=((0, 0), (1, 0), (1, 1), (0, 1)), max_speed=0.8)
    frames = [make_frame([Thing(1, 150 + 10 * i, 300, speed=100)], i / 10) for i in range(20)]
    events = run(stage(yard, grounds={"cam": ground}), frames)
    assert names(events) == ["zone.enter", "zone.speed"]
    assert (events[1]["speed"], events[1]["unit"]) == (1.0, "m/s")


# --- the homography ------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(-6, 6), st.integers(7, 40)), min_size=4, max_size=12, unique=True),
    st.floats(3, 12),
    st.floats(15, 60),
)
def test_the_ground_comes_out_of_any_places_that_say_where_it_is(
    places: list[tuple[int, int]], high_m: float, down: float
) -> None:
    camera = Camera(high_m, down)
    at = np.array([(east, north, 0) for east, north in places], np.float64)
    points = np.concatenate([camera.project(at), at[:, :2]], axis=1)
    assume(ground_fault(points.tolist()) is None)
    there = np.array([(0.0, 20.0, 0.0), (3.0, 10.0, 0.0), (-5.0, 30.0, 0.0)])
    found = GroundMap(points.tolist()).at(camera.project(there))
    assert found - found[0] == pytest.approx(there[:, :2] - there[0, :2], abs=1e-3)


def test_the_horizon_divides_what_is_ground() -> None:
    ground = GroundMap(GROUND)
    sky = float(CAMERA.project(np.array([(0.0, 1e9, 0.0)]))[0, 1])
    assert np.isnan(ground.at(np.array([(320.0, sky - 3)]))).all()
    assert np.isfinite(ground.at(np.array([(320.0, sky + 20)]))).all()


@pytest.mark.parametrize("far", [0.0, 500_000.0, 5_000_000.0])
def test_places_on_a_map_with_large_numbers_are_as_good(far: float) -> None:
    there = tuple((x, y, east + far, north + 10 * far) for x, y, east, north in GROUND)
    frames, true, _ = walkers(25, noise=0)
    run(WatchZones([], {"cam": there}, [INFO]), frames)
    assert frames[-1].detections is not None
    assert frames[-1].detections.speeds_m_s == pytest.approx(true, rel=0.05)


@pytest.mark.parametrize(
    ("points", "fault"),
    [
        ([(0, 0, 0, 0), (9, 0, 1, 0), (9, 9, 1, 1)], "has 3 places"),
        ([(0, 0, 0, 0), (9, 0, 1, 0), (18, 0, 2, 0), (27, 0, 3, 0)], "does not say"),
        ([(0, 0, 0, 0), (9, 0, 1, 0), (18, 0, 2, 0), (0, 9, 0, 1)], "does not say"),
        ([(0, 0, 0, 0), (9, 0, 1, 0), (9, 9, 2, 0), (0, 9, 3, 0)], "does not say"),
        ([(5, 5, 0, 0)] * 4, "does not say"),
        ([(0, 0, 0, 0), (0, 0, 0, 0), (9, 0, 1, 0), (9, 9, 1, 1)], "does not say"),
        ([(0, 0, 0, 0), (9, 0, 1, 0), (9, 9, 0, 1), (0, 9, 1, 1)], "has places whose order"),
        ([*GROUND, (320, 240, 6.0, 14.0)], "does not fit together"),
        (list(GROUND), None),
        ([(0, 0, 0, 0), (9, 0, 1, 0), (18, 0, 2, 0), (0, 9, 0, 1), (9, 18, 1, 2)], None),
    ],
)
def test_places_that_do_not_say_where_the_ground_is_are_refused(
    points: list[tuple[float, float, float, float]], fault: str | None
) -> None:
    found = ground_fault(points)
    assert found is None if fault is None else found is not None and found.startswith(fault)
