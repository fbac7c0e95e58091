"""TraceFile: what every station did with every frame, to be opened in ui.perfetto.dev or chrome://tracing.

The Chrome trace event format, "JSON Array Format": one event a line, and a line begins with its comma. So after a kill
the whole lines and a `]` are valid JSON: to repair a file, drop the last, partial line and append `]` (Perfetto and
Chrome do so themselves). Events that overlap on one track are lost or drawn wrongly (google/perfetto issue 4280). So a
station with several frames in hand gets several tracks, "detect" and "detect 2", and waiting is on tracks of its own.

A station only hands over numbers (0.8 us). One thread makes them text (4 us a frame and station) and writes it: no
station waits for the disk. A full disk ends the trace and nothing else: it is reported once, by `close`.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import threading
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pipeline.errors import SinkError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

FLUSH_S = 0.2
"""Seconds between writes, which is what a kill loses."""
MAX_PENDING = 20_000
"""Events that may wait for a slow disk (5 MB); those beyond are lost, and counted in the file."""
MAX_BYTES = 1 << 30
"""Where a file ends: 9 hours of 30 frames a second through 4 stations. Viewers hardly open more, and a trace that
filled the disk would end the recording."""
MAX_LANES = 100
"""Tracks of one kind at one station: it has not more frames in hand, so the times must be wrong."""
CLOSE_S = 1.0
"""Seconds that `close` waits for the disk: a stop as a whole may take 2."""
PROCESS = 1
"""A trace has processes, which have threads. Here the run is one process and each track is a thread."""


class TraceFile:
    """The trace of one run, written while it runs. Every method may be called from every thread.

    Times are monotonic seconds; in the file they are microseconds since `open`.

    Args:
        path: the file, replaced by `open`; its folder must exist.
        max_bytes: where the trace ends although the run goes on.
        clock: monotonic seconds.
    """

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self.ended_early: str | None = None
        """Why only the first part of the run is in the file; None: all of it is."""
        self._max_bytes = max_bytes
        self._clock = clock
        self._lines = Lines()
        self._lock = threading.Lock()
        self._pending: list[tuple[Callable[..., str], tuple[Any, ...]]] = []
        self._taking = False
        self._dropped = 0
        self._writer: threading.Thread | None = None
        self._closing = threading.Event()
        self._error: Exception | None = None
        self._file = -1
        self._size = 0

    def open(self) -> None:
        """Create the file and begin.

        Raises:
            SinkError: it cannot be created.
        """
        try:
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise SinkError(f"cannot write a trace to {self.path}: {error.strerror}") from error
        self._lines.zero = self._clock()
        self._taking = True
        self._writer = threading.Thread(target=self._write_all, name="trace", daemon=True)
        self._writer.start()

    def work(self, station: str, source: str, frame: int, waited_from: float, started: float, ended: float) -> None:
        """Add one station's work on one frame; before that, since `waited_from`, the frame waited for the station."""
        self._take(self._lines.work, station, source, frame, waited_from, started, ended)

    def count(self, source: str, name: str, value: float, at: float) -> None:
        """Add a value to the graph of that name; one that is no finite number is left out, as JSON has none."""
        if math.isfinite(value):
            self._take(self._lines.count, source, name, value, at)

    def instant(self, source: str, name: str, at: float) -> None:
        """Add a marker: a source changed its state, the governor took a step."""
        self._take(self._lines.instant, source, name, at)

    @property
    def lost(self) -> int:
        """Events that are not in the file although it was open: the disk was too slow, or their times impossible."""
        return self._dropped + self._lines.unplaced

    def close(self) -> None:
        """Write what is left and finish the file; later events are ignored, and so is a second `close`.

        Raises:
            SinkError: the disk is full or gone, or does not answer. What is written so far opens. Nothing else of the
                run is concerned, so report this after all else is closed.
        """
        writer, self._writer = self._writer, None
        if writer is None:
            return
        self._closing.set()
        writer.join(CLOSE_S)
        if writer.is_alive():
            self.ended_early = "the disk does not answer"
            raise SinkError(f"cannot finish the trace {self.path}: {self.ended_early}")
        if self._error is not None:
            raise SinkError(f"the trace {self.path} ends early: {self.ended_early}") from self._error

    def _take(self, line: Callable[..., str], *values: Any) -> None:
        with self._lock:
            if not self._taking:
                return
            if len(self._pending) < MAX_PENDING:
                self._pending.append((line, values))
            else:
                self._dropped += 1

    def _write_all(self) -> None:
        try:
            self._append(["[" + metadata("process_name", PROCESS, name="frameloom")])
            self._follow()
        except Exception as error:
            self._error = error
            self.ended_early = getattr(error, "strerror", None) or str(error)
        with self._lock:
            self._taking = False
            self._pending.clear()
        with contextlib.suppress(OSError):
            self._append(["]\n"])
        os.close(self._file)

    def _follow(self) -> None:
        """Write what comes until `close`, or until the file is as large as it may be."""
        told = 0
        while self._size < self._max_bytes:
            last = self._closing.wait(FLUSH_S)
            with self._lock:
                self._taking = not last
                pending, self._pending = self._pending, []
            self._append(line(*values) for line, values in pending)
            if self.lost > told:
                self._append([self._lines.instant("trace", f"{self.lost - told} events lost", self._clock())])
                told = self.lost
            if last:
                return
        self.ended_early = f"it has reached {self._max_bytes:,} bytes"
        self._append([self._lines.instant("trace", f"the trace ends: {self.ended_early}", self._clock())])

    def _append(self, lines: Iterable[str]) -> None:
        """Write these lines; where that fails, as many whole ones as there is room for."""
        text = "".join(lines).encode("utf-8", "replace")
        written = 0
        try:
            while written < len(text):  # a full disk takes a part and refuses the next write
                written += os.write(self._file, memoryview(text)[written:])
        except OSError:
            written = text.rfind(b"\n", 0, written) + 1
            with contextlib.suppress(OSError):  # a pipe cannot be cut
                os.ftruncate(self._file, self._size + written)
                os.lseek(self._file, self._size + written, os.SEEK_SET)
            raise
        finally:
            self._size += written


