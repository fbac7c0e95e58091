"""Run: a live source, its scripted camera and whoever reads it, with all that must hold at every moment checked.

Only legal states, each with its true reason and at its time; pauses as promised; one connection at a time; no silence
beyond the deadline; every picture handed on once, in order, with rising numbers and times.
"""

from __future__ import annotations

import itertools
import math
import threading

from pipeline.capture.live.source import LiveSource
from pipeline.capture.options import LiveOptions
from pipeline.capture.source import Damaged, Reason, SourceInfo, SourceState
from pipeline.frame import Frame
from tests.pipeline.live.script import HEALTHY, LET_GO, PATIENCE_S, WALL, Camera, Clock, Mood

UNDECODABLE_S = 30.0
"""Seconds of pictures that cannot be used after which a new connection is made."""
LEGAL = {
    (None, "connecting"),
    *itertools.product(("connecting", "stalled"), ("streaming", "waiting", "stopped")),
    *itertools.product(("streaming",), ("stalled", "waiting", "stopped")),
    *itertools.product(("waiting",), ("connecting", "stopped")),
}
"""Each state and the one before it."""


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
        self.ended = False
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

    def threads_return(self, count: int | None = None) -> None:
        """Let all calls return that hold a connection's thread, or the oldest so many."""
        if self.source.abandoned >= LET_GO and self.state == "waiting":
            self._free_at = self.clock.now
        self.camera.lets_threads_return(count)

    def stop(self) -> None:
        """Stop the source; only a reader who keeps a picture may delay its end."""
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
        self.clock.sleep_until(self.clock.now + seconds, self.source._stopped.is_set)

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
