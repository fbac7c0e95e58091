"""NMS keeps what OpenCV's and a plain loop keep, for random boxes and for those that break such code."""

from __future__ import annotations

import tracemalloc
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.postprocess.nms import FEW, nms
from pipeline.postprocess.overlaps import Overlap, overlaps

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
    boxes=st.lists(
        st.tuples(CORNER, CORNER, st.integers(-20, 20), st.integers(-20, 20), SCORE, st.integers(0, 2)), max_size=60
    ),
    threshold=st.floats(0, 1),
    overlap=st.sampled_from(["iou", "diou", "ios"]),
    agnostic=st.booleans(),
    most=st.one_of(st.none(), st.integers(0, 9)),
)
@settings(max_examples=200)
def test_a_few_boxes_are_kept_as_by_a_plain_loop(
    boxes: list[tuple[int, ...]], threshold: float, overlap: Overlap, agnostic: bool, most: int | None
) -> None:
    rows = np.array(boxes, float).reshape(-1, 6)
    expected = kept_by_plain_loop(rows[:, :4], rows[:, 4], rows[:, 5], threshold, overlap, agnostic)
    options: dict[str, Any] = {"class_agnostic": agnostic, "overlap": overlap, "most": most}
    assert nms(rows[:, :4], rows[:, 4], rows[:, 5], threshold, **options).tolist() == expected[:most]


@given(
    seed=st.integers(0, 10_000),
    count=st.integers(FEW + 1, 3 * FEW),
    kind=st.sampled_from(["spread", "one spot", "all sizes", "ties", "equal", "far off"]),
    threshold=st.one_of(st.sampled_from([0.0, 0.3, 0.45, 0.5, 0.95, 1.0]), st.floats(0, 1)),
    overlap=st.sampled_from(["iou", "diou", "ios"]),
    agnostic=st.booleans(),
    most=st.one_of(st.none(), st.integers(1, 400)),
)
@settings(max_examples=30, deadline=None)
def test_many_boxes_are_kept_as_by_a_plain_loop(
    seed: int, count: int, kind: str, threshold: float, overlap: Overlap, agnostic: bool, most: int | None
) -> None:
    boxes, scores, class_ids = heap(kind, seed, count)
    expected = kept_by_rows(boxes, scores, class_ids, threshold, overlap, agnostic)
    options: dict[str, Any] = {"class_agnostic": agnostic, "overlap": overlap, "most": most}
    assert nms(boxes, scores, class_ids, threshold, **options).tolist() == expected[:most]


@pytest.mark.parametrize("overlap", ["iou", "diou", "ios"])
@pytest.mark.parametrize("kind", ["spread", "one spot", "all sizes", "ties", "equal", "far off"])
def test_thousands_of_boxes_in_several_blocks_are_kept_as_by_a_plain_loop(kind: str, overlap: Overlap) -> None:
    boxes, scores, class_ids = heap(kind, 5, 3000)
    for threshold, agnostic in ((0.5, True), (0.2, False)):
        found = nms(boxes, scores, class_ids, threshold, class_agnostic=agnostic, overlap=overlap).tolist()
        assert found == kept_by_rows(boxes, scores, class_ids, threshold, overlap, agnostic)


def test_a_block_with_more_overlaps_than_its_sample_said_is_made_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.postprocess.nms.PAIRS", 100)
    boxes, scores, class_ids = heap("spread", 1, 4000)
    found = nms(boxes, scores, class_ids, 0.5, class_agnostic=True).tolist()
    assert found == kept_by_rows(boxes, scores, class_ids, 0.5, "iou", True)


@pytest.mark.parametrize("kind", ["spread", "one spot", "equal", "ties"])
def test_memory_grows_with_the_boxes_not_with_their_pairs(kind: str) -> None:
    boxes, scores, class_ids = heap(kind, 2, 100_000)
    tracemalloc.start()
    try:
        nms(boxes, scores, class_ids, 0.5, class_agnostic=True)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000 * 600  # bytes; all pairs, a bit each, were 1.25 GB


def test_of_threshold_1_all_stay_and_of_0_none_that_overlaps() -> None:
    boxes = [[0, 0, 9, 9], [0, 0, 9, 9], [8, 8, 12, 12], [9, 0, 12, 9]]
    assert nms(boxes, [0.9, 0.8, 0.7, 0.6], [0] * 4, 1).tolist() == [0, 1, 2, 3]
    assert nms(boxes, [0.9, 0.8, 0.7, 0.6], [0] * 4, 0).tolist() == [0, 3]  # edges that touch do not overlap


@pytest.mark.parametrize("threshold", [-0.1, 1.1, np.nan])
def test_a_threshold_outside_0_to_1_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match=r"0\.\.1, not"):
        nms([[0, 0, 1, 1]], [0.5], [0], threshold)


@pytest.mark.parametrize(
    "box",
    [
        (5, 5, 5, 9),
        (5, 5, 9, 5),
        (9, 5, 5, 9),
        (9, 9, 5, 5),
        (0, 0, 1e30, 1e30),
        (-1e300, 0, 1e300, 1),
        (0, 0, 1e-200, 1e-200),
    ],
    ids=["no width", "no height", "negative width", "negative size", "huge", "area not finite", "area vanishes"],
)
@pytest.mark.parametrize("copies", [1, 200])
def test_boxes_that_can_show_nothing_are_never_kept_and_suppress_nothing(box: tuple[float, ...], copies: int) -> None:
    boxes = np.array([box] * copies + [[4, 4, 10, 10]])
    assert nms(boxes, [0.9] * copies + [0.5], [0] * (copies + 1), 0.0).tolist() == [copies]


