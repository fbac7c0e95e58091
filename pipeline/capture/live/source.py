"""LiveSource: a camera or stream that may stall, break off, come back, or never answer.

               ten pictures end an outage
    connecting ──── picture ────▶ streaming ◀── picture ── stalled
       ▲  │                         │  └── 1 s of silence ──▶ │
       │  └── failed ──▶ waiting ◀──┴──────── failed ─────────┘        any ── stop ──▶ stopped
       └── after a pause ──┘

Two complaints are made of every tool of this field: latency that grows, and a read that blocks for ever. Neither can
happen here: this thread only ever waits on a mailbox or an event, with a deadline, and what it waits for runs on a
thread that can be let go (see `link`).
"""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Generator, Iterator
from typing import Final, TypeAlias

from pipeline.capture.live.connection import Arrival
from pipeline.capture.live.failure import Failure
from pipeline.capture.live.link import Ending, Incoming
from pipeline.capture.live.outage import Outage
from pipeline.capture.live.times import LiveClock
from pipeline.capture.options import LiveOptions
from pipeline.capture.source import Damaged, Reason, Source, SourceInfo, SourceState, State
from pipeline.frame import Frame

logger = logging.getLogger(__name__)

Pictures: TypeAlias = "Generator[Frame | Damaged, None, Failure | None]"

STALLED_AFTER_S = 1.0
"""Silence after which a stream is called stalled; a slow camera has three of its own intervals."""
UNDECODABLE_S = 30.0
"""Seconds without a picture that can be used, though data comes, after which to connect anew: more than the longest
distance of keyframes that cameras offer."""
LET_GO = 3
"""Threads that may be held by a library at a time; then no further connection is tried until one comes back."""
CLOSE_WITHIN_S = 0.25
"""Seconds from a stop that `close` waits for the connection's thread."""

NEXT: Final[dict[State, tuple[State, ...]]] = {
    "connecting": ("streaming", "waiting", "stopped"),
    "streaming": ("stalled", "waiting", "stopped"),
    "stalled": ("streaming", "waiting", "stopped"),
    "waiting": ("connecting", "stopped"),
    "stopped": (),
}
"""The states that may follow each state."""


