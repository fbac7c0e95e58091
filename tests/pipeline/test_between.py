"""Boxes in frames that are not detected in: held, or moved on as they moved."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

from pipeline.frame import Detections
from pipeline.masks import Masks
from pipeline.postprocess.between import TRUST, Between


def detections(*boxes: list[float], class_ids: list[int] | None = None) -> Detections:
    scores = np.linspace(0.9, 0.5, len(boxes), dtype=np.float32)
    return Detections(np.array(boxes, np.float32), scores, np.array(class_ids or [0] * len(boxes), np.int32))


def predicting(*frames: tuple[float, Detections]) -> Between:
    between = Between("predict")
    for time_s, each in frames:
        between.found(each, time_s)
    return between


def boxes(found: Detections) -> Any:
    return found.boxes.round(3).tolist()


def test_held_boxes_stay_where_they_were() -> None:
    between = Between("hold")
    assert len(between.at(0.0, 100, 100)) == 0
    between.found(detections([0, 0, 10, 10]), 1.0)
    between.found(detections([5, 0, 15, 10]), 1.1)
    assert boxes(between.at(1.15, 100, 100)) == [[5, 0, 15, 10]]


def test_a_box_moves_on_at_its_speed_and_keeps_its_size() -> None:
    between = predicting((1.0, detections([10, 20, 30, 60])), (1.2, detections([14, 18, 34, 58])))
    x, y = TRUST * 4 / 2, TRUST * -2 / 2
    assert boxes(between.at(1.3, 100, 100)) == [[14 + x, 18 + y, 34 + x, 58 + y]]
    assert boxes(between.at(1.2, 100, 100)) == [[14, 18, 34, 58]]


def test_it_moves_no_further_than_it_was_seen_to() -> None:
    between = predicting((1.0, detections([10, 20, 30, 60])), (1.2, detections([14, 20, 34, 60])))
    assert (
        boxes(between.at(1.4, 100, 100))
        == boxes(between.at(9.0, 100, 100))
        == [[14 + TRUST * 4, 20, 34 + TRUST * 4, 60]]
    )


def test_what_leaves_the_frame_is_gone() -> None:
    between = predicting((0.0, detections([60, 0, 90, 30])), (0.1, detections([80, 0, 99, 30])))
    found = between.at(0.2, 100, 100)
    assert found.boxes[0, 2] == 100
    assert len(predicting((0.0, detections([60, 0, 98, 9])), (0.1, detections([90, 0, 99, 9]))).at(0.2, 100, 100)) == 0


@pytest.mark.parametrize(
    "before",
    [
        detections([10, 20, 30, 60], class_ids=[3]),
        detections([70, 20, 90, 60]),
        Detections.empty(),
    ],
    ids=["another class", "elsewhere", "nothing"],
)
def test_what_was_not_seen_before_stays(before: Detections) -> None:
    between = predicting((1.0, before), (1.2, detections([14, 20, 34, 60])))
    assert boxes(between.at(1.3, 100, 100)) == [[14, 20, 34, 60]]


@pytest.mark.parametrize("times", [(1.0, 3.0), (1.0, 0.2), (1.0, 1.0)], ids=["long ago", "clock jumped", "no time"])
def test_frames_far_apart_say_nothing_of_speed(times: tuple[float, float]) -> None:
    between = predicting((times[0], detections([10, 20, 30, 60])), (times[1], detections([14, 20, 34, 60])))
    assert boxes(between.at(times[1] + 0.1, 100, 100)) == [[14, 20, 34, 60]]


def test_each_of_two_that_pass_each_other_goes_its_own_way() -> None:
    between = predicting(
        (0.0, detections([0, 0, 20, 20], [40, 0, 60, 20])), (0.1, detections([8, 0, 28, 20], [32, 0, 52, 20]))
    )
    assert boxes(between.at(0.2, 100, 100)) == [[14, 0, 34, 20], [26, 0, 46, 20]]


def test_masks_and_keypoints_move_with_their_box_and_stay_inside_the_frame() -> None:
    def at(left: int) -> Detections:
        mask = np.zeros((1, 40, 50), np.bool_)
        mask[0, 10:20, left : left + 10] = True
        point = np.array([[[left, 10, 0.7]]], np.float32)
        found = detections([left, 10, left + 10, 20])
        return replace(found, masks=cast(Masks, mask), keypoints=point)

    found = predicting((0.0, at(30)), (0.1, at(38))).at(0.2, 50, 40)
    assert boxes(found) == [[44, 10, 50, 20]]
    assert found.masks is not None
    assert found.keypoints is not None
    expected = np.zeros((40, 50), np.bool_)
    expected[10:20, 44:50] = True
    assert (found.masks.dense()[0] == expected).all()
    assert found.keypoints.round(4).tolist() == [[[44, 10, pytest.approx(0.7)]]]