@pytest.mark.parametrize("score", [0.0, -1.0, np.nan, np.inf, -np.inf, 1e-60])
def test_scores_that_are_no_positive_numbers_are_never_kept(score: float) -> None:
    assert nms([[0, 0, 9, 9], [0, 0, 9, 9]], [score, 0.5], [0, 0], 0.5).tolist() == [1]


def test_far_from_the_origin_boxes_are_compared_as_exactly() -> None:
    boxes, scores, class_ids = heap("spread", 7, 600)
    boxes = (boxes * 16).round() / 16  # stays exact after the shift
    moved = boxes + np.array([1e9, -1e9, 1e9, -1e9])
    assert nms(moved, scores, class_ids, 0.4).tolist() == nms(boxes, scores, class_ids, 0.4).tolist()


def test_a_small_box_within_a_large_one_is_found_by_the_smaller_area_only() -> None:
    boxes = [[0, 0, 100, 100], [10, 10, 20, 20]]
    assert nms(boxes, [0.9, 0.8], [0, 0], 0.5, overlap="ios").tolist() == [0]
    assert nms(boxes, [0.9, 0.8], [0, 0], 0.5).tolist() == [0, 1]


def test_distance_iou_keeps_a_box_whose_centre_is_elsewhere() -> None:
    boxes = [[0, 0, 10, 10], [0, 3, 10, 13]]  # IoU 7/13; centres 3 apart, the hull's diagonal squared 269
    assert nms(boxes, [0.9, 0.8], [0, 0], 0.52).tolist() == [0]
    assert nms(boxes, [0.9, 0.8], [0, 0], 0.52, overlap="diou").tolist() == [0, 1]
    assert nms(boxes, [0.9, 0.8], [0, 0], 7 / 13 - 9 / 269 - 1e-9, overlap="diou").tolist() == [0]


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


def kept_by_plain_loop(
    boxes: Array, scores: Array, class_ids: Array, threshold: float, overlap: Overlap = "iou", agnostic: bool = False
) -> list[int]:
    """The definition, box by box."""
    found: list[int] = []
    usable = [i for i, box in enumerate(boxes) if box[2] > box[0] and box[3] > box[1]]
    for i in sorted(usable, key=lambda row: (-scores[row], row)):
        rivals = [j for j in found if agnostic or class_ids[i] == class_ids[j]]
        if all(measure(boxes[i], boxes[j], overlap) <= threshold for j in rivals):
            found.append(i)
    return found


def kept_by_rows(
    boxes: Array, scores: Array, class_ids: Array, threshold: float, overlap: Overlap, agnostic: bool
) -> list[int]:
    """The same, each box against all others at once."""
    found: list[int] = []
    corners = boxes.astype(np.float64).T
    alive = (corners[2] > corners[0]) & (corners[3] > corners[1])
    for i in np.argsort(-scores, kind="stable").tolist():
        if alive[i]:
            found.append(i)
            rivals = np.flatnonzero(alive & (agnostic | (class_ids == class_ids[i])))
            alive[rivals] = overlaps(corners[:, i, None], corners[:, rivals], overlap) <= threshold
    return found


def measure(a: Array, b: Array, overlap: Overlap = "iou") -> float:
    """The overlap of two boxes that have an area."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    if overlap == "ios":
        return float(width * height / min(areas))
    iou = width * height / (sum(areas) - width * height)
    if overlap == "iou":
        return float(iou)
    hull = (max(a[2], b[2]) - min(a[0], b[0])) ** 2 + (max(a[3], b[3]) - min(a[1], b[1])) ** 2
    apart = ((a[0] + a[2] - b[0] - b[2]) / 2) ** 2 + ((a[1] + a[3] - b[1] - b[3]) / 2) ** 2
    return float(iou - apart / hull)


def heap(kind: str, seed: int, count: int) -> tuple[Array, Array, Array]:
    """Many boxes, float32 xyxy; scores; class ids."""
    random = np.random.default_rng(seed)
    places, sizes = random.uniform(0, 15 * count**0.5, (count, 2)), random.uniform(10, 60, (count, 2))
    scores = random.uniform(0.01, 1, count).astype(np.float32)
    if kind == "one spot":
        sizes = np.exp(random.uniform(1, 7, (count, 2)))
        places = 900 - sizes * random.uniform(0, 1, (count, 2))
    elif kind == "all sizes":
        sizes = np.exp(random.uniform(-3, 8, (count, 2)))
    elif kind == "ties":
        places, sizes, scores = places // 20 * 20, sizes // 20 * 20 + 10, (scores * 4).round() / 4 + np.float32(0.1)
    elif kind == "equal":
        places, sizes = places[:1].repeat(count, 0), sizes[:1].repeat(count, 0)
    elif kind == "far off":
        places[::50] *= 1e6
        sizes[::70] *= 1e9
    boxes = np.concatenate([places, places + sizes], axis=1).astype(np.float32)
    return boxes, scores, random.integers(0, 3, count)


def corners(rectangles: Array) -> Array:
    return np.concatenate([rectangles[:, :2], rectangles[:, :2] + rectangles[:, 2:]], axis=1)


def random_boxes(seed: int, count: int, classes: int, spread: int = 100) -> tuple[Array, Array, Array]:
    """Left, top, width, height on a grid of quarters, so that no sum is rounded; scores; class ids."""
    random = np.random.default_rng(seed)
    places, sides = random.integers(0, spread * 4, (count, 2)), random.integers(1, 200, (count, 2))
    scores = random.permutation(count).astype(np.float32) / (count + 1) + 1e-3
    return np.concatenate([places, sides], axis=1) / 4, scores, random.integers(0, classes, count)
