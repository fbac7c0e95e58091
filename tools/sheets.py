"""Sheets: pictures beside each other with lines of text, written as one picture."""

from __future__ import annotations

import textwrap
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from pipeline.arrays import Image
from pipeline.errors import ConfigError
from pipeline.render.text import LONGEST, Typeface

CAPTION = 24
"""Height of a line, pixels."""
TEXT = 12
"""Of letters, pixels."""
PAPER = 245


@lru_cache(maxsize=1)
def typeface() -> Typeface:
    """The letters of all sheets."""
    return Typeface()


def write_line(sheet: Image, left: int, top: int, text: str) -> None:
    """Write a line in black; what goes over the sheet's edge is cut off."""
    left += 4
    for part in textwrap.wrap(text, LONGEST):  # the typeface shortens what is longer
        written = typeface().patch(part, TEXT)[:CAPTION]
        place = sheet[top : top + written.shape[0], left : left + written.shape[1]]
        np.minimum(place, 255 - written[: place.shape[0], : place.shape[1], None], out=place)
        left += written.shape[1]


def save_sheet(option: str, path: Path, sheet: Image) -> None:
    """Write a sheet in the format that its name says.

    Raises:
        ConfigError: the file cannot be written.
    """
    try:
        written = cv2.imwrite(str(path), sheet)
    except cv2.error as error:
        raise ConfigError(f"{option} {path} cannot be written: {error.err}") from error
    if not written:
        raise ConfigError(f"{option} {path} cannot be written")
