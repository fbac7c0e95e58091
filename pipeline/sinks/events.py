"""Events: one JSON object a line; the last is the run's summary.

A line is written whole or not at all, and a full disk costs lines, never the run: `line_file` says how.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.capture.source import SourceInfo, SourceState
from pipeline.config.sink_settings import EventsSettings
from pipeline.errors import SinkError
from pipeline.frame import Frame
from pipeline.sinks.line_file import LineFile
from pipeline.sinks.paths import MEGABYTE, prepare_file, refuse_sources
from pipeline.sinks.records import event_lines, frame_line, plain
from pipeline.sinks.sink import MissedEvents, Sink


class Events(Sink):
    """The event log of a run."""

    name = "events"

    def __init__(self, settings: EventsSettings) -> None:
        """Write nothing yet."""
        self._settings = settings
        rotate_mb = settings.rotate_mb
        self._log = LineFile(
            settings.path,
            "sinks.events",
            is_private=settings.encodings,  # people can be found by it
            rotate_bytes=None if rotate_mb is None else round(rotate_mb * MEGABYTE),
            keep_files=settings.keep_files,
        )

    def check(self, sources: Sequence[SourceInfo]) -> None:
        """Make the folder; see that the file can be written and no source becomes an old log."""
        path = self._settings.path
        if self._settings.rotate_mb is not None:
            old = [path.with_name(f"{path.name}.{number}") for number in range(1, self._settings.keep_files + 1)]
            refuse_sources(old, sources, "sinks.events")
        prepare_file(path, "sinks.events")

    def open(self) -> None:
        """Open the file. The content of an existing one stays until the first line replaces it."""
        self._log.open()

    def consume(self, frame: Frame) -> None:
        """Write the frame's line, unless only events are wanted, then its events."""
        if self._settings.frames:
            self._write(frame_line(frame, self._settings.encodings, self._settings.masks))
        else:
            self._log.begin()
        for line in event_lines(frame):
            self._write(line)

    def missed(self, events: MissedEvents) -> None:
        """Write what happened in a frame that was dropped."""
        for line in events.lines:
            self._write(line)

    def source_changed(self, state: SourceState) -> None:
        """Write a live source's new state."""
        self._write({"type": "source", **asdict(state)})

    def report(self, summary: dict[str, Any]) -> None:
        """Write the summary line and close the file. A run that captured nothing leaves an existing file as it was."""
        if not self._log.is_open:
            return
        captured = any(account["captured"] for account in summary["sources"].values())
        try:
            if self._log.begun or captured or self._log.size == 0:
                self._write({"type": "summary", **summary}, is_last=True)
        finally:
            self._log.close()

    @property
    def files(self) -> list[Path]:
        """The log, and what it was before it was rotated."""
        return self._log.files

    @property
    def dropped(self) -> int:
        """Lines that a full disk cost."""
        return self._log.space.lost

    def remark(self) -> str | None:
        """Say how many lines are missing."""
        return self._log.space.remark()

    def _write(self, record: dict[str, Any], *, is_last: bool = False) -> None:
        self._log.write(self._encode(record), is_last=is_last)

    def _encode(self, record: dict[str, Any]) -> bytes:
        try:
            try:
                text = json.dumps(record, separators=(",", ":"), allow_nan=False)
            except (TypeError, ValueError):
                text = json.dumps(plain(record), separators=(",", ":"), allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise SinkError(f"cannot write events to {self._settings.path}: an event is no JSON: {error}") from error
        return text.encode() + b"\n"
