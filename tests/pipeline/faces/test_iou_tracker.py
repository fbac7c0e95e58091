"""The IoU tracker: numbers stay with things, and are never used twice."""

from __future__ import annotations

import numpy as np
import pytest
import supervision
from hypothesis import given
from hypothesis import strategies as st

from pipeline.arrays import FloatArray
from pipeline.postprocess.iou_tracker import IouTracker
from pipeline.postprocess.overlaps import iou_matrix


def boxes(*lefts: float, size: float = 100) -> FloatArray:
    return np.array([[left, 50, left + size, 50 + size] for left in lefts], np.float32).reshape(-1, 4)


@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(1, 6))
def test_the_overlap_is_that_of_another_library(seed: int, rows: int, columns: int) -> None:
    random = np.random.default_rng(seed)
    corners = random.uniform(0, 100, (rows + columns, 2))
    all_boxes = np.concatenate([corners, corners + random.uniform(1, 80, corners.shape)], axis=1)
    first, second = all_boxes[:rows], all_boxes[rows:]
    expected = supervision.box_iou_batch(first, second)
    assert iou_matrix(first, second) == pytest.approx(expected, abs=1e-5)


def test_boxes_without_area_overlap_with_nothing() -> None:
    assert iou_matrix([[5, 5, 5, 5], [9, 9, 3, 3]], [[0, 0, 10, 10]]) == pytest.approx(np.zeros((2, 1)))


def test_a_thing_that_moves_keeps_its_number_and_a_new_one_gets_the_next() -> None:
    tracker = IouTracker()
    assert tracker.update(boxes(0, 300), 0.0).tolist() == [1, 2]
    assert tracker.update(boxes(310, 20), 0.1).tolist() == [2, 1]
    assert tracker.update(boxes(40, 320, 600), 0.2).tolist() == [1, 2, 3]


def test_of_two_that_are_near_each_keeps_its_own() -> None:
    tracker = IouTracker()
    tracker.update(boxes(0, 60), 0.0)
    # greedily, the second would take the first's box, with which it overlaps most
    assert tracker.update(boxes(30, 75), 0.1).tolist() == [1, 2]


def test_a_thing_away_for_a_moment_keeps_its_number_and_for_long_does_not() -> None:
    tracker = IouTracker(max_gap_s=1.0)
    tracker.update(boxes(0), 0.0)
    tracker.update(boxes(), 0.5)
    assert tracker.update(boxes(5), 0.9).tolist() == [1]
    assert tracker.update(boxes(5), 2.0).tolist() == [2]


def test_a_clock_that_jumps_back_ends_all_tracks() -> None:
    tracker = IouTracker()
    tracker.update(boxes(0), 100.0)
    assert tracker.update(boxes(0), 3.0).tolist() == [2]


def test_a_thing_elsewhere_is_another_one() -> None:
    tracker = IouTracker(min_iou=0.2)
    tracker.update(boxes(0), 0.0)
    assert tracker.update(boxes(90), 0.1).tolist() == [2]
