"""The overlap of boxes is that of another library."""

from __future__ import annotations

import numpy as np
import pytest
import supervision
from hypothesis import given
from hypothesis import strategies as st

from pipeline.postprocess.overlaps import iou_matrix


@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(1, 6))
def test_the_overlap_is_that_of_another_library(seed: int, rows: int, columns: int) -> None:
    random = np.random.default_rng(seed)
    corners = random.uniform(0, 100, (rows + columns, 2))
    all_boxes = np.concatenate([corners, corners + random.uniform(1, 80, corners.shape)], axis=1)
    first, second = all_boxes[:rows], all_boxes[rows:]
    expected = supervision.box_iou_batch(first, second)
    assert iou_matrix(first, second) == pytest.approx(expected, abs=1e-5)


def test_boxes_without_area_overlap_with_nothing() -> None:
    assert iou_matrix([[5, 5, 5, 5], [9, 9, 3, 3]], [[0, 0, 10, 10]]) == pytest.approx(np.zeros((2, 1)))
