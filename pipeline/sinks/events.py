"""Events: one JSON object a line; the last is the run's summary.

A line is written whole by one system call or not at all: a reader never sees half of one, and where the disk is
full the part that was written is cut off again.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.capture.source import SourceInfo, SourceState
from pipeline.errors import SinkError
from pipeline.frame import Frame
from pipeline.sinks.paths import prepare_file
from pipeline.sinks.records import event_lines, frame_line, plain
from pipeline.sinks.sink import Sink


class Events(Sink):
    """The event log of a run."""

    name = "events"

    def __init__(self, path: Path, encodings: bool = False, masks: bool = False) -> None:
        """Write nothing yet.

        Args:
            path: of the log.
            encodings: whether to write the encodings of faces, which are personal data.
            masks: whether to write the outlines of masks.
        """
        self._path = path
        self._masks = masks
        self._encodings = encodings
        self._file: int | None = None
        self._size = 0
        self._begun = False

    def check(self, sources: Sequence[SourceInfo]) -> None:
        """Make the folder; see that the file can be written."""
        prepare_file(self._path, "sinks.events")

    def open(self) -> None:
        """Open the file. The content of an existing one stays until the first line replaces it."""
        try:
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
            if self._encodings and stat.S_ISREG(os.fstat(self._file).st_mode):
                os.fchmod(self._file, 0o600)  # people can be found by it
        except OSError as error:
            raise SinkError(f"cannot write events to {self._path}: {error.strerror}") from error

    def consume(self, frame: Frame) -> None:
        """Write the frame's line, then its events."""
        self._write(frame_line(frame, self._encodings, self._masks))
        for line in event_lines(frame):
            self._write(line)

    def source_changed(self, state: SourceState) -> None:
        """Write a live source's new state."""
        self._write({"type": "source", **asdict(state)})

    def report(self, summary: dict[str, Any]) -> None:
        """Write the summary line and close the file. A run that captured nothing leaves an existing file as it was."""
        if self._file is None:
            return
        captured = any(account["captured"] for account in summary["sources"].values())
        try:
            if self._begun or captured or os.fstat(self._file).st_size == 0:
                self._write({"type": "summary", **summary})
        finally:
            os.close(self._file)
            self._file = None

    @property
    def files(self) -> list[Path]:
        """The log."""
        return [self._path] if self._begun else []

    def _write(self, record: dict[str, Any]) -> None:
        assert self._file is not None
        line = self._encode(record)
        rest = memoryview(line)
        try:
            if not self._begun:
                self._begun = True
                with contextlib.suppress(OSError):  # a pipe cannot be cut
                    os.ftruncate(self._file, 0)
            while rest:  # a full disk takes a part and refuses the next write
                rest = rest[os.write(self._file, rest) :]
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)
                os.lseek(self._file, self._size, os.SEEK_SET)
            raise SinkError(f"cannot write events to {self._path}: {error.strerror}") from error
        self._size += len(line)

    def _encode(self, record: dict[str, Any]) -> bytes:
        try:
            try:
                text = json.dumps(record, separators=(",", ":"), allow_nan=False)
            except (TypeError, ValueError):
                text = json.dumps(plain(record), separators=(",", ":"), allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise SinkError(f"cannot write events to {self._path}: an event is no JSON: {error}") from error
        return text.encode() + b"\n"
