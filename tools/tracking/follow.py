"""A sequence through a tracker, frame by frame, each at its own time.

Trackers differ in the types that they take and give. What it takes to go from one to the other is not timed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from pipeline.frame import Detections
from pipeline.postprocess.tracker import Tracker, TrackerOptions
from tools.tracking.mot_rows import MotRows
from tools.tracking.sequences import Labelled


class Follower(Protocol):
    """A tracker for one sequence."""

    def prepare(self, detections: Detections) -> Any:
        """Return a frame's detections as it takes them."""

    def update(self, prepared: Any, time_s: float) -> Any:
        """Follow them; this is what is timed."""

    def read(self, result: Any) -> Detections:
        """Return what it says, with track ids; negative ones stand for no track."""


@dataclass(frozen=True, eq=False)
class Followed:
    """What a tracker made of a sequence."""

    tracks: MotRows
    wall_ms: list[float]
    """Of each frame's update."""
    cpu_ms: list[float]
    """The same in CPU time, which other programs on the machine hardly change."""


class Ours:
    """The tracker of a run."""

    def __init__(self, options: TrackerOptions) -> None:
        self._tracker = Tracker(options)

    def prepare(self, detections: Detections) -> Detections:
        """Return them as they are."""
        return detections

    def update(self, prepared: Detections, time_s: float) -> Detections:
        """Follow them."""
        return self._tracker.update(prepared, time_s)

    def read(self, result: Detections) -> Detections:
        """Return it as it is."""
        return result


def follow(sequence: Labelled, follower: Follower) -> Followed:
    """Run a tracker on the frames of a sequence; those without detections, too."""
    rows, wall_ms, cpu_ms = [np.empty((0, 7))], list[float](), list[float]()
    for frame in sequence.frames:
        found = sequence.detections.at(frame)
        boxes, scores = found.boxes.astype(np.float32), found.values.astype(np.float32)
        prepared = follower.prepare(Detections(boxes, scores, np.zeros(len(found), np.int32)))
        began, cpu_began = time.perf_counter(), time.thread_time()
        result = follower.update(prepared, sequence.time_s(frame))
        cpu_ms.append(1e3 * (time.thread_time() - cpu_began))
        wall_ms.append(1e3 * (time.perf_counter() - began))
        rows.append(_rows(frame, follower.read(result)))
    return Followed(MotRows.of(np.concatenate(rows)), wall_ms, cpu_ms)


def _rows(frame: int, tracked: Detections) -> Any:
    """Return (N, 7) MOT rows of what belongs to a track."""
    if tracked.track_ids is None:
        return np.empty((0, 7))
    mine = tracked[tracked.track_ids >= 0]
    corner, size = mine.boxes[:, :2], mine.boxes[:, 2:] - mine.boxes[:, :2]
    frames = np.full((len(mine), 1), frame)
    return np.concatenate([frames, mine.track_ids[:, None], corner, size, mine.scores[:, None]], axis=1)  # type: ignore[index]
