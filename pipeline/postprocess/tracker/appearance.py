"""Appearance: what a thing looks like, as a vector; vectors of one thing point the same way, whenever it is seen.

`ColourHistogram` needs no model: it tells people in clothes of different colours apart, and little else. For an encoder
for re-identification see `appearance_model`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from pipeline.arrays import FloatArray, Image
    from pipeline.picture import Picture

COLOUR = "colour"
BINS = (12, 4, 4)
"""Of hue, saturation and value."""
SIDES = 0.15
"""Part of a box at each of its four sides that shows more of what is behind."""
CROP = (64, 32)
"""Height and width of what is counted."""


class Appearance:
    """A way to compare looks, of use between `open` and `close`."""

    same: float
    """Likeness (cosine) from which two looks may be those of one thing."""
    different: float
    """Likeness below which they cannot."""

    def open(self) -> None:
        """Get ready."""

    def close(self) -> None:
        """Give back what `open` took; also where it was not called, or failed."""

    def encode(self, picture: Picture, boxes: FloatArray) -> FloatArray:
        """Return (N, D) float32 of length 1 for (N, 4) xyxy boxes of a picture; zeros where there is nothing to see."""
        raise NotImplementedError


class ColourHistogram(Appearance):
    """Which colours there are, in the upper and the lower half. Likeness is the coefficient of Bhattacharyya."""

    same = 0.8
    different = 0.4

    def encode(self, picture: Picture, boxes: FloatArray) -> FloatArray:
        """Return (N, 384)."""
        return np.stack([_colours(crop) for crop in crops_of(picture, boxes, CROP, SIDES)]) if len(boxes) else _NOTHING


_NOTHING = np.empty((0, 2 * int(np.prod(BINS))), np.float32)


def _colours(crop: Image) -> FloatArray:
    hsv = cv2.cvtColor(crop, cv2.COLOR_BGR2HSV)
    half = len(hsv) // 2
    counts = [
        cv2.calcHist([part], [0, 1, 2], None, list(BINS), [0, 180, 0, 256, 0, 256]).reshape(-1)
        for part in (hsv[:half], hsv[half:])
    ]
    roots = np.sqrt(np.concatenate(counts))
    return np.asarray(roots / np.linalg.norm(roots), np.float32)


def crops_of(picture: Picture, boxes: FloatArray, size: tuple[int, int], sides: float = 0.0) -> list[Image]:
    """Cut boxes out and stretch them to height x width; what lies outside the picture is left out."""
    bgr, (height, width) = picture.bgr, size
    crops = []
    for left, top, right, bottom in boxes.tolist():
        across, down = (right - left) * sides, (bottom - top) * sides
        x1, x2 = _whole(left + across, right - across, picture.width)
        y1, y2 = _whole(top + down, bottom - down, picture.height)
        crop = cv2.resize(bgr[y1:y2, x1:x2], (width, height), interpolation=cv2.INTER_AREA)
        crops.append(np.asarray(crop, np.uint8))
    return crops


def _whole(low: float, high: float, most: int) -> tuple[int, int]:
    """Return whole pixels, at least one, inside 0..most."""
    first = min(max(round(low), 0), most - 1)
    return first, min(max(round(high), first + 1), most)


def make_appearance(text: str) -> Appearance:
    """Return what the settings name: `colour`, or the path of an ONNX encoder, which is not compiled before `open`.

    Raises:
        ModelError: there is no such file, or it takes no pictures.
    """
    if text == COLOUR:
        return ColourHistogram()
    from pipeline.postprocess.tracker.appearance_model import AppearanceModel

    return AppearanceModel(Path(text).expanduser())
