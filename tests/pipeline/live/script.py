"""A camera that does what a test says, on a clock that only the test moves.

The source runs on a thread of its own, as in a run. Whenever it waits, the clock lets it go on up to the moment that
the test allows, and then the test's thread has the word: it may change the camera, stop the source, or let time pass.
So two hours take a second, and a stop can come at every moment.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from pipeline.capture.live.connection import Arrival
from pipeline.capture.live.failure import Failure
from pipeline.capture.live.link import AHEAD, Ending
from pipeline.capture.source import Reason
from pipeline.picture import Picture

PIXELS = np.zeros((2, 2, 3), np.uint8)
WALL = 1.7e9
"""UTC seconds when the clock shows 0."""
LET_GO = 3
"""Threads of connections that may be let go at a time."""
PATIENCE_S = 20.0
"""Real seconds after which a source that neither waits nor ends is called stuck."""
CALL_S = 1e-6
"""What a call that brings nothing takes at least."""
MOST_CALLS = 24
"""Calls that bring nothing, in one second of the clock: more is a busy loop. The first second of an outage has six
attempts, each with its pause, and may follow a stall."""


class Clock:
    """Monotonic seconds that pass while the source's thread sleeps, as far as the test allows."""

    def __init__(self) -> None:
        self.now = self._until = 1000.0
        self._calls, self._second = 0, 0
        self._asleep = self._over = False
        self._changed = threading.Condition()

    def __call__(self) -> float:
        return self.now

    def sleep_until(self, moment: float, woken: Callable[[], bool] = lambda: False) -> None:
        """Wait; on the source's thread."""
        if moment <= self._until and not woken():
            self.now = max(self.now, moment)
            return
        with self._changed:
            while not woken() and self.now < moment:
                self.now = max(self.now, min(moment, self._until))
                if self.now < moment:
                    self._asleep = True
                    self._changed.notify_all()
                    self._changed.wait()

    def call(self) -> None:
        """Count a call that brings nothing; on the source's thread."""
        self.now += CALL_S
        if self._second != int(self.now):
            self._second, self._calls = int(self.now), 0
        self._calls += 1
        assert self._calls <= MOST_CALLS, f"a busy loop at {self.now:.3f} s"

    def flows(self) -> None:
        """Let time pass by itself from now on, for a source on the test's own thread."""
        self._until = math.inf

    def over(self) -> None:
        """Say that the source's thread ends."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def run_for(self, seconds: float) -> None:
        """Let time pass; on the test's thread. Returns when the source's thread sleeps again, or has ended."""
        with self._changed:
            self._until = self.now + seconds
            self._asleep = False
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self._asleep or self._over, PATIENCE_S), "the source is stuck"
            self.now = max(self.now, self._until)


Sign = Literal["good", "bad", "packet"]
"""What comes: a picture, a damaged one, or a packet without a picture."""


@dataclass(frozen=True)
class Mood:
    """How a camera behaves towards connections, until it is told otherwise."""

    every_s: float = math.inf
    """Between signs of life; infinite: it never answers."""
    answer_s: float = 0.02
    """From the attempt to connect, or from the change of mood, to the first sign."""
    burst: int = 1
    """Signs that come at once."""
    signs: tuple[Sign, ...] = ("good",)
    """In turn."""
    gives: int | None = None
    """Signs after which the connection ends; None: it does not."""
    reason: Reason | None = "eof"
    """How it ends; None: as a recording does."""
    error: BaseException | None = None
    """A mistake in the program that ends it instead."""
    hangs: bool = False
    """Whether its thread never returns when it is let go, because a library call holds it."""


HEALTHY = Mood(every_s=0.04)
MUTE = Mood()


def refusing(reason: Reason = "refused", answer_s: float = 0.02) -> Mood:
    return Mood(answer_s=answer_s, every_s=1.0, gives=0, reason=reason)


class ScriptedLink:
    """One connection to a camera, as `Link` is: its thread reads ahead by AHEAD pictures and holds one more."""

    def __init__(self, camera: Camera) -> None:
        self.closed = self.hanging = False
        self.ending: Ending | None = None
        self._camera, self._clock = camera, camera.clock
        self._box: deque[Arrival | Ending] = deque()
        self._heard_at = self._free_at = self._clock.now
        self.begin()

    def begin(self) -> None:
        """Behave as the camera's mood is from now on."""
        self.mood, self._signs = self._camera.mood, 0
        self._due = self._clock.now + self.mood.answer_s if self._is_talking else math.inf

    @property
    def _is_talking(self) -> bool:
        return math.isfinite(self.mood.every_s) or self.mood.gives is not None

    def get(self, timeout_s: float) -> Arrival | Ending | None:
        deadline = self._clock.now + timeout_s
        while not self.closed:
            self.hear()
            if self._box:
                return self._take()
            if self._clock.now >= deadline:
                break
            self._sleep_until(min(deadline, self._due))
        self._clock.call()
        return None

    def _sleep_until(self, moment: float) -> None:
        mood = self.mood
        self._clock.sleep_until(moment, lambda: self.closed or mood is not self.mood)

    def _take(self) -> Arrival | Ending:
        if len(self._box) > AHEAD:
            self._free_at = self._clock.now
        item = self._box.popleft()
        if isinstance(item, Arrival):
            self._camera.given.append(item)
        self.hear()
        return item

    def hear(self) -> None:
        """Let come what has come by now."""
        while self._due <= self._clock.now and len(self._box) <= AHEAD and not (self.closed or self.ending):
            self._heard_at = max(self._due, self._free_at)
            if self._signs == self.mood.gives:
                self.ending = self._ending()
                self._box.append(self.ending)
            else:
                self._sign(self.mood.signs[self._signs % len(self.mood.signs)])

    def _sign(self, sign: Sign) -> None:
        self._signs += 1
        if sign != "packet":
            picture = Picture(bgr=PIXELS) if sign == "good" else None
            self._box.append(Arrival("cam", picture, self._heard_at, self._due, WALL + self._heard_at, None))
        if self._signs % self.mood.burst == 0:
            self._due = max(self._due, self._clock.now - 1.0) + self.mood.every_s  # what is older, it has dropped

    def _ending(self) -> Ending:
        reason = self.mood.reason
        failure = None if reason is None or self.mood.error else Failure(reason, f"scripted {reason}")
        return Ending("cam", self._heard_at, failure, self.mood.error)

    @property
    def unread(self) -> int:
        """What has come and was not taken."""
        return len(self._box)

    def close(self) -> None:
        self.hanging = self.hanging or (self.mood.hangs and self.ending is None and not self.closed)
        self.closed = True

    def join(self, timeout_s: float) -> None:
        """A thread that hangs is not waited for: no time passes in tests."""

    @property
    def heard_at(self) -> float:
        self.hear()
        return self._heard_at

    @property
    def is_alive(self) -> bool:
        return self.hanging or not (self.closed or self.ending)


class Camera:
    """What connections are made to; one at a time."""

    def __init__(self, clock: Clock, mood: Mood) -> None:
        self.clock = clock
        self.mood = mood
        self.given: list[Arrival] = []
        self.connections = 0
        self.link: ScriptedLink | None = None
        self.hanging: list[ScriptedLink] = []

    def connect(self) -> ScriptedLink:
        self.clock.call()
        assert self.link is None or self.link.closed, "a second connection while one is in use"
        self.hanging = [link for link in (*self.hanging, self.link) if link is not None and link.hanging]
        assert len(self.hanging) < LET_GO, "too many threads have been let go"
        self.connections += 1
        self.link = ScriptedLink(self)
        return self.link

    def becomes(self, mood: Mood) -> None:
        """Change, also towards the connection there is."""
        if self.link is not None:
            self.link.hear()
        self.mood = replace(mood)
        if self.link is not None:
            self.link.begin()

    def lets_threads_return(self, count: int | None = None) -> None:
        """Let all calls return that hold a connection's thread, or the oldest so many."""
        held = [link for link in (*self.hanging, self.link) if link is not None and link.hanging]
        for link in held[:count]:
            link.hanging = False
