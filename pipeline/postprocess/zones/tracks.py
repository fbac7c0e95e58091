"""The tracked objects of one source: each has a place in arrays, so that all are worked on at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipeline.boxes import rounded
from pipeline.frame import UNTRACKED
from pipeline.postprocess.tracker.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.frame import Frame
    from pipeline.postprocess.tracker.clock import Bools
    from pipeline.postprocess.zones.geometry import Points, Values

Places = npt.NDArray[np.intp]
Rows = Any
"""What numpy takes between brackets to choose rows."""


class Table:
    """Columns of numbers, each with an entry for every place; they grow as places are asked for."""

    def __init__(self, **empty: float | Sequence[float]) -> None:
        """Take the name of each column and what stands in a place that nobody has."""
        self._empty = {name: np.asarray(value, np.float64) for name, value in empty.items()}
        self._columns = {name: np.empty((0, *value.shape)) for name, value in self._empty.items()}
        self._size = 0

    def __getitem__(self, name: str) -> Values:
        """Return a column, to read and to write; for no longer than the next `reach`."""
        return self._columns[name]

    def reach(self, size: int) -> None:
        """Have at least so many places."""
        if size <= self._size:
            return
        size = max(size, 2 * self._size, 16)
        for name, column in self._columns.items():
            new = np.broadcast_to(self._empty[name], (size - len(column), *column.shape[1:]))
            self._columns[name] = np.concatenate([column, new])
        self._size = size

    def clear(self, place: int) -> None:
        """Make a place one that nobody has."""
        if place < self._size:
            for name, column in self._columns.items():
                column[place] = self._empty[name]


@dataclass
class Someone:
    """What events say of an object."""

    track: int
    label: str
    name: str | None
    box: list[float]


@dataclass
class Seen:
    """The tracked objects in one frame."""

    time_s: float
    is_predicted: bool
    size: int
    """How many places there are."""
    rows: Rows
    """Which of the frame's detections they are."""
    places: Places
    """(N,)."""
    boxes: Points
    """(N, 4) xyxy in frame pixels."""
    track_ids: list[int]
    labels: list[str]
    names: Sequence[str | None]
    speeds: Values
    """(N,) in `unit`; NaN where not known."""
    unit: str

    def __post_init__(self) -> None:
        boxes = self.boxes
        self.centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        self.feet = self.centres.copy()
        self.feet[:, 1] = boxes[:, 3]
        self.heights = boxes[:, 3] - boxes[:, 1]

    def someone(self, row: int) -> Someone:
        """Return what events say of the object in a row."""
        return Someone(self.track_ids[row], self.labels[row], self.names[row], rounded(self.boxes[row].tolist()))


class Tracks:
    """Who has which place, until they have gone: when the tracker ends a track, which its clock says here, too."""

    def __init__(self, gone_after_s: float) -> None:
        self._gone_after_s = gone_after_s
        self._clock = Clock(gone_after_s)
        self._gone: list[int] = []
        self._places: dict[int, int] = {}
        self._free: list[int] = []
        self._table = Table(seen_at=np.nan, found_at=np.nan, missed=0.0, box=(np.nan,) * 4)
        """When each was shown last, in media time; when found last, by the clock, and in how many looks since not."""
        self._who: list[tuple[int, str, str | None]] = []

    @property
    def size(self) -> int:
        """How many places there are."""
        return len(self._who)

    def see(self, frame: Frame) -> Seen:
        """Take the tracked objects of a frame."""
        if self._clock.since_frame(frame.pts) < 0:
            self._clock = Clock(self._gone_after_s)
        is_gap = self._clock.is_gap(frame.pts)
        seen = self._seen(frame)
        gone = self._pass_by(frame.pts) if frame.predicted else self._look(frame.pts, seen.places)
        if is_gap:  # whoever is still there was seen just now
            gone = self._table["seen_at"] < frame.pts
        self._gone = np.flatnonzero(gone).tolist()
        return seen

    def _pass_by(self, time_s: float) -> Bools:
        """Return who has gone: nobody."""
        self._clock.pass_by(time_s)
        return np.zeros(0, bool)

    def _look(self, time_s: float, places: Places) -> Bools:
        """Take who was found; return of each place whether who had it has gone."""
        now_s = self._clock.look(time_s)
        found_at, missed = self._table["found_at"], self._table["missed"]
        found_at[places] = now_s
        found_at[np.isnan(found_at) & ~np.isnan(self._table["seen_at"])] = now_s  # only shown until now
        gone = self._clock.are_over(found_at, missed)
        missed[:] += 1
        missed[places] = 0
        return gone

    def _seen(self, frame: Frame) -> Seen:
        detections = frame.detections
        ids = None if detections is None else detections.track_ids
        if detections is None or ids is None:
            none = np.empty(0, np.intp)
            return Seen(
                frame.pts, frame.predicted, self.size, none, none, np.empty((0, 4)), [], [], [], np.empty(0), "px/s"
            )
        rows: Rows = slice(None) if (ids != UNTRACKED).all() else np.flatnonzero(ids != UNTRACKED)
        track_ids = ids[rows].tolist()
        class_ids = detections.class_ids[rows].tolist()
        called = {class_id: frame.label(class_id) for class_id in set(class_ids)}
        labels = [called[class_id] for class_id in class_ids]
        names = [None] * len(track_ids) if detections.names is None else np.array(detections.names, object)[rows]
        places = np.array([self._place(track_id) for track_id in track_ids], np.intp)
        self._table.reach(self.size)
        for place, who in zip(places.tolist(), zip(track_ids, labels, names, strict=True), strict=True):
            self._who[place] = who
        boxes = detections.boxes[rows].astype(np.float64)
        self._table["seen_at"][places] = frame.pts
        self._table["box"][places] = boxes
        if detections.velocities is None:
            speeds = np.full(len(track_ids), np.nan)
        else:
            speeds = np.hypot(*detections.velocities[rows].astype(np.float64).T)
        return Seen(
            frame.pts, frame.predicted, self.size, rows, places, boxes, track_ids, labels, list(names), speeds, "px/s"
        )

    def _place(self, track_id: int) -> int:
        place = self._places.get(track_id)
        if place is None:
            if not self._free:
                self._free.append(len(self._who))
                self._who.append((track_id, "", None))
            place = self._places[track_id] = self._free.pop()
        return place

    def gone(self) -> list[int]:
        """Return the places of those who had gone by the frame seen last."""
        return self._gone

    def all(self) -> list[int]:
        """Return every place that somebody has."""
        return list(self._places.values())

    def seen_at(self, place: int) -> float:
        """Return when somebody was last seen."""
        return float(self._table["seen_at"][place])

    def someone(self, place: int) -> Someone:
        """Return what events say of somebody who was seen before."""
        return Someone(*self._who[place], rounded(self._table["box"][place].tolist()))

    def forget(self, place: int) -> None:
        """Let another have the place."""
        del self._places[self._who[place][0]]
        self._free.append(place)
        self._table.clear(place)
