"""YOLOv5, v6 and v7, decoded: one output [1, N, 5 + classes] of centre, size, objectness and class scores.

YOLOv5 and v7 have three rows (anchors) for each cell, YOLOv6 and YOLOX exported with its decoding one. Boxes are in
pixels of the input, or fractions of its sides; a score is objectness x class score. Sources: Jocher et al., "YOLOv5"
(2020); Li et al., "YOLOv6" (2022), which has no objectness and writes 1; Wang et al., "YOLOv7" (2023).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from engines.engine import Candidates
from engines.spec import HeadOptions, InputSpec
from pipeline.postprocess.heads.decoding import corners, pick, with_usual
from pipeline.postprocess.heads.evidence import has_objectness, is_for_boxes, scores_of, with_boxes
from pipeline.postprocess.heads.found import Found
from pipeline.postprocess.heads.head import Fit, Head, Seen, Shapes
from pipeline.postprocess.heads.rows import in_words, levels_of, only, rows_of

if TYPE_CHECKING:
    from engines.engine import Outputs
    from pipeline.arrays import FloatArray

BOX, OBJECTNESS, CLASSES = slice(0, 4), 4, 5
ANCHORS = 3


class YOLOv5(Head):
    """Decodes rows with an objectness."""

    name = "yolov5"
    layout = "one output [1, N, 5 + classes], boxes decoded (YOLOv5, v6, v7)"
    input = InputSpec(colour="rgb", std=(255.0,) * 3, fit="letterbox-centre", pad=114)
    candidates = Candidates(classes=CLASSES, objectness=OBJECTNESS)

    @classmethod
    def fit(cls, seen: Seen, options: HeadOptions) -> Fit | None:
        """Whether there is one output of rows with an objectness, whose boxes are decoded."""
        shape = only(seen.shapes)
        if shape is None or shape[2] <= CLASSES or not is_for_boxes(seen.metadata) or options.scores == "logits":
            return None
        if len(seen.metadata.labels) == shape[2] - CLASSES + 1:  # YOLOv8's rows, transposed
            return None
        found: HeadOptions | None = options
        if seen.outputs is not None:
            three_each = levels_of(shape[1], seen.size, ANCHORS) is not None
            found = _by_values(rows_of(seen.outputs), options, no_other_has_as_many=three_each)
        return None if found is None else _fit(shape, seen.size, with_usual(found))

    def class_count(self, shapes: Shapes) -> int:
        """Return columns less box and objectness."""
        shape = only(shapes)
        return 0 if shape is None else shape[2] - CLASSES

    def decode(self, outputs: Outputs, size: tuple[int, int], confidence: float, *, multi_label: bool = False) -> Found:
        """Return the candidates; score = objectness x class score."""
        rows = rows_of(outputs)
        rows = rows[np.flatnonzero(rows[:, OBJECTNESS] > confidence)]  # a score is never larger than its objectness
        scores = rows[:, OBJECTNESS, None] * rows[:, CLASSES:]
        chosen, best, class_ids = pick(scores, confidence, multi_label=multi_label)
        return Found(corners(rows[chosen, BOX], self.options, size), best, class_ids)


def _by_values(rows: FloatArray, options: HeadOptions, *, no_other_has_as_many: bool) -> HeadOptions | None:
    scores = rows[:, OBJECTNESS:]
    if scores_of(scores) != "probabilities" or not (no_other_has_as_many or has_objectness(scores)):
        return None
    return with_boxes(rows[:, BOX], options)


def _fit(shape: tuple[int, ...], size: tuple[int, int], options: HeadOptions) -> Fit:
    number = shape[1]
    words = f"one output {list(shape)}: box, objectness and {shape[2] - CLASSES} class scores for each of"
    for per_cell in (ANCHORS, 1):
        if strides := levels_of(number, size, per_cell):
            each = f"{per_cell} anchors of " if per_cell > 1 else ""
            return Fit(options, f"{words} {each}the {number // per_cell} {in_words(strides)}")
    return Fit(options, f"{words} {number} rows", certain=False)
