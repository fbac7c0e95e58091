"""Alignment: turn, scale and cut every face so that its five landmarks lie where the encoder learnt to expect them.

Only the face's part of the frame is converted to BGR, and a large face is shrunk by area before it is turned: bilinear
sampling alone skips pixels there, which moved encodings by 0.07 to 0.19 (L2) against 0.04 to 0.08.
"""

from __future__ import annotations

import math
from contextlib import suppress
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.arrays import FloatArray, Image
from pipeline.picture import cropped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.picture import Picture, Rectangle

Matrix = npt.NDArray[np.float64]
"""(2, 3): takes (x, y, 1) to (x, y)."""
MARGIN = 4
"""Pixels around the chip's footprint that resampling may read."""


def similarity_transform(points: npt.ArrayLike, template: npt.ArrayLike) -> Matrix:
    """Return the rotation, scale and shift that takes (K, 2) `points` nearest to (K, 2) `template`, by least squares.

    Source: Umeyama, "Least-squares estimation of transformation parameters between two point patterns" (1991); in the
    plane and without reflection it is a regression on complex numbers.

    Raises:
        ValueError: all points are one, or one is not finite.
    """
    source, target = np.asarray(points, np.float64), np.asarray(template, np.float64)
    if not np.isfinite(source).all():
        raise ValueError(f"no face lies on the points {source.tolist()}")
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    a, b = source - source_mean, target - target_mean
    spread = (a * a).sum()
    if not spread > 0:
        raise ValueError(f"no face lies on the points {source.tolist()}")
    cosine = (a * b).sum() / spread
    sine = (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum() / spread
    turn = np.array([[cosine, -sine], [sine, cosine]])
    return np.column_stack([turn, target_mean - turn @ source_mean])


def align(
    picture: Picture, landmarks: FloatArray, template: Sequence[tuple[float, float]], size: tuple[int, int]
) -> Image:
    """Cut the faces out of a picture.

    Args:
        picture: of the frame.
        landmarks: (N, 5, 2) in frame pixels.
        template: where they belong, in pixels of the chip.
        size: height and width of a chip.

    Returns:
        (N, height, width, 3) uint8 BGR. What lies outside the picture is black, and so is all of a face without extent.
    """
    chips = np.zeros((len(landmarks), *size, 3), np.uint8)
    for chip, points in zip(chips, landmarks, strict=True):
        with suppress(ValueError):
            _cut(picture, similarity_transform(points, template), chip)
    return chips


def _cut(picture: Picture, to_chip: Matrix, chip: Image) -> None:
    height, width = chip.shape[:2]
    place = _footprint(to_chip, (height, width), (picture.height, picture.width))
    if place is None:
        return
    part = cropped(picture, place).bgr
    factor = 1 / math.hypot(to_chip[0, 0], to_chip[1, 0])  # frame pixels per chip pixel
    matrix = to_chip @ _affine(1, 1, place[0], place[1])
    if factor >= 2:
        halvings = int(math.log2(factor))
        rows, columns = (max(1, side >> halvings) for side in part.shape[:2])
        across, down = part.shape[1] / columns, part.shape[0] / rows
        part = np.asarray(cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA), dtype=np.uint8)
        matrix = matrix @ _affine(across, down, (across - 1) / 2, (down - 1) / 2)  # from centre to centre of pixels
    cv2.warpAffine(part, matrix[:2], (width, height), dst=chip, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


def _footprint(to_chip: Matrix, chip: tuple[int, int], frame: tuple[int, int]) -> Rectangle | None:
    """Return the part of the frame that the chip is made of, on even pixels; None where it lies outside."""
    inverse = cv2.invertAffineTransform(to_chip)
    corners = np.array([[0, 0, 1], [chip[1], 0, 1], [0, chip[0], 1], [chip[1], chip[0], 1]]) @ inverse.T
    size = np.array([frame[1], frame[0]])
    low = np.clip(np.floor(corners.min(axis=0)) - MARGIN, 0, size)
    high = np.clip(np.ceil(corners.max(axis=0)) + MARGIN, 0, size)
    left, top = (int(edge) // 2 * 2 for edge in low)
    width, height = (int(high[0]) - left + 1) // 2 * 2, (int(high[1]) - top + 1) // 2 * 2
    width, height = min(width, frame[1] - left), min(height, frame[0] - top)
    return (left, top, width, height) if width > 0 and height > 0 else None


def _affine(across: float, down: float, left: float, top: float) -> Matrix:
    """Return the (3, 3) matrix that scales and then shifts."""
    return np.array([[across, 0, left], [0, down, top], [0, 0, 1.0]])
