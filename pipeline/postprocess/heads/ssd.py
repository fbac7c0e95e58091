"""SSD and what came after it: outputs with NMS inside, in three forms, and one without.

TensorFlow's have `num_detections` and boxes y1, x1, y2, x2 as fractions; the NMS operator EfficientNMS, which YOLO
exporters append, counts too, with x1, y1, x2, y2 in pixels. Caffe's and OpenVINO's DetectionOutput gives rows of 7:
picture, class, score, box as fractions; a negative picture ends them. Without NMS there are a box and a score per class
for every anchor; where the scores of one add up to 1 the first is the background (YOLO-NAS and others have none).
Source: Liu et al., "SSD: Single Shot MultiBox Detector" (2016).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from engines.engine import shapes_of
from engines.spec import HeadOptions, InputSpec
from pipeline.postprocess.heads.decoding import corners, pick
from pipeline.postprocess.heads.evidence import order_of, scores_of, unit_of
from pipeline.postprocess.heads.found import Found
from pipeline.postprocess.heads.head import Fit, Head, Seen, Shapes
from pipeline.postprocess.heads.separate import LIKELY, Roles, SeparateOutputs

if TYPE_CHECKING:
    from engines.engine import Outputs
    from pipeline.arrays import FloatArray

COLUMNS = 7


class TensorFlowSSD(SeparateOutputs):
    """Reads the outputs of TensorFlow's Object Detection API."""

    name = "tensorflow-ssd"
    layout = "detection_boxes [1, n, 4] as fractions, yxyx, detection_classes from 1, detection_scores, num_detections"
    input = InputSpec(colour="rgb", fit="stretch")
    usual = HeadOptions(box_order="yxyx", box_unit="fractions", background=True)

    @classmethod
    def has_layout(cls, shapes: Shapes, roles: Roles) -> bool:
        """Whether the names are TensorFlow's."""
        return len(shapes[roles.boxes]) == 3 and "detection_boxes" in roles.boxes


class EfficientNMS(SeparateOutputs):
    """Reads the outputs of EfficientNMS."""

    name = "efficient-nms"
    layout = "num_dets [1, 1], det_boxes [1, n, 4] in pixels, det_scores [1, n], det_classes [1, n]"
    input = InputSpec(colour="rgb", std=(255.0,) * 3, fit="letterbox-centre", pad=114)

    @classmethod
    def has_layout(cls, shapes: Shapes, roles: Roles) -> bool:
        """Whether there is a count."""
        return len(shapes[roles.boxes]) == 3 and roles.number is not None


class DetectionOutput(Head):
    """Reads rows of 7."""

    name = "detection-output"
    layout = "one output [1, 1, n, 7]: picture, class from 1, score, box as fractions"
    input = InputSpec(colour="bgr", fit="stretch")
    needs_nms = False

    @classmethod
    def fit(cls, seen: Seen, options: HeadOptions) -> Fit | None:
        """Whether there is one such output."""
        if len(seen.shapes) != 1:
            return None
        shape = next(iter(seen.shapes.values()))
        if len(shape) != 4 or shape[:2] != (1, 1) or shape[3] != COLUMNS:
            return None
        background, unit = True, options.box_unit or "fractions"
        if seen.outputs is not None:
            rows = _valid(next(iter(seen.outputs.values())), LIKELY)
            background = not (rows[:, 1] == 0).any()
            unit = options.box_unit or (unit_of(rows[:, 3:]) if len(rows) else "fractions")
        background = background if options.background is None else options.background
        filled = replace(options, box_order=options.box_order or "xyxy", box_unit=unit, background=background)
        first = 1 if background else 0
        return Fit(filled, f"one output {list(shape)}: rows of 7, boxes in {unit}, the first class is {first}")

    def takes_batches(self, shapes: Shapes) -> bool:
        """Return False: the rows of all pictures stand together."""
        return False

    def class_count(self, shapes: Shapes) -> int:
        """Return 0: rows say the classes of what was found and not how many there are."""
        return 0

    def decode(self, outputs: Outputs, size: tuple[int, int], confidence: float, *, multi_label: bool = False) -> Found:
        """Return what the model found."""
        rows = _valid(next(iter(outputs.values())), confidence)
        class_ids = rows[:, 1].astype(np.int32) - int(self.options.background or False)
        rows, class_ids = rows[class_ids >= 0], class_ids[class_ids >= 0]
        return Found(corners(rows[:, 3:], self.options, size), rows[:, 2], class_ids)


class SSD(Head):
    """Decodes a box and a score per class for every anchor."""

    name = "ssd"
    layout = "boxes [1, n, 4] and class probabilities [1, n, classes], with or without a background, before NMS"
    input = InputSpec(colour="rgb", std=(255.0,) * 3, fit="stretch")

    @classmethod
    def fit(cls, seen: Seen, options: HeadOptions) -> Fit | None:
        """Whether there are two such outputs; values tell the background, and order and unit of the boxes."""
        names = _boxes_and_scores(seen.shapes)
        if names is None:
            return None
        order, unit, background = options.box_order or "xyxy", options.box_unit, options.background
        if seen.outputs is not None:
            boxes, scores = (seen.outputs[name][0].reshape(seen.shapes[name][1], -1) for name in names)
            if scores_of(scores) != "probabilities":
                return None
            order = options.box_order or order_of(boxes)
            unit = unit or unit_of(boxes)
            background = np.allclose(scores.sum(axis=1), 1, atol=1e-2) if background is None else background
        background = True if background is None else bool(background)
        filled = replace(
            options, box_order=order, box_unit=unit or "fractions", background=background, scores="probabilities"
        )
        why = (
            f"{names[0]}: {seen.shapes[names[0]][1]} boxes, {filled.box_order} in {filled.box_unit}; {names[1]}: class "
            f"probabilities, {'the first is the background' if background else 'no background'}"
        )
        return Fit(filled, why)

    def class_count(self, shapes: Shapes) -> int:
        """Return columns less the background."""
        names = _boxes_and_scores(shapes)
        assert names is not None
        return shapes[names[1]][2] - self._first

    def decode(self, outputs: Outputs, size: tuple[int, int], confidence: float, *, multi_label: bool = False) -> Found:
        """Return the candidates."""
        names = _boxes_and_scores(shapes_of(outputs))
        assert names is not None
        boxes, scores = outputs[names[0]].reshape(-1, 4), outputs[names[1]][0, :, self._first :]
        rows, best, class_ids = pick(scores, confidence, multi_label=multi_label)
        return Found(corners(boxes[rows], self.options, size), best, class_ids)

    @property
    def _first(self) -> int:
        return int(self.options.background or False)


def _valid(output: FloatArray, confidence: float) -> FloatArray:
    """Return the rows that belong to a picture and are likely."""
    rows = output[0, 0]
    return np.asarray(rows[(rows[:, 0] >= 0) & (rows[:, 2] > confidence)])


def _boxes_and_scores(shapes: Shapes) -> tuple[str, str] | None:
    """Return the names of both; a box may have an axis of 1 more."""
    if len(shapes) != 2:
        return None
    first, second = shapes
    names = (first, second) if shapes[first][-1:] == (4,) and "score" not in first else (second, first)
    boxes, scores = (shapes[name] for name in names)
    fits = boxes in ((1, *scores[1:2], 4), (1, *scores[1:2], 1, 4)) and len(scores) == 3 and scores[0] == 1
    return names if fits else None
