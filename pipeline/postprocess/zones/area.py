"""Area: who is inside a polygon, for how long, whether they are too many or too fast."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.postprocess.zones.geometry import Area
from pipeline.postprocess.zones.held import Held, beyond
from pipeline.zones import ZoneState

if TYPE_CHECKING:
    from collections.abc import Container

    from pipeline.arrays import FloatArray
    from pipeline.config.result_settings import ZoneSettings
    from pipeline.postprocess.zones.tracks import Places, Rows, Seen, Someone

Event = dict[str, Any]
CALM_S = 1.0
"""So long it must be no more than allowed before too many are reported again."""
CALM_SPEED = 0.9
"""Part of the allowed speed below which somebody is not too fast any more."""
THICK = 0.5
"""Part of an area's thickness that the margin takes at most: a large object gets into a narrow area, too."""
SECONDS_DECIMALS, SPEED_DECIMALS = 3, 2


@dataclass
class Stay:
    """Somebody inside."""

    label: str
    since: float
    is_long: bool = False
    """Whether that was reported."""


class AreaWatch:
    """One area of one source."""

    def __init__(self, settings: ZoneSettings) -> None:
        self._settings = settings
        self._held = Held(settings.debounce_s, -1)
        self._fast = Held(settings.debounce_s, -1)
        self._stays: dict[int, Stay] = {}
        self._inside: Counter[str] = Counter()
        self._entered: Counter[str] = Counter()
        self._left: Counter[str] = Counter()
        self._is_fast = self._is_crowded = False
        self._calm_since: float | None = None
        self._state: ZoneState | None = None

    def place(self, points: FloatArray, width: int, height: int) -> None:
        """Take (K, 2) corners in pixels of frames of a size."""
        self._points, self._state = points, None
        self._area = Area(points.astype(np.float64), width, height)
        self._most_margin = THICK * self._area.thickness

    def watch(self, seen: Seen) -> list[Event]:
        """Take the objects in a frame; return what has happened."""
        events: list[Event] = []
        self._held.reach(seen.size)
        self._fast.reach(seen.size)
        rows = rows_of(self._settings, seen, self._stays)
        places = seen.places[rows]
        if not seen.is_predicted and len(places):
            points = (seen.feet if self._settings.anchor == "bottom" else seen.centres)[rows]
            margins = self._settings.margin * seen.heights[rows]
            sides = beyond(self._area.distances(points), -margins, np.minimum(margins, self._most_margin))
            changes = self._held.observe(places, sides, seen.time_s)
            for row in changes.rows:
                someone, since = seen.someone(number_of(rows, row)), float(changes.since[row])
                events.append((self._enter if sides[row] > 0 else self._leave)(int(places[row]), someone, since))
        if self._stays:
            events += self._check_times(seen)
            events += self._check_speeds(seen, rows)
        return events + self._check_number(seen.time_s)

    def gone(self, place: int, someone: Someone, seen_at: float) -> list[Event]:
        """Take that somebody was not seen since a time, and will not be again."""
        events = [self._leave(place, someone, seen_at)] if place in self._stays else []
        self._held.clear(place)
        return events

    def _enter(self, place: int, someone: Someone, since: float) -> Event:
        self._stays[place] = Stay(someone.label, since)
        self._inside[someone.label] += 1
        self._entered[someone.label] += 1
        return self._event("zone.enter", someone)

    def _leave(self, place: int, someone: Someone, since: float) -> Event:
        stay = self._stays.pop(place)
        self._inside[stay.label] -= 1
        self._left[stay.label] += 1
        self._fast.clear(place)
        event = self._event("zone.leave", someone) | {"class": stay.label}
        return event | {"dwell_s": round(max(0.0, since - stay.since), SECONDS_DECIMALS)}

    def _event(self, name: str, someone: Someone) -> Event:
        self._state = None
        return {"event": name, "zone": self._settings.name, **told(someone), "inside": dict(self._inside)}

    def _check_times(self, seen: Seen) -> list[Event]:
        """Report once who is here for long, of those who are seen."""
        limit = self._settings.dwell_s
        if limit is None:
            return []
        events = []
        for row, place in enumerate(seen.places.tolist()):
            stay = self._stays.get(place)
            if stay and not stay.is_long and seen.time_s - stay.since >= limit:
                stay.is_long = True
                dwell_s = round(seen.time_s - stay.since, SECONDS_DECIMALS)
                event = self._event("zone.dwell", seen.someone(row)) | {"class": stay.label}
                events.append(event | {"dwell_s": dwell_s})
        return events

    def _check_speeds(self, seen: Seen, rows: Rows) -> list[Event]:
        """Report who is too fast: once, until it was slower again."""
        limit = self._settings.max_speed
        if limit is None or seen.is_predicted:
            return []
        numbers = np.arange(len(seen.places))[rows]
        numbers = numbers[self._held.sides(seen.places[numbers]) > 0]
        sides = beyond(seen.speeds[numbers], CALM_SPEED * limit, limit)
        changed = self._fast.observe(seen.places[numbers], sides, seen.time_s).rows
        return [speeding(self._settings, seen, numbers[row]) for row in changed if sides[row] > 0]

    def _check_number(self, time_s: float) -> list[Event]:
        """Report once that too many are inside, until that was not so for a while."""
        limit = self._settings.max_objects
        if limit is None:
            return []
        if len(self._stays) <= limit:
            self._calm_since = time_s if self._calm_since is None else self._calm_since
            self._is_crowded = self._is_crowded and time_s - self._calm_since < CALM_S
            return []
        was_crowded, self._is_crowded, self._calm_since = self._is_crowded, True, None
        if was_crowded:
            return []
        name = self._settings.name
        return [{"event": "zone.occupancy", "zone": name, "inside": dict(self._inside), "limit": limit}]

    def state(self) -> ZoneState:
        """Return what is drawn and counted."""
        alarm = self._alarm()
        if self._state is None or self._state.alarm != alarm:
            self._state = ZoneState(
                self._settings.name,
                self._points,
                inside=dict(self._inside),
                entered=dict(self._entered),
                left=dict(self._left),
                alarm=alarm,
            )
        return self._state

    def _alarm(self) -> bool:
        limit = self._settings.max_objects
        if limit is not None and len(self._stays) > limit:
            return True
        if self._settings.dwell_s is not None and any(stay.is_long for stay in self._stays.values()):
            return True
        return self._settings.max_speed is not None and any(self._fast_now())

    def _fast_now(self) -> list[bool]:
        places: Places = np.fromiter(self._stays, np.intp, len(self._stays))
        return (self._fast.sides(places) > 0).tolist() if len(places) else []


def rows_of(settings: ZoneSettings, seen: Seen, known: Container[int]) -> Rows:
    """Return which objects a zone is for: those of its classes, and whoever it knows already, called what they may."""
    if not settings.classes:
        return slice(None)
    each = zip(seen.labels, seen.places.tolist(), strict=True)
    return np.flatnonzero([label in settings.classes or place in known for label, place in each])


def number_of(rows: Rows, row: int) -> int:
    """Return which of all objects is in a row of those that a zone is for."""
    return row if isinstance(rows, slice) else int(rows[row])


def told(someone: Someone) -> Event:
    """Return what events say of an object."""
    return {"track": someone.track, "class": someone.label, "name": someone.name, "box": someone.box}


def speeding(settings: ZoneSettings, seen: Seen, row: int) -> Event:
    """Return the event that an object is too fast."""
    speed = round(float(seen.speeds[row]), SPEED_DECIMALS)
    who = {"track": seen.track_ids[row], "class": seen.labels[row]}
    return {"event": "zone.speed", "zone": settings.name, **who, "speed": speed, "unit": seen.unit}
