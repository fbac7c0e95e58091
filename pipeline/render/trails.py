"""Trails: where tracked objects stood in the last seconds of media time.

A point is kept only where an object has moved on by some pixels, so one that stands still costs nothing and 60 s of a
fast one no more than `MOST_POINTS`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from pipeline.arrays import FloatArray, IntArray
from pipeline.frame import UNTRACKED
from pipeline.render.canvas import Canvas, Colour

MOST_POINTS = 128
MOST_TRACKS = 512
"""Of one source: the oldest give way."""
STEP = 1 / 90
"""Part of the picture's shorter side that an object moves from one point to the next."""


@dataclass
class _Source:
    """The trails of one source, the one that was longest not seen first."""

    seen_s: float = float("-inf")
    points: dict[int, deque[tuple[float, float, float]]] = field(default_factory=dict)
    """Of each track: media time, x, y."""


class Trails:
    """The trails of all sources.

    Args:
        seconds: how long a trail is.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._sources: dict[str, _Source] = {}

    def follow(self, source: str, time_s: float, track_ids: IntArray, boxes: FloatArray, step: float) -> None:
        """Note where objects stand: the middle of their boxes' lower edges.

        Args:
            source: name.
            time_s: media time; where it goes back, all trails begin anew.
            track_ids: (N,); `UNTRACKED` has no trail.
            boxes: (N, 4) xyxy in pixels.
            step: pixels that an object must have moved for another point.
        """
        kept = self._sources.setdefault(source, _Source())
        if time_s < kept.seen_s:
            kept.points.clear()
        kept.seen_s = time_s
        for track, (left, _, right, bottom) in zip(track_ids.tolist(), boxes.tolist(), strict=True):
            if track != UNTRACKED:
                trail = kept.points.pop(track, None) or deque(maxlen=MOST_POINTS)
                kept.points[track] = trail  # now the last
                _append(trail, (time_s, (left + right) / 2, bottom), step)
        self._forget(kept, time_s - self._seconds)

    def of(self, source: str, track: int) -> IntArray:
        """Return (K, 2) int32 pixels of a trail, the oldest first; smoothed, as boxes tremble."""
        kept = self._sources.get(source)
        points = np.array(kept.points.get(track, ()) if kept else (), np.float32).reshape(-1, 3)[:, 1:]
        points[1:-1] = (points[:-2] + 2 * points[1:-1] + points[2:]) / 4
        return np.asarray(points.round(), np.int32)

    def end(self, source: str) -> None:
        """Forget a source."""
        self._sources.pop(source, None)

    @staticmethod
    def _forget(kept: _Source, before_s: float) -> None:
        """Drop what is too old, and what is too much."""
        for track in list(kept.points):
            trail = kept.points[track]
            while trail and trail[0][0] < before_s:
                trail.popleft()
            if not trail or len(kept.points) > MOST_TRACKS:
                del kept.points[track]


def _append(trail: deque[tuple[float, float, float]], point: tuple[float, float, float], step: float) -> None:
    """Add a point; the newest one moves with the object until it is a step from the one before."""
    if len(trail) > 1 and max(abs(trail[-1][1] - trail[-2][1]), abs(trail[-1][2] - trail[-2][2])) < step:
        trail.pop()
    trail.append(point)


def draw_trail(canvas: Canvas, points: IntArray, colour: Colour, thickness: int) -> None:
    """Draw a line whose older half is thin.

    Args:
        canvas: what to draw on.
        points: (K, 2) pixels, the oldest first.
        colour: of the line.
        thickness: of its newest part.
    """
    if len(points) > 1:
        canvas.polyline(points, colour, max(1, thickness // 2))
        canvas.polyline(points[len(points) // 2 :], colour, thickness)
