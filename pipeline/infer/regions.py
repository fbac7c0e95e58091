"""Regions: where in each source's frames a detector looks."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pipeline.errors import ConfigError
from pipeline.infer.tiles import TileOptions, reaches_beyond, windows

if TYPE_CHECKING:
    from pipeline.picture import Picture, Rectangle

logger = logging.getLogger(__name__)


class Regions:
    """The windows of every source's frames; says once of each source what is not as it was asked for."""

    def __init__(self, tiles: TileOptions, regions: Mapping[str, Rectangle], input_size: tuple[int, int]) -> None:
        """Know no frame yet.

        Args:
            tiles: how frames, or their regions, are cut.
            regions: left, top, width, height to stay in, by the source's name.
            input_size: height and width of the model's input.
        """
        self._tiles, self._regions, self._input_size = tiles, regions, input_size
        self._made: dict[tuple[str, int, int], tuple[Rectangle, ...]] = {}

    def windows(self, source: str, picture: Picture) -> tuple[Rectangle, ...]:
        """Return where to look in a source's frame.

        Raises:
            ConfigError: its region lies outside the frame, or there are too many tiles.
        """
        key = source, picture.height, picture.width
        if key not in self._made:
            self._made[key] = self._windows(source, key[1:])
        return self._made[key]

    def _windows(self, source: str, size: tuple[int, int]) -> tuple[Rectangle, ...]:
        region = self._regions.get(source)
        try:
            made = windows(size, self._input_size, self._tiles, region)
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}") from error
        shape = f"{size[1]}x{size[0]}"
        if region is not None and reaches_beyond(region, size):
            logger.warning("%s: detect_in %s reaches beyond its frames of %s: cut off", source, list(region), shape)
        if self._tiles.tiles not in (None, "auto") and len(made) == 1:
            logger.warning(
                "%s: detect.tiles %s is no smaller than its frames of %s: the whole is detected in",
                source,
                self._tiles.tiles,
                shape,
            )
        return made

    def describe(self) -> str:
        """Say how many windows the frames had."""
        counts = sorted({len(made) for made in self._made.values()})
        if not counts or counts == [1]:
            return ""
        return (
            f", {counts[0]} windows a frame" if len(counts) == 1 else f", {counts[0]} to {counts[-1]} windows a frame"
        )
