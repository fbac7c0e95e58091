"""The stage that names bodies and reports people."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.faces import Faces
from pipeline.frame import Detections, Frame
from pipeline.picture import Picture
from pipeline.postprocess.attendance import AttendanceOptions
from pipeline.postprocess.links import VOTES
from pipeline.postprocess.people import People

OPTIONS = AttendanceOptions(left_after_s=2, unknown_after_s=1, every_s=0)
BODY, FACE = (100.0, 50.0, 200.0, 350.0), (135.0, 60.0, 165.0, 100.0)


def frame(
    index: int, name: str | None = None, *, face: bool = True, similarity: float = 0.8, file: Path | None = None
) -> Frame:
    """A person at one place, who shows a face or not, and a dog."""
    frame = Frame("cam", index, index / 10, 0.0, Picture(bgr=np.zeros((400, 400, 3), np.uint8)), file=file)
    frame.labels = ("dog", "person")
    frame.detections = Detections(
        np.array([BODY, (0, 0, 50, 50)]), np.array([0.9, 0.8]), np.array([1, 0]), None if file else np.array([5, 6])
    )
    frame.faces = (
        Faces.empty() if not face else Faces(np.array([FACE]), np.array([0.9]), np.zeros((1, 5, 2), np.float32))
    )
    frame.faces.names = (name,) if face else ()
    frame.faces.similarities = np.full(len(frame.faces), similarity, np.float32)
    frame.faces.track_ids = None if file else np.array([3] if face else [], np.int32)
    return frame


def names(stage: People, frame: Frame) -> tuple[str | None, ...] | None:
    stage.process(frame)
    assert frame.detections is not None
    return frame.detections.names


def test_a_name_stays_with_a_person_who_turns_away() -> None:
    stage = People(OPTIONS)
    for index in range(VOTES):
        stage.process(frame(index, "ann"))
    assert names(stage, frame(VOTES, face=False)) == ("ann", None)
    later = frame(100, face=False)  # 10 s later still the same track
    assert names(stage, later) == ("ann", None)
    assert later.events == []


def test_who_turns_away_has_not_left_but_who_is_gone_has() -> None:
    stage, events = People(OPTIONS), []
    for index in range(100):
        each = frame(index, "ann", face=index < VOTES)
        if index >= 50:
            each.detections = Detections.empty()
            each.detections.track_ids = np.empty(0, np.int32)
        stage.process(each)
        events += [(index, event["event"]) for event in each.events]
    assert events == [(0, "person.appeared"), (70, "person.left")]


def test_the_event_says_who_where_and_how_sure() -> None:
    stage, first = People(OPTIONS), frame(0, "ann")
    stage.process(first)
    assert first.events == [
        {"event": "person.appeared", "name": "ann", "similarity": 0.8, "track": 3, "box": list(FACE)}
    ]


def test_a_stranger_is_reported_after_a_while() -> None:
    stage, events = People(OPTIONS), []
    for index in range(30):
        each = frame(index, None, similarity=0.1)
        stage.process(each)
        events += [(index, event) for event in each.events]
    assert events == [(10, {"event": "person.unknown", "track": 3, "box": list(FACE)})]


def test_a_face_that_was_not_compared_is_no_stranger() -> None:
    stage = People(OPTIONS)
    for index in range(30):
        each = frame(index, None, similarity=float("nan"))
        stage.process(each)
        assert each.events == []


def test_faces_carried_over_say_nothing_new_of_bodies() -> None:
    stage = People(OPTIONS)
    for index in range(10):
        each = frame(index, "ann")
        each.predicted = True
        assert names(stage, each) == (None, None)


def test_in_an_image_the_face_names_its_body_at_once_and_nothing_is_reported() -> None:
    each = frame(0, "ann", file=Path("a.jpg"))
    assert names(People(OPTIONS), each) == ("ann", None)
    assert each.events == []


def test_after_the_end_of_a_source_nothing_is_known() -> None:
    stage = People(OPTIONS)
    for index in range(VOTES):
        stage.process(frame(index, "ann"))
    stage.end("cam")
    assert names(stage, frame(VOTES, face=False)) == (None, None)


def test_without_recognition_nothing_is_added() -> None:
    each = frame(0)
    each.faces = None
    assert names(People(OPTIONS), each) is None
