"""Tiles: large pictures are detected in window by window, so that the model sees them about as large as they are.

A 4K frame in an input of 416 pixels is a ninth of its size, and what is smaller than 70 pixels is lost. On 4K
composites of COCO images yolox-nano has an AP of 1.7 on the whole, 26.6 with 32 tiles, 23.6 with 84; of small objects
0, 10.9, 17.2 (`frameloom bench tiles`). On the same images alone, 640x480, tiles raise AP from 34.9 to 37.7. This file
says where the windows are, `tiled_detector` detects in them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from pipeline.errors import ConfigError
from pipeline.picture import Rectangle

HARDLY_LARGER = 1.5
"""Up to so many times the model's input a picture needs no tiles."""
AUTO_MOST = 32
"""Tiles that `auto` makes of a picture at most: for a larger one they grow, and the model sees them smaller."""
AUTO_STEP = 1.05
"""By how much they grow at a time."""
MOST = 256
"""Tiles of a picture at most."""
SMALLEST = 32
"""Pixels of a tile's side, at least."""


@dataclass(frozen=True)
class TileOptions:
    """How a large picture is cut."""

    tiles: Literal["auto"] | int | tuple[int, int] | None = None
    """`auto`: of the size of the model's input, or larger where those would be too many; the side of a tile in pixels;
    rows and columns; None: not at all."""
    overlap: float = 0.2
    """Part of a tile that the next one shares with it."""
    full_frame: bool = True
    """Whether the whole picture is a window, too."""


@lru_cache(maxsize=64)
def windows(
    size: tuple[int, int], input_size: tuple[int, int], options: TileOptions, region: Rectangle | None = None
) -> tuple[Rectangle, ...]:
    """Return the parts of a picture to detect in: left, top, width, height in its pixels.

    All are even where the picture's sides are, so that planes can be cut. The whole comes first, if it is one of them;
    it is the only one where tiles would be no smaller.

    Args:
        size: height and width of the picture.
        input_size: height and width of the model's input.
        options: how to cut.
        region: the part of the picture to stay in; what of it lies outside the picture is left away.

    Raises:
        ConfigError: the region lies outside the picture, or there are too many tiles.
    """
    whole = _even((0, 0, size[1], size[0]) if region is None else region, size)
    left, top, width, height = whole
    rows, columns = _grid((height, width), input_size, options)
    count = rows.count * columns.count
    if count == 1:
        return (whole,)
    if count > MOST:
        raise ConfigError(f"detect.tiles: {count} parts of {width}x{height} pixels, at most {MOST}: make them larger")
    tiles = [(left + x, top + y, columns.side, rows.side) for y in rows.starts() for x in columns.starts()]
    return (whole, *tiles) if options.full_frame else tuple(tiles)


def reaches_beyond(region: Rectangle, size: tuple[int, int]) -> bool:
    """Return whether a part of a region lies outside a picture of a height and width."""
    return region[0] + region[2] > size[1] or region[1] + region[3] > size[0]


def _even(region: Rectangle, size: tuple[int, int]) -> Rectangle:
    height, width = size
    left, top = region[0] // 2 * 2, region[1] // 2 * 2
    right = min(width, math.ceil((region[0] + region[2]) / 2) * 2)
    bottom = min(height, math.ceil((region[1] + region[3]) / 2) * 2)
    if right <= left or bottom <= top:
        raise ConfigError(
            f"detect_in {list(region)} (left, top, width, height) lies outside the picture, which is {width}x{height}"
        )
    return left, top, right - left, bottom - top


@dataclass(frozen=True)
class _Along:
    """Tiles along one axis of a picture."""

    length: int
    side: int
    count: int

    @classmethod
    def of_side(cls, length: int, side: float, overlap: float) -> _Along:
        """As many of a side as it takes."""
        whole = min(length, max(SMALLEST, round(side / 2) * 2))
        return cls(length, whole, max(1, math.ceil((length - whole * overlap) / (whole * (1 - overlap)) - 1e-9)))

    @classmethod
    def divided(cls, length: int, count: int, overlap: float) -> _Along:
        """So many, of the side that it takes."""
        side = math.ceil(length / (count - (count - 1) * overlap) / 2) * 2
        return cls(length, min(length, max(SMALLEST, side)), count)

    def starts(self) -> list[int]:
        """Where each begins: evenly spread, on even pixels."""
        free = self.length - self.side
        return [min(free, round(free * i / max(1, self.count - 1) / 2) * 2) for i in range(self.count)]


def _grid(size: tuple[int, int], input_size: tuple[int, int], options: TileOptions) -> tuple[_Along, _Along]:
    """Return the rows and columns of a picture, or of a region of that size."""
    tiles, overlap = options.tiles, options.overlap
    if tiles == "auto":
        return _automatic(size, input_size, overlap)
    if tiles is None:
        return _Along(size[0], size[0], 1), _Along(size[1], size[1], 1)
    if isinstance(tiles, int):
        return _Along.of_side(size[0], tiles, overlap), _Along.of_side(size[1], tiles, overlap)
    return _Along.divided(size[0], tiles[0], overlap), _Along.divided(size[1], tiles[1], overlap)


def _automatic(size: tuple[int, int], input_size: tuple[int, int], overlap: float) -> tuple[_Along, _Along]:
    larger = max(side / of_input for side, of_input in zip(size, input_size, strict=True))
    grown = 1.0 if larger > HARDLY_LARGER else larger
    while True:
        rows = _Along.of_side(size[0], input_size[0] * grown, overlap)
        columns = _Along.of_side(size[1], input_size[1] * grown, overlap)
        if rows.count * columns.count <= AUTO_MOST:
            return rows, columns
        grown *= AUTO_STEP
