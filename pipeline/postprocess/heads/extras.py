"""What YOLO models say of a candidate beside box and classes, mask coefficients or keypoints: read along with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from engines.spec import HeadOptions
from pipeline.postprocess.heads.decoding import corners, pick
from pipeline.postprocess.heads.evidence import scores_of
from pipeline.postprocess.heads.found import Found

if TYPE_CHECKING:
    from pipeline.arrays import FloatArray

BOX = 4
SCORE, CLASS, REST = 4, 5, 6
"""Columns of an end-to-end row."""


def from_planes(
    planes: FloatArray, classes: int, options: HeadOptions, size: tuple[int, int], confidence: float, multi_label: bool
) -> Found:
    """Read (4 + classes + E, N): YOLOv8 and its successors. What is unlikely is left out before anything is moved."""
    likely = np.flatnonzero(planes[BOX : BOX + classes].max(axis=0) > confidence)
    rows = planes[:, likely].T
    chosen, scores, class_ids = pick(rows[:, BOX : BOX + classes], confidence, multi_label=multi_label)
    rows = rows[chosen]
    return Found(corners(rows[:, :BOX], options, size), scores, class_ids, rows[:, BOX + classes :])


def from_detections(rows: FloatArray, options: HeadOptions, size: tuple[int, int], confidence: float) -> Found:
    """Read (K, 6 + E), NMS done or needless: box, score, class."""
    rows = rows[(rows[:, SCORE] > confidence) & np.isfinite(rows[:, :REST]).all(axis=1)]
    class_ids = rows[:, CLASS].round().astype(np.int32)
    extra = rows[:, REST:] if rows.shape[1] > REST else None
    return Found(corners(rows[:, :BOX], options, size), rows[:, SCORE], class_ids, extra)


def are_detections(rows: FloatArray) -> bool:
    """Whether (K, 6 + E) rows have a score and the whole number of a class where end-to-end models have them."""
    if not len(rows):
        return True
    numbers = rows[:, CLASS]
    whole = bool(((numbers >= 0) & (numbers == numbers.round())).all())
    return whole and scores_of(rows[:, SCORE : SCORE + 1]) == "probabilities"
