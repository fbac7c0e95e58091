"""Soft-NMS and weighted boxes fusion do what their papers say, box by box; `merge` applies each to candidates."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.postprocess.fusion import fuse
from pipeline.postprocess.heads.found import Found
from pipeline.postprocess.merge import Merging, merge
from pipeline.postprocess.nms import nms
from pipeline.postprocess.soft_nms import SIGMA, soft_nms

Array = npt.NDArray[Any]
METHODS: list[Merging] = ["standard", "diou", "soft-linear", "soft-gaussian", "fusion"]
BROKEN = [
    (np.nan, 0, 5, 5, 0.9),
    (0, 0, np.inf, 5, 0.9),
    (5, 5, 5, 9, 0.9),
    (9, 9, 5, 5, 0.9),
    (0, 0, 5, 5, np.nan),
    (0, 0, 5, 5, 0),
]
PLACE = st.integers(0, 40)
BOXES = st.lists(
    st.tuples(PLACE, PLACE, st.integers(1, 40), st.integers(1, 40), st.integers(1, 99), st.integers(0, 2)), max_size=25
)


def iou(a: Array, b: Array) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0.0, float(width)) * max(0.0, float(height))
    areas = [float((box[2] - box[0]) * (box[3] - box[1])) for box in (a, b)]
    return shared / (sum(areas) - shared)


def candidates(rows: list[tuple[int, ...]]) -> Found:
    table = np.array(rows, float).reshape(-1, 6)
    boxes = np.concatenate([table[:, :2], table[:, :2] + table[:, 2:4]], axis=1).astype(np.float32)
    scores = (table[:, 4] / 100).astype(np.float32)
    return Found(boxes, scores, table[:, 5].astype(np.int32), np.arange(len(table), dtype=np.float32)[:, None])


@given(rows=BOXES, decay=st.sampled_from(["linear", "gaussian"]), agnostic=st.booleans())
@settings(max_examples=100)
def test_soft_nms_is_the_papers_loop(
    rows: list[tuple[int, ...]], decay: Literal["linear", "gaussian"], agnostic: bool
) -> None:
    found = candidates(rows)
    kept, scores = soft_nms(found.boxes, found.scores, found.class_ids, decay, 0.3, class_agnostic=agnostic, floor=0.05)
    left = {row: float(score) for row, score in enumerate(found.scores)}
    expected = []
    while left:
        best = max(left, key=lambda row: (left[row], -row))
        score = left.pop(best)
        if score <= 0.05:
            break
        expected.append((best, score))
        for row in left:
            overlap = iou(found.boxes[best], found.boxes[row])
            if agnostic or found.class_ids[row] == found.class_ids[best]:
                linear = 1 - overlap if overlap > 0.3 else 1.0
                left[row] *= linear if decay == "linear" else math.exp(-(overlap**2) / SIGMA)
    assert sorted(kept.tolist()) == sorted(row for row, _ in expected)
    np.testing.assert_allclose(scores, [score for _, score in expected], rtol=1e-6)


def test_soft_nms_keeps_the_second_of_two_people_with_a_lower_score() -> None:
    boxes, scores = [[0, 0, 10, 10], [0, 4, 10, 14], [50, 50, 60, 60]], [0.9, 0.8, 0.7]  # IoU 6/14
    kept, values = soft_nms(boxes, scores, [0, 0, 0], "linear", 0.3)
    assert kept.tolist() == [0, 2, 1]
    np.testing.assert_allclose(values, [0.9, 0.7, 0.8 * (1 - 6 / 14)], rtol=1e-6)
    kept, values = soft_nms(boxes, scores, [0, 0, 0], "gaussian", 0.3)
    np.testing.assert_allclose(values, [0.9, 0.7, 0.8 * math.exp(-((6 / 14) ** 2) / 0.5)], rtol=1e-6)
    assert soft_nms(boxes, scores, [0, 0, 0], "linear", 0.3, floor=0.5)[0].tolist() == [0, 2]
    assert soft_nms(boxes, scores, [0, 1, 0], "linear", 0.3)[0].tolist() == [0, 1, 2]


@given(rows=BOXES, threshold=st.sampled_from([0.0, 0.3, 0.55, 0.9, 1.0]), agnostic=st.booleans())
@settings(max_examples=100)
def test_fusion_is_the_papers_loop(rows: list[tuple[int, ...]], threshold: float, agnostic: bool) -> None:
    found = candidates(rows)
    fused = fuse(found.boxes, found.scores, found.class_ids, threshold, class_agnostic=agnostic)
    expected = fused_by_plain_loop(found, threshold, agnostic)
    assert sorted(fused.best.tolist()) == sorted(expected)
    table = np.array([expected[row] for row in fused.best.tolist()]).reshape(-1, 5)
    np.testing.assert_allclose(np.column_stack([fused.boxes, fused.scores]), table, rtol=1e-5)
    assert (np.diff(fused.scores) <= 0).all()


def fused_by_plain_loop(found: Found, threshold: float, agnostic: bool) -> dict[int, Array]:
    """For the best member of each fused box: x1, y1, x2, y2, score."""
    clusters: list[list[int]] = []
    means: list[Array] = []
    boxes, scores = found.boxes.astype(float), found.scores.astype(float)
    for row in sorted(range(len(found)), key=lambda row: (-found.scores[row], row)):
        overlaps = [
            iou(mean, boxes[row]) if agnostic or found.class_ids[members[0]] == found.class_ids[row] else -1.0
            for mean, members in zip(means, clusters, strict=True)
        ]
        place = overlaps.index(max(overlaps)) if overlaps and max(overlaps) > threshold else len(clusters)
        if place == len(clusters):
            clusters.append([])
            means.append(boxes[row])
        clusters[place].append(row)
        means[place] = np.average(boxes[clusters[place]], axis=0, weights=scores[clusters[place]])
    return {members[0]: np.append(mean, scores[members].mean()) for mean, members in zip(means, clusters, strict=True)}


def test_fusion_weighs_boxes_by_their_scores_and_takes_the_mean_score() -> None:
    fused = fuse([[0, 0, 10, 10], [2, 0, 12, 10], [0, 0, 10, 10]], [0.9, 0.3, 0.5], [1, 1, 2], 0.5)
    assert fused.best.tolist() == [0, 2]
    np.testing.assert_allclose(fused.boxes, [[0.5, 0.0, 10.5, 10.0], [0.0, 0.0, 10.0, 10.0]], rtol=1e-6)
    np.testing.assert_allclose(fused.scores, [0.6, 0.5], rtol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_extra_and_class_stay_with_the_box_that_is_kept(method: Merging) -> None:
    found = candidates([(0, 0, 20, 20, 50, 1), (1, 0, 20, 20, 90, 1), (0, 30, 9, 9, 80, 2), (1, 30, 9, 9, 60, 0)])
    merged = merge(found, method, 0.5, floor=0.3)
    assert merged.extra is not None
    assert merged.extra[:, 0].tolist() == ([2, 1, 3] if method == "fusion" else [1, 2, 3])
    assert merged.class_ids.tolist() == ([2, 1, 0] if method == "fusion" else [1, 2, 0])
    dtypes = [str(each.dtype) for each in (merged.boxes, merged.scores, merged.class_ids)]
    assert dtypes == ["float32", "float32", "int32"]
    assert merge(found, method, 0.5, most=1).scores.tolist() == merged.scores[:1].tolist()
    assert len(merge(found, method, 0.5, class_agnostic=True, floor=0.3)) == 2


@pytest.mark.parametrize("method", METHODS)
def test_what_is_broken_is_dropped_and_changes_nothing_else(method: Merging) -> None:
    good = candidates([(0, 0, 20, 20, 50, 1), (1, 0, 20, 20, 90, 1), (0, 30, 9, 9, 70, 2)])
    broken = np.array(BROKEN, np.float32)
    both = Found(
        np.concatenate([broken[:, :4], good.boxes]),
        np.concatenate([broken[:, 4], good.scores]),
        np.concatenate([np.ones(len(broken), np.int32), good.class_ids]),
    )
    expected, found = merge(good, method, 0.5), merge(both, method, 0.5)
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    np.testing.assert_array_equal(found.scores, expected.scores)
    assert len(merge(both[: len(BROKEN)], method, 0.5)) == 0
    assert len(merge(good[:0], method, 0.5)) == 0


def test_standard_is_nms_by_iou_and_diou_by_distance_iou() -> None:
    random = np.random.default_rng(0)
    rows = [tuple(random.integers(1, 40, 6).tolist()) for _ in range(60)]
    found = candidates(rows)
    for method, overlap in (("standard", "iou"), ("diou", "diou")):
        merged = merge(found, method, 0.2, class_agnostic=True)  # type: ignore[arg-type]
        kept = nms(found.boxes, found.scores, found.class_ids, 0.2, class_agnostic=True, overlap=overlap)  # type: ignore[arg-type]
        np.testing.assert_array_equal(merged.boxes, found.boxes[kept])


@pytest.mark.parametrize("method", METHODS)
def test_a_threshold_outside_0_to_1_is_refused(method: Merging) -> None:
    with pytest.raises(ValueError, match=r"0\.\.1, not 45"):
        merge(candidates([]), method, 45)
