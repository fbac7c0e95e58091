"""Canvas: rectangles and text on a copy of a picture, in whatever form its pixels are.

Drawing on the YUV planes saves both conversions (to BGR for drawing, back for the encoder). Chroma has half the
resolution, so a coloured edge may bleed by a pixel; text is drawn in luma alone and stays sharp.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Protocol

import cv2
import numpy as np

from pipeline.arrays import Image
from pipeline.picture import Matrix, Picture, Planes, yuv_to_bgr

Colour = tuple[int, int, int]
"""Blue, green, red, 0..255."""
Point = tuple[int, int]
FONT = cv2.FONT_HERSHEY_SIMPLEX


class Canvas(Protocol):
    """Something to draw on; coordinates are pixels, and may lie outside."""

    def rectangle(self, top_left: Point, bottom_right: Point, colour: Colour, thickness: int) -> None:
        """Draw an outline; a thickness of -1 fills it."""

    def text(self, baseline_left: Point, text: str, scale: float, thickness: int, white: bool) -> None:
        """Write in white or black."""

    def picture(self) -> Picture:
        """Return what was drawn on; the canvas is not used afterwards."""


def canvas_of(picture: Picture) -> Canvas:
    """Copy a picture to draw on."""
    return BGRCanvas(picture.bgr) if picture.planes is None else PlanesCanvas(picture.planes)


class BGRCanvas:
    """Draws on a copy of a BGR picture."""

    def __init__(self, bgr: Image) -> None:
        self._image = bgr.copy()

    def rectangle(self, top_left: Point, bottom_right: Point, colour: Colour, thickness: int) -> None:
        """Draw an outline, or fill."""
        cv2.rectangle(self._image, top_left, bottom_right, colour, thickness)

    def text(self, baseline_left: Point, text: str, scale: float, thickness: int, white: bool) -> None:
        """Write."""
        grey = 255 if white else 0
        cv2.putText(self._image, text, baseline_left, FONT, scale, (grey, grey, grey), thickness, cv2.LINE_AA)

    def picture(self) -> Picture:
        """Return the picture."""
        return Picture(bgr=self._image)


class PlanesCanvas:
    """Draws on a copy of YUV planes."""

    def __init__(self, planes: Planes) -> None:
        self._planes = replace(planes, data=planes.data.copy())
        self._y, self._u, self._v = self._planes.y, self._planes.u, self._planes.v
        self._black, self._white = (0, 255) if planes.full_range else (16, 235)

    def rectangle(self, top_left: Point, bottom_right: Point, colour: Colour, thickness: int) -> None:
        """Draw an outline, or fill; chroma at half the size."""
        y, u, v = bgr_to_yuv(colour, self._planes.matrix, self._planes.full_range)
        cv2.rectangle(self._y, top_left, bottom_right, (y,), thickness)
        half_left, half_right = (top_left[0] // 2, top_left[1] // 2), (bottom_right[0] // 2, bottom_right[1] // 2)
        half_thick = thickness if thickness < 0 else max(1, thickness // 2)
        cv2.rectangle(self._u, half_left, half_right, (u,), half_thick)
        cv2.rectangle(self._v, half_left, half_right, (v,), half_thick)

    def text(self, baseline_left: Point, text: str, scale: float, thickness: int, white: bool) -> None:
        """Write in luma."""
        level = self._white if white else self._black
        cv2.putText(self._y, text, baseline_left, FONT, scale, (level,), thickness, cv2.LINE_AA)

    def picture(self) -> Picture:
        """Return the picture."""
        return Picture(planes=self._planes)


@lru_cache(maxsize=256)
def bgr_to_yuv(colour: Colour, matrix: Matrix, full_range: bool) -> Colour:
    """Return one colour as Y, U, V, the inverse of what a player will compute."""
    forward = yuv_to_bgr(matrix, full_range).astype(np.float64)
    levels = np.linalg.solve(forward[:, :3], np.array(colour) - forward[:, 3])
    y, u, v = (int(level) for level in np.clip(np.rint(levels), 0, 255))
    return y, u, v


def text_size(text: str, scale: float, thickness: int) -> tuple[int, int, int]:
    """Return width, height above the baseline, and depth below it, in pixels."""
    (width, height), depth = cv2.getTextSize(text, FONT, scale, thickness)
    return width, height, depth
