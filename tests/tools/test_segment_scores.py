"""Confusion and IoU: counted by hand, and the same as scikit-learn's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, jaccard_score

from tools.segment_scores import confusion, iou_per_class, mean_iou, pixel_accuracy

WANTED = np.array([[0, 0, 1], [1, 2, 9]], np.uint8)
FOUND = np.array([[0, 1, 1], [1, 1, 0]], np.uint8)


def test_pixels_are_counted_by_label_and_by_what_was_found() -> None:
    matrix = confusion(FOUND, WANTED, 4, ignore=9)
    assert matrix.dtype == np.int64
    assert matrix.tolist() == [[1, 1, 0, 0], [0, 2, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]


def test_iou_is_hits_by_union_and_no_number_for_a_class_that_is_nowhere() -> None:
    scores = iou_per_class(confusion(FOUND, WANTED, 4, ignore=9))
    assert scores[:3].tolist() == [1 / 2, 2 / 4, 0.0]
    assert math.isnan(scores[3])
    assert mean_iou(confusion(FOUND, WANTED, 4, ignore=9)) == pytest.approx(1 / 3)
    assert pixel_accuracy(confusion(FOUND, WANTED, 4, ignore=9)) == 3 / 5


def test_a_class_that_is_found_but_nowhere_labelled_counts_as_0() -> None:
    matrix = confusion(np.array([0, 2], np.uint8), np.array([0, 0], np.uint8), 3)
    assert iou_per_class(matrix)[[0, 2]].tolist() == [0.5, 0.0]
    assert mean_iou(matrix) == 0.25


def test_where_no_pixel_counts_there_is_no_score() -> None:
    nothing = confusion(FOUND, np.full_like(FOUND, 9), 4, ignore=9)
    assert nothing.sum() == 0
    assert math.isnan(mean_iou(nothing))
    assert math.isnan(pixel_accuracy(nothing))


def test_it_is_what_scikit_learn_counts() -> None:
    random = np.random.default_rng(0)
    wanted = random.integers(0, 7, (40, 50)).astype(np.uint8)
    found = np.where(random.random((40, 50)) < 0.6, wanted, random.integers(0, 6, (40, 50))).astype(np.uint8)
    counted = wanted != 6
    matrix = confusion(found, wanted, 6, ignore=6)
    np.testing.assert_array_equal(matrix, confusion_matrix(wanted[counted], found[counted], labels=range(6)))
    by_class = jaccard_score(wanted[counted], found[counted], labels=range(6), average=None)
    np.testing.assert_allclose(iou_per_class(matrix), by_class)
    assert mean_iou(matrix) == pytest.approx(np.mean(by_class))


def test_matrices_of_pictures_add_up_to_that_of_all() -> None:
    together = confusion(FOUND, WANTED, 4, ignore=9)
    rows = sum(confusion(found, wanted, 4, ignore=9) for found, wanted in zip(FOUND, WANTED, strict=True))
    np.testing.assert_array_equal(rows, together)


@pytest.mark.parametrize(
    ("found", "wanted", "words"),
    [
        ([0, 1], [0, 1, 1], "a map of .2,. cannot be compared with labels of .3,."),
        ([0, 1], [0, 4], "there is a label 4, and only 3 classes"),
        ([0, 5], [0, 1], "there is a class 5, and only 3 classes"),
    ],
)
def test_what_cannot_be_compared_is_refused(found: list[int], wanted: list[int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        confusion(np.array(found, np.uint8), np.array(wanted, np.uint8), 3)
