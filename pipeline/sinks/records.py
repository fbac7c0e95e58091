"""Records: what a frame and its events are in plain JSON types, for every sink that reports them."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.arrays import FloatArray, IntArray
from pipeline.boxes import BOX_DECIMALS, rounded
from pipeline.faces import Faces
from pipeline.frame import UNTRACKED, Detections, Frame

SCORE_DECIMALS = 4
ENCODING_DECIMALS = 6
SPEED_DECIMALS = 2


def event_lines(frame: Frame) -> list[dict[str, Any]]:
    """Return the records of a frame's events; their own keys come after the common ones and cannot replace them."""
    place: dict[str, Any] = {
        "type": "event",
        "source": frame.source,
        "frame": frame.index,
        "pts": round(frame.pts, 6),
        "wall_time": frame.wall_time,
    }
    if frame.file is not None:
        place["file"] = str(frame.file)
    return [place | event | place for event in frame.events]


def wanted(record: Mapping[str, Any], names: Iterable[str]) -> bool:
    """Whether an event is one of those that a sink is to take: `zone.enter`, `zone.*`, `*`."""
    return any(fnmatch.fnmatchcase(str(record.get("event")), name) for name in names)


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
    if frame.segmentation is not None:
        record["segmentation"] = frame.segmentation.shares()
    if frame.predicted:
        record["predicted"] = True
    if frame.faces is not None and frame.faces.predicted:
        record["faces_predicted"] = True
    if frame.file is not None:
        record["file"] = str(frame.file)
    return record


def _detections(frame: Frame, detections: Detections, masks: bool) -> list[dict[str, Any]]:
    """Return the detections; keypoints where the model gives some."""
    tracks = _tracks(detections.track_ids, len(detections))
    rows = zip(
        detections.boxes.tolist(), detections.scores.tolist(), detections.class_ids.tolist(), tracks, strict=True
    )
    records: list[dict[str, Any]] = [
        {
            "box": rounded(box),
            "score": round(score, SCORE_DECIMALS),
            "class": frame.label(class_id),
            "class_id": class_id,
            "track": track,
        }
        for box, score, class_id, track in rows
    ]
    _add_motion(records, detections)
    if detections.keypoints is not None:
        for record, points in zip(records, detections.keypoints.tolist(), strict=True):
            record["keypoints"] = [
                [round(x, BOX_DECIMALS), round(y, BOX_DECIMALS), round(score, SCORE_DECIMALS)] for x, y, score in points
            ]
    if masks and detections.masks is not None:
        for record, polygons in zip(records, detections.masks.polygons(), strict=True):
            record["mask"] = polygons
    return records


def _add_motion(records: list[dict[str, Any]], detections: Detections) -> None:
    """Add who it is and how fast, where that is known."""
    if detections.names is not None:
        for record, name in zip(records, detections.names, strict=True):
            record["name"] = name
    speeds = None if detections.velocities is None else np.hypot(*detections.velocities.T)
    for key, values in (("speed", speeds), ("speed_m_s", detections.speeds_m_s)):
        if values is not None:
            for record, value in zip(records, values.tolist(), strict=True):
                record[key] = round(value, SPEED_DECIMALS) if math.isfinite(value) else None


def _tracks(track_ids: IntArray | None, count: int) -> list[int | None]:
    if track_ids is None:
        return [None] * count
    return [None if number == UNTRACKED else number for number in track_ids.tolist()]


def _faces(faces: Faces, encodings: bool) -> list[dict[str, Any]]:
    """Return the faces; what nobody measured is null or left out."""
    records: list[dict[str, Any]] = []
    for row in range(len(faces)):
        record: dict[str, Any] = {
            "box": rounded(faces.boxes[row].tolist()),
            "score": round(float(faces.scores[row]), SCORE_DECIMALS),
            "landmarks": [[round(x, BOX_DECIMALS), round(y, BOX_DECIMALS)] for x, y in faces.landmarks[row].tolist()],
            "name": None if faces.names is None else faces.names[row],
            "similarity": _score(faces.similarities, row),
            "track": _tracks(faces.track_ids, len(faces))[row],
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