class LiveSource(Source):
    """A source that connects again for as long as it takes."""

    def __init__(
        self,
        info: SourceInfo,
        live: LiveOptions,
        connect: Callable[[], Incoming],
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        pause: Callable[[float], object] | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Nothing is connected before `frames`.

        Args:
            info: name and address.
            live: deadlines.
            connect: begins a connection and returns at once.
            clock: monotonic seconds.
            wall_clock: UTC seconds.
            pause: waits so many seconds, or until `stop`.
            chance: numbers in 0..1, by which pauses vary.
        """
        self.info = info
        self._live, self._connect = live, connect
        self._clock, self._wall_clock = clock, wall_clock
        self._stopped = threading.Event()
        self._pause = pause or self._stopped.wait
        self._outage = Outage(chance)
        self._times = LiveClock()
        self._link: Incoming | None = None
        self._let_go: list[Incoming] = []
        self._state: State | None = None
        self._reason: Reason | None = None
        self._index = 0

    # ------------------------------------------------------------------ the states

    def frames(self) -> Iterator[Frame | Damaged]:
        """Yield pictures until `stop`, or the end of a recording.

        Raises:
            SourceError: an outage lasted longer than `give_up_after_s`.
        """
        try:
            while not self._stopped.is_set():
                self._enter("connecting")
                failure = yield from self._follow()
                if failure is None:
                    return
                self._wait(failure)
        finally:
            self._enter("stopped")

    def _follow(self) -> Pictures:
        """Yield one connection's pictures; return why it failed, None where the source has ended."""
        link = self._link = self._connect()
        if self._stopped.is_set():  # `stop` may have come before there was a link to close
            link.close()
        self._times.connected()
        try:
            return (yield from self._pictures(link))
        finally:
            link.close()
            self._let_go.append(link)

    def _pictures(self, link: Incoming) -> Pictures:
        taken_at = decoded_at = self._clock()
        while not self._stopped.is_set():
            item = link.get(max(0.0, max(taken_at, link.heard_at) + self._patience_s() - self._clock()))
            now = self._clock()
            if isinstance(item, Ending):
                if item.error is not None:
                    raise item.error
                return item.failure
            if item is not None:
                decoded_at = decoded_at if item.picture is None else now
                yield self._take(item)
                taken_at = self._clock()  # not before: a slow reader may have held us up
                decoded_at += taken_at - now
            elif not self._stopped.is_set() and (failure := self._silence(now - max(taken_at, link.heard_at))):
                return failure
            if link.heard_at - decoded_at > UNDECODABLE_S:
                return Failure("decode", f"not one picture could be used for {link.heard_at - decoded_at:.0f} s")
        return None

    def _silence(self, silent_s: float) -> Failure | None:
        if silent_s >= self._limit_s:
            return Failure("timeout", f"nothing came for {silent_s:.1f} s")
        if silent_s >= self._patience_s() and self._state == "streaming":
            self._enter("stalled")
        return None

    def _wait(self, failure: Failure) -> None:
        now = self._clock()
        new = self._outage.began_at is None or failure.reason != self._reason
        pause_s = self._outage.failed(failure.reason, now)
        if self._stopped.is_set():
            return
        self._hold_on(0.0, failure)
        log = logger.warning if new else logger.info
        log("%s: %s: %s; next attempt in %.1f s", self.info.name, failure.reason, failure.text, pause_s)
        self._enter("waiting", failure.reason)
        self._hold_on(pause_s, failure)
        while self._has_no_thread_left() and not self._stopped.is_set():
            self._hold_on(1.0, failure)

    def _has_no_thread_left(self) -> bool:
        self._let_go = [each for each in self._let_go if each.is_alive]
        return len(self._let_go) >= LET_GO

    def _hold_on(self, pause_s: float, failure: Failure) -> None:
        """Pause, for as long as there is patience with this outage; then raise it as the run's error."""
        patience_s = self._live.give_up_after_s
        left_s = math.inf if patience_s is None else patience_s - self._outage.lasted_s(self._clock())
        self._pause(max(0.0, min(pause_s, left_s)))
        if left_s <= pause_s and not self._stopped.is_set():
            raise failure.error(self.info.name, self._index > 0)

    def _enter(self, state: State, reason: Reason | None = None) -> None:
        if state == self._state:
            return
        assert self._state is None or state in NEXT[self._state], f"{state} after {self._state}"
        self._state, self._reason = state, reason or self._reason
        self.report(SourceState(self.info.name, state, reason, self._wall_clock()))

    def _patience_s(self) -> float:
        """Return how long a silence may last before something has to be said or done."""
        if self._state != "streaming":
            return self._limit_s
        return min(self._limit_s, max(STALLED_AFTER_S, 3 * self._times.step_s))

    @property
    def _limit_s(self) -> float:
        connected = self._state in ("streaming", "stalled")
        return self._live.read_timeout_s if connected else self._live.open_timeout_s

    # ------------------------------------------------------------------ the pictures

    def _take(self, item: Arrival) -> Frame | Damaged:
        index, self._index = self._index, self._index + 1
        if item.picture is None:
            return Damaged(self.info.name, item.captured_at)
        if self._state != "streaming":
            self._streams()
        self._outage.picture()
        stamp = self._times.of(item.stream_s, item.captured_at, item.wall_time, item.sent_wall)
        return Frame(self.info.name, index, stamp.pts, item.captured_at, item.picture, stamp.wall_time)

    def _streams(self) -> None:
        away_s = self._outage.lasted_s(self._clock())
        if away_s:
            logger.warning("%s: streaming again after %.1f s", self.info.name, away_s)
        self._enter("streaming")

    # ------------------------------------------------------------------ from other threads

    def stop(self) -> None:
        """End, wherever it is."""
        if not self._stopped.is_set():
            self._stopped_at = time.monotonic()
            self._stopped.set()
        if self._link is not None:
            self._link.close()

    def close(self) -> None:
        """Give the connection's thread a moment to end, the same for all sources that were stopped together."""
        self.stop()
        deadline = self._stopped_at + CLOSE_WITHIN_S
        for link in self._links():
            link.join(max(0.0, deadline - time.monotonic()))

    @property
    def abandoned(self) -> int:
        """Threads of connections that a library call still holds."""
        return sum(link.is_alive for link in self._links())

    def _links(self) -> list[Incoming]:
        current = [] if self._link is None or self._link in self._let_go else [self._link]
        return [*self._let_go, *current]
