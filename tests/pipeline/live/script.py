"""A camera that does what a test says, on a clock that only the test moves.

The source runs on a thread of its own, as in a run. Whenever it waits, the clock lets it go on up to the moment that
the test allows, and then the test's thread has the word: it may change the camera, stop the source, or let time pass.
So two hours take a second, and a stop can come at every moment. `Run` checks the source's promises all the while.
"""

from __future__ import annotations

import itertools
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
from pipeline.capture.live.source import LiveSource
from pipeline.capture.options import LiveOptions
from pipeline.capture.source import Damaged, Reason, SourceInfo, SourceState
from pipeline.frame import Frame
from pipeline.picture import Picture

PIXELS = np.zeros((2, 2, 3), np.uint8)
WALL = 1.7e9
"""UTC seconds when the clock shows 0."""
LET_GO, UNDECODABLE_S = 3, 30.0
"""What is promised: threads let go at a time; seconds of pictures that cannot be used before a new connection."""
PATIENCE_S = 20.0
"""Real seconds after which a source that neither waits nor ends is called stuck."""
CALL_S = 1e-6
"""What a call that brings nothing takes at least."""
MOST_CALLS = 24
"""Calls that bring nothing, in one second of the clock: more is a busy loop. The first second of an outage has six
attempts, each with its pause, and may follow a stall."""
LEGAL = {
    (None, "connecting"),
    *itertools.product(("connecting", "stalled"), ("streaming", "waiting", "stopped")),
    *itertools.product(("streaming",), ("stalled", "waiting", "stopped")),
    *itertools.product(("waiting",), ("connecting", "stopped")),
}


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

    def lets_threads_return(self) -> None:
        for link in (*self.hanging, self.link):
            if link is not None:
                link.hanging = False


