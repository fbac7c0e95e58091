"""From a map at the model's resolution to one of the frame, whose edges follow those of the picture.

A guided filter: inside a small window a mask is taken for a linear function of the picture's luma, a * Y + b. What a
and b are is found at the model's resolution; both are made as large as the frame, where they are smooth, and only
a * Y + b is computed there. Source: He and Sun, "Fast Guided Filter" (2015), algorithm 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from pipeline.arrays import FloatArray, Image
from pipeline.shrink import shrunk

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from pipeline.picture import Picture
    from pipeline.postprocess.soft_map import SoftMap

MOST_RADIUS, USUAL_RADIUS = 8, 2
"""Pixels of the map; the window is twice that and 1."""
SMOOTHNESS = 30.0
"""Grey levels squared (the paper's epsilon): edges of the picture weaker than its root are none of the mask's."""
MIDDLE = 128
"""Alpha from which a pixel is foreground."""


def luma_of(picture: Picture) -> Image:
    """Return (H, W) uint8: the Y plane, or what it would be."""
    if picture.planes is not None:
        return picture.planes.y
    return np.asarray(cv2.cvtColor(picture.bgr, cv2.COLOR_BGR2GRAY), np.uint8)


def radius_for(maps: Iterable[SoftMap]) -> int:
    """Return the radius that suits a model: half as wide as the edges in its maps are.

    A network whose last layers are fine needs little help; one of stride 16, whose logits were made larger, can be far
    off. Boundary IoU (Cheng et al. 2021, 1 % of the diagonal) of persons in 34 COCO pictures: selfie-landscape, edges
    4.5 pixels wide, .212 without, .213 at radius 1, .208 at 4; DeepLabV3, 13 wide, .132, .137, .151, and .158 at 6.

    Args:
        maps: of real pictures.
    """
    area = border = 0.0
    for each in maps:
        area += 4 * float((each.values * (1 - each.values)).sum())
        inside = each.values > 0.5
        border += np.count_nonzero(inside[:, 1:] != inside[:, :-1])
        border += np.count_nonzero(inside[:, :, 1:] != inside[:, :, :-1])
    return min(MOST_RADIUS, max(1, int(area / border / 2))) if border else USUAL_RADIUS


def guided(
    guide: Image, values: FloatArray, radius: int = USUAL_RADIUS, smoothness: float = SMOOTHNESS
) -> tuple[FloatArray, FloatArray]:
    """Return a and b of the guided filter, both (K, h, w) float32: filtered = a * guide + b.

    Args:
        guide: (h, w) uint8.
        values: (K, h, w) float32, what is filtered.
        radius: of the window.
        smoothness: see `SMOOTHNESS`.
    """
    side = (2 * radius + 1, 2 * radius + 1)

    def mean(array: FloatArray) -> FloatArray:
        return np.asarray(cv2.boxFilter(array, cv2.CV_32F, side, borderType=cv2.BORDER_REFLECT), np.float32)

    light = guide.astype(np.float32)
    mean_light = mean(light)
    variance = mean(light * light)
    variance -= mean_light * mean_light
    variance += smoothness
    a, b = np.empty_like(values), np.empty_like(values)
    for number, plane in enumerate(values):
        mean_plane = mean(plane)
        slope = mean(light * plane)
        slope -= mean_light * mean_plane
        slope /= variance
        mean_plane -= slope * mean_light
        a[number], b[number] = mean(slope), mean(mean_plane)
    return a, b


class Upscaler:
    """Makes maps as large as the frame; keeps room for one size, so each thread needs one of its own."""

    def __init__(self, *, edges: bool = True, radius: int = USUAL_RADIUS, smoothness: float = SMOOTHNESS) -> None:
        """With `edges` they follow those of the picture, otherwise what is in between is filled in linearly."""
        self._edges, self._radius, self._smoothness = edges, radius, smoothness
        self._room: tuple[FloatArray, ...] = ()

    def __call__(self, soft: SoftMap, picture: Picture, foreground: Collection[int]) -> tuple[Image, Image]:
        """Return (H, W) uint8 with the numbers of the classes, and alpha: 128 and more where the class is foreground.

        Alpha is what the likeliest class of the foreground has of the sum of it and the likeliest of the others.

        Args:
            soft: the map.
            picture: whose size and edges the result gets.
            foreground: the numbers of its classes.
        """
        size = (picture.height, picture.width)
        is_foreground = [each in foreground for each in soft.ids]
        if len(soft.ids) == 1:
            return np.full(size, soft.ids[0], np.uint8), np.full(size, 255 * is_foreground[0], np.uint8)
        of_two = len(soft.ids) == 2
        planes = self._planes(soft.values[:1] if of_two else soft.values, picture)
        if of_two:
            return _of_two(planes[0], soft.ids, is_foreground)
        return _of_many(planes, soft.ids, is_foreground)

    def _planes(self, values: FloatArray, picture: Picture) -> list[Image]:
        """Return each plane in the size of the picture, 0..255."""
        size = (picture.height, picture.width)
        if not self._edges or values.shape[1:] == size:
            return [_as_bytes(_enlarged(each, size)) for each in values]
        luma = luma_of(picture)
        guide = shrunk(luma, (values.shape[1], values.shape[2]))
        a, b = guided(guide, values, self._radius, self._smoothness)
        a *= 255
        b *= 255
        if not self._room or self._room[0].shape != size:
            self._room = tuple(np.empty(size, np.float32) for _ in range(3))
        light, slope, shift = self._room
        np.copyto(light, luma)
        planes = []
        for slopes, shifts in zip(a, b, strict=True):
            cv2.resize(slopes, size[::-1], dst=slope, interpolation=cv2.INTER_LINEAR)
            cv2.resize(shifts, size[::-1], dst=shift, interpolation=cv2.INTER_LINEAR)
            cv2.multiply(slope, light, dst=slope)
            planes.append(np.asarray(cv2.add(slope, shift, dtype=cv2.CV_8U), np.uint8))
        return planes


def _enlarged(plane: FloatArray, size: tuple[int, int]) -> FloatArray:
    if plane.shape == size:
        return plane
    return np.asarray(cv2.resize(plane, size[::-1], interpolation=cv2.INTER_LINEAR), np.float32)


def _as_bytes(plane: FloatArray) -> Image:
    return np.asarray(cv2.convertScaleAbs(plane, alpha=255), np.uint8)


def _of_two(plane: Image, ids: Sequence[int], is_foreground: Sequence[bool]) -> tuple[Image, Image]:
    """Return class numbers and alpha where there are two classes, of which `plane` is the first."""
    table = np.full(256, ids[1], np.uint8)
    table[MIDDLE:] = ids[0]
    classes = np.asarray(cv2.LUT(plane, table), np.uint8)
    if is_foreground[0] == is_foreground[1]:
        return classes, np.full(plane.shape, 255 * is_foreground[0], np.uint8)
    return classes, plane if is_foreground[0] else np.asarray(cv2.bitwise_not(plane), np.uint8)


def _of_many(planes: Sequence[Image], ids: Sequence[int], is_foreground: Sequence[bool]) -> tuple[Image, Image]:
    classes, best = np.full(planes[0].shape, ids[0], np.uint8), planes[0].copy()
    for number, plane in zip(ids[1:], planes[1:], strict=True):
        np.copyto(classes, np.uint8(number), where=plane > best)
        cv2.max(plane, best, dst=best)
    if all(is_foreground) or not any(is_foreground):
        return classes, np.full(classes.shape, 255 * is_foreground[0], np.uint8)
    inside = _largest([plane for plane, is_inside in zip(planes, is_foreground, strict=True) if is_inside])
    outside = _largest([plane for plane, is_inside in zip(planes, is_foreground, strict=True) if not is_inside])
    alpha = cv2.divide(inside, cv2.add(inside, outside, dtype=cv2.CV_32F), scale=255, dtype=cv2.CV_8U)
    least, most = np.zeros(256, np.uint8), np.full(256, MIDDLE - 1, np.uint8)
    for number, is_inside in zip(ids, is_foreground, strict=True):
        if is_inside:
            least[number], most[number] = MIDDLE, 255
    alpha = cv2.min(cv2.max(alpha, cv2.LUT(classes, least)), cv2.LUT(classes, most))  # where two are equally likely
    return classes, np.asarray(alpha, np.uint8)


def _largest(planes: Sequence[Image]) -> Image:
    largest = planes[0]
    for each in planes[1:]:
        largest = np.asarray(cv2.max(largest, each), np.uint8)
    return largest
