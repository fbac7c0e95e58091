"""Files read in step: where one picture is made of several files, none runs far ahead of the others in media time.

Threads and mailboxes are shared by count, not by time: of a 25 fps and a 50 fps file as many pictures arrive, so
after a minute the slow one would be 30 s ahead, and 750 of its pictures would have to wait. So each file waits here,
before its next picture, for the one that is furthest behind.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence

from pipeline.capture.source import Damaged, Source, Wrapped
from pipeline.frame import Frame

LEAD_S = 0.5
"""How far a file may be ahead: enough to keep a decoder busy, 30 pictures at 60 fps."""
PATIENCE_S = 2.0
"""How long to wait for a file from which nothing comes (a network drive that hangs)."""


class Step:
    """The next media time of each file that is being read."""

    def __init__(self, names: Sequence[str]) -> None:
        self._next = dict.fromkeys(names, -math.inf)
        self._changed = threading.Condition()

    def wait(self, name: str, time_s: float) -> None:
        """Say what comes next, and wait until it is not far ahead."""
        with self._changed:
            if name in self._next:
                self._next[name] = time_s
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._may_go(name, time_s), PATIENCE_S)

    def leave(self, name: str) -> None:
        """Be waited for no longer, nor wait."""
        with self._changed:
            self._next.pop(name, None)
            self._changed.notify_all()

    def _may_go(self, name: str, time_s: float) -> bool:
        return name not in self._next or time_s <= min(self._next.values()) + LEAD_S


class InStep(Wrapped):
    """A source that keeps step."""

    def __init__(self, source: Source, step: Step) -> None:
        super().__init__(source)
        self._step = step

    def frames(self) -> Iterator[Frame | Damaged]:
        """Yield what it gives, each when it is its turn."""
        start_s: float | None = None
        try:
            for item in super().frames():
                if isinstance(item, Frame):
                    start_s = item.pts if start_s is None else start_s
                    self._step.wait(self.info.name, item.pts - start_s)
                yield item
        finally:
            self._step.leave(self.info.name)

    def stop(self) -> None:
        """End it."""
        super().stop()
        self._step.leave(self.info.name)


def in_step(sources: Sequence[Source]) -> list[Source]:
    """Return opened sources such that the files among them keep step; live ones wait for nobody."""
    step = Step([source.info.name for source in sources if not source.info.live])
    return [source if source.info.live else InStep(source, step) for source in sources]
