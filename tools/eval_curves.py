"""F1 over confidence, from what one COCO evaluation says of each box at IoU 0.5."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tools.coco import Scores

Array = npt.NDArray[np.float64]
CONFIDENCES: Array = np.arange(1, 100) / 100


class Best(NamedTuple):
    """The confidence at which the mean F1 of all classes is best, and the means that are reached there."""

    confidence: float
    f1: float
    precision: float
    """A class of which nothing is found counts as 0."""
    recall: float


def over_confidence(scores: Scores) -> tuple[Array, Array]:
    """Return precision and recall of each class from the boxes above each of `CONFIDENCES`: two arrays (C, K)."""
    precision, recall = np.zeros((2, len(CONFIDENCES), len(scores.classes)))
    for k, (boxes, each) in enumerate(zip(scores.boxes, scores.classes, strict=True)):
        above = np.searchsorted(-boxes.scores, -CONFIDENCES)
        true = np.concatenate([[0], boxes.true.cumsum()])[above]
        precision[:, k], recall[:, k] = true / np.maximum(above, 1), true / each.labels
    return precision, recall


def f1(precision: Array, recall: Array) -> Array:
    """Harmonic mean of both; 0 where both are 0."""
    return 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)


def best(scores: Scores) -> Best | None:
    """Return the best confidence for all classes; None where nothing is to be found."""
    if not scores.classes:
        return None
    precision, recall = over_confidence(scores)
    mean = f1(precision, recall).mean(axis=1)
    at = int(mean.argmax())
    return Best(float(CONFIDENCES[at]), float(mean[at]), float(precision[at].mean()), float(recall[at].mean()))
