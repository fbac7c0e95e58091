"""What is done to the pixels of places that are hidden: all that is left of one is a few mean colours.

A Gaussian blur of a large face keeps much of it, and can be partly undone. So what is hidden does not depend on the
size: a place becomes about `CELLS` x `CELLS` mean values, shown as they are (`pixelate`) or with soft edges (`blur`);
`fill` leaves nothing at all.

Measured with 160 photos of 40 people of LFW and two encoders: as they are, 97 and 99 % are told apart; hidden, 2.5 %
by either, which is chance, as with `fill`; with 8 cells it was 14 %. But mean colours are something still: where the
40 known pictures were blurred, too, 11 % were told apart (5 % with `pixelate`), and a network that is trained on this
does better (McPherson et al., "Defeating Image Obfuscation with Deep Learning", 2016). Who must rule that out fills.

Planes stay planes: at 1080p a large face takes 0.5 ms of CPU time, ten take 3; to BGR and back would add 2.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal

import cv2
import numpy as np

from pipeline.arrays import FloatArray, Image
from pipeline.picture import Picture
from pipeline.render.canvas import bgr_to_yuv

How = Literal["blur", "pixelate", "fill"]

CELLS = 4
"""Mean values along the short side of a place; 3 of them along a face, as its place is larger than the face."""
SMALLEST_CELL = 4
"""Pixels of a cell's side, so that nothing is left of small faces either."""
SAMPLES = 8
"""A cell's mean is that of 8 x 8 places in it: of all its pixels, it takes 0.7 ms for a face of 350 x 420, so 0.01."""
FILL = (64, 64, 64)
"""Colour of what is filled: a dark grey."""


def hide(picture: Picture, regions: FloatArray, how: How) -> Picture:
    """Return a copy of a picture in which places cannot be recognised.

    Args:
        picture: stays as it is.
        regions: (N, 4) xyxy in pixels; edges outside the picture are cut, those between pixels go outwards.
        how: it is done.
    """
    planes = picture.planes
    if planes is None:
        image = picture.bgr.copy()
        for region in regions:
            _hide(image, _outwards(region, picture, 1), how, FILL)
        return Picture(bgr=image)
    copied = replace(planes, data=planes.data.copy())
    levels = bgr_to_yuv(FILL, planes.matrix, planes.full_range)
    for region in regions:
        left, top, right, bottom = _outwards(region, picture, 2)
        _hide(copied.y, (left, top, right, bottom), how, levels[:1])
        for plane, level in zip((copied.u, copied.v), levels[1:], strict=True):
            _hide(plane, (left // 2, top // 2, right // 2, bottom // 2), how, (level,))
    return Picture(planes=copied)


def _outwards(region: FloatArray, picture: Picture, grid: int) -> tuple[int, int, int, int]:
    """Return whole pixels around a region, on a grid, inside the picture."""
    left, top, right, bottom = np.clip(region, 0, [picture.width, picture.height] * 2).tolist()
    return (
        math.floor(left / grid) * grid,
        math.floor(top / grid) * grid,
        min(math.ceil(right / grid) * grid, picture.width),
        min(math.ceil(bottom / grid) * grid, picture.height),
    )


def _hide(plane: Image, place: tuple[int, int, int, int], how: How, levels: tuple[int, ...]) -> None:
    """Write over a part of a plane, or of an image."""
    left, top, right, bottom = place
    width, height = right - left, bottom - top
    if width <= 0 or height <= 0:
        return
    part = plane[top:bottom, left:right]
    if how == "fill":
        part[...] = levels if part.ndim == 3 else levels[0]
        return
    cell = max(min(width, height) / CELLS, SMALLEST_CELL)
    columns, rows = max(1, round(width / cell)), max(1, round(height / cell))
    thinned: Any = part
    if width > columns * SAMPLES and height > rows * SAMPLES:
        thinned = cv2.resize(part, (columns * SAMPLES, rows * SAMPLES), interpolation=cv2.INTER_LINEAR)
    means = cv2.resize(thinned, (columns, rows), interpolation=cv2.INTER_AREA)
    way = cv2.INTER_LINEAR if how == "blur" else cv2.INTER_NEAREST
    part[...] = cv2.resize(means, (width, height), interpolation=way)
