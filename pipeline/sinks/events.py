"""Events: one JSON object a line; the last is the run's summary.

A line is written whole by one system call or not at all: a reader never sees half of one, and where the disk is
full the part that was written is cut off again.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.arrays import FloatArray
from pipeline.capture.source import SourceInfo, SourceState
from pipeline.errors import SinkError
from pipeline.faces import Faces
from pipeline.frame import Detections, Frame
from pipeline.sinks.paths import prepare_file
from pipeline.sinks.sink import Sink

BOX_DECIMALS = 2
SCORE_DECIMALS = 4
ENCODING_DECIMALS = 6


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
        for event in frame.events:
            place = {"type": "event", "source": frame.source, "frame": frame.index, "pts": round(frame.pts, 6)}
            self._write(place | event | place)  # an event's own keys come after these and cannot replace them

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


def plain(value: Any) -> Any:
    """Return plain JSON types: arrays as lists, paths as text, NaN and infinity, which JSON lacks, as null."""
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def frame_line(frame: Frame, encodings: bool = False, masks: bool = False) -> dict[str, Any]:
    """Return a frame's record, in plain JSON types; on request with its faces' encodings and its objects' outlines."""
    record: dict[str, Any] = {
        "type": "frame",
        "source": frame.source,
        "frame": frame.index,
        "pts": round(frame.pts, 6),
        "wall_time": frame.wall_time,
        "detections": [] if frame.detections is None else _detections(frame, frame.detections, masks),
        "faces": [] if frame.faces is None else _faces(frame.faces, encodings),
    }
    if frame.predicted:
        record["predicted"] = True
    if frame.faces is not None and frame.faces.predicted:
        record["faces_predicted"] = True
    if frame.file is not None:
        record["file"] = str(frame.file)
    return record


def _detections(frame: Frame, detections: Detections, masks: bool) -> list[dict[str, Any]]:
    """Return the detections; keypoints where the model gives some."""
    tracks = [None] * len(detections) if detections.track_ids is None else detections.track_ids.tolist()
    rows = zip(
        detections.boxes.tolist(), detections.scores.tolist(), detections.class_ids.tolist(), tracks, strict=True
    )
    records: list[dict[str, Any]] = [
        {
            "box": [round(edge, BOX_DECIMALS) for edge in box],
            "score": round(score, SCORE_DECIMALS),
            "class": frame.label(class_id),
            "class_id": class_id,
            "track": track,
        }
        for box, score, class_id, track in rows
    ]
    if detections.keypoints is not None:
        for record, points in zip(records, detections.keypoints.tolist(), strict=True):
            record["keypoints"] = [
                [round(x, BOX_DECIMALS), round(y, BOX_DECIMALS), round(score, SCORE_DECIMALS)] for x, y, score in points
            ]
    if masks and detections.masks is not None:
        for record, polygons in zip(records, detections.masks.polygons(), strict=True):
            record["mask"] = polygons
    return records


def _faces(faces: Faces, encodings: bool) -> list[dict[str, Any]]:
    """Return the faces; what nobody measured is null or left out."""
    records: list[dict[str, Any]] = []
    for row in range(len(faces)):
        record: dict[str, Any] = {
            "box": [round(edge, BOX_DECIMALS) for edge in faces.boxes[row].tolist()],
            "score": round(float(faces.scores[row]), SCORE_DECIMALS),
            "landmarks": [[round(x, BOX_DECIMALS), round(y, BOX_DECIMALS)] for x, y in faces.landmarks[row].tolist()],
            "name": None if faces.names is None else faces.names[row],
            "similarity": _score(faces.similarities, row),
            "track": None if faces.track_ids is None else int(faces.track_ids[row]),
        }
        for name, values in (("quality", faces.qualities), ("liveness", faces.liveness)):
            if values is not None:
                record[name] = _score(values, row)
        if faces.points is not None:
            record["points"] = [[round(x, BOX_DECIMALS), round(y, BOX_DECIMALS)] for x, y in faces.points[row].tolist()]
        if encodings and faces.encodings is not None and np.isfinite(faces.encodings[row]).all():
            record["encoding"] = [round(value, ENCODING_DECIMALS) for value in faces.encodings[row].tolist()]
            record["embedder"] = faces.embedder
        records.append(record)
    return records


def _score(values: FloatArray | None, row: int) -> float | None:
    value = math.nan if values is None else float(values[row])
    return round(value, SCORE_DECIMALS) if math.isfinite(value) else None
