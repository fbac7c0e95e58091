"""Trace: the sink around a TraceFile. Stations write into the file directly; it only takes markers from here."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from pipeline.capture.source import SourceInfo, SourceState
from pipeline.frame import Frame
from pipeline.perfetto import TraceFile
from pipeline.sinks.paths import prepare_file
from pipeline.sinks.sink import Sink


class Trace(Sink):
    """The trace of a run; `file` is the tracer that the run's stations tell of their work."""

    name = "trace"

    def __init__(self, path: Path) -> None:
        self.file = TraceFile(path)

    def check(self, sources: Sequence[SourceInfo]) -> None:
        """Make the folder; see that the file can be written."""
        prepare_file(self.file.path, "sinks.trace")

    def open(self) -> None:
        """Begin the file."""
        self.file.open()

    def source_changed(self, state: SourceState) -> None:
        """Mark a live source's new state."""
        why = f" ({state.reason})" if state.reason else ""
        self.file.instant(state.source, f"{state.state}{why}", time.monotonic())

    def consume(self, frame: Frame) -> None:
        """Mark what happened at this frame."""
        for event in frame.events:
            self.file.instant(frame.source, str(event.get("event", "event")), frame.free_since)

    def report(self, summary: dict[str, object]) -> None:
        """Finish the file: last of all, so that it costs nothing else if the disk is full."""
        self.file.close()

    @property
    def files(self) -> list[Path]:
        """The trace."""
        return [self.file.path] if self.file.path.exists() else []
