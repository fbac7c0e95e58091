"""YuNet: for strides 8, 16 and 32 the outputs cls_, obj_, bbox_ and kps_ [1, cells, 1, 1, 4 and 10].

A box is x, y, log w, log h in units of its stride relative to its cell, a landmark x and y the same; the score is the
geometric mean of class and objectness. The points begin with the person's right eye, which is at the image's left.
Source: Wu et al., "YuNet: A Tiny Millisecond-level Face Detector" (2023); decoding as in OpenCV's FaceDetectorYN.
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
COLUMNS = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}


class YuNet:
    """Decodes YuNet's twelve outputs."""

    name = "yunet"
    layout = "cls_, obj_, bbox_ and kps_ of strides 8, 16, 32 [1, cells, 1, 1, 4 and 10]"
    needs_nms = True
    input = InputSpec(colour="bgr", fit="letterbox-topleft", pad=0, batch=1)
    confidence = 0.6
    iou = 0.3

    def matches(self, shapes: Mapping[str, tuple[int, ...]], size: tuple[int, int]) -> bool:
        """Whether there is each of the four outputs for each stride, with a row per cell."""
        return dict(shapes) == {
            f"{part}_{stride}": (1, count(size, stride), columns)
            for part, columns in COLUMNS.items()
            for stride in STRIDES
        }

    def decode(self, outputs: Outputs, size: tuple[int, int], confidence: float) -> Faces:
        """Return the candidates; score = sqrt(class x objectness)."""
        boxes, scores, landmarks = [], [], []
        for stride in STRIDES:
            classes, objectness = (outputs[f"{part}_{stride}"][0, :, 0].clip(0, 1) for part in ("cls", "obj"))
            squares = classes * objectness
            likely = np.flatnonzero(squares > confidence**2)
            corners = cells(size, (stride,))[0][likely]
            box = outputs[f"bbox_{stride}"][0, likely]
            centres = (corners + box[:, :2]) * stride
            with np.errstate(over="ignore"):  # a broken model's exp() may be infinite; NMS drops what is not finite
                halves = np.exp(box[:, 2:]) * stride / 2
            boxes.append(np.concatenate([centres - halves, centres + halves], axis=1))
            scores.append(np.sqrt(squares[likely]))
            points = outputs[f"kps_{stride}"][0, likely].reshape(-1, 5, 2)
            landmarks.append((corners[:, None] + points) * stride)
        return Faces(np.concatenate(boxes), np.concatenate(scores), np.concatenate(landmarks))
