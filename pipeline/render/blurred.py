"""Blurring what is behind somebody, so that nothing of them is in it.

A plain blur mixes their colours into the background: a halo follows whoever moves. Here only what is surely background
counts, and each place gets a mean of that alone (normalised convolution: Knutsson and Westin, "Normalized and
differential convolution", 1993): blur(picture x weight) / blur(weight). Masks end a little inside people, so what is
next to them does not count either.

A wide blur leaves nothing fine, so it is made of a small copy: at 640x360 and the usual radius in 160x90.
"""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.arrays import FloatArray, Image
from pipeline.picture import Picture
from pipeline.render.compose import pixels_of, split, with_pixels
from pipeline.shrink import shrunk

FINE = 2.5
"""Pixels of the small copy that the radius has at least: below, one sees its pixels when it is made large again."""
SMALLEST = 2
"""Least factor between picture and small copy: that of chroma."""
CLEAR, COVERED = 4.0, 16.0
"""Alpha up to which a place surely is background, and from which it does not count: one of 16 pixels is covered."""
DOUBTFUL = 0.01
"""Weight of what may be background, beside what surely is: it counts where nothing else is near."""
NOTHING = 1e-6
"""Weight of everything, so that no place divides by zero: amid the foreground, where this is not seen."""
NEIGHBOURS = np.ones((3, 3), np.uint8)


def blurred(picture: Picture, alpha: Image, radius: float) -> Picture:
    """Return the background of a picture, blurred, of the same size and form.

    Args:
        picture: stays as it is.
        alpha: (H, W) uint8, 255 = foreground, none of which is in the result.
        radius: standard deviation of the Gaussian, pixels; at least about 2.
    """
    factor = SMALLEST
    while radius / (2 * factor) >= FINE:
        factor *= 2
    size = -(-picture.height // factor), -(-picture.width // factor)
    small = _small(picture, size)
    weights = background_weights(shrunk(alpha, size))
    # one channel more: the weights
    weighted = cv2.merge([*(cv2.multiply(each, weights, dtype=cv2.CV_32F) for each in small), weights])
    wide = cv2.GaussianBlur(weighted, (0, 0), radius / factor, borderType=cv2.BORDER_CONSTANT)
    *channels, total = cv2.split(wide)
    means = [np.asarray(cv2.convertScaleAbs(cv2.divide(each, total)), np.uint8) for each in channels]
    return _large(picture, means)


def background_weights(alpha: Image) -> FloatArray:
    """Return how much each place of the small copy counts, 0..1, by how much foreground is in and around it."""
    around = cv2.dilate(alpha, NEIGHBOURS)
    sure = ((COVERED - around.astype(np.float32)) / (COVERED - CLEAR)).clip(0, 1)
    possible = 1 - alpha.astype(np.float32) / 255
    return np.asarray(sure + DOUBTFUL * possible * possible + NOTHING, np.float32)


def _small(picture: Picture, size: tuple[int, int]) -> list[Image]:
    """Return the three channels of a picture, each as a small copy."""
    if picture.planes is None:
        return [np.asarray(each, np.uint8) for each in cv2.split(shrunk(picture.bgr, size))]
    luma, chroma = split(picture.planes.data)
    return [shrunk(plane, size) for plane in (luma, *chroma)]


def _large(picture: Picture, channels: list[Image]) -> Picture:
    """Make a picture of small channels."""
    whole = picture.width, picture.height
    if picture.planes is None:
        return Picture(bgr=np.asarray(cv2.resize(cv2.merge(channels), whole), np.uint8))
    pixels = np.empty_like(pixels_of(picture))
    luma, chroma = split(pixels)
    for small, plane in zip(channels, (luma, *chroma), strict=True):
        cv2.resize(small, plane.shape[::-1], dst=plane)
    return with_pixels(picture, pixels)
