"""What is taken for what: each object and each box is counted once, and crowds count as neither."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.eval_confusion import Confusion, match
from tools.labels import LabelledSet

CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]
CAT, DOG = 3, 7
Record = dict[str, Any]


def labelled(*objects: tuple[int, list[float]], crowd: tuple[int, ...] = ()) -> LabelledSet:
    """One image with objects (category, box); those whose numbers are in `crowd` are crowds."""
    annotations = [
        {"id": n, "image_id": 1, "category_id": kind, "bbox": box, "area": 1.0, "iscrowd": int(n in crowd)}
        for n, (kind, box) in enumerate(objects)
    ]
    image = {"id": 1, "file_name": "a.png", "width": 100, "height": 100}
    return LabelledSet([image], annotations, CATEGORIES)


def found(*boxes: tuple[int, list[float], float]) -> list[Record]:
    return [{"image_id": 1, "category_id": kind, "bbox": box, "score": score} for kind, box, score in boxes]


def counts(truth: LabelledSet, results: list[Record], confidence: float = 0.25) -> list[list[int]]:
    """Rows and columns cat, dog, background."""
    matrix: list[list[int]] = Confusion.of(match(truth, results, [1], confidence), CATEGORIES).counts.tolist()
    return matrix


@pytest.mark.parametrize(
    ("kind", "box", "score", "expected"),
    [
        (CAT, [0, 0, 10, 10], 0.9, [[1, 0, 0], [0, 0, 0], [0, 0, 0]]),
        (DOG, [0, 0, 10, 10], 0.9, [[0, 1, 0], [0, 0, 0], [0, 0, 0]]),
        (CAT, [0, 0, 10, 5], 0.9, [[1, 0, 0], [0, 0, 0], [0, 0, 0]]),  # an IoU of exactly 0.5
        (CAT, [0, 0, 10, 4.9], 0.9, [[0, 0, 1], [0, 0, 0], [1, 0, 0]]),
        (DOG, [50, 50, 9, 9], 0.9, [[0, 0, 1], [0, 0, 0], [0, 1, 0]]),
        (CAT, [0, 0, 10, 10], 0.25, [[0, 0, 1], [0, 0, 0], [0, 0, 0]]),  # not above the confidence
    ],
)
def test_one_box_and_one_object_are_right_confused_or_missed_and_false(
    kind: int, box: list[float], score: float, expected: list[list[int]]
) -> None:
    assert counts(labelled((CAT, [0, 0, 10, 10])), found((kind, box, score))) == expected


def test_the_best_box_takes_the_object_and_the_next_is_false() -> None:
    truth = labelled((CAT, [0, 0, 10, 10]))
    results = found((CAT, [0, 0, 10, 10], 0.5), (DOG, [0, 0, 10, 9], 0.6))
    assert counts(truth, results) == [[0, 1, 0], [0, 0, 0], [1, 0, 0]]


def test_a_box_takes_the_object_that_it_overlaps_most() -> None:
    truth = labelled((DOG, [0, 0, 10, 8]), (CAT, [0, 0, 10, 10]))
    assert counts(truth, found((CAT, [0, 0, 10, 10], 0.9))) == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]


def test_boxes_in_a_crowd_of_their_class_do_not_count_and_the_crowd_is_not_missed() -> None:
    truth = labelled((CAT, [0, 0, 100, 100]), crowd=(0,))
    results = found((CAT, [5, 5, 10, 10], 0.9), (CAT, [40, 40, 10, 10], 0.8), (DOG, [5, 5, 10, 10], 0.7))
    assert counts(truth, results) == [[0, 0, 0], [0, 0, 0], [0, 1, 0]]


boxes = st.tuples(st.sampled_from([CAT, DOG]), st.lists(st.integers(1, 30), min_size=4, max_size=4))


@given(objects=st.lists(boxes, max_size=8), detected=st.lists(st.tuples(boxes, st.floats(0, 1)), max_size=8))
def test_every_object_is_in_its_row_once_and_every_box_in_its_column_once(
    objects: list[tuple[int, list[float]]], detected: list[tuple[tuple[int, list[float]], float]]
) -> None:
    results = found(*((kind, box, score) for (kind, box), score in detected))
    pictures = match(labelled(*objects), results, [1], 0.25)
    matrix = Confusion.of(pictures, CATEGORIES).counts
    above = [each for each in results if each["score"] > 0.25]
    for place, kind in enumerate((CAT, DOG)):
        assert matrix[place].sum() == sum(each[0] == kind for each in objects)
        assert matrix[:, place].sum() == sum(each["category_id"] == kind for each in above)
    right = int(np.trace(matrix))
    assert pictures[0].missed == len(objects) - right
    assert pictures[0].false == len(above) - right


def test_the_classes_that_are_seen_most_are_kept_and_the_others_become_one() -> None:
    counts = np.diag([5, 1, 9, 2, 0])
    counts[1, 4], counts[3, 0] = 3, 4
    small = Confusion(("a", "b", "c", "d"), counts).largest(3)
    assert small.names == ("a", "c", "2 others")
    assert small.counts.tolist() == [[5, 0, 0, 0], [0, 9, 0, 0], [4, 0, 3, 3], [0, 0, 0, 0]]
    assert small.counts.sum() == counts.sum()
    assert small.summary == "17 right, 4 as another class, 3 missed, 0 where nothing is"
