"""Face crops: upright regions around a face's box, for models that want more of the picture than the face itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from pipeline.arrays import FloatArray, Image
    from pipeline.picture import Picture, Rectangle


def square_around(box: FloatArray, scale: float) -> Rectangle:
    """Return the square around the box's centre whose side is `scale` times the box's longer side."""
    left, top, right, bottom = (float(value) for value in box)
    side = max(1, round(scale * max(right - left, bottom - top)))
    return round((left + right - side) / 2), round((top + bottom - side) / 2), side, side


def enlarged_inside(box: FloatArray, scale: float, picture: Picture) -> Rectangle:
    """Return the box enlarged about its centre, less where the picture has no room, and moved to lie inside it."""
    left, top, right, bottom = (float(value) for value in box)
    wide, high = max(1.0, right - left), max(1.0, bottom - top)
    scale = min(scale, picture.width / wide, picture.height / high)
    width, height = max(1, int(wide * scale)), max(1, int(high * scale))
    x = min(max(0, round((left + right - width) / 2)), picture.width - width)
    y = min(max(0, round((top + bottom - height) / 2)), picture.height - height)
    return x, y, width, height


def cut(picture: Picture, region: Rectangle, size: tuple[int, int]) -> Image:
    """Cut a region out and resize it to `size` (height, width); uint8 BGR, black where the picture ends."""
    left, top, width, height = region
    right, bottom = left + width, top + height
    inside = picture.bgr[max(0, top) : max(0, bottom), max(0, left) : max(0, right)]
    if not inside.size:
        return np.zeros((*size, 3), np.uint8)
    below, beyond = max(0, bottom - picture.height), max(0, right - picture.width)
    whole = cv2.copyMakeBorder(inside, max(0, -top), below, max(0, -left), beyond, cv2.BORDER_CONSTANT, value=0)
    return np.asarray(cv2.resize(whole, size[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)
