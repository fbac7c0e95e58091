"""Spool: events wait on disk until their receiver has confirmed them, in order, within a limit.

Append-only files of lines, and the number up to which all are confirmed. Why no SQLite: an event costs one write
(measured: 4 to 6 microseconds for 350 bytes, against 38 of a transaction in WAL mode), the oldest are given up by
deleting a file, and damage costs the lines that it hits instead of the database.

What is put is written at once, so that a killed process loses nothing. It is forced to the disk by whoever calls
`sync`, the sender, about once a second: a power cut costs that second. The confirmed number is not forced: a power cut
may make events come twice, which their `id` tells. Where the disk is full events wait in memory, bounded, until it has
room. Where somebody deletes the folder it is made again, with the events of the file that is being written; older
files are lost with it, and counted. Where no file handle is left, everything waits until there is one.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
from collections import deque
from pathlib import Path
from typing import BinaryIO

from engines.cache.file_lock import locked_if_free
from pipeline.sinks.spool_part import SUFFIX, Part, counted, line_of, payload_of

logger = logging.getLogger(__name__)

CONFIRMED = "confirmed"
LOCK = "lock"
PARTS = 8
"""A full spool gives up its oldest file: this part of what it may take."""
LARGEST_PART = 1 << 20
MOST_IN_MEMORY = 4 << 20
"""Bytes that wait in memory where the disk takes nothing."""
PASSING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Errors that say nothing about a file, only that this moment is bad: no file handle or no memory is left."""
OPEN = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC


class SpoolInUse(Exception):
    """Another process, or another sink of this one, keeps its events in the folder."""


