"""NMS keeps what OpenCV's keeps, for random boxes and for those that break such code."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.postprocess.nms import nms

Array = npt.NDArray[Any]
THRESHOLDS = st.sampled_from([0.0, 0.25, 0.5, 0.625, 0.75, 1.0])
"""Exact in float32, in which OpenCV keeps its threshold: on 0.45 the two differ where the IoU is 9/20."""
CORNER = st.integers(-20, 20)
SIDE = st.integers(1, 20)
BOX = st.tuples(CORNER, CORNER, SIDE, SIDE)
SCORE = st.integers(1, 8).map(lambda eighths: eighths / 8)


@given(boxes=st.lists(st.tuples(BOX, SCORE, st.integers(0, 2)), min_size=1, max_size=60), threshold=THRESHOLDS)
def test_keeps_what_opencv_and_a_plain_loop_keep_with_ties_and_left_of_the_frame(
    boxes: list[tuple[tuple[int, int, int, int], float, int]], threshold: float
) -> None:
    rectangles = np.array([box for box, _, _ in boxes], float)
    scores = np.array([score for _, score, _ in boxes])
    classes = np.array([class_id for _, _, class_id in boxes])
    found = kept(rectangles, scores, classes, threshold)
    assert found == kept_by_plain_loop(corners(rectangles), scores, classes, threshold)
    shifted = rectangles + np.array(
        [40, 40, 0, 0]
    )  # OpenCV moves classes apart by the largest coordinate: none below 0
    expected = cv2.dnn.NMSBoxesBatched(shifted.tolist(), scores.tolist(), classes.tolist(), 0.0, threshold)
    assert found == [int(i) for i in expected]


@given(
    boxes=st.lists(st.tuples(CORNER, CORNER, st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30),
    threshold=THRESHOLDS,
)
def test_keeps_what_opencv_keeps_of_boxes_without_area(
    boxes: list[tuple[int, int, int, int]], threshold: float
) -> None:
    rectangles, scores = np.array(boxes, float), np.linspace(0.9, 0.1, len(boxes))
    expected = cv2.dnn.NMSBoxes(rectangles.tolist(), scores.tolist(), 0.0, threshold)
    assert kept(rectangles, scores, np.zeros(len(boxes), int), threshold) == [int(i) for i in expected]


@given(seed=st.integers(0, 10_000), count=st.integers(1, 300), classes=st.integers(1, 80), threshold=THRESHOLDS)
def test_keeps_what_opencv_keeps_of_random_boxes(seed: int, count: int, classes: int, threshold: float) -> None:
    rectangles, scores, class_ids = random_boxes(seed, count, classes)
    expected = cv2.dnn.NMSBoxesBatched(rectangles.tolist(), scores.tolist(), class_ids.tolist(), 0.0, threshold)
    assert kept(rectangles, scores, class_ids, threshold) == [int(i) for i in expected]


@pytest.mark.parametrize("spread", [200, 4000], ids=["crowded", "sparse"])
def test_keeps_what_opencv_keeps_of_5000_boxes(spread: int) -> None:
    rectangles, scores, class_ids = random_boxes(1, 5000, 3, spread)
    expected = cv2.dnn.NMSBoxesBatched(rectangles.tolist(), scores.tolist(), class_ids.tolist(), 0.0, 0.5)
    assert kept(rectangles, scores, class_ids, 0.5) == [int(i) for i in expected]


def test_class_agnostic_suppresses_across_classes() -> None:
    rectangles, scores, class_ids = random_boxes(2, 200, 5)
    found = nms(corners(rectangles), scores, class_ids, 0.5, class_agnostic=True)
    expected = cv2.dnn.NMSBoxes(rectangles.tolist(), scores.tolist(), 0.0, 0.5)
    assert found.tolist() == [int(i) for i in expected]


@given(
    wrong=st.dictionaries(
        st.tuples(st.integers(0, 19), st.integers(0, 4)), st.sampled_from([np.nan, np.inf, -np.inf]), max_size=30
    )
)
def test_what_is_not_finite_is_never_kept_and_changes_nothing_else(wrong: dict[tuple[int, int], float]) -> None:
    rectangles, scores, class_ids = random_boxes(3, 20, 2)
    rows = np.column_stack([corners(rectangles), scores])
    for (row, column), value in wrong.items():
        rows[row, column] = value
    good = np.array([row for row in range(20) if np.isfinite(rows[row]).all()], int)
    found = nms(rows[:, :4], rows[:, 4], class_ids, 0.5)
    alone = nms(rows[good, :4], rows[good, 4], class_ids[good], 0.5)
    assert found.tolist() == good[alone].tolist()


def test_of_equal_boxes_with_equal_scores_the_first_stays() -> None:
    assert nms([[0, 0, 9, 9]] * 5, [0.5] * 5, [1] * 5, 0.5).tolist() == [0]
    assert nms([[0, 0, 9, 9]] * 4, [0.5] * 4, [1, 2, 1, 2], 0.5).tolist() == [0, 1]


def test_an_overlap_of_exactly_the_threshold_stays() -> None:
    boxes = [[0, 0, 2, 1], [0, 0, 1, 1]]
    assert nms(boxes, [0.9, 0.8], [0, 0], 0.5).tolist() == [0, 1]
    assert nms(boxes, [0.9, 0.8], [0, 0], 0.499).tolist() == [0]


def test_nothing_in_nothing_out() -> None:
    assert nms([], [], [], 0.5).tolist() == []


def kept(rectangles: Array, scores: Array, class_ids: Array, threshold: float) -> list[int]:
    found: list[int] = nms(corners(rectangles), scores, class_ids, threshold).tolist()
    return found


def kept_by_plain_loop(boxes: Array, scores: Array, class_ids: Array, threshold: float) -> list[int]:
    """The definition, box by box."""
    found: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda row: (-scores[row], row)):
        if all(class_ids[i] != class_ids[j] or overlap(boxes[i], boxes[j]) <= threshold for j in found):
            found.append(i)
    return found


def overlap(a: Array, b: Array) -> float:
    """IoU of two boxes that have an area."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return float(width * height / (sum(areas) - width * height))


def corners(rectangles: Array) -> Array:
    return np.concatenate([rectangles[:, :2], rectangles[:, :2] + rectangles[:, 2:]], axis=1)


def random_boxes(seed: int, count: int, classes: int, spread: int = 100) -> tuple[Array, Array, Array]:
    """Left, top, width, height on a grid of quarters, so that no sum is rounded; scores; class ids."""
    random = np.random.default_rng(seed)
    places, sides = random.integers(0, spread * 4, (count, 2)), random.integers(1, 200, (count, 2))
    scores = random.permutation(count).astype(np.float32) / (count + 1) + 1e-3
    return np.concatenate([places, sides], axis=1) / 4, scores, random.integers(0, classes, count)
