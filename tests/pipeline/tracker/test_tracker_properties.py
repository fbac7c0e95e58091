"""What holds for a tracker whatever it is given."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.frame import UNTRACKED, Detections
from pipeline.postprocess.tracker import Tracker, TrackerOptions
from pipeline.postprocess.tracker.clock import INTERVALS, RARE
from tests.pipeline.tracker.scenes import detections

NUMBER = st.floats(-1e3, 1e3) | st.sampled_from([math.nan, math.inf, -math.inf, 1e30])
BOX = st.tuples(NUMBER, NUMBER, NUMBER, NUMBER, st.floats(-1, 17) | st.just(math.nan), st.integers(0, 2))
FRAMES = st.lists(st.tuples(st.floats(-1, 3), st.lists(BOX, max_size=8)), max_size=12)
PLACES = st.lists(
    st.tuples(st.floats(0, 500), st.floats(0, 500), st.floats(20, 80), st.floats(20, 80)), min_size=1, max_size=6
)


def as_detections(boxes: list[tuple[float, float, float, float, float, int]]) -> Detections:
    """Return boxes as they are, sound or not."""
    rows = np.array(boxes, np.float64).reshape(-1, 6)
    with np.errstate(over="ignore", invalid="ignore"):
        return Detections(rows[:, :4].astype(np.float32), rows[:, 4].astype(np.float32), rows[:, 5].astype(np.int32))


@settings(deadline=None)
@given(frames=FRAMES, confirm=st.integers(1, 3), agnostic=st.booleans())
def test_numbers_are_unique_in_a_frame_and_never_come_back_and_nothing_is_nan(
    frames: list[tuple[float, list[tuple[float, float, float, float, float, int]]]], confirm: int, agnostic: bool
) -> None:
    tracker = Tracker(TrackerOptions(confirm_frames=confirm, class_agnostic=agnostic, max_gap_s=2.0))
    time_s, last_seen, highest = 0.0, dict[int, float](), 0
    for index, (step, boxes) in enumerate(frames):
        time_s += step
        longest_s = max(2.0, RARE * max(earlier for earlier, _ in frames[max(0, index - INTERVALS) : index + 1]))
        if step < 0:
            last_seen = dict.fromkeys(last_seen, -math.inf)
        given_boxes = as_detections(boxes)
        result = tracker.update(given_boxes, time_s)
        assert result.track_ids is not None
        assert result.velocities is not None
        numbers = [number for number in result.track_ids.tolist() if number != UNTRACKED]
        assert len(set(numbers)) == len(numbers)
        for number in numbers:
            is_new = number not in last_seen
            assert number > highest if is_new else time_s - last_seen[number] <= longest_s + 1e-5
            last_seen[number] = time_s
        highest = max([highest, *numbers])
        assert np.isfinite(result.boxes).all()
        assert len(result) <= len(given_boxes)
        moves = ~np.isnan(result.velocities)
        assert np.isfinite(result.velocities[moves]).all()
        assert np.isfinite(tracker.predict(time_s + 0.1, 1000, 1000).boxes).all()


@settings(deadline=None, max_examples=50)
@given(places=PLACES, scale=st.sampled_from([0.25, 0.5, 2.0, 4.0, 16.0]))
def test_a_larger_picture_makes_no_difference(places: list[tuple[float, float, float, float]], scale: float) -> None:
    small, large = Tracker(), Tracker()
    for frame in range(6):
        moved = np.array(places) + np.array([7.0 * frame, -3.0 * frame, 0, 0])
        ids = [
            tracker.update(detections((moved * by).tolist()), frame / 10).track_ids
            for tracker, by in ((small, 1.0), (large, scale))
        ]
        assert ids[0] is not None
        assert ids[1] is not None
        assert ids[0].tolist() == ids[1].tolist()


@settings(deadline=None, max_examples=50)
@given(start=st.floats(0, 1e6), places=PLACES)
def test_when_a_source_begins_makes_no_difference(
    start: float, places: list[tuple[float, float, float, float]]
) -> None:
    early, late = Tracker(), Tracker()
    for frame in range(6):
        found = detections((np.array(places) + np.array([7.0 * frame, 0, 0, 0])).tolist())
        first, second = early.update(found, frame / 8), late.update(found, start + frame / 8)
        assert first.track_ids is not None
        assert second.track_ids is not None
        assert first.track_ids.tolist() == second.track_ids.tolist()


def test_empty_frames_are_time_that_passes() -> None:
    tracker = Tracker(TrackerOptions(max_gap_s=1.0))
    tracker.update(detections([(100, 100, 40, 80)]), 0.0)
    for frame in range(1, 30):
        result = tracker.update(Detections.empty(), frame / 10)
        assert len(result) == 0
        assert result.track_ids is not None
        assert result.velocities is not None
    again = tracker.update(detections([(100, 100, 40, 80)]), 3.0)
    assert again.track_ids is not None
    assert again.track_ids.tolist() == [UNTRACKED]


def test_many_things_are_followed_without_a_mistake() -> None:
    rng, tracker = np.random.default_rng(5), Tracker()
    rows, columns = np.mgrid[0:15, 0:20]
    places = np.stack([columns.ravel() * 90.0, rows.ravel() * 90.0, np.full(300, 50.0), np.full(300, 60.0)], axis=1)
    drift = np.concatenate([rng.uniform(-15, 15, (300, 2)), np.zeros((300, 2))], axis=1)
    for frame in range(20):
        order = rng.permutation(300)
        found = detections((places + drift * frame / 25)[order].tolist(), np.full(300, 0.9))
        ids = tracker.update(found, frame / 25).track_ids
        assert ids is not None
        if frame == 0:
            expected = ids[np.argsort(order)]
        assert ids[np.argsort(order)].tolist() == expected.tolist()
