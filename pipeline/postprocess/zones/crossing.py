"""Crossing: who has gone over a line, and which way.

Which side an object is on is decided beyond the margin and after a while; whether it went over the line, and not round
its end, by its path from frame to frame. A crossing is both: another side than before, and on balance one more way over
the line in that direction than back. So what jumps over the line between two frames counts, and what stands on it and
trembles does not.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from pipeline.postprocess.zones.area import Event, number_of, rows_of, speeding, told
from pipeline.postprocess.zones.geometry import Line
from pipeline.postprocess.zones.held import Held, beyond
from pipeline.postprocess.zones.tracks import Table
from pipeline.zones import ZoneState

if TYPE_CHECKING:
    from pipeline.arrays import FloatArray
    from pipeline.config.result_settings import ZoneSettings
    from pipeline.postprocess.zones.tracks import Seen, Someone

ROOM = 0.5
"""Part of the room between the line and the picture's edge that the margin takes at most."""
ALARM_S = 1.0
"""So long after somebody crossed too fast something is the matter."""


class LineWatch:
    """One line of one source."""

    def __init__(self, settings: ZoneSettings) -> None:
        self._settings = settings
        self._held = Held(settings.debounce_s, 0)
        self._paths = Table(point=(np.nan, np.nan), ways=0.0)
        """Where each object was last, and how often it went over the line to the right, less to the left."""
        self._labels: dict[int, str] = {}
        """What each object was called last that is of the line's classes, where not all count."""
        self._entered: Counter[str] = Counter()
        self._left: Counter[str] = Counter()
        self._now = self._alarm_until = -np.inf
        self._state: ZoneState | None = None

    def place(self, points: FloatArray, width: int, height: int) -> None:
        """Take (2, 2) ends in pixels of frames of a size."""
        self._points, self._state = points, None
        self._line = Line(points.astype(np.float64), width, height)

    def watch(self, seen: Seen) -> list[Event]:
        """Take the objects in a frame; return what has happened."""
        self._now = seen.time_s
        self._held.reach(seen.size)
        self._paths.reach(seen.size)
        if self._settings.classes:
            each = zip(seen.places.tolist(), seen.labels, strict=True)
            self._labels |= {place: label for place, label in each if label in self._settings.classes}
        rows = rows_of(self._settings, seen, self._labels)
        places = seen.places[rows]
        if seen.is_predicted or not len(places):
            return []
        points = (seen.feet if self._settings.anchor == "bottom" else seen.centres)[rows]
        paths = self._paths
        ways = paths["ways"][places] + self._line.crossings(paths["point"][places], points)
        margins = self._settings.margin * seen.heights[rows]
        least = -np.minimum(margins, ROOM * self._line.room_left)
        most = np.minimum(margins, ROOM * self._line.room_right)
        sides = beyond(self._line.distances(points), least, most)
        changed = self._held.observe(places, sides, seen.time_s).rows
        paths["point"][places] = points
        paths["ways"][places] = np.where(sides * self._held.sides(places) > 0, 0.0, ways)  # at home: all is settled
        events: list[Event] = []
        for row in changed:
            if ways[row] * sides[row] > 0:
                number = number_of(rows, row)
                events.append(self._cross(int(places[row]), seen.someone(number), sides[row] > 0))
                events += self._check_speed(seen, number)
        return events

    def gone(self, place: int, someone: Someone, seen_at: float) -> list[Event]:
        """Take that somebody was not seen since a time, and will not be again.

        Who was beyond the line when last seen has not come back: it counts without having stayed there.
        """
        side = self._held.wavering(place)
        events = [self._cross(place, someone, side > 0)] if self._paths["ways"][place] * side > 0 else []
        self._held.clear(place)
        self._paths.clear(place)
        self._labels.pop(place, None)
        return events

    def _cross(self, place: int, someone: Someone, to_right: bool) -> Event:
        label = self._labels.get(place, someone.label)
        (self._entered if to_right else self._left)[label] += 1
        self._state = None
        return {
            "event": "line.cross",
            "zone": self._settings.name,
            "direction": "in" if to_right else "out",
            **told(someone),
            "class": label,
            "entered": dict(self._entered),
            "left": dict(self._left),
        }

    def _check_speed(self, seen: Seen, row: int) -> list[Event]:
        """Report who crosses too fast."""
        limit = self._settings.max_speed
        if limit is None or not seen.speeds[row] > limit:
            return []
        self._alarm_until = seen.time_s + ALARM_S
        return [speeding(self._settings, seen, row)]

    def state(self) -> ZoneState:
        """Return what is drawn and counted."""
        alarm = self._now < self._alarm_until
        if self._state is None or self._state.alarm != alarm:
            self._state = ZoneState(
                self._settings.name,
                self._points,
                is_line=True,
                entered=dict(self._entered),
                left=dict(self._left),
                alarm=alarm,
            )
        return self._state
