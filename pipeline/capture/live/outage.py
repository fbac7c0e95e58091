"""Outage: how long to wait before the next attempt to connect.

The first retry comes at once, because most interruptions are a server's restart or a lost connection. During the first
30 s the pause grows from 0.1 to 0.5 s: a camera that is rebooted is back within half a second of being ready. Later it
doubles up to 30 s, so that a month's outage costs nothing. Every pause varies, or all cameras of a building would
come back in step. A camera that takes a connection, sends one picture and hangs up is still in its outage: only ten
pictures end it. A server that gives those at once and hangs up is not asked all the time either: what breaks off within
a second of the last time is not tried again at once. A refused password waits: cameras lock out who tries too often.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from pipeline.capture.source import Reason

FIRST_S, FAST_S, SLOW_S = 0.1, 0.5, 30.0
"""The shortest pause, the longest during the first part of an outage, the longest ever."""
FAST_FOR_S = 30.0
"""Length of the first part."""
AUTH_S = 30.0
"""Shortest pause after a refused password."""
JITTER = 0.2
"""Part by which a pause is shortened at random (after a refused password: lengthened)."""
OVER_AFTER = 10
"""Pictures that end an outage."""
SOON_S = 1.0
"""Outages that begin so soon after the last failure pause at once for FAST_S."""


class Outage:
    """The time since a source last worked; times are seconds of one monotonic clock."""

    def __init__(self, random: Callable[[], float]) -> None:
        """Begin with a source that has not been tried.

        Args:
            random: gives numbers in 0..1.
        """
        self._random = random
        self._pictures = 0
        self._failed_at = -math.inf
        self._reset()

    def _reset(self) -> None:
        self.began_at: float | None = None
        self._pause_s = 0.0

    def picture(self) -> None:
        """Count a picture; the tenth since the last failure ends the outage."""
        self._pictures += 1
        if self._pictures == OVER_AFTER:
            self._reset()

    def failed(self, reason: Reason, now: float) -> float:
        """Count a failed connection; return the seconds to wait before the next."""
        self._pictures = 0
        if self.began_at is None:
            self.began_at = now
            self._pause_s = FAST_S if now - self._failed_at < SOON_S else 0.0
        self._failed_at = now
        pause_s = self._pause_s
        fast = now - self.began_at < FAST_FOR_S
        self._pause_s = min(max(2 * pause_s, FIRST_S), FAST_S if fast else SLOW_S)
        if reason == "auth":
            return max(pause_s, AUTH_S) * (1 + JITTER * self._random())
        return pause_s * (1 - JITTER * self._random())

    def lasted_s(self, now: float) -> float:
        """Return how long it has lasted; 0: there is none."""
        return 0.0 if self.began_at is None else now - self.began_at
