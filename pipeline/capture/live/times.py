"""LiveClock: a live stream's timestamps made into ours.

Media time follows the camera's clock, because arrival is uneven: behind a stall comes a burst of pictures that were
taken evenly. But a camera's clock starts anywhere, wraps around (33 bits at 90 kHz: 26.5 h), jumps when somebody sets
it, drifts, is missing, or was made up (FFmpeg counts the pictures of MJPEG over HTTP as 25 a second). So the clock of
arrival holds it:

    less than SLACK_S away                              the camera's own steps
    further, for STEADY_S, and not coming nearer        its steps, by SLEW longer or shorter: follows a drift
    later than LATE_S, for STEADY_S                     one jump to the time of arrival
    back in time, ahead by AHEAD_S, behind by BEHIND_S  the time that has passed here instead of its step
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from dataclasses import dataclass

SLACK_S = 0.25
"""Unevenness of arrival that is usual on a network."""
STEADY_S = 2.0
"""The burst behind a stall is over by then, or is coming nearer."""
SLEW = 0.05
"""Part of a step; the worst clocks drift by 0.01."""
LATE_S = 2.0
AHEAD_S = 2.0
"""Servers begin with what they have kept since the last keyframe, often a second or two."""
BEHIND_S = 10.0
"""A longer stall ends in a new connection."""
TICK_S = 0.001
"""Least step of media time."""
FAULTS = 3
"""Times that a clock may have to be put right in FAULTS_WITHIN_S before it is ignored until the next connection."""
FAULTS_WITHIN_S = 60.0
TRUSTED_S = 10.0
"""Distance from our wall clock within which a camera's is believed."""
STEPS = 9
"""Last steps of which the median is the usual one."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """When a picture was taken."""

    pts: float
    """Seconds since the source's first picture; strictly rising."""
    wall_time: float
    """UTC seconds; never decreasing."""


class LiveClock:
    """The clock of one source, over all its connections.

    Args:
        step_s: usual seconds between pictures until the pictures tell.
        trusted_s: distance from our wall clock within which a camera's is believed. One that is minutes off was never
            set: no picture comes from the future, and none is held back for minutes. Ours is also the one that all
            cameras have in common.
    """

    def __init__(self, step_s: float = 1 / 25, trusted_s: float = TRUSTED_S) -> None:
        self._trusted_s = trusted_s
        self._wall = -math.inf
        self._default_step_s = step_s
        self._steps: deque[float] = deque(maxlen=STEPS)
        self._first_at: float | None = None
        self._last_at = self._pts = 0.0
        self._stream_s: float | None = None
        self._connected = True
        self._far_at: float | None = None
        self._far_s = 0.0
        self._faults: list[float] = []

    @property
    def step_s(self) -> float:
        """Usual seconds between pictures."""
        return statistics.median(self._steps) if self._steps else self._default_step_s

    def connected(self) -> None:
        """A new connection begins: its timestamps start anywhere."""
        self._connected = True
        self._faults.clear()

    def of(self, stream_s: float | None, arrived_at: float, arrived_wall: float, sent_wall: float | None) -> Stamp:
        """Return when the next picture was taken.

        Args:
            stream_s: the stream's own timestamp in seconds; None where it has none.
            arrived_at: monotonic seconds.
            arrived_wall: UTC seconds of the same moment.
            sent_wall: UTC seconds by the camera's clock, where its RTCP sender reports tell.
        """
        return Stamp(self._media_time(stream_s, arrived_at), self._wall_time(arrived_wall, sent_wall))

    def _wall_time(self, arrived: float, sent: float | None) -> float:
        believed = sent is not None and abs(sent - arrived) <= self._trusted_s
        self._wall = max(self._wall, sent if sent is not None and believed else arrived)
        return self._wall

    def _media_time(self, stream_s: float | None, arrived_at: float) -> float:
        if self._first_at is None:
            self._first_at = self._last_at = arrived_at
            self._stream_s, self._connected = stream_s, False
            return 0.0
        passed = max(0.0, arrived_at - self._last_at)
        self._last_at += passed
        if self._connected:
            self._stream_s, self._connected = stream_s, False
            step = self._due_s - self._pts  # what the burst before has put ahead is given back
        else:
            step = self._sane(self._camera_step(stream_s, passed), passed)
            self._steps.append(step)
            step = self._drawn(step)
        self._pts += max(step, TICK_S)
        return self._pts

    @property
    def _due_s(self) -> float:
        """Media time by the clock of arrival."""
        return self._last_at - (self._first_at or 0.0)

    def _camera_step(self, stream_s: float | None, passed: float) -> float:
        """Return the seconds since the last picture as the stream has them; where it has none, those that passed."""
        before = self._stream_s
        if stream_s is None:
            self._stream_s = None if before is None else before + passed
            return passed
        self._stream_s = stream_s
        return passed if before is None else stream_s - before

    def _sane(self, step: float, passed: float) -> float:
        if step <= 0 or len(self._faults) >= FAULTS:
            return passed
        if -BEHIND_S <= self._pts + step - self._due_s <= AHEAD_S:
            return step
        self._fault()
        return passed

    def _drawn(self, step: float) -> float:
        """Return the step that brings media time nearer to arrival, if it stays away."""
        error = self._pts + step - self._due_s
        if abs(error) <= SLACK_S:
            self._far_at = None
            return step
        if self._far_at is None or abs(error) < self._far_s - SLACK_S:
            self._far_at, self._far_s = self._last_at, abs(error)
        if self._last_at - self._far_at <= STEADY_S:
            return step
        if error < -LATE_S:
            self._fault()
            return step - error
        return step * (1 - math.copysign(SLEW, error))

    def _fault(self) -> None:
        """Note that the clock had to be put right; several times in one burst are one."""
        now = self._last_at
        self._faults = [each for each in self._faults if now - each < FAULTS_WITHIN_S]
        if not self._faults or now - self._faults[-1] > STEADY_S:
            self._faults.append(now)
