"""What models say of objects beside boxes: masks as a tint, keypoints as a skeleton."""

from __future__ import annotations

import numpy as np

from pipeline.arrays import FloatArray
from pipeline.masks import Masks
from pipeline.render.canvas import Canvas, Colour

TINT = 0.45
"""Half the picture shows through, and a little more."""
SURE = 0.5
"""Score from which a keypoint is drawn: the others are guesses at what is hidden."""
BEYOND = 30_000
"""Pixels: no picture has them, and OpenCV counts no further."""
COCO_KEYPOINTS = 17
COCO_LIMBS = (
    (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10),
    (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
)  # fmt: skip
"""Nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles, left before right. Source: COCO's annotations."""


def draw_mask(canvas: Canvas, masks: Masks, row: int, colour: Colour) -> None:
    """Tint one object."""
    left, top = masks.corners[row].tolist()
    canvas.tint((left, top), masks.crops[row], colour, TINT)


def draw_keypoints(canvas: Canvas, points: FloatArray, colour: Colour, radius: int, thickness: int) -> None:
    """Draw the keypoints of one object that are sure, with their limbs where they are those of COCO's people.

    Args:
        canvas: what to draw on.
        points: (K, 3) x and y in pixels, and score.
        colour: of the limbs and points.
        radius: of a point.
        thickness: of a limb.
    """
    drawn = np.flatnonzero((points[:, 2] > SURE) & np.isfinite(points).all(axis=1)).tolist()
    places = {row: (int(x), int(y)) for row, (x, y) in zip(drawn, _whole(points[drawn, :2]), strict=True)}
    if len(points) == COCO_KEYPOINTS:
        for start, end in COCO_LIMBS:
            if start in places and end in places:
                canvas.line(places[start], places[end], colour, thickness)
    for place in places.values():
        canvas.disc(place, radius, colour)


def _whole(points: FloatArray) -> list[list[int]]:
    """Round."""
    whole: list[list[int]] = points.round().clip(-BEYOND, BEYOND).astype(int).tolist()
    return whole
