"""InHand: how many frames an AsyncStage takes at a time.

A request is begun only when it can run, and a file's frame only when its result will find room, so that what waits,
waits in the mailbox before, where a live source's frame gives way to a newer one. Where a request takes several frames,
those that are waiting join the first; with `bypass` each has its own.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import takewhile

from pipeline.mailbox import Policy

PASSING = 32
"""Frames of one source that may wait for a result to pass behind it without work of their own; 100 MB at 1080p."""


CLAIM = 128
"""Frames of others that make way for a source's claim, 2 s of a 60 fps camera: it may have gone away."""


class InHand:
    """The frames between an AsyncStage's two threads, per source."""

    def __init__(self, policies: Mapping[str, Policy], room: Callable[[str], int]) -> None:
        """Begin with nothing.

        Args:
            policies: of the sources.
            room: how many frames of a source the next mailbox has room for.
        """
        self.in_flight = 1
        self.bypass = False
        self._policies, self._room = policies, room
        self._live = sum(policy == "latest" for policy in policies.values())
        self._claims: dict[str, int] = {}  # the oldest first, with the frames that made way for it
        self._frames: Counter[str] = Counter()
        self._working: Counter[str] = Counter()
        self._requests = 0
        self._lock = threading.Lock()

    def fits(self, source: str) -> bool:
        """Return whether one more frame of a source may be taken."""
        if self._policies[source] == "latest":
            return self._frames[source] < PASSING and (self.bypass or self._has_slot)
        return self._has_slot and self._frames[source] < self._room(source)

    def may_join(self, source: str, first: str) -> bool:
        """Return whether a frame of a source may be taken into the request that is begun for a frame of `first`.

        A file's frames never join a live one's: it would wait for all of theirs, and there are always some.
        """
        if self._policies[source] == "latest":
            return self._frames[source] < PASSING
        return self._policies[first] == "every" and self._frames[source] < self._room(source)

    def room_for_each(self, batch: int) -> int:
        """Return how many frames of each source there must be room for: together they fill all requests."""
        return max(self.in_flight, batch, math.ceil(self.in_flight * batch / len(self._policies)))

    def may_work(self, source: str) -> bool:
        """Return whether a frame that was taken may also be worked on: there is a slot, and not all are its own.

        A live source that had to pass has a claim to a slot: others that come first leave as many free as there are
        older claims, or whoever sends most frames would get all slots.
        """
        if not self.bypass or self._policies[source] != "latest":
            return True
        share = math.ceil(self.in_flight / self._live)
        if self._working[source] >= share:
            return False
        older = [each for each in takewhile(lambda each: each != source, self._claims) if self._working[each] < share]
        free = self.in_flight - self._working.total()
        if free > len(older):
            self._claims.pop(source, None)
            return True
        self._claims.setdefault(source, 0)
        for each in older if free > 0 else ():
            self._claims[each] += 1
            if self._claims[each] > CLAIM:
                del self._claims[each]
        return False

    @property
    def _has_slot(self) -> bool:
        return self._requests < self.in_flight

    def begin(self, source: str, is_worked_on: bool, *, joins: bool = False) -> None:
        """Count a frame that was taken; `joins`: into the request of the one before."""
        with self._lock:
            self._frames[source] += 1
            self._working[source] += is_worked_on
            self._requests += is_worked_on and not joins

    def finish(self, source: str, was_worked_on: bool, *, is_last: bool = True) -> None:
        """Count a frame that was passed on; `is_last`: of its request."""
        with self._lock:
            self._frames[source] -= 1
            self._working[source] -= was_worked_on
            self._requests -= was_worked_on and is_last
