"""Whose face is on which body, and how long a body keeps a name."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.arrays import FloatArray
from pipeline.postprocess.links import DOUBTS, VOTES, Bodies, link


def boxes(*rows: tuple[float, float, float, float]) -> FloatArray:
    return np.array(rows, np.float32).reshape(-1, 4)


STANDING = (100.0, 50.0, 200.0, 350.0)
HEAD_OF_IT = (135.0, 60.0, 165.0, 100.0)


def test_a_face_belongs_to_the_person_whose_head_it_is() -> None:
    behind = (120.0, 40.0, 260.0, 420.0)  # overlaps, with its own head further to the right
    assert link(boxes(HEAD_OF_IT), boxes(behind, STANDING)) == [(0, 1)]


@pytest.mark.parametrize(
    "face",
    [(10.0, 60.0, 40.0, 100.0), (135.0, 300.0, 165.0, 340.0), (80.0, 60.0, 110.0, 100.0)],
    ids=["beside", "at the feet", "half outside"],
)
def test_a_face_elsewhere_belongs_to_nobody(face: tuple[float, float, float, float]) -> None:
    assert link(boxes(face), boxes(STANDING)) == []


def test_two_faces_do_not_share_a_body() -> None:
    near = (138.0, 62.0, 168.0, 102.0)
    assert len(link(boxes(HEAD_OF_IT, near), boxes(STANDING))) == 1


def test_faces_and_bodies_of_a_row_of_people_are_matched_one_to_one() -> None:
    persons = boxes(*((x, 50.0, x + 100, 350.0) for x in (0.0, 60.0, 120.0)))  # each overlaps the next
    faces = boxes(*((x + 35, 60.0, x + 65, 100.0) for x in (120.0, 0.0, 60.0)))
    assert link(faces, persons) == [(0, 2), (1, 0), (2, 1)]


@pytest.mark.parametrize("count", [0, 2])
def test_no_faces_or_no_persons_are_no_pairs(count: int) -> None:
    some, none = boxes(*[STANDING] * 2), boxes()
    assert link(none, boxes(*[STANDING] * count)) == []
    assert link(some, none) == []


@given(st.floats(0.2, 20), st.floats(-500, 500), st.floats(-500, 500))
def test_size_and_place_do_not_matter(scale: float, right: float, down: float) -> None:
    shift = np.array([right, down, right, down], np.float32)
    persons = boxes(STANDING, (300.0, 50.0, 400.0, 350.0)) * np.float32(scale) + shift
    faces = boxes(HEAD_OF_IT) * np.float32(scale) + shift
    assert link(faces, persons) == [(0, 0)]


def test_a_body_takes_a_name_after_some_frames_and_keeps_it() -> None:
    bodies = Bodies()
    for _ in range(VOTES - 1):
        bodies.see(7, "ann")
    assert bodies.name_of(7) is None
    bodies.see(7, "ann")
    assert bodies.name_of(7) == "ann"
    bodies.see(7, "bob")  # once, in passing
    assert bodies.name_of(7) == "ann"


def test_a_body_changes_its_name_when_its_face_is_somebody_else_for_some_frames() -> None:
    bodies = Bodies()
    for name in ["ann"] * VOTES + ["bob"] * VOTES:
        bodies.see(7, name)
    assert bodies.name_of(7) == "bob"


def test_nobody_is_in_two_places() -> None:
    bodies = Bodies()
    for track in (7, 8):
        for _ in range(VOTES):
            bodies.see(track, "ann")
    assert (bodies.name_of(7), bodies.name_of(8)) == (None, "ann")


def test_a_stranger_s_face_takes_the_name_from_a_body() -> None:
    bodies = Bodies()
    for name in ["ann"] * VOTES + [None] * (DOUBTS - 1):
        bodies.see(7, name)
    assert bodies.name_of(7) == "ann"
    bodies.see(7, None)
    assert bodies.name_of(7) is None


def test_a_name_that_was_removed_from_the_gallery_is_not_said() -> None:
    known = {"ann"}
    bodies = Bodies(known.__contains__)
    for _ in range(VOTES):
        bodies.see(7, "ann")
    known.clear()
    assert bodies.name_of(7) is None
