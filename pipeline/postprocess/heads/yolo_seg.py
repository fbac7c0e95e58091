"""YOLO models for instance segmentation: each candidate has coefficients, the picture has prototypes [1, M, h, w].

A mask's logits are the prototypes weighted by the coefficients; the box says where they count. The exports differ in
how boxes and classes are written, as those of detectors do: YOLOv8 and its successors, YOLOv5 with an objectness, and
end to end (YOLO26, or NMS inside). Source: Bolya et al., "YOLACT: Real-time Instance Segmentation" (2019), section 3.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from engines.engine import shapes_of
from engines.spec import BoxOrder, HeadOptions, InputSpec
from pipeline.postprocess.heads.decoding import corners, pick, with_usual
from pipeline.postprocess.heads.evidence import has_objectness, scores_of, with_boxes
from pipeline.postprocess.heads.extras import BOX, REST, are_detections, from_detections, from_planes
from pipeline.postprocess.heads.found import Found
from pipeline.postprocess.heads.head import Fit, Head, Seen, Shapes
from pipeline.postprocess.heads.rows import is_transposed, levels_of, planes_of, values_of

if TYPE_CHECKING:
    from engines.engine import Outputs
    from pipeline.arrays import FloatArray

OBJECTNESS, CLASSES = 4, 5
"""Columns of YOLOv5's rows."""
ANCHORS = 3


class Parts(NamedTuple):
    """The two outputs."""

    candidates: str
    prototypes: str
    sides: tuple[int, int]
    """Of the candidates, without the batch."""
    coefficients: int
    size: tuple[int, int] | None
    """Height and width of the input; None: not known."""


class YOLOSeg(Head):
    """What the three share."""

    input = InputSpec(colour="rgb", std=(255.0,) * 3, fit="letterbox-centre", pad=114)
    order: ClassVar[BoxOrder] = "cxcywh"

    @classmethod
    def fit(cls, seen: Seen, options: HeadOptions) -> Fit | None:
        """Whether there are candidates and prototypes, and as many coefficients as those."""
        parts = _parts(seen.shapes, seen.size)
        if parts is None or seen.metadata.task not in (None, "segment") or not cls.fits(parts, seen.size):
            return None
        classes, named = cls.classes_of(parts), len(seen.metadata.labels)
        if classes < 0 or (classes and named and classes != named):
            return None
        found: HeadOptions | None = options
        if seen.outputs is not None:
            found = cls.by_values(seen.outputs[parts.candidates][0], parts, options)
        if found is None:
            return None
        why = (
            f"{parts.candidates} {list(seen.shapes[parts.candidates])}: {cls.layout.split(':')[0]}; "
            f"{parts.prototypes} {list(seen.shapes[parts.prototypes])}: {parts.coefficients} prototypes of masks"
        )
        return Fit(with_usual(found, cls.order), why)

    @classmethod
    @abstractmethod
    def fits(cls, parts: Parts, size: tuple[int, int]) -> bool:
        """Whether the candidates are laid out so."""

    @classmethod
    @abstractmethod
    def classes_of(cls, parts: Parts) -> int:
        """Return how many classes there are; 0: the output does not say; less: it is laid out otherwise."""

    @classmethod
    @abstractmethod
    def by_values(cls, output: FloatArray, parts: Parts, options: HeadOptions) -> HeadOptions | None:
        """Return the options with what the candidates of a picture tell; None: they are laid out otherwise."""

    def class_count(self, shapes: Shapes) -> int:
        """Return how many classes there are; 0: the output does not say."""
        parts = _parts(shapes, self.size)
        return 0 if parts is None else self.classes_of(parts)

    def masks(self, found: Found, outputs: Outputs) -> FloatArray | None:
        """Return the prototypes weighted by the coefficients.

        By einsum and not as a matrix product: BLAS is faster alone (0.5 ms against 2 for 25 objects at 160 x 160), but
        shares the work with a second thread and waits for it; on a machine whose cores are busy that took 20 ms.
        """
        prototypes = next(array for array in outputs.values() if array.ndim == 4)[0]
        assert found.extra is not None
        return np.asarray(np.einsum("nm,mhw->nhw", found.extra, prototypes))


