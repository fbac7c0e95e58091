"""The tracker follows faces, too: every face has a number at once, and keeps its row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from pipeline.faces import Faces
from pipeline.infer.face_finder import recognise
from pipeline.infer.face_stages import FindFaces, face_tracker, follow
from tests.pipeline.face_models import square_finder
from tests.pipeline.faces.patterns import CPU, OPTIONS, SIZE, frame, scene


def faces(*lefts: float, scores: Sequence[float] = ()) -> Faces:
    """Return faces of 50 x 60 pixels at some x."""
    boxes = np.array([[left, 40, left + 50, 100] for left in lefts], np.float32).reshape(-1, 4)
    return Faces(boxes, np.array(scores or [0.5] * len(lefts), np.float32), np.zeros((len(lefts), 5, 2), np.float32))


def test_every_face_has_its_own_number_at_once_whatever_its_score() -> None:
    tracker, seen = face_tracker(), []
    for time_s, lefts in ((0.0, [10]), (0.1, [14, 200]), (0.2, [300, 18]), (0.3, [])):
        found = faces(*lefts, scores=[0.9, 0.0][: len(lefts)])
        follow(tracker, found, time_s)
        assert found.track_ids is not None
        seen.append(found.track_ids.tolist())
    assert seen == [[1], [1, 2], [3, 1], []]


def test_a_number_belongs_to_the_face_in_its_row() -> None:
    tracker, random = face_tracker(), np.random.default_rng(2)
    lefts = np.arange(8) * 70.0
    for index in range(6):
        order = random.permutation(8)
        found = faces(*(lefts[order] + index), scores=[0.7] * 8)
        follow(tracker, found, index / 25)
        assert found.track_ids is not None
        numbers = found.track_ids[np.argsort(order)].tolist()
        if index == 0:
            expected = numbers
        assert numbers == expected


def test_the_narrowest_face_has_a_number() -> None:
    found = faces(100)
    found.boxes[0, 2] = np.nextafter(np.float32(100), np.float32(101))
    follow(face_tracker(), found, 0.0)
    assert found.track_ids is not None
    assert found.track_ids.tolist() == [1]


@pytest.mark.parametrize(("pass_all", "numbers"), [(True, [1]), (False, [2])])
def test_a_face_that_nobody_looked_for_is_the_same_and_after_a_gap_in_frames_another(
    tmp_path: Path, pass_all: bool, numbers: list[int]
) -> None:
    stage = FindFaces(recognise(square_finder(tmp_path)), CPU, OPTIONS, sizes=[SIZE])
    stage.open()
    try:
        for index in range(100):
            one = frame(scene(("ann", 100, 100)), index)
            if index in {0, 99}:
                stage.collect(one, stage.submit(one))
            elif pass_all:
                stage.skip(one)
        assert one.pts > 2
        assert one.faces is not None
        assert one.faces.track_ids is not None
        assert one.faces.track_ids.tolist() == numbers
    finally:
        stage.close()
