"""Effect: the stage that makes something of a segmentation: a tint, or another background.

It works on `frame.output`, what stages before it have made of the picture, and leaves `frame.picture` as it is.

It fails closed. A background that is to be hidden (blur-background, replace-background, cut-out) is never shown because
nobody has looked: without a map, or with one that does not fit the picture, everything is background. A picture fits
that has the map's shape, or shows the same several times side by side: with `stylize.where: side-by-side` the effect is
in both halves, or one would show what the other hides. An overlay hides nothing, and is left out then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from pipeline.infer.picture_segmenter import foreground_of
from pipeline.render.backgrounds import Backgrounds
from pipeline.render.blurred import blurred
from pipeline.render.canvas import BLACK
from pipeline.render.colours import colours_of
from pipeline.render.compose import coloured, laid_over, plain
from pipeline.render.theme import THEMES
from pipeline.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.arrays import Image
    from pipeline.config.look_settings import SegmentSettings
    from pipeline.frame import Frame
    from pipeline.picture import Picture
    from pipeline.render.canvas import Colour
    from pipeline.render.theme import ThemeName
    from pipeline.segmentation import SegmentationMap

NOT_AT_ALL, WHOLLY = 80, 224
"""Alpha up to which a background that is to be hidden is all that is shown, and from which nothing of it is. A network
is never quite sure, and a hundredth of a picture still shows what was in it. Edges that follow the picture let bright
things beside a head be there a little: on three talking faces 80 leaves hardly any, 32 a ghost of a window's frame."""
DECIDED = np.rint(np.interp(np.arange(256), (NOT_AT_ALL, WHOLLY), (0, 255))).astype(np.uint8)
FRINGE = np.ones((9, 9), np.uint8)
"""Soft edges go over into the background: there a tint has the colour of the class that is so near, in pixels."""


class Fitted(NamedTuple):
    """A map in the size of a picture, each (H, W) uint8."""

    alpha: Image
    class_ids: Image


class Effect(Stage):
    """The effect of `segment.effect`.

    Args:
        settings: of segmentation.
        theme: whose colours an overlay has.

    Raises:
        ConfigError: the background is neither a colour nor an image.
    """

    name = "effect"

    def __init__(self, settings: SegmentSettings, theme: ThemeName = "vivid") -> None:
        self._settings = settings
        self._theme = THEMES[theme]
        self._backgrounds = Backgrounds("#000000" if settings.effect == "cut-out" else settings.background)
        self._colours: dict[tuple[str, ...], tuple[Colour, ...]] = {}
        self._frames = self._blind = 0

    def process(self, frame: Frame) -> None:
        """Add the picture with the effect in it."""
        if self._settings.effect == "none":
            return
        picture, known = frame.output, frame.segmentation
        fitted = None if known is None else fit(known, picture)
        self._frames += 1
        self._blind += fitted is None
        if self._settings.effect == "overlay":
            if known is not None and fitted is not None:
                frame.rendered = self._tinted(picture, fitted, known.labels)
            return
        alpha = np.zeros((picture.height, picture.width), np.uint8) if fitted is None else decided(fitted.alpha)
        if self._settings.effect == "blur-background":
            behind = blurred(picture, alpha, self._settings.blur * min(picture.width, picture.height))
        else:
            behind = self._backgrounds.like(picture)
        frame.rendered = laid_over(picture, behind, alpha)

    def _tinted(self, picture: Picture, fitted: Fitted, labels: tuple[str, ...]) -> Picture:
        """Mix the colour of each class in, as much as a pixel is foreground."""
        shown = sorted(foreground_of(self._settings.classes, labels))
        strength = cv2.convertScaleAbs(fitted.alpha, None, self._settings.opacity)
        if len(shown) == 1:
            (only,) = shown
            return laid_over(plain(picture, self._colours_of(labels)[only]), picture, np.asarray(strength, np.uint8))
        shades, is_shown = spread(fitted.class_ids, shown)
        colours = self._colours_of(labels)
        tint = coloured(picture, shades, (BLACK, *(colours[row] for row in shown)))
        return laid_over(tint, picture, np.asarray(cv2.bitwise_and(strength, is_shown), np.uint8))

    def _colours_of(self, labels: tuple[str, ...]) -> tuple[Colour, ...]:
        if labels not in self._colours:
            self._colours = {labels: colours_of(labels, self._theme)}
        return self._colours[labels]

    def describe(self) -> str | None:
        """Say in how many pictures nobody knew what is what, where there are some."""
        if not self._blind:
            return None
        instead = "nothing is tinted" if self._settings.effect == "overlay" else "all is background"
        return f"effect: {self._settings.effect}; {instead} in {self._blind} of {self._frames} frames: no map of them"


def fit(known: SegmentationMap, picture: Picture) -> Fitted | None:
    """Return a map in the size of a picture; None: it does not show the same."""
    alpha, class_ids = known.alpha, known.class_ids
    height, width = alpha.shape
    if (width, height) == (picture.width, picture.height):
        return Fitted(alpha, class_ids)
    if picture.height == height and picture.width % width == 0:
        times = picture.width // width
        return Fitted(np.tile(alpha, times), np.tile(class_ids, times))
    if abs(picture.width * height - picture.height * width) > max(width, height):
        return None  # by more than a side that was rounded
    size = picture.width, picture.height
    return Fitted(
        np.asarray(cv2.resize(alpha, size, interpolation=cv2.INTER_LINEAR), np.uint8),
        np.asarray(cv2.resize(class_ids, size, interpolation=cv2.INTER_NEAREST), np.uint8),
    )


def decided(alpha: Image) -> Image:
    """Return (H, W) alpha that is 0 or 255 but for the edges."""
    return np.asarray(cv2.LUT(alpha, DECIDED), np.uint8)


def spread(class_ids: Image, shown: Sequence[int]) -> tuple[Image, Image]:
    """Let classes that are shown grow over those that are not, as far as soft edges go.

    Args:
        class_ids: (H, W) uint8.
        shown: which classes are, 255 at most.

    Returns:
        (H, W) uint8: 1 for the first of those that are shown, and so on, 0 where none is; and 255 where one is, else 0.
    """
    table = np.zeros(256, np.uint8)
    for number, class_id in enumerate(shown[:255], 1):
        table[class_id] = number
    own = np.asarray(cv2.LUT(class_ids, table), np.uint8)
    grown = np.asarray(cv2.dilate(own, FRINGE), np.uint8)
    cv2.copyTo(own, own, grown)
    return grown, np.asarray(cv2.threshold(grown, 0, 255, cv2.THRESH_BINARY)[1], np.uint8)
