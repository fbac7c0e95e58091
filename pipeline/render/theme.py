"""Themes: which colours things have. Text is always near white on near black, whatever is behind it or beside it.

A patch in the colour of its object would need black or white letters by class, and on YUV planes letters keep the
chroma of what they are written on. So the patch is dark, and a bar at its left has the object's colour.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from pipeline.render.canvas import Colour

GOLDEN_RATIO = 0.618034

ThemeName = Literal["vivid", "colour-blind", "mono"]


def _rgb(code: int) -> Colour:
    """Return 0xRRGGBB as blue, green, red."""
    return code & 255, code >> 8 & 255, code >> 16


@dataclass(frozen=True)
class Theme:
    """Colours."""

    classes: tuple[Colour, ...]
    """Taken in turn; empty: hues, each a golden ratio from the last."""
    known: Colour
    unknown: Colour
    landmark: Colour
    zone: Colour
    alarm: Colour
    ink: int
    """Of letters, 0..255."""
    paper: int
    """Behind them."""
    halo: Colour | None = None
    """Around outlines, where they have no colour of their own to be seen by."""

    def of_class(self, class_id: int) -> Colour:
        """Return a colour that is always the same for a class."""
        return self.classes[class_id % len(self.classes)] if self.classes else class_colour(class_id)


@lru_cache(maxsize=1024)
def class_colour(class_id: int) -> Colour:
    """Return a colour that is always the same for a class, and far from its neighbours' (hues a golden ratio apart)."""
    red, green, blue = colorsys.hsv_to_rgb(class_id * GOLDEN_RATIO % 1, 0.8, 1.0)
    return round(blue * 255), round(green * 255), round(red * 255)


VIVID = Theme(
    classes=(),
    known=_rgb(0x3CDC50),
    unknown=_rgb(0xBEBEBE),
    landmark=_rgb(0x00A0FF),
    zone=_rgb(0x8FD3FF),
    alarm=_rgb(0xFF4A3D),
    ink=255,
    paper=24,
)
COLOUR_BLIND = replace(
    VIVID,
    classes=tuple(map(_rgb, (0xE69F00, 0x56B4E9, 0x009E73, 0xF0E442, 0x0072B2, 0xD55E00, 0xCC79A7))),
    known=_rgb(0x56B4E9),
    landmark=_rgb(0xF0E442),
    zone=_rgb(0xFFFFFF),
    alarm=_rgb(0xD55E00),
)
"""Okabe and Ito, Color Universal Design (2008): eight colours that everybody can tell apart; the eighth is black."""
MONO = Theme(
    classes=(_rgb(0xFFFFFF),),
    known=_rgb(0xFFFFFF),
    unknown=_rgb(0xA0A0A0),
    landmark=_rgb(0xFFFFFF),
    zone=_rgb(0xC8C8C8),
    alarm=_rgb(0xFFFFFF),
    ink=255,
    paper=0,
    halo=_rgb(0x000000),
)
THEMES: dict[ThemeName, Theme] = {"vivid": VIVID, "colour-blind": COLOUR_BLIND, "mono": MONO}
