"""YOLO models for poses: each candidate has K keypoints beside its box and class score (most know only people).

YOLOv8 and its successors give [1, 4 + classes + D x K, N], end-to-end exports [1, rows, 6 + D x K]. A keypoint is x and
y in pixels of the input and, where D is 3, a score. How many there are is said by options or metadata, else found out:
class scores never exceed 1, and the first value that does in a real picture is a coordinate. Source: Jocher et al.,
"Ultralytics YOLOv8" (2023), its documentation of pose models.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from engines.spec import BoxOrder, HeadOptions, InputSpec
from pipeline.postprocess.heads.decoding import with_usual
from pipeline.postprocess.heads.evidence import scores_of, with_boxes
from pipeline.postprocess.heads.extras import BOX, REST, are_detections, from_detections, from_planes
from pipeline.postprocess.heads.found import Found
from pipeline.postprocess.heads.head import Fit, Head, Seen, Shapes
from pipeline.postprocess.heads.rows import is_transposed, levels_of, planes_of, values_of

if TYPE_CHECKING:
    from engines.engine import Outputs
    from pipeline.arrays import FloatArray

ABOVE_ONE = 1.01
"""More than a probability is, in half precision."""
MOST_OUTSIDE = 0.25
"""Share of coordinates that may be left of the picture or above it; of logits, more are below 0."""


class YOLOPose(Head):
    """What both share."""

    input = InputSpec(colour="rgb", std=(255.0,) * 3, fit="letterbox-centre", pad=114)
    order: ClassVar[BoxOrder] = "cxcywh"

    @classmethod
    def fit(cls, seen: Seen, options: HeadOptions) -> Fit | None:
        """Whether there is one output with room for keypoints, whose number is known or can be found out."""
        shape = next(iter(seen.shapes.values()), ())
        if len(seen.shapes) != 1 or len(shape) != 3 or shape[0] != 1 or seen.metadata.task not in (None, "pose"):
            return None
        output = None if seen.outputs is None else next(iter(seen.outputs.values()))[0]
        keypoints = options.keypoints or seen.metadata.keypoints
        if keypoints is None and output is not None:
            keypoints = cls.find_keypoints(output, seen.size)
        if keypoints is None or not cls.fits((shape[1], shape[2]), seen.size, keypoints):
            return None
        found: HeadOptions | None = replace(options, keypoints=keypoints)
        if output is not None:
            found = cls.by_values(output, seen.size, replace(options, keypoints=keypoints))
        if found is None:
            return None
        return Fit(
            with_usual(found, cls.order), f"one output {list(shape)}: {keypoints[0]} keypoints of {keypoints[1]}"
        )

    @classmethod
    @abstractmethod
    def fits(cls, sides: tuple[int, int], size: tuple[int, int], keypoints: tuple[int, int]) -> bool:
        """Whether such keypoints leave room for box and classes, and for nothing else."""

    @classmethod
    @abstractmethod
    def find_keypoints(cls, output: FloatArray, size: tuple[int, int]) -> tuple[int, int] | None:
        """Return keypoints and values of each from a real picture's output; None: there are none."""

    @classmethod
    @abstractmethod
    def by_values(cls, output: FloatArray, size: tuple[int, int], options: HeadOptions) -> HeadOptions | None:
        """Return the options with what the candidates of a picture tell; None: they are laid out otherwise."""

    def keypoints(self, found: Found) -> FloatArray | None:
        """Return what was read along; the score of a keypoint that has none is 1."""
        assert found.extra is not None
        assert self.options.keypoints is not None
        points = found.extra.reshape(len(found), *self.options.keypoints)
        return points if points.shape[2] == 3 else np.insert(points, 2, 1, axis=2)


