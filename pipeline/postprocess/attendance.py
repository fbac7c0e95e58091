"""Attendance: who came, who left, and that somebody unknown is there, each said once and not too often.

What is said of one person alternates: appeared, left, appeared. Where it would be said again too soon it waits, and is
only said if it is still true by then. Times are seconds of media time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np

NEVER = -np.inf
BLINK_S = 1.0
"""An unknown face that was away for longer begins anew."""


@dataclass(frozen=True)
class AttendanceOptions:
    """When something is said."""

    left_after_s: float = 5.0
    """A person not seen for so long has left."""
    unknown_after_s: float = 2.0
    """A face is reported when it has been unknown for so long."""
    every_s: float = 30.0
    """Least time between two events of a kind about one person."""


@dataclass
class Visit:
    """One known person."""

    came_at: float
    seen_at: float
    is_reported: bool = False
    """Whether the last thing said was that the person appeared."""
    appeared_at: float = NEVER
    """When that was said last."""
    left_at: float = NEVER


@dataclass
class Stranger:
    """One track of an unknown face."""

    since: float
    seen_at: float
    is_reported: bool = False


@dataclass
class Changes:
    """What is to be said after a frame."""

    appeared: list[str] = field(default_factory=list)
    left: list[tuple[str, float]] = field(default_factory=list)
    """With the seconds between the first and the last time the person was seen."""
    unknown: list[int] = field(default_factory=list)
    """Track numbers."""


class Attendance:
    """The people of one source."""

    def __init__(self, options: AttendanceOptions) -> None:
        self._options = options
        self._forget_s = max(options.every_s, options.left_after_s)
        """After so long nothing that was said of a person limits what is said next."""
        self._time_s = NEVER
        self._visits: dict[str, Visit] = {}
        self._strangers: dict[int, Stranger] = {}
        self._reports: deque[float] = deque()
        """When strangers were reported, within the last `every_s`."""

    def update(self, names: Collection[str], unknown: Collection[int], time_s: float) -> Changes:
        """Take who is seen in a frame.

        Args:
            names: of known people.
            unknown: tracks of faces that were compared with everybody and are nobody.
            time_s: media time; one that jumps back ends all visits.
        """
        changes = Changes()
        if time_s < self._time_s:
            self._begin_anew(changes)
        self._time_s = time_s
        for name in names:
            self._see(name, time_s)
        for name, visit in list(self._visits.items()):
            self._report(name, visit, time_s, changes)
            if not visit.is_reported and time_s - max(visit.seen_at, visit.left_at) > self._forget_s:
                del self._visits[name]
        self._watch_strangers(unknown, time_s, changes)
        return changes

    def _begin_anew(self, changes: Changes) -> None:
        """Say that everybody has left: what was before has another clock."""
        changes.left += [(name, each.seen_at - each.came_at) for name, each in self._visits.items() if each.is_reported]
        self._visits.clear()
        self._strangers.clear()
        self._reports.clear()

    def _see(self, name: str, time_s: float) -> None:
        visit = self._visits.setdefault(name, Visit(time_s, time_s))
        if time_s - visit.seen_at > self._options.left_after_s and not visit.is_reported:
            visit.came_at = time_s
        visit.seen_at = time_s

    def _report(self, name: str, visit: Visit, time_s: float, changes: Changes) -> None:
        is_away = time_s - visit.seen_at > self._options.left_after_s
        is_seen = visit.seen_at == time_s
        if is_seen and not visit.is_reported and time_s - visit.appeared_at >= self._options.every_s:
            visit.is_reported, visit.appeared_at = True, time_s
            changes.appeared.append(name)
        elif is_away and visit.is_reported and time_s - visit.left_at >= self._options.every_s:
            visit.is_reported, visit.left_at = False, time_s
            changes.left.append((name, visit.seen_at - visit.came_at))

    def _watch_strangers(self, unknown: Collection[int], time_s: float, changes: Changes) -> None:
        """Report faces that stay unknown: as many as are seen at a time, but no more within `every_s`.

        So a face whose track breaks is one stranger, and two who stand there together are two.
        """
        self._strangers = {
            track: stranger for track, stranger in self._strangers.items() if time_s - stranger.seen_at <= BLINK_S
        }
        while self._reports and time_s - self._reports[0] >= self._options.every_s:
            self._reports.popleft()
        lasting = []
        for track in unknown:
            stranger = self._strangers.setdefault(track, Stranger(time_s, time_s))
            stranger.seen_at = time_s
            if time_s - stranger.since >= self._options.unknown_after_s:
                lasting.append(track)
        for track in lasting:
            stranger = self._strangers[track]
            if not stranger.is_reported and len(lasting) > len(self._reports):
                stranger.is_reported = True
                self._reports.append(time_s)
                changes.unknown.append(track)
