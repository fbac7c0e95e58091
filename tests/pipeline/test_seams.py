"""What overlapping windows show becomes one: no object twice, none that was cut, and none lost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.frame import Detections
from pipeline.postprocess import seams
from pipeline.postprocess.overlaps import overlaps
from pipeline.postprocess.seams import CUT_IOS, InWindow, join


def seen(*rows: tuple[Any, float, bool], class_ids: list[int] | None = None) -> InWindow:
    boxes, scores, cut = zip(*rows, strict=True)
    order = np.argsort([-score for score in scores], kind="stable")
    found = Detections(np.array(boxes), np.array(scores), np.array(class_ids or [0] * len(rows)))
    return InWindow(found, np.array(cut)[order])


WHOLE, LEFT_PART, RIGHT_PART = [10, 10, 110, 60], [10, 10, 50, 60], [40, 10, 110, 60]


def boxes_of(found: Detections) -> Any:
    return found.boxes.tolist()


def test_one_object_in_two_windows_is_one() -> None:
    found = join([seen((WHOLE, 0.7, False)), seen(([11, 10, 110, 61], 0.8, False))], 0.45)
    assert boxes_of(found) == [[11, 10, 110, 61]]


def test_a_cut_box_gives_way_to_the_whole_one_whatever_the_scores() -> None:
    found = join([seen((LEFT_PART, 0.9, True)), seen((WHOLE, 0.4, False)), seen((RIGHT_PART, 0.8, True))], 0.45)
    assert boxes_of(found) == [WHOLE]


def test_a_cut_box_stays_where_nobody_has_it_whole() -> None:
    assert len(join([seen((LEFT_PART, 0.9, True)), seen(([200, 10, 300, 60], 0.4, False))], 0.45)) == 2


def test_of_two_cut_boxes_of_one_object_the_better_stays() -> None:
    parts = [10, 10, 80, 60], [30, 10, 110, 60]
    assert boxes_of(join([seen((parts[0], 0.5, True)), seen((parts[1], 0.6, True))], 0.6)) == [parts[1]]


def test_a_small_object_before_a_large_one_of_its_class_stays() -> None:
    large, small = [0, 0, 400, 400], [100, 100, 140, 180]
    assert len(join([seen((large, 0.9, False)), seen((small, 0.8, False))], 0.45)) == 2


def test_boxes_of_one_window_leave_each_other_alone() -> None:
    near = [12, 10, 112, 60]
    assert len(join([seen((WHOLE, 0.9, False), (near, 0.8, False)), seen(([500, 0, 510, 9], 0.1, False))], 0.45)) == 3


def test_classes_are_apart_unless_agnostic() -> None:
    windows = [seen((WHOLE, 0.9, False)), seen((LEFT_PART, 0.8, True), class_ids=[1])]
    assert len(join(windows, 0.45)) == 2
    assert len(join(windows, 0.45, class_agnostic=True)) == 1


def test_the_best_are_kept_and_sorted() -> None:
    windows = [seen(*((([x, 0, x + 9, 9]), x / 1000, False) for x in range(start, 400, 40))) for start in (10, 30)]
    found = join(windows, 0.45, most=3)
    assert found.scores.tolist() == np.array([0.39, 0.37, 0.35], np.float32).tolist()
    assert len(join(windows[:1], 0.45, most=3)) == 3


def test_windows_that_show_nothing_show_nothing() -> None:
    nothing = InWindow(Detections.empty(), np.zeros(0, np.bool_))
    assert len(join([nothing, nothing], 0.45)) == 0
    assert len(join([nothing, seen((WHOLE, 0.9, False))], 0.45)) == 1


def joined_by_plain_loop(windows: list[InWindow], iou: float, agnostic: bool) -> list[list[float]]:
    """Whole boxes first, then the better; each drops what shows the same in other windows."""
    rows = [
        (bool(cut), -float(score), number, box.astype(np.float64), 0 if agnostic else int(class_id))
        for number, window in enumerate(windows)
        for box, score, class_id, cut in zip(
            window.detections.boxes, window.detections.scores, window.detections.class_ids, window.cut, strict=True
        )
    ]
    kept: list[Any] = []
    for row in sorted(rows, key=lambda row: row[:2]):
        for better in kept:
            if row[2] == better[2] or row[4] != better[4]:
                continue
            by_ios = row[0] or better[0]
            if overlaps(row[3], better[3], "ios" if by_ios else "iou") > (CUT_IOS if by_ios else iou):
                break
        else:
            kept.append(row)
    return sorted([-row[1], *row[3].tolist()] for row in kept)


def random_windows(seed: int, count: int, number: int, extent: int, classes: int) -> list[InWindow]:
    random = np.random.default_rng(seed)
    windows = []
    for _ in range(number):
        each = int(random.integers(0, 2 * count // number + 1))
        corners = random.integers(0, extent, (each, 2))
        boxes = np.concatenate([corners, corners + random.integers(1, 30, (each, 2))], 1)
        scores = np.sort(random.integers(1, 9, each) / 8)[::-1]  # with ties
        found = Detections(boxes, scores.astype(np.float32), random.integers(0, classes, each, np.int32))
        windows.append(InWindow(found, random.random(each) < 0.4))
    return windows


def rows_of(found: Detections) -> Any:
    return sorted(np.concatenate([found.scores[:, None], found.boxes], 1).tolist())


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.sampled_from([5, 40, 300]),
    number=st.integers(2, 6),
    extent=st.sampled_from([15, 60, 300]),
    classes=st.integers(1, 3),
    iou=st.sampled_from([0.0, 0.25, 0.45, 0.7, 1.0]),
    agnostic=st.booleans(),
)
def test_what_stays_is_what_a_plain_loop_keeps(
    seed: int, count: int, number: int, extent: int, classes: int, iou: float, agnostic: bool
) -> None:
    windows = random_windows(seed, count, number, extent, classes)
    found = join(windows, iou, class_agnostic=agnostic, most=10**6)
    assert rows_of(found) == joined_by_plain_loop(windows, iou, agnostic)


@pytest.mark.parametrize("extent", [100, 500])
def test_many_boxes_are_compared_block_by_block_with_the_same_result(
    monkeypatch: pytest.MonkeyPatch, extent: int
) -> None:
    windows = random_windows(0, 600, 5, extent, 2)
    monkeypatch.setattr(seams, "FIRST_BLOCK", 16)
    monkeypatch.setattr(seams, "ALL_PAIRS", 100)
    found = join(windows, 0.45, most=10**6)
    assert rows_of(found) == joined_by_plain_loop(windows, 0.45, agnostic=False)
