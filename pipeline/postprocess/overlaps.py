"""How much two boxes overlap, by the three measures that merging asks for, and which boxes can be compared at all."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Overlap = Literal["iou", "diou", "ios"]
"""`iou`: intersection over union, 0..1. `diou`: IoU less the squared distance of the centres, in squared diagonals of
the hull (Zheng et al., "Distance-IoU Loss", 2020, eq. 7), -1..1. `ios`: intersection over the smaller area, 0..1."""

HUGE = 1e18
"""Coordinates of this size are taken for not finite: areas stay finite in float32, and no picture is so large."""

Doubles = npt.NDArray[np.float64]


def overlaps(a: Doubles, b: Doubles, kind: Overlap = "iou") -> Doubles:
    """Return the overlap of boxes that have an area.

    Args:
        a: (4, ...) float64 x1, y1, x2, y2: a coordinate after the other, not a box after the other.
        b: (4, ...), of a shape that broadcasts with that of `a`.
        kind: the measure.
    """
    width = np.minimum(a[2], b[2]) - np.maximum(a[0], b[0])
    height = np.minimum(a[3], b[3]) - np.maximum(a[1], b[1])
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    area_a, area_b = (a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1])
    if kind == "ios":
        smaller: Doubles = shared / np.minimum(area_a, area_b)
        return smaller
    iou: Doubles = shared / (area_a + area_b - shared)
    return iou if kind == "iou" else iou - _distance(a, b)


def _distance(a: Doubles, b: Doubles) -> Any:
    """Squared distance of the centres over the squared diagonal of the smallest box around both."""
    across = np.maximum(a[2], b[2]) - np.minimum(a[0], b[0])
    down = np.maximum(a[3], b[3]) - np.minimum(a[1], b[1])
    dx, dy = (a[0] + a[2] - b[0] - b[2]) / 2, (a[1] + a[3] - b[1] - b[3]) / 2
    return (dx * dx + dy * dy) / (across * across + down * down)


def iou_matrix(first: npt.ArrayLike, second: npt.ArrayLike) -> Doubles:
    """Return the (N, M) intersection over union of (N, 4) and (M, 4) xyxy boxes; 0 for those without area."""
    a, b = np.asarray(first, np.float64)[:, None], np.asarray(second, np.float64)[None]
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=-1)
    union = _area(a) + _area(b) - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))


def _area(boxes: Doubles) -> Doubles:
    return np.asarray(np.prod(np.clip(boxes[..., 2:] - boxes[..., :2], 0, None), axis=-1))


def sound(corners: Doubles, scores: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
    """Return the indices of boxes that can show something: finite, with an area, and a score above 0.

    Args:
        corners: (4, N) x1, y1, x2, y2.
        scores: (N,).
    """
    with np.errstate(invalid="ignore", over="ignore"):
        finite = (np.abs(corners) < HUGE).all(axis=0)  # false for what is no number, too
        width, height = corners[2] - corners[0], corners[3] - corners[1]
        return np.flatnonzero(finite & (width > 0) & (width * height > 0) & (scores > 0) & (scores < np.inf))