class YOLOv8Pose(YOLOPose):
    """Decodes box, class scores and keypoints."""

    name = "yolov8-pose"
    layout = "one output [1, 4 + classes + 2 or 3 x keypoints, N] or transposed"

    @classmethod
    def fits(cls, sides: tuple[int, int], size: tuple[int, int], keypoints: tuple[int, int]) -> bool:
        """Whether there is a column per candidate, or a row per cell, and a class."""
        if is_transposed(sides, size) and levels_of(sides[0], size) is None:
            return False
        return values_of(sides, size) > BOX + keypoints[0] * keypoints[1]

    @classmethod
    def find_keypoints(cls, output: FloatArray, size: tuple[int, int]) -> tuple[int, int] | None:
        """Take what comes from the first coordinate on."""
        planes = planes_of(output, size)
        coordinates = np.flatnonzero(planes[BOX:].max(axis=1) > ABOVE_ONE)
        return _keypoints(planes[BOX + coordinates[0] :]) if len(coordinates) and coordinates[0] > 0 else None

    @classmethod
    def by_values(cls, output: FloatArray, size: tuple[int, int], options: HeadOptions) -> HeadOptions | None:
        """Class scores must be probabilities."""
        planes = planes_of(output, size)
        scores = planes[BOX : len(planes) - _values(options)]
        return with_boxes(planes[:BOX].T, options) if scores_of(scores.T) == "probabilities" else None

    def class_count(self, shapes: Shapes) -> int:
        """Return what is left beside box and keypoints."""
        _, first, second = next(iter(shapes.values()))
        return values_of((first, second), self.size) - BOX - _values(self.options)

    def decode(self, outputs: Outputs, size: tuple[int, int], confidence: float, *, multi_label: bool = False) -> Found:
        """Return the candidates with their keypoints."""
        planes = planes_of(next(iter(outputs.values()))[0], size)
        classes = len(planes) - BOX - _values(self.options)
        return from_planes(planes, classes, self.options, size, confidence, multi_label=multi_label)


class EndToEndPose(YOLOPose):
    """Reads detections with keypoints."""

    name = "end-to-end-pose"
    layout = "one output [1, K, 6 + 2 or 3 x keypoints]: box, score, class, keypoints, NMS done"
    needs_nms = False
    order = "xyxy"

    @classmethod
    def fits(cls, sides: tuple[int, int], size: tuple[int, int], keypoints: tuple[int, int]) -> bool:
        """Whether there is a row per detection."""
        return sides[1] == REST + keypoints[0] * keypoints[1] and levels_of(sides[0], size) is None

    @classmethod
    def find_keypoints(cls, output: FloatArray, size: tuple[int, int]) -> tuple[int, int] | None:
        """Take what comes behind the class."""
        return _keypoints(output[:, REST:].T) if output.shape[1] > REST and are_detections(output) else None

    @classmethod
    def by_values(cls, output: FloatArray, size: tuple[int, int], options: HeadOptions) -> HeadOptions | None:
        """There must be scores and whole numbers."""
        xyxy = replace(options, box_order=options.box_order or cls.order)
        return with_boxes(output[:, :BOX], xyxy) if are_detections(output) else None

    def class_count(self, shapes: Shapes) -> int:
        """Return 0: rows name a class by its number, not how many there are."""
        return 0

    def decode(self, outputs: Outputs, size: tuple[int, int], confidence: float, *, multi_label: bool = False) -> Found:
        """Return the detections with their keypoints."""
        return from_detections(next(iter(outputs.values()))[0], self.options, size, confidence)


def _values(options: HeadOptions) -> int:
    assert options.keypoints is not None
    return options.keypoints[0] * options.keypoints[1]


def _keypoints(values: FloatArray) -> tuple[int, int] | None:
    """Return what (D x K, N) values are: x, y and a score 0..1, or x and y; None: neither."""
    for each in (3, 2):
        number, rest = divmod(len(values), each)
        if rest == 0 and number:
            coordinates = values.reshape(number, each, -1)[:, :2]
            in_pixels = (coordinates.max(axis=(1, 2)) > ABOVE_ONE).all() and (coordinates < 0).mean() < MOST_OUTSIDE
            if in_pixels and (each == 2 or scores_of(values[2::3].T) == "probabilities"):
                return number, each
    return None
