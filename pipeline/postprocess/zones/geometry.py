"""Points in areas and paths across lines, many points at a time.

An area's edge that lies on the edge of the picture is none: nothing is ever seen beyond it, and whoever is cut off
there would stand on it for ever. So there an area has no end.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]
"""(N, 2) x and y in frame pixels."""
Values = npt.NDArray[np.float64]

LAST_PIXEL = 1.5
"""Corners as near to the picture's edge are on it: a picture of 640 columns ends at 640, to many at 639."""
INSIDE = 1e-3
"""Pixels by which points on the picture's edge are moved into it."""
GRID = 24
"""Places along each axis that are tried to find how thick an area is."""


class Area:
    """A simple polygon in a picture."""

    def __init__(self, corners: Points, width: int, height: int) -> None:
        """Take (K, 2) corners in order, either way round, and the size of the picture in pixels."""
        self._limits = np.array([width, height], np.float64)
        near_end = np.abs(corners - self._limits) <= LAST_PIXEL
        corners = np.where(near_end, self._limits, np.where(corners <= LAST_PIXEL, 0.0, corners))
        after = np.roll(corners, -1, axis=0)
        self._edges = _Edges(corners, after)
        on_border = [(corners == at) & (after == at) for at in (0.0, self._limits)]
        is_real = ~(on_border[0] | on_border[1]).any(axis=1)
        self._real = _Edges(corners[is_real], after[is_real]) if is_real.any() else None
        self.thickness = self._thickness(corners)
        """Largest distance from any edge that a point inside can have; infinite where there is no edge."""

    def distances(self, points: Points) -> Values:
        """Return (N,) how far points are from the nearest edge, in pixels: below 0 outside, 0 on it."""
        x, y = np.minimum(np.maximum(points, INSIDE), self._limits - INSIDE).T
        away = np.full(len(x), np.inf) if self._real is None else self._real.distances(x, y)
        return np.where(self._edges.hold(x, y), away, -away)

    def _thickness(self, corners: Points) -> float:
        low, high = corners.min(axis=0), corners.max(axis=0)
        steps = (np.arange(GRID) + 0.5) / GRID
        grid = np.stack(np.meshgrid(*(low + (high - low) * steps[:, None]).T), axis=-1).reshape(-1, 2)
        return max(0.0, float(self.distances(grid).max()))


class _Edges:
    """The edges between corners; arrays have a row for each edge and a column for each point."""

    def __init__(self, a: Points, b: Points) -> None:
        self._ax, self._ay = a[:, :1], a[:, 1:]
        self._by = b[:, 1:]
        self._dx, self._dy = b[:, :1] - a[:, :1], b[:, 1:] - a[:, 1:]
        self._squared = np.maximum(self._dx**2 + self._dy**2, 1e-12)
        self._rises = self._dy > 0

    def distances(self, x: Values, y: Values) -> Values:
        """Return (N,) how far each point is from the nearest edge."""
        from_x, from_y = x - self._ax, y - self._ay
        along = np.minimum(np.maximum((from_x * self._dx + from_y * self._dy) / self._squared, 0.0), 1.0)
        from_x -= along * self._dx
        from_y -= along * self._dy
        return np.asarray(np.sqrt((from_x * from_x + from_y * from_y).min(axis=0)), np.float64)

    def hold(self, x: Values, y: Values) -> npt.NDArray[np.bool_]:
        """Return (N,) whether each point is inside, by how many edges are to the right of it; on an edge, either."""
        straddles = (self._ay > y) != (self._by > y)
        turn = self._dx * (y - self._ay) - self._dy * (x - self._ax)
        return np.asarray(np.logical_xor.reduce(straddles & ((turn > 0) == self._rises), axis=0))


class Line:
    """A line between two ends, looked at from the first to the second."""

    def __init__(self, ends: Points, width: int, height: int) -> None:
        """Take (2, 2) ends and the size of the picture in pixels."""
        self._first, self._along = ends[0], ends[1] - ends[0]
        self._length = float(np.hypot(*self._along))
        to_right = np.array([-self._along[1], self._along[0]]) / self._length
        middle = ends.mean(axis=0)
        self.room_right = _room(middle, to_right, width, height)
        """Pixels from the line's middle to the picture's edge, to the right."""
        self.room_left = _room(middle, -to_right, width, height)

    def distances(self, points: Points) -> Values:
        """Return (N,) how far points are from the line, made endless, in pixels: below 0 to the left, as seen.

        y grows downwards: seen from the first end, what is clockwise of the second is to the right.
        """
        return _turn(self._along, points - self._first) / self._length

    def crossings(self, before: Points, after: Points) -> Values:
        """Return (N,) 1 where a path leads over the line to the right, -1 to the left, 0 where it does not.

        A path past an end does not cross; through an end it does. Points on the line itself count as left of it, so
        that of two steps, onto the line and off it, one crosses.
        """
        was_right = _turn(self._along, before - self._first) > 0
        is_right = _turn(self._along, after - self._first) > 0
        path = after - before
        first = _turn(path, self._first - before)
        second = _turn(path, self._first + self._along - before)
        parts = ((first >= 0) & (second <= 0)) | ((first <= 0) & (second >= 0))
        return np.where(parts, is_right.astype(np.float64) - was_right, 0.0)


def _turn(a: Points, b: Points) -> Values:
    """Return the cross product: over 0 where b points clockwise of a on the screen."""
    return np.asarray(a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0], np.float64)


def _room(start: Values, towards: Values, width: int, height: int) -> float:
    """Return how far it is from a point to the edge of the picture, in a direction of length 1."""
    room = np.inf
    for at, step, end in zip(start.tolist(), towards.tolist(), (width, height), strict=True):
        if abs(step) > 1e-9:
            room = min(room, ((end if step > 0 else 0.0) - at) / step)
    return max(0.0, float(room))
