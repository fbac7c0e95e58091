"""Which images have real masks: sets mix them with rectangles that stand in, and mask AP on those says nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from tools.labels.labelled_set import LabelledSet, Record

CORNERS_OF_A_BOX = 8
"""Numbers of a polygon that may be one."""


def images_with_masks(labelled: LabelledSet, image_ids: Sequence[int]) -> list[int]:
    """Return the images in which every object has an outline, and not all of these are upright rectangles."""
    by_image: defaultdict[int, list[Record]] = defaultdict(list)
    for annotation in labelled.annotations:
        by_image[annotation["image_id"]].append(annotation)
    return [number for number in image_ids if _are_real(by_image[number])]


def _are_real(annotations: Sequence[Record]) -> bool:
    if not all("segmentation" in each for each in annotations):
        return False
    return not annotations or not all(_is_rectangle(each["segmentation"]) for each in annotations)


def _is_rectangle(segmentation: object) -> bool:
    match segmentation:
        case [list(polygon)] if len(polygon) == CORNERS_OF_A_BOX:
            return len(set(polygon[::2])) <= 2 and len(set(polygon[1::2])) <= 2
    return False
