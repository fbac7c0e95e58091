"""Pictures for a network that is looked at: scaled until they fill its input, what is too long cut off on both sides.

So nothing is out of shape, and there are no bars, whose edges would excite more channels than the pictures do.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from pipeline.arrays import Image

Box = tuple[float, float, float, float]


class Filling(NamedTuple):
    """How a picture fills an input."""

    scale: float
    """Pixels of the input for one of the picture."""
    left: float
    """Pixels of the scaled picture that are cut off there."""
    top: float

    def to_picture(self, box: Box) -> Box:
        """Return a box of the input in pixels of the picture."""
        shift = (self.left, self.top, self.left, self.top)
        x1, y1, x2, y2 = ((value + off) / self.scale for value, off in zip(box, shift, strict=True))
        return x1, y1, x2, y2


def fill(picture: Image, size: tuple[int, int]) -> tuple[Image, Filling]:
    """Return the middle of a picture as height x width of `size`, and how it was made."""
    height, width = size
    scale = max(height / picture.shape[0], width / picture.shape[1])
    scaled_width, scaled_height = (
        max(need, round(side * scale)) for need, side in zip((width, height), picture.shape[1::-1], strict=True)
    )
    smooth = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    scaled = np.asarray(cv2.resize(picture, (scaled_width, scaled_height), interpolation=smooth), np.uint8)
    top, left = (scaled_height - height) // 2, (scaled_width - width) // 2
    return np.ascontiguousarray(scaled[top : top + height, left : left + width]), Filling(scale, left, top)


def cut(filled: Image, box: tuple[int, int, int, int], outside: int) -> Image:
    """Return a box (x1, y1, x2, y2; whole pixels) of an input; what lies outside it is of one grey."""
    x1, y1, x2, y2 = box
    patch = np.full((y2 - y1, x2 - x1, 3), outside, np.uint8)
    height, width = filled.shape[:2]
    top, bottom, left, right = max(0, y1), min(height, y2), max(0, x1), min(width, x2)
    if top < bottom and left < right:
        patch[top - y1 : bottom - y1, left - x1 : right - x1] = filled[top:bottom, left:right]
    return patch
