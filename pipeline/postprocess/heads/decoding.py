"""What heads share: the classes that a candidate stands for, and boxes of any order and unit as xyxy in pixels."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from engines.spec import HeadOptions
from pipeline.arrays import FloatArray, IntArray

if TYPE_CHECKING:
    import numpy.typing as npt

    from engines.spec import BoxOrder


def pick(
    scores: FloatArray, confidence: float, *, multi_label: bool
) -> tuple[npt.NDArray[np.intp], FloatArray, IntArray]:
    """Say which candidates are found, and as what.

    Args:
        scores: (N, classes). One that is not a number is never above `confidence`.
        confidence: a score must be larger.
        multi_label: whether a candidate stands for every class above `confidence` instead of its best one.

    Returns:
        Rows of `scores`, and the score and the class of each; with `multi_label` a row may come several times.
    """
    if multi_label:
        rows, class_ids = np.nonzero(scores > confidence)
        return rows, scores[rows, class_ids], class_ids.astype(np.int32)
    class_ids = scores.argmax(axis=1)
    best = scores[np.arange(len(scores)), class_ids]
    rows = np.flatnonzero(best > confidence)
    return rows, best[rows], class_ids[rows].astype(np.int32)


def with_usual(options: HeadOptions, order: BoxOrder = "cxcywh") -> HeadOptions:
    """Return options that say what boxes and scores are: the usual, where nothing is known."""
    return replace(
        options,
        box_order=options.box_order or order,
        box_unit=options.box_unit or "pixels",
        scores=options.scores or "probabilities",
    )


def corners(boxes: FloatArray, options: HeadOptions, size: tuple[int, int], usual: BoxOrder = "cxcywh") -> FloatArray:
    """Return (N, 4) boxes as xyxy in pixels of the model's input.

    Args:
        boxes: (N, 4) as the model gives them.
        options: of the head: order and unit; `usual` and pixels, where they do not say.
        size: height and width of the input.
        usual: the order of models with this head.
    """
    order = options.box_order or usual
    if order == "yxyx":
        boxes = boxes[:, [1, 0, 3, 2]]
    elif order == "cxcywh":
        halves = boxes[:, 2:] / 2
        boxes = np.concatenate([boxes[:, :2] - halves, boxes[:, :2] + halves], axis=1)
    if options.box_unit == "fractions":
        boxes = boxes * np.array([size[1], size[0]] * 2, np.float32)
    return np.asarray(boxes, np.float32)


def sigmoid(values: FloatArray) -> FloatArray:
    """Return 1 / (1 + exp(-x)), 0 for what is far below 0."""
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-values)), np.float32)


def logit(probability: float) -> float:
    """Return the value whose sigmoid is `probability`: minus infinity for 0, infinity for 1."""
    if not 0 < probability < 1:
        return -math.inf if probability <= 0 else math.inf
    return math.log(probability / (1 - probability))
