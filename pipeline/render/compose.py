"""Laying one picture over another, softly, in whatever form their pixels are.

A mean of two colours is the same in YUV as in BGR, so planes stay planes: chroma is mixed at its own half resolution,
by the mean of the four weights that share it. All planes lie in one array (`Planes.data`), and so do their weights: one
pass mixes them. 0.15 ms of CPU time at 640x360; `cv2.blendLinear`, which wants its weights as floats, takes three times
as long. What is not needed any more is written over: a new array of this size costs as much as a pass over it.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from pipeline.arrays import Image
from pipeline.picture import Picture
from pipeline.render.canvas import Colour, bgr_to_yuv


def laid_over(above: Picture, below: Picture, alpha: Image) -> Picture:
    """Return `above` where alpha is 255, `below` where it is 0, both to the very value, and a mean in between.

    Args:
        above: a picture.
        below: one of the same size and form (planes or BGR).
        alpha: (H, W) uint8.
    """
    weights = _weights(above, alpha)
    mixed = cv2.multiply(pixels_of(above), weights, scale=1 / 255)
    cv2.bitwise_not(weights, dst=weights)
    cv2.multiply(pixels_of(below), weights, dst=weights, scale=1 / 255)
    cv2.add(mixed, weights, dst=mixed)
    return with_pixels(above, np.asarray(mixed, np.uint8))


def pixels_of(picture: Picture) -> Image:
    """Return the one array that holds a picture: all planes, or H x W x 3 BGR; read-only."""
    return picture.bgr if picture.planes is None else picture.planes.data


def with_pixels(picture: Picture, pixels: Image) -> Picture:
    """Return a picture of the same form with other pixels."""
    if picture.planes is None:
        return Picture(bgr=pixels)
    return Picture(planes=replace(picture.planes, data=pixels))


def split(data: Image) -> tuple[Image, Image]:
    """Return luma, H x W, and both planes of chroma, 2 x H/2 x W/2, of what is laid out as `Planes.data`; views."""
    height, width = data.shape[0] * 2 // 3, data.shape[1]
    return data[:height], data[height:].reshape(2, height // 2, width // 2)


def plain(picture: Picture, colour: Colour) -> Picture:
    """Return a picture of the same size and form that has one colour."""
    if picture.planes is None:
        row = np.tile(np.array(colour, np.uint8), picture.width)
        return Picture(bgr=np.tile(row, picture.height).reshape(picture.height, picture.width, 3))
    pixels = np.empty_like(picture.planes.data)
    luma, chroma = split(pixels)
    luma[:], chroma[0], chroma[1] = bgr_to_yuv(colour, picture.planes.matrix, picture.planes.full_range)
    return with_pixels(picture, pixels)


def coloured(picture: Picture, class_ids: Image, colours: tuple[Colour, ...]) -> Picture:
    """Return a picture of the same size and form that shows classes by their colours.

    Args:
        picture: whose size and form it has.
        class_ids: (H, W) uint8; of four pixels that share their chroma, the upper left one decides.
        colours: of each class, at most 256.
    """
    if picture.planes is None:
        return Picture(bgr=np.asarray(cv2.applyColorMap(class_ids, _table(colours)), np.uint8))
    planes = picture.planes
    tables = _table(tuple(bgr_to_yuv(each, planes.matrix, planes.full_range) for each in colours))
    pixels = np.empty_like(planes.data)
    luma, chroma = split(pixels)
    cv2.LUT(class_ids, np.ascontiguousarray(tables[..., 0]), dst=luma)
    shared = np.ascontiguousarray(class_ids[::2, ::2])
    for row, plane in enumerate(chroma, 1):
        cv2.LUT(shared, np.ascontiguousarray(tables[..., row]), dst=plane)
    return with_pixels(picture, pixels)


def _table(colours: tuple[Colour, ...]) -> Image:
    """Return the (256, 1, 3) levels of each class; what is no class is black."""
    table = np.zeros((256, 1, 3), np.uint8)
    table[: len(colours), 0] = colours
    return table


def _weights(picture: Picture, alpha: Image) -> Image:
    """Spread (H, W) weights over a picture's pixels, as they lie."""
    if picture.planes is None:
        return np.asarray(cv2.cvtColor(alpha, cv2.COLOR_GRAY2BGR), np.uint8)
    weights = np.empty_like(picture.planes.data)
    luma, chroma = split(weights)
    luma[:] = alpha
    chroma[:] = cv2.resize(alpha, chroma.shape[:0:-1], interpolation=cv2.INTER_AREA)
    return weights
