"""Merging: of the candidates that show one object, make one, by the method that the settings name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from pipeline.postprocess.fusion import fuse
from pipeline.postprocess.nms import nms
from pipeline.postprocess.soft_nms import FLOOR, soft_nms

if TYPE_CHECKING:
    from pipeline.postprocess.heads.found import Found

Merging = Literal["standard", "diou", "soft-linear", "soft-gaussian", "fusion"]


def merge(
    found: Found,
    method: Merging = "standard",
    threshold: float = 0.45,
    *,
    class_agnostic: bool = False,
    most: int = 300,
    floor: float = FLOOR,
) -> Found:
    """Return what is left, best first, `most` at most; `extra` is that of the box kept, or the best one fused.

    Args:
        found: the candidates of one picture.
        method: standard NMS, NMS by distance IoU, soft-NMS (linear or Gaussian decay), or weighted boxes fusion.
        threshold: overlap from which two boxes show one object, 0..1; not used by `soft-gaussian`.
        class_agnostic: whether boxes of different classes may show one object.
        most: how many to keep.
        floor: soft-NMS drops boxes whose score has decayed to this.

    Raises:
        ValueError: the threshold is not within 0..1.
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"an overlap threshold lies within 0..1, not {threshold}")
    boxes, scores, class_ids = found.boxes, found.scores, found.class_ids
    if method == "fusion":
        fused = fuse(boxes, scores, class_ids, threshold, class_agnostic=class_agnostic, most=most)
        return replace(found[fused.best], boxes=fused.boxes, scores=fused.scores)
    if method in ("soft-linear", "soft-gaussian"):
        decay: Literal["linear", "gaussian"] = "linear" if method == "soft-linear" else "gaussian"
        kept, decayed = soft_nms(
            boxes, scores, class_ids, decay, threshold, class_agnostic=class_agnostic, most=most, floor=floor
        )
        return replace(found[kept], scores=decayed)
    overlap: Literal["diou", "iou"] = "diou" if method == "diou" else "iou"
    return found[nms(boxes, scores, class_ids, threshold, class_agnostic=class_agnostic, overlap=overlap, most=most)]
