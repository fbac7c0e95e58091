"""What the values of a model's outputs for a real picture give away, where shapes fit several layouts.

The bounds were set on yolox-nano and yolov8n, on the pictures that come with Frameloom: see each function.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pipeline.arrays import FloatArray

if TYPE_CHECKING:
    from engines.metadata import Metadata
    from engines.spec import BoxOrder, BoxUnit, HeadOptions, ScoreKind

ROUNDING = 1e-3
"""By how much a probability may be outside 0..1, in half precision."""
LARGEST_LOGIT = 100
LARGEST_FRACTION = 4
"""A box in fractions may be larger than the picture, but not by much; one in pixels of a few is none."""
SMALLEST_SIDE = -1
"""Rounding may make an empty box's side less than 0."""


def is_for_boxes(metadata: Metadata) -> bool:
    """Whether a file does not say that its model is for something else, or for more."""
    return metadata.task in (None, "detect")


def with_boxes(boxes: FloatArray, options: HeadOptions) -> HeadOptions | None:
    """Return the options with order and unit of (N, 4) boxes, as far as nobody said them; None: they are no boxes."""
    order = options.box_order or order_of(boxes)
    if np.isnan(boxes).any() or (order == "cxcywh" and not has_sizes(boxes)):
        return None
    return replace(options, box_order=order, box_unit=options.box_unit or unit_of(boxes))


def unit_of(boxes: FloatArray) -> BoxUnit:
    """Return whether (N, 4) boxes are in fractions of the input's sides, or in pixels."""
    return "fractions" if len(boxes) and np.abs(boxes).max() < LARGEST_FRACTION else "pixels"


def order_of(boxes: FloatArray) -> BoxOrder:
    """Return the order of many (N, 4) boxes: of small ones in a picture's middle, centres are larger than sides."""
    return "xyxy" if (boxes[:, 2:] >= boxes[:, :2] - ROUNDING).all() else "cxcywh"


def scores_of(scores: FloatArray) -> ScoreKind | None:
    """Return what (N, classes) class scores are; None: nothing of the kind.

    A model is unsure of every class somewhere in a picture, so logits are below 0 in every column. Keypoints and the
    angle of an oriented box, which stand in the same place, are not.
    """
    if _probabilities(scores):
        return "probabilities"
    if (scores.min(axis=0) < 0).all() and np.abs(scores).max() < LARGEST_LOGIT:
        return "logits"
    return None


def has_sizes(boxes: FloatArray) -> bool:
    """Whether columns 2 and 3 of (N, 4) can be widths and heights."""
    return bool((boxes[:, 2:] >= SMALLEST_SIDE).all())


def has_objectness(rows: FloatArray) -> bool:
    """Whether the first column of (N, 1 + classes) probabilities says that there is something, whatever it is.

    Where there is nothing, the classes' scores have no meaning: of yolox-nano's rows with an objectness below 0.01,
    99 % have a class score above 0.05. Where the first column is a class, others follow it down: 0.5 % in yolov8n.
    YOLOv6 has no objectness and writes 1.
    """
    low = rows[:, 0] < 0.01
    if not low.any():
        return bool((rows[:, 0] > 0.99).all())
    return bool((rows[low, 1:].max(axis=1, initial=0) > 0.05).mean() > 0.5)


def follows(centres: FloatArray, cells: FloatArray) -> bool:
    """Whether (N, 2) values are places near these (N, 2) cells, in any unit: their correlation is nearly 1.

    That of offsets within a cell is nearly 0.
    """
    with np.errstate(invalid="ignore"):
        return all(np.corrcoef(centres[:, axis], cells[:, axis])[0, 1] > 0.9 for axis in (0, 1))


def _probabilities(values: FloatArray) -> bool:
    return bool(values.min() >= -ROUNDING and values.max() <= 1 + ROUNDING)
