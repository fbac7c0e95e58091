"""The sheet: for each channel three by three patches, the strongest at the top left, with its number and values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.arrays import Image
from pipeline.errors import ConfigError
from tools.sheets import CAPTION, PAPER, write_line

SIDE = 3
"""Patches beside each other, and below each other."""
LARGEST, SMALLEST = 96, 36
"""Side of a patch on the sheet, pixels; smaller where there are many channels."""
FEW = 8
"""Channels beside each other up to which patches are as large as they can be."""
GAP, MARGIN = 2, 14
"""Pixels between patches, and between channels."""
MOST_CHANNELS = 4096
"""Of a sheet: 64 beside each other make a picture of 8000 pixels."""
OUTSIDE = 128
"""Grey of what lies outside a picture."""
RING = 1 / 20
"""Radius of the ring, part of the patch."""
BLACK, WHITE = (0, 0, 0), (255, 255, 255)


@dataclass(frozen=True)
class Block:
    """A channel's patches, as they are drawn."""

    channel: int
    tiles: tuple[Image, ...]
    """The strongest first."""
    values: tuple[float, ...]

    @property
    def caption(self) -> str:
        """Its number, and its highest and lowest value."""
        return f"{self.channel}: " + (f"{self.values[0]:.2g} .. {self.values[-1]:.2g}" if self.values else "silent")


def check_count(channels: int) -> None:
    """See that so many channels make a picture.

    Raises:
        ConfigError: they do not.
    """
    if channels > MOST_CHANNELS:
        raise ConfigError(
            f"{channels} channels make no sheet that could be looked at (at most {MOST_CHANNELS}): say --channels 64 "
            "for the most active ones"
        )


def draw(title: Sequence[str], blocks: Sequence[Block]) -> Image:
    """Draw a sheet about as high as it is wide.

    Args:
        title: lines above.
        blocks: at least one.
    """
    side = patch_side(len(blocks))
    width, height = SIDE * (side + GAP) + MARGIN, SIDE * (side + GAP) + MARGIN + CAPTION
    columns = math.ceil(math.sqrt(len(blocks)))
    top = len(title) * CAPTION + MARGIN
    size = (top + math.ceil(len(blocks) / columns) * height, max(columns * width + MARGIN, 640), 3)
    sheet = np.full(size, PAPER, np.uint8)
    for number, line in enumerate(title):
        write_line(sheet, 4, number * CAPTION + 4, line)
    for number, block in enumerate(blocks):
        y, x = top + number // columns * height, MARGIN + number % columns * width
        write_line(sheet[:, : x + width - MARGIN], x - 4, y, block.caption)
        for place, each in enumerate(block.tiles):
            row, column = divmod(place, SIDE)
            at_y, at_x = y + CAPTION + row * (side + GAP), x + column * (side + GAP)
            sheet[at_y : at_y + each.shape[0], at_x : at_x + each.shape[1]] = each
    return sheet


def patch_side(blocks: int) -> int:
    """Return how large each patch is drawn, where there are so many channels."""
    return int(np.clip(LARGEST * FEW / math.sqrt(max(blocks, 1)), SMALLEST, LARGEST))


def tile(patch: Image, mark: tuple[float, float] | None, side: int) -> Image:
    """Return a patch as it is drawn: scaled, and where it is enlarged in whole pixels, for each of them counts.

    Args:
        patch: what the unit sees.
        mark: (x, y) in it of what gets a ring; None: nothing.
        side: of the longer side, pixels.
    """
    height, width = patch.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    smooth = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    drawn = np.asarray(cv2.resize(patch, size, interpolation=smooth), np.uint8)
    if mark is not None:
        at = (round(mark[0] * scale), round(mark[1] * scale))
        cv2.circle(drawn, at, round(RING * side), BLACK, 3, cv2.LINE_AA)
        cv2.circle(drawn, at, round(RING * side), WHITE, 1, cv2.LINE_AA)
    return drawn
