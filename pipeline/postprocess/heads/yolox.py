"""YOLOX, raw: one output [1, cells, 5 + classes], rows in the order of strides 8, 16, 32, row by row.

A row holds x, y, log w, log h in units of its stride relative to its cell, objectness, and the class scores, both
already 0..1. Source: Ge et al., "YOLOX" (2021), section 2.2; decoding as in its `demo_postprocess`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from engines.engine import Candidates
from engines.spec import HeadOptions, InputSpec
from pipeline.arrays import FloatArray
from pipeline.postprocess.cells import cells, count
from pipeline.postprocess.heads.decoding import pick
from pipeline.postprocess.heads.evidence import follows, has_objectness, is_for_boxes, scores_of
from pipeline.postprocess.heads.found import Found
from pipeline.postprocess.heads.head import Fit, Head, Seen, Shapes
from pipeline.postprocess.heads.rows import in_words

if TYPE_CHECKING:
    from engines.engine import Outputs

STRIDES = (8, 16, 32)


class YOLOX(Head):
    """Decodes YOLOX's raw output."""

    name = "yolox"
    layout = "one output [1, cells of strides 8, 16, 32, 5 + classes], boxes relative to their cells"
    input = InputSpec(colour="bgr", fit="letterbox-topleft", pad=114)
    candidates = Candidates(classes=5, objectness=4)

    @classmethod
    def fit(cls, seen: Seen, options: HeadOptions) -> Fit | None:
        """Whether there is one output with a row per cell, whose boxes are not decoded yet."""
        if len(seen.shapes) != 1 or not is_for_boxes(seen.metadata):
            return None
        shape = next(iter(seen.shapes.values()))
        number = sum(count(seen.size, stride) for stride in STRIDES)
        if len(shape) != 3 or shape[:2] != (1, number) or shape[2] <= 5 or options.box_unit is not None:
            return None
        if seen.outputs is not None and not _is_raw(next(iter(seen.outputs.values()))[0], seen.size):
            return None
        why = f"one output {list(shape)}: 5 + {shape[2] - 5} values for each of the {number} {in_words(STRIDES)}"
        return Fit(replace(options, scores="probabilities"), why)

    def class_count(self, shapes: Shapes) -> int:
        """Return columns less box and objectness."""
        return next(iter(shapes.values()))[2] - 5

    def decode(self, outputs: Outputs, size: tuple[int, int], confidence: float, *, multi_label: bool = False) -> Found:
        """Return the candidates; score = objectness x class score."""
        rows = next(iter(outputs.values()))[0]
        likely = np.flatnonzero(rows[:, 4] > confidence)  # a score is never larger than its objectness
        rows = rows[likely]
        chosen, scores, class_ids = pick(rows[:, 4:5] * rows[:, 5:], confidence, multi_label=multi_label)
        corners, strides = cells(size, STRIDES)
        places = likely[chosen]
        return Found(_boxes(rows[chosen, :4], corners[places], strides[places]), scores, class_ids)


def _is_raw(rows: FloatArray, size: tuple[int, int]) -> bool:
    """Whether x and y are offsets within cells: YOLOv6 and decoded YOLOX have the same shape."""
    corners, strides = cells(size, STRIDES)
    decoded = follows(rows[:, :2], corners * strides)
    return not decoded and scores_of(rows[:, 4:]) == "probabilities" and has_objectness(rows[:, 4:])


def _boxes(rows: FloatArray, corners: FloatArray, strides: FloatArray) -> FloatArray:
    centres = (rows[:, :2] + corners) * strides
    with np.errstate(over="ignore"):  # a broken model's exp() may be infinite; NMS drops what is not finite
        halves = np.exp(rows[:, 2:]) * strides / 2
    return np.concatenate([centres - halves, centres + halves], axis=1)
