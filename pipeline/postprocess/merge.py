"""Merging: of the candidates that show one object, make one, by the method that the settings name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pipeline.postprocess.nms import nms

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
) -> Found:
    """Return what is left, best first, `most` at most.

    Args:
        found: the candidates of one picture.
        method: standard NMS, NMS by distance IoU, soft-NMS (linear or Gaussian decay), or weighted boxes fusion.
        threshold: overlap from which two boxes show one object, 0..1.
        class_agnostic: whether boxes of different classes may show one object.
        most: how many to keep.
    """
    kept = nms(found.boxes, found.scores, found.class_ids, threshold, class_agnostic=class_agnostic)
    return found[kept[:most]]
