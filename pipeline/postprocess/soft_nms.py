"""Soft-NMS: a box that overlaps a better one loses score instead of its place.

Bodla et al., "Soft-NMS: Improving Object Detection With One Line of Code" (2017), eq. 2 (linear) and 3 (Gaussian). It
finds the second of two people one behind the other, at the price of duplicates with low scores: so it needs a floor.
Each box kept changes the scores by which the next is chosen, so this is a loop, with a pass over a class in each turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from pipeline.postprocess.overlaps import overlaps, sound

if TYPE_CHECKING:
    import numpy.typing as npt

    from pipeline.arrays import FloatArray

SIGMA = 0.5
"""Of the Gaussian decay exp(-IoU^2 / sigma): the paper's."""
FLOOR = 0.001
"""A score that has decayed to this is dropped: the paper's."""


def soft_nms(
    boxes: npt.ArrayLike,
    scores: npt.ArrayLike,
    class_ids: npt.ArrayLike,
    decay: Literal["linear", "gaussian"],
    threshold: float,
    *,
    class_agnostic: bool = False,
    most: int | None = None,
    floor: float = FLOOR,
) -> tuple[npt.NDArray[np.intp], FloatArray]:
    """Choose the boxes to keep, and what their scores become.

    Args:
        boxes: (N, 4) xyxy.
        scores: (N,).
        class_ids: (N,); boxes of different classes never touch each other's scores, unless `class_agnostic`.
        decay: `linear`: a score is multiplied by 1 - IoU where the IoU is larger than `threshold`; `gaussian`: always
            by exp(-IoU^2 / SIGMA).
        threshold: 0..1, for `linear`.
        class_agnostic: whether all boxes are of one class.
        most: how many to keep; None: all.
        floor: a decayed score must be larger than this.

    Returns:
        Indices of the boxes kept, best first, ties in the order given, and their scores, float32. What `nms` never
        keeps, this does not keep either.
    """
    corners = np.ascontiguousarray(np.asarray(boxes, np.float64).reshape(-1, 4).T)
    given = np.asarray(scores, np.float32).reshape(-1)
    usable = sound(corners, given)
    corners = corners[:, usable]
    left = given[usable].astype(np.float64)
    members = _classes(np.zeros(len(usable)) if class_agnostic else np.asarray(class_ids).reshape(-1)[usable])
    kept: list[int] = []
    values: list[float] = []
    while len(left) and (most is None or len(kept) < most):
        best = int(left.argmax())
        if left[best] <= floor:
            break
        kept.append(best)
        values.append(float(left[best]))
        rivals = members[best]
        iou = overlaps(corners[:, best, None], corners.take(rivals, 1))
        left[rivals] *= np.exp(-iou * iou / SIGMA) if decay == "gaussian" else np.where(iou > threshold, 1 - iou, 1)
        left[best] = 0
    return usable[np.array(kept, np.intp)], np.array(values, np.float32)


def _classes(class_ids: npt.NDArray[np.generic]) -> list[npt.NDArray[np.intp]]:
    """For each box, which boxes are of its class."""
    _, numbers, counts = np.unique(class_ids, return_inverse=True, return_counts=True)
    groups = np.split(np.argsort(numbers, kind="stable"), np.cumsum(counts)[:-1])
    return [groups[number] for number in numbers.tolist()]