class YOLOv8Seg(YOLOSeg):
    """Decodes box, class scores and coefficients."""

    name = "yolov8-seg"
    layout = "[1, 4 + classes + M, N] or transposed: box, class scores, coefficients; and prototypes [1, M, h, w]"

    @classmethod
    def fits(cls, parts: Parts, size: tuple[int, int]) -> bool:
        """Whether there is a column per candidate, or a row per cell."""
        return not is_transposed(parts.sides, size) or levels_of(parts.sides[0], size) is not None

    @classmethod
    def classes_of(cls, parts: Parts) -> int:
        """Return what is left beside box and coefficients; there must be one."""
        return values_of(parts.sides, parts.size) - BOX - parts.coefficients or -1

    @classmethod
    def by_values(cls, output: FloatArray, parts: Parts, options: HeadOptions) -> HeadOptions | None:
        """Class scores must be probabilities."""
        assert parts.size is not None
        planes = planes_of(output, parts.size)
        if scores_of(planes[BOX : BOX + cls.classes_of(parts)].T) != "probabilities":
            return None
        return with_boxes(planes[:BOX].T, options)

    def decode(self, outputs: Outputs, size: tuple[int, int], confidence: float, *, multi_label: bool = False) -> Found:
        """Return the candidates with their coefficients."""
        planes = planes_of(_candidates(outputs), size)
        prototypes = next(array for array in outputs.values() if array.ndim == 4)
        classes = len(planes) - BOX - prototypes.shape[1]
        return from_planes(planes, classes, self.options, size, confidence, multi_label=multi_label)


class YOLOv5Seg(YOLOSeg):
    """Decodes box, objectness, class scores and coefficients."""

    name = "yolov5-seg"
    layout = "[1, N, 5 + classes + M]: box, objectness, class scores, coefficients; and prototypes [1, M, h, w]"

    @classmethod
    def fits(cls, parts: Parts, size: tuple[int, int]) -> bool:
        """Whether there are three rows per cell."""
        return levels_of(parts.sides[0], size, ANCHORS) is not None

    @classmethod
    def classes_of(cls, parts: Parts) -> int:
        """Return what is left beside box, objectness and coefficients; there must be one."""
        return parts.sides[1] - CLASSES - parts.coefficients or -1

    @classmethod
    def by_values(cls, output: FloatArray, parts: Parts, options: HeadOptions) -> HeadOptions | None:
        """Scores must be probabilities, the first of them an objectness."""
        scores = output[:, OBJECTNESS : -parts.coefficients]
        if scores_of(scores) != "probabilities" or not has_objectness(scores):
            return None
        return with_boxes(output[:, :BOX], options)

    def decode(self, outputs: Outputs, size: tuple[int, int], confidence: float, *, multi_label: bool = False) -> Found:
        """Return the candidates with their coefficients; score = objectness x class score."""
        end = CLASSES + self.class_count(shapes_of(outputs))
        rows = _candidates(outputs)
        rows = rows[np.flatnonzero(rows[:, OBJECTNESS] > confidence)]  # a score is never larger than its objectness
        scores = rows[:, OBJECTNESS, None] * rows[:, CLASSES:end]
        chosen, best, class_ids = pick(scores, confidence, multi_label=multi_label)
        return Found(corners(rows[chosen, :BOX], self.options, size), best, class_ids, rows[chosen, end:])


class EndToEndSeg(YOLOSeg):
    """Reads detections with coefficients."""

    name = "end-to-end-seg"
    layout = "[1, K, 6 + M]: box, score, class, coefficients, NMS done; and prototypes [1, M, h, w]"
    needs_nms = False
    order = "xyxy"

    @classmethod
    def fits(cls, parts: Parts, size: tuple[int, int]) -> bool:
        """Whether there is a row per detection."""
        return parts.sides[1] == REST + parts.coefficients and levels_of(parts.sides[0], size) is None

    @classmethod
    def classes_of(cls, parts: Parts) -> int:
        """Return 0: rows name a class by its number, not how many there are."""
        return 0

    @classmethod
    def by_values(cls, output: FloatArray, parts: Parts, options: HeadOptions) -> HeadOptions | None:
        """There must be scores and whole numbers."""
        xyxy = replace(options, box_order=options.box_order or cls.order)
        return with_boxes(output[:, :BOX], xyxy) if are_detections(output) else None

    def decode(self, outputs: Outputs, size: tuple[int, int], confidence: float, *, multi_label: bool = False) -> Found:
        """Return the detections with their coefficients."""
        return from_detections(_candidates(outputs), self.options, size, confidence)


def _parts(shapes: Shapes, size: tuple[int, int] | None) -> Parts | None:
    """Tell the two outputs apart; None: there are others."""
    by_rank = {len(shape): name for name, shape in shapes.items()}
    if len(shapes) != 2 or set(by_rank) != {3, 4}:
        return None
    candidates, prototypes = by_rank[3], by_rank[4]
    batch, *sides = shapes[candidates]
    if (batch, shapes[prototypes][0]) != (1, 1):
        return None
    return Parts(candidates, prototypes, (sides[0], sides[1]), shapes[prototypes][1], size)


def _candidates(outputs: Outputs) -> FloatArray:
    return np.asarray(next(array for array in outputs.values() if array.ndim == 3)[0])
