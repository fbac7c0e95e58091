"""Non-maximum suppression: of boxes that show the same thing, keep the best.

Greedy, as in Felzenszwalb et al. (2010) and every detector since: take the best box, drop all that overlap it by
more than the threshold, class by class, and go on with the rest. Equal scores keep their order. The work grows with
the number of boxes kept, not with the number of candidates.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def nms(
    boxes: npt.ArrayLike,
    scores: npt.ArrayLike,
    class_ids: npt.ArrayLike,
    iou_threshold: float,
    *,
    class_agnostic: bool = False,
) -> npt.NDArray[np.intp]:
    """Choose the boxes to keep.

    Args:
        boxes: (N, 4) xyxy.
        scores: (N,).
        class_ids: (N,); boxes of different classes never suppress each other, unless `class_agnostic`.
        iou_threshold: 0..1; a box is dropped when its IoU with a better one is larger than this.

    Returns:
        Indices of the boxes kept, best first. Boxes or scores that are not finite are never kept.
    """
    corners = np.asarray(boxes, np.float64).reshape(-1, 4)
    values = np.asarray(scores, np.float64).reshape(-1)
    classes = np.zeros(len(values), np.int64) if class_agnostic else np.asarray(class_ids, np.int64).reshape(-1)
    finite = np.flatnonzero(np.isfinite(corners).all(axis=1) & np.isfinite(values))
    left = finite[np.argsort(-values[finite], kind="stable")]
    areas = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    kept = []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(best)
        overlaps = _iou(corners[best], areas[best], corners[left], areas[left])
        left = left[(overlaps <= iou_threshold) | (classes[left] != classes[best])]
    return np.array(kept, np.intp)


def _iou(
    box: npt.NDArray[np.float64],
    area: np.float64,
    others: npt.NDArray[np.float64],
    areas: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Return the IoU of one box with many; two boxes without any area count as the same (as in OpenCV)."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = sides.clip(min=0).prod(axis=1)
    union = area + areas - shared
    has_area = area + areas > np.finfo(np.float64).eps
    iou: npt.NDArray[np.float64] = np.divide(shared, union, out=np.ones_like(shared), where=has_area)
    return iou