class Run:
    """A live source, its camera, and somebody who reads it; checks what must hold at every moment."""

    def __init__(self, mood: Mood = HEALTHY, live: LiveOptions | None = None, luck: float = 0.0) -> None:
        self.live = live or LiveOptions()
        self.clock = Clock()
        self.camera = Camera(self.clock, mood)
        self.luck = luck
        """What every throw of the dice gives, in 0..1."""
        self.hold_s = 0.0
        """Seconds that the reader keeps each picture."""
        self.states: list[SourceState] = []
        self.items: list[Frame | Damaged] = []
        self.error: BaseException | None = None
        self.ended = self._stopped = False
        self.outage_began: float | None = None
        self._pictures = 0
        self._changed_at = self._taken_at = self._good_at = self.clock.now
        self._limit_s, self._free_at = 0.0, -math.inf
        self._checked, self._pts, self._held_until = 0, -1.0, 0.0
        self.source = LiveSource(
            SourceInfo("cam", "rtsp://cam/live", live=True),
            self.live,
            self.camera.connect,
            clock=self.clock,
            wall_clock=lambda: WALL + self.clock.now,
            pause=self._pause,
            chance=lambda: self.luck,
        )
        self.source.report = self._report
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        self.go(0.0)

    # ------------------------------------------------------------------ what a test says

    def go(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.run_for(seconds)
        if isinstance(self.error, AssertionError):
            raise self.error
        self._check_items()
        self._check_patience()

    def becomes(self, mood: Mood) -> None:
        """Change the camera, also for the connection there is."""
        self.camera.becomes(mood)
        self.go(0.0)

    def silent_for(self, seconds: float) -> float:
        """Return the seconds from now after which the camera has been silent for so long."""
        return seconds - self._silent_s

    def threads_return(self) -> None:
        if self.is_out_of_threads:
            self._free_at = self.clock.now
        self.camera.lets_threads_return()

    def stop(self) -> None:
        """Stop the source; only a reader who keeps a picture may delay its end."""
        self._stopped = True
        self.source.stop()
        self.go(self.held_s)

    def finish(self) -> None:
        """Stop, and check what must hold at the end."""
        self.stop()
        assert self.ended, f"not stopped, but {self.state}"
        self._thread.join(PATIENCE_S)
        assert self.state == "stopped"
        assert len(self.items) == len(self.camera.given)
        assert self.source.abandoned == sum(link.hanging for link in {self.camera.link, *self.camera.hanging} if link)

    @property
    def state(self) -> str | None:
        return self.states[-1].state if self.states else None

    @property
    def names(self) -> list[str]:
        return [each.state if each.reason is None else f"{each.state} {each.reason}" for each in self.states]

    @property
    def is_out_of_threads(self) -> bool:
        return self.source.abandoned >= LET_GO and self.state == "waiting"

    @property
    def held_s(self) -> float:
        """Seconds for which the reader will keep the picture that it has."""
        return max(0.0, self._held_until - self.clock.now)

    @property
    def outage_s(self) -> float:
        return 0.0 if self.outage_began is None else self.clock.now - self.outage_began

    # ------------------------------------------------------------------ the source's thread

    def _read(self) -> None:
        try:
            for item in self.source.frames():
                self._take(item)
        except BaseException as error:
            self.error = error
        self.ended = True
        self.clock.over()

    def _take(self, item: Frame | Damaged) -> None:
        self.items.append(item)
        came_at = self.clock.now
        if isinstance(item, Frame):
            assert self.state == "streaming"
            self._pictures += 1
            if self._pictures == 10:
                self.outage_began = None
            self._good_at = came_at
        self._held_until = came_at + self.hold_s
        self.clock.sleep_until(self._held_until)
        self._taken_at = self.clock.now
        self._good_at += self._taken_at - came_at

    def _pause(self, seconds: float) -> None:
        self.clock.call()
        self.clock.sleep_until(self.clock.now + seconds, lambda: self._stopped)

    # ------------------------------------------------------------------ what must hold

    def _report(self, change: SourceState) -> None:
        before, now = self.state, self.clock.now
        assert (before, change.state) in LEGAL
        assert change.wall_time == WALL + now
        assert (change.state == "waiting") == (change.reason is not None)
        if change.state == "stalled":
            assert self._silent_s >= min(1.0, self.live.read_timeout_s) - 1e-5
        elif change.state == "waiting":
            self._check_reason(before, change.reason)
            self._begin_pause(change.reason)
        elif change.state == "connecting" and before == "waiting":
            self._check_pause(self.states[-1].reason)
        if change.state == "connecting":
            self._taken_at = self._good_at = now
        self.states.append(change)
        self._changed_at = now

    @property
    def _silent_s(self) -> float:
        assert self.camera.link is not None
        return self.clock.now - max(self._taken_at, self.camera.link.heard_at)

    def _check_reason(self, before: str | None, reason: Reason | None) -> None:
        """Is it what the camera did?"""
        link = self.camera.link
        assert link is not None
        if link.ending is not None and link.ending.failure is not None and not link.unread:
            assert reason == link.ending.failure.reason
        elif reason == "timeout":
            limit_s = self._timeout_s(before)
            assert limit_s - 1e-5 <= self._silent_s <= limit_s + 1e-3
        else:
            assert reason == "decode"
            assert self.clock.now - self._good_at >= UNDECODABLE_S

    def _begin_pause(self, reason: Reason | None) -> None:
        self._pictures = 0
        self.outage_began = self.clock.now if self.outage_began is None else self.outage_began
        self._limit_s = 36.0 if reason == "auth" else 0.5 if self.outage_s < 30 else 30.0

    def _check_pause(self, reason: Reason | None) -> None:
        """Was it as long as promised? Where all threads were held, it lasts a second beyond the return of one."""
        now = self.clock.now
        assert now <= max(self._changed_at + self._limit_s, self._free_at + 1.0) + 1e-3
        assert reason != "auth" or now >= self._changed_at + 30.0

    def _check_items(self) -> None:
        """Has every picture that came been handed on once, in order?"""
        given, items = self.camera.given, self.items
        assert len(given) - len(items) in (0, 1)  # one may be on its way
        for number in range(self._checked, len(items)):
            item, arrival = items[number], given[number]
            assert item.captured_at == arrival.captured_at
            assert isinstance(item, Damaged) == (arrival.picture is None)
            if isinstance(item, Frame):
                assert item.picture is arrival.picture
                assert item.index == number
                assert item.pts > self._pts
                self._pts = item.pts
        self._checked = len(items)

    def _check_patience(self) -> None:
        """Has it waited no longer than it says?"""
        if self.ended or self.held_s:
            return
        give_up_s = self.live.give_up_after_s
        if self.state == "waiting":
            assert give_up_s is None or self.outage_s <= give_up_s + 1e-3
        else:
            assert self._silent_s <= self._timeout_s(self.state) + 1e-3

    def _timeout_s(self, state: str | None) -> float:
        return self.live.open_timeout_s if state == "connecting" else self.live.read_timeout_s
