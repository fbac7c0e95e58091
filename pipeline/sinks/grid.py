"""Grid: the pictures of all sources side by side, merged by media time.

Sources arrive at their own pace, so pictures wait until every source that is still running has one, and the
earliest goes first. The fastest source sets the rate; the others' tiles are updated in between. Files are read in
step by media time (`pipeline.capture.step`), so little has to wait; for a source that has gone dead no more than
`PATIENCE` pictures do, so memory stays bounded (70 MB).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from pipeline.capture.source import SourceInfo
from pipeline.infer.letterbox import Letterbox
from pipeline.picture import Planes, bgr_to_planes, planes_to_bgr

PATIENCE = 90
"""Pictures of all sources that may wait for one that sends nothing."""
LARGEST_TILE = (960, 540)
DEFAULT_TILE = (640, 360)


class Grid:
    """Composes one picture of all sources; all tiles have the size of the largest source, at most 960 x 540."""

    def __init__(self, sources: Sequence[SourceInfo]) -> None:
        """Lay out the tiles, row by row, in the order of the sources."""
        columns = math.ceil(math.sqrt(len(sources)))
        rows = math.ceil(len(sources) / columns)
        self._tile_width = _even(max(min(s.width or DEFAULT_TILE[0], LARGEST_TILE[0]) for s in sources))
        self._tile_height = _even(max(min(s.height or DEFAULT_TILE[1], LARGEST_TILE[1]) for s in sources))
        height, width = rows * self._tile_height, columns * self._tile_width
        data = np.full((height * 3 // 2, width), 128, np.uint8)
        data[:height] = 16
        self._canvas = Planes(data)
        self._places = {
            source.name: (number // columns * self._tile_height, number % columns * self._tile_width)
            for number, source in enumerate(sources)
        }
        self._rates = {source.name: source.fps or 0.0 for source in sources}
        self._waiting: dict[str, deque[tuple[float, Planes]]] = {source.name: deque() for source in sources}
        self._running = set(self._places)

    def add(self, source: str, time_s: float, planes: Planes) -> Iterator[tuple[float, Planes]]:
        """Take a source's picture; yield the merged pictures that are complete. Use each before the next."""
        self._waiting[source].append((time_s, self._tile(planes)))
        return self._merge()

    def end(self, source: str) -> Iterator[tuple[float, Planes]]:
        """Wait no longer for a source; yield what was waiting for it."""
        self._running.discard(source)
        return self._merge()

    def _merge(self) -> Iterator[tuple[float, Planes]]:
        while self._all_have_some() or self._too_many_wait():
            waiting = [source for source, queue in self._waiting.items() if queue]
            leader = max(waiting, key=self._rates.__getitem__)
            source = min(waiting, key=lambda source: (self._waiting[source][0][0], source == leader))
            time_s, tile = self._waiting[source].popleft()
            self._paste(source, tile)
            if source == leader:  # the last of those with this time, so all tiles are up to date
                yield time_s, self._canvas

    def _all_have_some(self) -> bool:
        """Whether the next picture is known: one that has not come yet cannot be earlier than all that wait."""
        return any(self._waiting.values()) and all(self._waiting[source] for source in self._running)

    def _too_many_wait(self) -> bool:
        return sum(map(len, self._waiting.values())) > PATIENCE

    def _tile(self, planes: Planes) -> Planes:
        """Scale a picture to fit its tile, keeping its shape; the grid is BT.601, limited range."""
        if planes.matrix != "bt601" or planes.full_range:
            planes = bgr_to_planes(planes_to_bgr(planes))
        fit = Letterbox.plan((planes.height, planes.width), (self._tile_height, self._tile_width), "letterbox-centre")
        height, width = (_even(side) for side in fit.content)
        data = np.empty((height * 3 // 2, width), np.uint8)
        tile = Planes(data)
        for source, target in zip((planes.y, planes.u, planes.v), (tile.y, tile.u, tile.v), strict=True):
            smaller = target.shape[0] < source.shape[0]
            way = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
            target[:] = cv2.resize(source, target.shape[::-1], interpolation=way)
        return tile

    def _paste(self, source: str, tile: Planes) -> None:
        top, left = self._places[source]
        top += _even((self._tile_height - tile.height) // 2, least=0)
        left += _even((self._tile_width - tile.width) // 2, least=0)
        self._canvas.y[top : top + tile.height, left : left + tile.width] = tile.y
        for canvas, plane in ((self._canvas.u, tile.u), (self._canvas.v, tile.v)):
            canvas[top // 2 : top // 2 + plane.shape[0], left // 2 : left // 2 + plane.shape[1]] = plane


def _even(number: int, least: int = 2) -> int:
    return max(least, number // 2 * 2)
