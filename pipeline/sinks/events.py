"""Events: one JSON object a line; the last is the run's summary.

A line is written whole by one system call or not at all: a reader never sees half of one, and where the disk is
full the part that was written is cut off again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.capture.source import SourceInfo
from pipeline.errors import SinkError
from pipeline.frame import Detections, Frame
from pipeline.sinks.paths import prepare_folder
from pipeline.sinks.sink import Sink

BOX_DECIMALS = 2
SCORE_DECIMALS = 4


class Events(Sink):
    """The event log of a run."""

    name = "events"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    def check(self, sources: Sequence[SourceInfo]) -> None:
        """Make the folder."""
        prepare_folder(self._path.parent, "events")

    def open(self) -> None:
        """Create the file; an existing one is replaced."""
        try:
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise SinkError(f"cannot write events to {self._path}: {error.strerror}") from error
        self._size = 0

    def consume(self, frame: Frame) -> None:
        """Write the frame's line, then its events."""
        self._write(frame_line(frame))
        for event in frame.events:
            self._write({"type": "event", "source": frame.source, "frame": frame.index, "pts": frame.pts, **event})

    def report(self, summary: dict[str, Any]) -> None:
        """Write the summary line and close the file."""
        if self._file is None:
            return
        try:
            self._write({"type": "summary", **summary})
        finally:
            os.close(self._file)
            self._file = None

    @property
    def files(self) -> list[Path]:
        """The log."""
        return [self._path]

    def _write(self, record: dict[str, Any]) -> None:
        assert self._file is not None
        line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        try:
            written = os.write(self._file, line)
            if written < len(line):  # a full disk takes a part and refuses the next write
                os.write(self._file, line[written:])
        except OSError as error:
            os.ftruncate(self._file, self._size)
            raise SinkError(f"cannot write events to {self._path}: {error.strerror}") from error
        self._size += len(line)


def frame_line(frame: Frame) -> dict[str, Any]:
    """Return a frame's record, in plain JSON types."""
    record: dict[str, Any] = {
        "type": "frame",
        "source": frame.source,
        "frame": frame.index,
        "pts": round(frame.pts, 6),
        "wall_time": frame.wall_time,
        "detections": [] if frame.detections is None else _detections(frame, frame.detections),
        "faces": [],
    }
    if frame.file is not None:
        record["file"] = str(frame.file)
    return record


def _detections(frame: Frame, detections: Detections) -> list[dict[str, Any]]:
    tracks = [None] * len(detections) if detections.track_ids is None else detections.track_ids.tolist()
    rows = zip(
        detections.boxes.tolist(), detections.scores.tolist(), detections.class_ids.tolist(), tracks, strict=True
    )
    return [
        {
            "box": [round(edge, BOX_DECIMALS) for edge in box],
            "score": round(score, SCORE_DECIMALS),
            "class": frame.label(class_id),
            "class_id": class_id,
            "track": track,
        }
        for box, score, class_id, track in rows
    ]
