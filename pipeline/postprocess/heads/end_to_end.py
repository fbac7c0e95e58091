"""Models that need no NMS: YOLOv10 and YOLO26, and exports that hold NMS inside, of any version.

YOLOv10, YOLO26 and Ultralytics' `nms=True` give one output [1, K, 6]: x1, y1, x2, y2, score, class; rows that are not
used have score 0. YOLOv7's `--end2end` gives [n, 7], as many rows as were found: number in the batch, x1, y1, x2, y2,
class, score. Source: Wang et al., "YOLOv10" (2024); Ultralytics' and YOLOv7's export.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from engines.spec import HeadOptions, InputSpec
from pipeline.postprocess.heads.decoding import with_usual
from pipeline.postprocess.heads.evidence import is_for_boxes, order_of, with_boxes
from pipeline.postprocess.heads.extras import are_detections, from_detections
from pipeline.postprocess.heads.found import Found
from pipeline.postprocess.heads.head import Fit, Head, Seen, Shapes
from pipeline.postprocess.heads.rows import levels_of

if TYPE_CHECKING:
    from engines.engine import Outputs
    from pipeline.arrays import FloatArray

COLUMNS = {3: [0, 1, 2, 3, 4, 5], 2: [1, 2, 3, 4, 6, 5]}
"""Box, score and class in an output of so many axes."""
WIDTH = {3: 6, 2: 7}


class EndToEnd(Head):
    """Reads rows that are detections already."""

    name = "end-to-end"
    layout = "one output [1, K, 6] of x1, y1, x2, y2, score, class, or [n, 7] with the number in the batch before"
    input = InputSpec(colour="rgb", std=(255.0,) * 3, fit="letterbox-centre", pad=114)
    needs_nms = False

    @classmethod
    def fit(cls, seen: Seen, options: HeadOptions) -> Fit | None:
        """Whether there is one output of detections."""
        if len(seen.shapes) != 1 or not is_for_boxes(seen.metadata):
            return None
        shape = next(iter(seen.shapes.values()))
        if len(shape) not in WIDTH or shape[-1] != WIDTH[len(shape)] or (len(shape) == 3 and shape[0] != 1):
            return None
        found: HeadOptions | None = options
        if seen.outputs is not None:
            found = _by_values(_rows(seen.outputs), options)
        elif len(shape) == 3 and not seen.metadata.end_to_end and _has_a_row_per_cell(shape[1], seen.size):
            return None
        if found is None:
            return None
        rows = "as many rows as were found" if len(shape) == 2 else f"{shape[1]} rows"
        return Fit(with_usual(found, "xyxy"), f"one output {list(shape)}: {rows} of box, score and class, NMS is done")

    def class_count(self, shapes: Shapes) -> int:
        """Return 0: the output names a class by its number, not how many there are."""
        return 0

    def decode(self, outputs: Outputs, size: tuple[int, int], confidence: float, *, multi_label: bool = False) -> Found:
        """Return the detections; each has one class, whatever `multi_label` says."""
        return from_detections(_rows(outputs), self.options, size, confidence)


def _rows(outputs: Outputs) -> FloatArray:
    """Return (K, 6) box, score, class."""
    output = next(iter(outputs.values()))
    rows = output if output.ndim == 2 else output[0]
    return np.asarray(rows[:, COLUMNS[output.ndim]], np.float32)


def _by_values(rows: FloatArray, options: HeadOptions) -> HeadOptions | None:
    """Return the options, complete; None where the rows are no detections, or, of no rows, as they are."""
    if not len(rows):
        return options
    if not are_detections(rows):
        return None
    if options.box_order is None and order_of(rows[:, :4]) != "xyxy":
        return None
    return with_boxes(rows[:, :4], options)


def _has_a_row_per_cell(number: int, size: tuple[int, int]) -> bool:
    return any(levels_of(number, size, per_cell) for per_cell in (1, 3))
