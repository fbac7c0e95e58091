"""YOLO face models with five landmarks, exported with their decoding: everything is in pixels of the input already.

YOLOv5-face gives rows [1, N, 16]: centre x and y, width, height, objectness, five points (x, y), class score.
YOLOv8 models of the kind `pose` with five points give columns [1, 15 or 20, N]: centre x and y, width, height, score,
five points (x, y and, of 20, visibility). Both list the eye at the image's left first, as WIDER FACE's labels do.
Source: Qi et al., "YOLO5Face: Why Reinventing a Face Detector" (2021); Ultralytics' documentation of pose models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from engines.spec import InputSpec
from pipeline.arrays import FloatArray
from pipeline.faces import Faces
from pipeline.postprocess.cells import count

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engines.engine import Outputs

LEVELS = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32))
"""Strides of the usual models, and of those with one level more for large or for small faces."""
ANCHORS = 3
INPUT = InputSpec(colour="rgb", std=(255.0,) * 3, fit="letterbox-centre", pad=114, batch=1)


class YOLOv5Face:
    """Decodes rows of 16."""

    name = "yolov5-face"
    layout = "one output [1, 3 x cells, 16]: box, objectness, 5 points, class score"
    needs_nms = True
    input = INPUT
    confidence = 0.5
    iou = 0.45

    def matches(self, shapes: Mapping[str, tuple[int, ...]], size: tuple[int, int]) -> bool:
        """Whether there is one output with three rows of 16 per cell."""
        return list(shapes.values()) in [[(1, ANCHORS * number, 16)] for number in _counts(size)]

    def decode(self, outputs: Outputs, size: tuple[int, int], confidence: float) -> Faces:
        """Return the candidates; score = objectness x class score."""
        rows = next(iter(outputs.values()))[0]
        scores = rows[:, 4] * rows[:, 15]
        likely = scores > confidence
        rows = rows[likely]
        return Faces(_corners(rows[:, :4]), scores[likely], rows[:, 5:15].reshape(-1, 5, 2))


class YOLOv8Face:
    """Decodes columns of 15 or 20."""

    name = "yolov8-face"
    layout = "one output [1, 15 or 20, cells]: box, score, 5 points with or without visibility"
    needs_nms = True
    input = INPUT
    confidence = 0.5
    iou = 0.45

    def matches(self, shapes: Mapping[str, tuple[int, ...]], size: tuple[int, int]) -> bool:
        """Whether there is one output with a column of 15 or 20 per cell."""
        return list(shapes.values()) in [[(1, rows, number)] for rows in (15, 20) for number in _counts(size)]

    def decode(self, outputs: Outputs, size: tuple[int, int], confidence: float) -> Faces:
        """Return the candidates."""
        columns = next(iter(outputs.values()))[0]
        found = columns[:, columns[4] > confidence].T
        points = found[:, 5:].reshape(len(found), 5, (len(columns) - 5) // 5)[..., :2]
        return Faces(_corners(found[:, :4]), found[:, 4], points)


def _counts(size: tuple[int, int]) -> list[int]:
    return [sum(count(size, stride) for stride in strides) for strides in LEVELS]


def _corners(boxes: FloatArray) -> FloatArray:
    centres, halves = boxes[:, :2], boxes[:, 2:] / 2
    return np.concatenate([centres - halves, centres + halves], axis=1)
