"""Typeface: text as patches of grey pixels, which a canvas puts where they belong.

OpenCV's own font "sans" has Latin, Greek, Cyrillic, Hebrew, Arabic, Chinese, Japanese and Korean letters, and stands in
for those that a named font lacks. Measured: 7 us for a line of 14 letters, 0.3 us where it was drawn before.
"""

from __future__ import annotations

import logging
import unicodedata
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from pipeline.arrays import Image
from pipeline.errors import ConfigError
from pipeline.render.font_file import check_font
from pipeline.render.writing import in_drawing_order

BUILT_IN = "sans"
WEIGHT = 450
"""A little more than regular (400): thin strokes do not survive a video encoder."""
ABOVE, BELOW = 0.92, 0.28
"""Parts of the size above the baseline (accents of capitals) and below it."""
PADDING = 0.28
"""Part of the size that is free to the left and right."""
SPACE = "  "
"""OpenCV's spaces are so narrow that "car 7 0.61" reads as one number."""
LONGEST = 48
"""Letters: a longer text ends in dots."""
KEPT = 512
"""Texts whose pixels are kept: 2 MB at 1080p."""
REFERENCE = 24
"""Size at which letters are compared."""

_log = logging.getLogger(__name__)


class Typeface:
    """One font, in all sizes.

    Args:
        font: TrueType or OpenType file; None: OpenCV's own.

    Raises:
        ConfigError: the file is no font.
    """

    def __init__(self, font: Path | None = None) -> None:
        if font is not None:
            check_font(font)
        self._face = cv2.FontFace(BUILT_IN if font is None else str(font))
        if not self._face.getName():
            raise ConfigError(f"render.font: {font} cannot be used by OpenCV: name another font")
        self.patch = lru_cache(maxsize=KEPT)(self._patch)
        """Of a text, a size in pixels, and the levels of paper and ink: (H, W) uint8, H and W even; read-only."""
        self.has = lru_cache(maxsize=4096)(self._has)
        """Whether a character can be drawn."""
        self._told: set[str] = set()
        """Characters that were said to be missing."""

    def _patch(self, text: str, size: int, paper: int = 0, ink: int = 255) -> Image:
        line = in_drawing_order(one_line(text), self.has).replace(" ", SPACE)
        self._tell_of_missing(line)
        width, lowest = self._extent(line, size)
        above, padding = round(ABOVE * size), max(2, round(PADDING * size))
        shape = _even(above + max(lowest, round(BELOW * size)) + 2), _even(width + 2 * padding)
        pixels = np.full(shape, paper, np.uint8)
        self._put(pixels, line, (padding, above + 1), size, ink)
        pixels.flags.writeable = False
        return pixels

    def _extent(self, line: str, size: int) -> tuple[int, int]:
        """Return the width, and how far below the baseline the text goes."""
        _, top, width, height = cv2.getTextSize((0, 0), line, (0, 0), self._face, size, WEIGHT)
        return width, top + height

    def _put(self, pixels: Image, line: str, at: tuple[int, int], size: int, ink: int = 255) -> None:
        cv2.putText(pixels, line, at, (ink,), self._face, size, WEIGHT)

    def _has(self, character: str) -> bool:
        """Compare with the question mark that OpenCV draws for what no font has."""
        if character.isspace() or character == "?":
            return True
        drawn = np.zeros((2, 2 * REFERENCE, 3 * REFERENCE), np.uint8)
        for pixels, each in zip(drawn, (character, "?"), strict=True):
            self._put(pixels, each, (REFERENCE // 2, round(1.5 * REFERENCE)), REFERENCE)
        return not np.array_equal(*drawn)

    def _tell_of_missing(self, line: str) -> None:
        """Say of each character once that it is missing."""
        missing = set() if line.isascii() else {each for each in line if not self.has(each)} - self._told
        self._told |= missing
        if missing:
            _log.warning("no font has %s: name one that has with render.font", "".join(sorted(missing)))


def one_line(text: str) -> str:
    """Return a text as it can be drawn: composed letters, no control characters, not too long."""
    if text.isascii() and text.isprintable() and len(text) <= LONGEST:
        return text
    composed = unicodedata.normalize("NFC", text)
    line = "".join(" " if each.isspace() else each for each in composed if each.isspace() or each.isprintable())
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def _even(length: int) -> int:
    """Round up: chroma has half the resolution."""
    return length + length % 2
