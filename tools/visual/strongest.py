"""The pictures that excite each channel of a layer most, and where in them: nine of each, however many are seen.

Source: Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks" (2014), section 4; Girshick et al.,
"Rich feature hierarchies for accurate object detection and semantic segmentation" (2014), section 3.1. Of each picture
only the unit that is excited most counts, so nine different pictures are seen. Only values and places are kept, 250
bytes a channel; a place is cut out of its picture when it is drawn.

Units at the border see the zeros that convolutions pad with, an edge that no picture has. Units whose field sticks out
of the picture are left out, but never more than a quarter of the map on each side.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.arrays import FloatArray
from tools.visual.fields import Field
from tools.visual.layers import Layer

MOST = 9
LEFT_OUT = 0.25
"""Part of a map's rows, and of its columns, that is left out on each side at most."""


class Place(NamedTuple):
    """Where a channel was excited."""

    value: float
    picture: int
    """Its number."""
    row: int
    """Of the unit in the layer's map."""
    column: int


class Strongest:
    """The most exciting places of each channel so far.

    Args:
        layer: whose channels they are.
        size: height and width of the network's input.
    """

    def __init__(self, layer: Layer, size: tuple[int, int]) -> None:
        count = layer.channels
        self._values = np.full((count, MOST), -np.inf, np.float32)
        self._places: npt.NDArray[np.int64] = np.zeros((count, MOST, 3), np.int64)  # picture, row, column
        self._lowest = np.full(count, np.inf, np.float32)
        self._whole = not layer.places
        self._inside = (slice(None), slice(None))
        if layer.field is not None:
            units = (layer.shape[axis] for axis in layer.places)
            rows, columns = map(_inside, layer.field, units, size)
            self._inside = (rows, columns)

    def add(self, picture: int, maps: FloatArray) -> None:
        """Take in (channels, rows, columns) of a picture.

        A channel that says the same of all places in a picture points at none, so that picture does not count for it.
        Of equal values the earlier picture's is kept. Values that are no numbers do not count.
        """
        rows, columns = self._inside
        inner = maps[:, rows, columns]
        flat = np.where(np.isfinite(inner), inner, -np.inf).reshape(len(maps), -1)
        at = flat.argmax(axis=1)
        best = flat[np.arange(len(flat)), at]
        if not self._whole and flat.shape[1] > 1:
            best = np.where(best > flat.min(axis=1), best, -np.inf)
        self._lowest = np.minimum(self._lowest, best)
        better = np.flatnonzero(best > self._values[:, -1])
        first = np.array([rows.start or 0, columns.start or 0])
        where = np.stack(np.unravel_index(at[better], inner.shape[1:]), axis=1) + first
        self._values[better, -1] = best[better]
        self._places[better, -1] = np.concatenate([np.full((len(better), 1), picture), where], axis=1)
        order = np.argsort(-self._values[better], axis=1, kind="stable")
        self._values[better] = np.take_along_axis(self._values[better], order, axis=1)
        self._places[better] = np.take_along_axis(self._places[better], order[..., None], axis=1)

    def of(self, channel: int) -> list[Place]:
        """Return the places of a channel, the strongest first; none, if no picture excites it more than another."""
        values = self._values[channel]
        if self._whole and values[0] <= self._lowest[channel] and np.isfinite(values[1]):
            return []
        known = np.isfinite(values)
        return [Place(float(v), *map(int, p)) for v, p in zip(values[known], self._places[channel][known], strict=True)]

    def most_active(self, count: int | None) -> list[int]:
        """Return the channels with the highest mean of what is kept, highest first; None: all, in their order."""
        channels = range(len(self._values))
        if count is None:
            return list(channels)
        kept = {channel: [place.value for place in self.of(channel)] for channel in channels}
        active = [channel for channel in channels if kept[channel]]
        return sorted(active, key=lambda channel: -float(np.mean(kept[channel])))[:count]


def _inside(field: Field, units: int, side: int) -> slice:
    """Return the units whose fields lie in the picture, and as many more as must count."""
    most = int(units * LEFT_OUT)
    out = [field.of(unit)[0] < 0 or field.of(unit)[1] > side - 1 for unit in range(units)]
    before = next((unit for unit in range(most) if not out[unit]), most)
    after = next((unit for unit in range(most) if not out[units - 1 - unit]), most)
    return slice(before, units - after)
