"""How parity reads a model's outputs: by the head and the NMS that a run uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from engines.engine import shapes_of
from engines.trust.parity import Decide, Decisions
from pipeline.postprocess import face_heads, heads
from pipeline.postprocess.nms import nms

if TYPE_CHECKING:
    from engines.engine import Outputs
    from engines.spec import ModelSpec
    from engines.trust.parity import Judge

CONFIDENCE, IOU = 0.3, 0.45
"""What `frameloom run` decides by in detections of objects."""


def judge_of(spec: ModelSpec) -> Judge | None:
    """Return how the outputs of a model are read as boxes; None where they are not, or no head is known yet."""
    if spec.head is None:
        return None
    if spec.task == "detect":
        return lambda size: _objects(spec, size)
    if spec.task == "face-detect":
        return lambda size: _faces(spec, size)
    return None


def _objects(spec: ModelSpec, size: tuple[int, int]) -> Decide:
    def decide(outputs: Outputs) -> Decisions:
        head = heads.head_of(spec, outputs, size)
        found = head.decode(outputs, size, CONFIDENCE)
        if head.needs_nms:
            found = found[nms(found.boxes, found.scores, found.class_ids, IOU)]
        else:
            found = found[np.argsort(-found.scores, kind="stable")]
        return Decisions(found.boxes, found.scores, found.class_ids)

    return decide


def _faces(spec: ModelSpec, size: tuple[int, int]) -> Decide:
    def decide(outputs: Outputs) -> Decisions:
        head = face_heads.choose(spec.head, shapes_of(outputs), size)
        found = head.decode(outputs, size, head.confidence)
        one_class = np.zeros(len(found), np.int32)
        if head.needs_nms:
            kept = nms(found.boxes, found.scores, one_class, head.iou)
            found, one_class = found[kept], one_class[kept]
        return Decisions(found.boxes, found.scores, one_class)

    return decide