class Lines:
    """Makes each event its line or lines, and finds the track where it overlaps nothing. For one thread."""

    def __init__(self) -> None:
        self.zero = 0.0
        """Monotonic seconds that are 0 in the file."""
        self.unplaced = 0
        """Events left out for want of a track."""
        self._lanes: dict[str, Lanes] = {}

    def work(self, station: str, source: str, frame: int, waited_from: float, started: float, ended: float) -> str:
        """Return a span of waiting, if there was any, and one of work."""
        what = f'{quoted(source)[1:-1]} #{frame}"'
        args = f'{{"source":{quoted(source)},"frame":{frame}}}'
        first, start, end = (self._microseconds(at) for at in (waited_from, started, ended))
        waiting, working = self._lanes_of(f"{station} (wait)"), self._lanes_of(station)
        lines = self._span(waiting, f'"wait {what}', first, start, args) if first < start else ""
        return lines + self._span(working, f'"{what}', start, max(start, end), args)

    def count(self, source: str, name: str, value: float, at: float) -> str:
        """Return a counter's new value."""
        title, ts = quoted(f"{source} {name}"), self._microseconds(at)
        return f',{{"name":{title},"ph":"C","ts":{ts},"pid":{PROCESS},"args":{{"value":{float(value)!r}}}}}\n'

    def instant(self, source: str, name: str, at: float) -> str:
        """Return a marker on the source's own track."""
        lanes, ts = self._lanes_of(f"{source} (marks)"), self._microseconds(at)
        tid, new = lanes.place(0, 0)
        return f'{new},{{"name":{quoted(name)},"ph":"i","s":"t","ts":{ts},"pid":{PROCESS},"tid":{tid}}}\n'

    def _span(self, lanes: Lanes, name: str, start: int, end: int, args: str) -> str:
        tid, new = lanes.place(start, end)
        if not tid:
            self.unplaced += 1
            return ""
        times = f'"ph":"X","ts":{start},"dur":{end - start}'
        return f'{new},{{"name":{name},{times},"pid":{PROCESS},"tid":{tid},"args":{args}}}\n'

    def _lanes_of(self, title: str) -> Lanes:
        lanes = self._lanes.get(title)
        if lanes is None:
            lanes = self._lanes[title] = Lanes(title, (len(self._lanes) + 1) * 10 * MAX_LANES)
        return lanes

    def _microseconds(self, at: float) -> int:
        return max(0, round((at - self.zero) * 1e6))


class Lanes:
    """The tracks for one kind of span; whole microseconds, because rounded fractions may overlap."""

    def __init__(self, title: str, first_tid: int) -> None:
        self._title = title
        self._first_tid = first_tid
        self._ends: list[int] = []

    def place(self, start: int, end: int) -> tuple[int, str]:
        """Return the track (0: none is free) and the lines that name it, if it is new."""
        for lane, busy_until in enumerate(self._ends):
            if busy_until <= start:
                self._ends[lane] = end
                return self._first_tid + lane, ""
        lane = len(self._ends)
        if lane == MAX_LANES:
            return 0, ""
        self._ends.append(end)
        tid = self._first_tid + lane
        name = self._title if lane == 0 else f"{self._title} {lane + 1}"
        naming = metadata("thread_name", tid, name=name) + "," + metadata("thread_sort_index", tid, sort_index=tid)
        return tid, "," + naming


@lru_cache(maxsize=4096)
def quoted(text: str) -> str:
    """Return a name as JSON. The names of a run are few; those of its frames are not among them."""
    return json.dumps(text, ensure_ascii=False)


def metadata(kind: str, tid: int, /, **args: str | int) -> str:
    """Return an event that names or orders a process or a thread."""
    return json.dumps({"name": kind, "ph": "M", "pid": PROCESS, "tid": tid, "args": args}, ensure_ascii=False) + "\n"
