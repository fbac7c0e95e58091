"""A painting, small, over the picture that it is of: as far and where it is asked for, in all colours or only in light.

Planes stay planes: the small painting becomes YUV by the picture's own matrix and range, and its planes are enlarged
to the picture's. To keep the picture's colours, only luma is replaced, and U and V stay what they are; in a BGR picture
the same is a step in brightness, alike for B, G and R. Source of the luminance transfer: Gatys et al., "Preserving
Color in Neural Artistic Style Transfer" (2016), section 2.2.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.picture import LUMA_WEIGHTS, Matrix, Picture, Planes

if TYPE_CHECKING:
    from pipeline.arrays import FloatArray, Image

Numbers = npt.NDArray[np.float32]


@lru_cache
def bgr_to_yuv(matrix: Matrix, full_range: bool) -> Numbers:
    """Return the 3 x 4 matrix that takes (B, G, R, 1) in 0..255 to Y, U, V.

    Source: as of `pipeline.picture.yuv_to_bgr`, whose inverse it is.
    """
    red, blue = LUMA_WEIGHTS[matrix]
    luma, chroma, black = (1.0, 1.0, 0) if full_range else (219 / 255, 224 / 255, 16)
    y = np.array([blue, 1 - red - blue, red])
    u = (np.array([1.0, 0, 0]) - y) / (2 * (1 - blue))
    v = (np.array([0, 0, 1.0]) - y) / (2 * (1 - red))
    rows = np.stack([luma * y, chroma * u, chroma * v])
    result: Numbers = np.column_stack([rows, [black, 128, 128]]).astype(np.float32)
    result.flags.writeable = False
    return result


def in_form_of(picture: Picture, painted: Image, keep_colours: bool) -> tuple[Image, ...]:
    """Return a painting in the form of a picture's pixels.

    Args:
        picture: that is painted.
        painted: (h, w, 3) uint8 BGR.
        keep_colours: whether only light is taken over.

    Returns:
        Y, (h, w), then U and V of half its sides, for planes; one of (h, w, 3) BGR for BGR; with `keep_colours` only
        luma, full-range for BGR.
    """
    planes = picture.planes
    if planes is None and not keep_colours:
        return (painted,)
    to_yuv = bgr_to_yuv("bt601", True) if planes is None else bgr_to_yuv(planes.matrix, planes.full_range)
    luma = np.asarray(cv2.transform(painted, to_yuv[:1]), np.uint8)
    if keep_colours:
        return (luma,)
    half = (-(-painted.shape[1] // 2), -(-painted.shape[0] // 2))
    small = cv2.resize(painted, half, interpolation=cv2.INTER_AREA)
    return (luma, *(np.asarray(cv2.transform(small, to_yuv[row : row + 1]), np.uint8) for row in (1, 2)))


def blend(picture: Picture, layers: tuple[Image, ...], strength: float, where: Image | None = None) -> Picture:
    """Return a picture with its painting over it.

    Args:
        picture: stays as it is.
        layers: from `in_form_of`, smaller or larger than the picture.
        strength: 0 leaves the picture, 1 the painting.
        where: (H, W) uint8 of any size, 255 = here; None: everywhere.
    """
    if strength == 0 or (where is not None and not cv2.countNonZero(where)):
        return picture
    planes = picture.planes
    if planes is None:
        return Picture(bgr=_blended_bgr(picture.bgr, layers[0], strength, where))
    result = replace(planes, data=np.empty_like(planes.data))
    below = (planes.y, planes.u, planes.v)
    for plane, layer, out in zip_longest(below, layers, (result.y, result.u, result.v)):
        out[...] = plane if layer is None else _mixed(plane, _enlarged(layer, plane), strength, where)
    return Picture(planes=result)


def _blended_bgr(bgr: Image, layer: Image, strength: float, where: Image | None) -> Image:
    styled = _enlarged(layer, bgr)
    if layer.ndim == 2:
        luma = cv2.transform(bgr, bgr_to_yuv("bt601", True)[:1])
        step = cv2.subtract(styled, luma, dtype=cv2.CV_16S)
        styled = np.asarray(cv2.add(bgr, cv2.merge([step] * 3), dtype=cv2.CV_8U), np.uint8)
    return _mixed(bgr, styled, strength, where)


def _enlarged(values: Image, like: Image) -> Image:
    """Resize values to the size of a plane, averaging where they have more than twice its pixels a side."""
    height, width = like.shape[:2]
    way = cv2.INTER_AREA if values.shape[0] >= 2 * height and values.shape[1] >= 2 * width else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(values, (width, height), interpolation=way), np.uint8)


def _mixed(below: Image, above: Image, strength: float, where: Image | None) -> Image:
    if where is None:
        if strength == 1:
            return above
        return np.asarray(cv2.addWeighted(above, strength, below, 1 - strength, 0), np.uint8)
    weight = _weight(where, (below.shape[1], below.shape[0]), strength)
    return np.asarray(cv2.blendLinear(above, below, weight, 1 - weight), np.uint8)


def _weight(where: Image, size: tuple[int, int], strength: float) -> FloatArray:
    if (where.shape[1], where.shape[0]) != size:
        where = np.asarray(cv2.resize(where, size, interpolation=cv2.INTER_AREA), np.uint8)
    return np.asarray(where * np.float32(strength / 255), np.float32)


def side_by_side(left: Picture, right: Picture) -> Picture:
    """Return two pictures of one size and kind as one, twice as wide."""
    if left.planes is None or right.planes is None:
        return Picture(bgr=np.hstack([left.bgr, right.bgr]))
    each: Any = [(one.y, one.u, one.v) for one in (left.planes, right.planes)]
    planes = [np.hstack(pair).reshape(-1) for pair in zip(*each, strict=True)]
    data = np.concatenate(planes).reshape(-1, 2 * left.width)
    return Picture(planes=Planes(data, left.planes.matrix, left.planes.full_range))
