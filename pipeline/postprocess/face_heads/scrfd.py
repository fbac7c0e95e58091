"""SCRFD with landmarks: scores, boxes and points for strides 8, 16 and 32, two anchors a cell.

A box is the distances left, up, right and down from its cell's corner to its sides, a landmark its x and y from there,
all in units of the stride. The nine outputs are told apart by their shapes: their names differ between exports, and
some exports leave the batch out. The points begin with the person's right eye, which is at the image's left.
Source: Guo et al., "Sample and Computation Redistribution for Efficient Face Detection" (2021).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from engines.spec import InputSpec
from pipeline.faces import Faces
from pipeline.postprocess.cells import cells, count

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engines.engine import Outputs

STRIDES = (8, 16, 32)
ANCHORS = 2
COLUMNS = (1, 4, 10)


class SCRFD:
    """Decodes SCRFD's nine outputs."""

    name = "scrfd"
    layout = "score, box and points of strides 8, 16, 32 [1, 2 x cells, 1, 4 and 10]"
    needs_nms = True
    input = InputSpec(colour="rgb", mean=(127.5,) * 3, std=(128.0,) * 3, fit="letterbox-topleft", pad=0, batch=1)
    confidence = 0.5
    iou = 0.4

    def matches(self, shapes: Mapping[str, tuple[int, ...]], size: tuple[int, int]) -> bool:
        """Whether there are scores, boxes and points with two rows per cell, for each stride."""
        expected = [(ANCHORS * count(size, stride), columns) for stride in STRIDES for columns in COLUMNS]
        same_batch = {len(shape) for shape in shapes.values()} in ({2}, {3}) and all(
            shape[:-2] in ((), (1,)) for shape in shapes.values()
        )
        return same_batch and sorted(shape[-2:] for shape in shapes.values()) == sorted(expected)

    def decode(self, outputs: Outputs, size: tuple[int, int], confidence: float) -> Faces:
        """Return the candidates."""
        by_shape = {array.shape[-2:]: array.reshape(array.shape[-2:]) for array in outputs.values()}
        boxes, scores, landmarks = [], [], []
        for stride in STRIDES:
            score, box, points = (by_shape[ANCHORS * count(size, stride), columns] for columns in COLUMNS)
            likely = np.flatnonzero(score[:, 0] > confidence)
            corners = cells(size, (stride,))[0][likely // ANCHORS]
            distances = box[likely] * [-1, -1, 1, 1]
            boxes.append((np.tile(corners, 2) + distances) * stride)
            scores.append(score[likely, 0])
            landmarks.append((corners[:, None] + points[likely].reshape(-1, 5, 2)) * stride)
        return Faces(np.concatenate(boxes), np.concatenate(scores), np.concatenate(landmarks))
