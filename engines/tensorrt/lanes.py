"""Lanes: who has which, who waits for one, and how everything ends.

A lane is idle, being loaded by a `submit`, or flying with a request; it comes back only when the request's result is
asked for, or when the engine closes. Whoever waits for a lane is told when none will come: the engine was closed, or
its GPU is gone.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Protocol

from engines.errors import DeviceLost

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engines.errors import EngineError
    from engines.tensorrt.lane import Lane


class Settles(Protocol):
    """A request in flight."""

    def settle(self) -> None:
        """Wait for it, keep what came of it, and give its lane back; raises nothing."""


class Lanes:
    """All lanes of an engine."""

    def __init__(self, lanes: Sequence[Lane]) -> None:
        """Begin with all of them idle."""
        self._count = len(lanes)
        self._idle = deque(lanes)
        self._flying: dict[Lane, Settles] = {}
        self._changed = threading.Condition()
        self._end: EngineError | None = None
        self.lost = False
        """Whether the GPU is gone."""

    def take(self) -> Lane:
        """Wait for an idle lane.

        Raises:
            EngineError: there will be none; DeviceLost where the GPU is gone.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._idle or self._end)
            if self._end is not None:
                raise type(self._end)(str(self._end))  # its own for each thread: tracebacks are kept in them
            return self._idle.popleft()

    def fly(self, lane: Lane, request: Settles) -> None:
        """Note that a lane has been loaded."""
        with self._changed:
            self._flying[lane] = request
            self._changed.notify_all()

    def give_back(self, lane: Lane) -> None:
        """Let the next have the lane."""
        with self._changed:
            self._flying.pop(lane, None)
            self._idle.append(lane)
            self._changed.notify_all()

    def end(self, reason: EngineError) -> None:
        """Refuse every `take` from here on, also those that wait; the latest reason counts."""
        with self._changed:
            self._end = reason
            self.lost = self.lost or isinstance(reason, DeviceLost)
            self._changed.notify_all()

    def settle(self) -> None:
        """Wait for all that is in flight; to be called after `end`."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._flying or len(self._idle) == self._count)
                flying = list(self._flying.values())
            if not flying:
                return
            for request in flying:
                request.settle()
