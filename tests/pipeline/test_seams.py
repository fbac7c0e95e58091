"""What overlapping windows show becomes one: no object twice, none that was cut, and none lost."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.frame import Detections
from pipeline.postprocess.seams import Seen, join


def seen(*rows: tuple[Any, float, bool], class_ids: list[int] | None = None) -> Seen:
    boxes, scores, cut = zip(*rows, strict=True)
    order = np.argsort([-score for score in scores], kind="stable")
    found = Detections(np.array(boxes), np.array(scores), np.array(class_ids or [0] * len(rows)))
    return Seen(found, np.array(cut)[order])


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
    nothing = Seen(Detections.empty(), np.zeros(0, np.bool_))
    assert len(join([nothing, nothing], 0.45)) == 0
    assert len(join([nothing, seen((WHOLE, 0.9, False))], 0.45)) == 1
