"""What is put behind people: one colour, or an image that covers the picture."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import cv2
import numpy as np

from pipeline.arrays import Image
from pipeline.capture.images import read_image
from pipeline.config.look_settings import COLOUR
from pipeline.errors import ConfigError
from pipeline.picture import Picture, Planes, bgr_to_planes, yuv_to_bgr
from pipeline.render.canvas import Colour
from pipeline.render.compose import plain

KEPT = 8
"""Sizes and forms for which the background is kept: sources of a run mostly have few."""

Form = tuple[int, int, str | None, bool]
"""Width, height, colour matrix (None: BGR), full range."""


class Backgrounds:
    """A background in each size and form that is asked for.

    Args:
        what: a colour such as #00b140 or #0b4, or the path of an image.

    Raises:
        ConfigError: it is neither.
    """

    def __init__(self, what: str) -> None:
        self._colour = colour_of(what)
        self._image = None if self._colour is not None else _read(what)
        self._made: OrderedDict[Form, Picture] = OrderedDict()

    def like(self, picture: Picture) -> Picture:
        """Return the background in the size and form of a picture."""
        planes = picture.planes
        form: Form = (picture.width, picture.height, None, False)
        if planes is not None:
            form = (picture.width, picture.height, planes.matrix, planes.full_range)
        if form not in self._made:
            if len(self._made) >= KEPT:
                self._made.popitem(last=False)
            self._made[form] = self._make(picture)
        self._made.move_to_end(form)
        return self._made[form]

    def _make(self, picture: Picture) -> Picture:
        if self._image is None:
            assert self._colour is not None
            return plain(picture, self._colour)
        covering = cover(self._image, picture.width, picture.height)
        return Picture(bgr=covering) if picture.planes is None else Picture(planes=_converted(covering, picture.planes))


def colour_of(text: str) -> Colour | None:
    """Read #rgb or #rrggbb; None: it is no colour."""
    if not COLOUR.fullmatch(text):
        return None
    digits = text[1:] if len(text) == 7 else "".join(2 * digit for digit in text[1:])
    red, green, blue = bytes.fromhex(digits)
    return blue, green, red


def cover(image: Image, width: int, height: int) -> Image:
    """Scale an image, its sides in proportion, until it covers a size; cut off evenly what is too much."""
    scale = max(width / image.shape[1], height / image.shape[0])
    size = max(width, round(image.shape[1] * scale)), max(height, round(image.shape[0] * scale))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    scaled = np.asarray(cv2.resize(image, size, interpolation=way), np.uint8)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    return np.ascontiguousarray(scaled[top : top + height, left : left + width])


def _read(place: str) -> Image:
    image = read_image(Path(place).expanduser())
    if image is None:
        raise ConfigError(
            f"segment.background: {place!r} is no image that can be read: name one, or a colour such as #00b140"
        )
    return image


def _converted(bgr: Image, like: Planes) -> Planes:
    """Convert BGR of even size to planes with the matrix and range of others."""
    if like.matrix == "bt601" and not like.full_range:
        return bgr_to_planes(bgr)
    forward = yuv_to_bgr(like.matrix, like.full_range).astype(np.float64)
    backward = np.linalg.inv(forward[:, :3])
    yuv = cv2.transform(bgr.astype(np.float32), np.column_stack([backward, -backward @ forward[:, 3]]))
    luma, *chroma = cv2.split(cv2.convertScaleAbs(yuv))
    halves = [cv2.resize(each, (like.width // 2, like.height // 2), interpolation=cv2.INTER_AREA) for each in chroma]
    parts = [np.asarray(each, np.uint8).reshape(-1) for each in (luma, *halves)]
    return Planes(np.concatenate(parts).reshape(-1, like.width), like.matrix, like.full_range)