class Spool:
    """A queue of payloads on disk for one writer and one reader, each on a thread of its own.

    Args:
        folder: of its files; made for the owner alone, since events tell of people.
        limit: bytes that the files may take.

    Raises:
        SpoolInUse: somebody else uses that folder now.
        OSError: the folder cannot be made or written.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder = folder
        self.dropped = 0
        """Events given up: too many, damaged, or refused by their receiver."""
        self._limit = limit
        self._part_size = min(LARGEST_PART, limit // PARTS)
        self._lock = threading.Lock()
        self._held = contextlib.ExitStack()
        self._closed = self._dirty = self._told_full = self._told_disk = False
        self._take_lock()
        self._output: int | None = None
        self._unforced: list[int] = []
        self._reader: BinaryIO | None = None
        self._reads = self._reads_at = -1
        self._memory: deque[tuple[int, bytes]] = deque()
        self._in_memory = 0
        self._damaged: set[int] = set()
        try:
            self._confirmed_file = os.open(folder / CONFIRMED, OPEN, 0o600)
            self._load()
        except OSError:
            self._held.close()
            raise

    def _take_lock(self) -> None:
        if not self._held.enter_context(locked_if_free(self.folder / LOCK, "sends events")):
            self._held.close()
            raise SpoolInUse(self.folder)

    def _load(self) -> None:
        """Find what an earlier run has left."""
        found = [counted(path) for path in self.folder.glob(f"*{SUFFIX}") if path.stem.isdecimal()]
        for part in found:
            if not part.count:
                part.path.unlink()
        self._parts = sorted((part for part in found if part.count), key=lambda part: part.first)
        text = os.pread(self._confirmed_file, 64, 0).strip()
        oldest = self._parts[0].first if self._parts else 0
        self._confirmed = max(int(text), oldest) if text.isdigit() else oldest
        self._cursor = self._confirmed
        self._next = max(self._confirmed, self._parts[-1].end if self._parts else 0)
        self._delete_confirmed()

    # ------------------------------------------------------------------ the writer

    def put(self, payload: bytes) -> None:
        """Keep one payload, which holds no line break; where there is no room the oldest are given up. Never fails."""
        line = line_of(payload)
        with self._lock:
            if self._closed or len(line) > self._limit:
                self._give_up(1)
                return
            if self._memory or not self._append(self._next, line):
                self._remember(self._next, line)
            self._next += 1

    def _append(self, number: int, line: bytes) -> bool:
        """Write a line whole or not at all; say whether it is there."""
        try:
            part = self._part_for(number, len(line))
            assert self._output is not None
            try:
                _write(self._output, line)
            except OSError:
                self._cut(part)
                raise
        except OSError as error:
            if not self._told_disk:
                self._told_disk = True
                logger.warning(
                    "cannot keep events in %s: %s; up to %d MB wait in memory",
                    self.folder,
                    error.strerror,
                    MOST_IN_MEMORY >> 20,
                )
            return False
        part.count += 1
        part.size += len(line)
        self._dirty = True
        return True

    def _part_for(self, number: int, size: int) -> Part:
        """Return the file that takes so many bytes, after making room."""
        while self._parts and sum(part.size for part in self._parts) + size > self._limit:
            self._delete_oldest()
        current = self._parts[-1] if self._parts and self._output is not None else None
        if current is not None and current.end == number and current.size + size <= self._part_size:
            return current
        self._end_output()
        part = Part(self.folder / f"{number:020d}{SUFFIX}", number)
        self._output = os.open(part.path, OPEN | os.O_TRUNC | os.O_APPEND, 0o600)
        self._parts.append(part)
        return part

    def _cut(self, part: Part) -> None:
        """Take away a line of which only the beginning could be written; a file that cannot be cut gets no more."""
        assert self._output is not None
        try:
            os.ftruncate(self._output, part.size)
        except OSError:
            self._end_output()

    def _end_output(self) -> None:
        if self._output is not None:
            self._unforced.append(self._output)
            self._output = None

    def _delete_oldest(self) -> None:
        """Give up the oldest file, whatever of it was not confirmed."""
        part = self._parts.pop(0)
        if not self._parts:
            self._end_output()
        with contextlib.suppress(OSError):
            part.path.unlink()
        lost = range(max(part.first, self._confirmed), part.end)
        if lost:
            if not self._told_full:
                self._told_full = True
                logger.warning(
                    "more than %.3g MB of events wait in %s: gave up the oldest", self._limit / 1e6, self.folder
                )
            self._give_up(sum(number not in self._damaged for number in lost))
        self._confirm(part.end)

    def _remember(self, number: int, line: bytes) -> None:
        self._memory.append((number, line))
        self._in_memory += len(line)
        while self._in_memory > min(MOST_IN_MEMORY, self._limit):
            self._in_memory -= len(self._memory.popleft()[1])
            self._give_up(1)

    def _give_up(self, count: int) -> None:
        self.dropped += count

    # ------------------------------------------------------------------ the reader

    def next(self) -> tuple[int, bytes] | None:
        """Return the number and payload of the first event that was not read yet; None: there is none."""
        with self._lock:
            while not self._closed:
                if (found := self._read()) is None:
                    return None
                number, line = found
                self._cursor = number + 1
                if (payload := payload_of(line)) is not None:
                    return number, payload
                self._give_up(number not in self._damaged)
                self._damaged.add(number)
                if number <= self._confirmed:
                    self._confirm(number + 1)
            return None

    def _read(self) -> tuple[int, bytes] | None:
        """Return the line at the cursor, or after a gap in the numbers; an empty one where it can never be read."""
        for part in self._parts:
            if self._cursor < part.end:
                number = max(self._cursor, part.first)
                try:
                    self._restore()
                except OSError:
                    return None
                try:
                    return number, self._line_of(part, number)
                except OSError as error:
                    return None if error.errno in PASSING else (number, b"")
        return next(((number, line) for number, line in self._memory if number >= self._cursor), None)

    def _line_of(self, part: Part, number: int) -> bytes:
        if self._reader is None or self._reads != part.first or self._reads_at != number:
            self._end_reader()
            self._reader = part.path.open("rb")
            self._reads = part.first
            for _ in range(number - part.first):
                self._reader.readline()
        self._reads_at = number + 1
        return self._reader.readline()

    def _end_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def rewind(self) -> None:
        """Read again from the first that is not confirmed: the connection is gone, and nobody knows what arrived."""
        with self._lock:
            self._cursor = self._confirmed

    def confirm(self, end: int) -> None:
        """Forget all events whose numbers are below that."""
        with self._lock:
            if not self._closed:
                self._confirm(end)

    def refuse(self, number: int) -> None:
        """Count an event that its receiver will never take; it must be confirmed, too."""
        with self._lock:
            self._give_up(number >= self._confirmed)

    def _confirm(self, end: int) -> None:
        if end <= self._confirmed:
            return
        self._confirmed = end
        while self._confirmed in self._damaged:
            self._confirmed += 1
        self._damaged = {number for number in self._damaged if number > self._confirmed}
        self._cursor = max(self._cursor, self._confirmed)
        while self._memory and self._memory[0][0] < self._confirmed:
            self._in_memory -= len(self._memory.popleft()[1])
        with contextlib.suppress(OSError):  # then some will come twice after a restart
            os.pwrite(self._confirmed_file, b"%020d\n" % self._confirmed, 0)
        self._delete_confirmed()

    def _delete_confirmed(self) -> None:
        """Delete files that nobody needs; the one that is being written, once it is full."""
        while self._parts and self._parts[0].end <= self._confirmed:
            if len(self._parts) == 1 and self._output is not None and self._parts[0].size < self._part_size // 2:
                return
            self._delete_oldest()

    # ------------------------------------------------------------------ both

    @property
    def waiting(self) -> int:
        """How many events are not confirmed."""
        with self._lock:
            on_disk = sum(max(0, part.end - max(part.first, self._confirmed)) for part in self._parts)
            return on_disk + len(self._memory) - len(self._damaged)

    def sync(self) -> None:
        """Force to the disk what was put, and what waits in memory, too, if the disk takes it again.

        What could not be forced is left to the next call.
        """
        with self._lock:
            if self._closed:
                return
            try:
                self._restore()
                self._leave_memory()
                descriptors = self._to_force()
            except OSError:
                return
            self._dirty = False
        for descriptor in descriptors:  # outside the lock: a slow disk must not make `put` wait
            try:
                os.fsync(descriptor)
            except OSError:
                self._dirty = True
            os.close(descriptor)

    def _to_force(self) -> list[int]:
        """Return descriptors of what is not forced yet, to be closed by the caller: the folder's for new names."""
        if not self._dirty and not self._unforced:
            return []
        found = [os.open(self.folder, os.O_RDONLY | os.O_CLOEXEC)]
        try:
            if self._dirty and self._output is not None:
                found.append(os.dup(self._output))
        except OSError:
            os.close(found[0])
            raise
        ended, self._unforced = self._unforced, []
        return ended + found

    def _restore(self) -> None:
        """Where somebody has deleted the folder, or files in it, make it again, with the file that is being written.

        Raises:
            OSError: that is not possible now; everything is as it was.
        """
        if not _is_at(self.folder / CONFIRMED, self._confirmed_file):
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._held.close()
            try:
                self._take_lock()
            except SpoolInUse as error:
                raise OSError(errno.EBUSY, "another run has taken its place") from error
            opened = os.open(self.folder / CONFIRMED, OPEN, 0o600)
            os.close(self._confirmed_file)
            self._confirmed_file = opened
            os.pwrite(opened, b"%020d\n" % self._confirmed, 0)
            logger.warning("%s was deleted while events waited there; made it again", self.folder)
        if self._output is not None and not _is_at(self._parts[-1].path, self._output):
            self._write_again(self._parts[-1])

    def _write_again(self, part: Part) -> None:
        """Write the file that somebody has deleted while it was being written: its events can still be read."""
        assert self._output is not None
        output = os.open(part.path, OPEN | os.O_TRUNC | os.O_APPEND, 0o600)
        try:
            _write(output, os.pread(self._output, part.size, 0))
        except OSError:
            os.close(output)
            part.path.unlink()
            raise
        os.close(self._output)
        self._output = output
        self._dirty = True
        self._end_reader()

    def _leave_memory(self) -> None:
        while self._memory and self._append(*self._memory[0]):
            self._in_memory -= len(self._memory.popleft()[1])

    def close(self) -> None:
        """Leave what waits to the next run; what only memory holds is given up. Forces nothing: that may take long."""
        with self._lock:
            if self._closed:
                return
            with contextlib.suppress(OSError):
                self._restore()
            self._leave_memory()
            self._closed = True
            self._give_up(len(self._memory))
            self._memory.clear()
            self._give_up_deleted()
            if self._parts and self._parts[-1].end <= self._confirmed:
                self._delete_oldest()
            self._end_output()
            self._end_reader()
            if not self._parts:
                with contextlib.suppress(OSError):
                    (self.folder / CONFIRMED).unlink()
            for descriptor in (*self._unforced, self._confirmed_file):
                os.close(descriptor)
            self._held.close()

    def _give_up_deleted(self) -> None:
        """Count what was in files that somebody has deleted: the next run cannot send it."""
        for part in [part for part in self._parts if not part.path.exists()]:
            self._parts.remove(part)
            lost = range(max(part.first, self._confirmed), part.end)
            self._give_up(sum(number not in self._damaged for number in lost))


def _write(descriptor: int, data: bytes) -> None:
    """Write all of it: a full disk takes a part, and refuses the next write."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether an open file is still there, under its name."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except (FileNotFoundError, NotADirectoryError):
        return False
