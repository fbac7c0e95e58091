"""Tracks: what is known of everything that one tracker follows, as a struct of arrays.

A track's motion is kept as of when it was seen last: a filter that knows time gets from there to any moment in one
step. And when a hidden thing comes back, nothing has to be undone that was made up in between: the filter is led along
the straight line from where it was seen last to where it is seen now, as if it had been seen there (observation-centric
re-update; Cao et al., "Observation-Centric SORT", 2023, section 4.1).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.boxes import centres
from pipeline.frame import UNTRACKED
from pipeline.postprocess.tracker import kalman
from pipeline.postprocess.tracker.association import Indices
from pipeline.postprocess.tracker.kalman import Doubles, Rows

Ints = npt.NDArray[np.int64]

MOST_STEPS = 10
"""Along the line that a hidden thing is taken to have gone."""
PLACES = 6
"""How many of a track's places are remembered, to know which way it goes."""
LOOK_BACK_S = 0.3
"""Time over which the way is measured, as far as that many places reach."""
FAR = 0.3
"""Box sizes: a way that is so long shows the direction for certain."""
ROUNDING_S = 1e-6
"""Times that differ by less are the same."""

PER_TRACK = ("boxes", "seen_at", "class_ids", "sightings", "numbers", "missed", "_places", "_times")


class Tracks:
    """N tracks, in the order in which they began."""

    def __init__(self) -> None:
        """Follow nothing."""
        self.motion = kalman.begin(np.empty((0, 4)))
        """As of `seen_at`."""
        self.boxes: Doubles = np.empty((0, 4))
        """(N, 4) xyxy, seen last."""
        self.seen_at: Doubles = np.empty(0)
        self.class_ids: Ints = np.empty(0, np.int64)
        self.sightings: Ints = np.empty(0, np.int64)
        """In how many frames it was seen."""
        self.numbers: Ints = np.empty(0, np.int64)
        """`UNTRACKED` until it is confirmed."""
        self.missed: Ints = np.empty(0, np.int64)
        """In how many updates it was not seen since it was seen last."""
        self._places: Doubles = np.empty((0, PLACES, 2))
        self._times: Doubles = np.empty((0, PLACES))

    def __len__(self) -> int:
        return len(self.seen_at)

    @property
    def confirmed(self) -> npt.NDArray[np.bool_]:
        """(N,) which have a number."""
        return np.asarray(self.numbers != UNTRACKED)

    def expected(self, time_s: float) -> kalman.Motion:
        """Return where they should be at a time."""
        return kalman.predict(self.motion, time_s - self.seen_at)

    def keep(self, rows: Rows) -> None:
        """End all others."""
        if rows.dtype == bool and rows.all():
            return
        self.motion = self.motion[rows]
        for name in PER_TRACK:
            setattr(self, name, getattr(self, name)[rows])

    def begin(self, boxes: Doubles, class_ids: Ints, time_s: float) -> None:
        """Begin a track with each of (N, 4) xyxy boxes."""
        count = len(boxes)
        self.motion = self.motion.with_more(kalman.begin(boxes))
        new = {
            "boxes": boxes,
            "seen_at": np.full(count, time_s),
            "class_ids": class_ids,
            "sightings": np.ones(count, np.int64),
            "numbers": np.full(count, UNTRACKED),
            "missed": np.zeros(count, np.int64),
            "_places": np.repeat(centres(boxes)[:, None], PLACES, axis=1),
            "_times": np.full((count, PLACES), time_s),
        }
        for name in PER_TRACK:
            setattr(self, name, np.concatenate([getattr(self, name), new[name]]))

    def see(self, rows: Indices, boxes: Doubles, class_ids: Ints, time_s: float) -> None:
        """Note where some tracks were seen: (M,) rows, (M, 4) xyxy, (M,)."""
        self.motion.put(rows, self._led(rows, boxes, time_s))
        self.boxes[rows], self.seen_at[rows], self.class_ids[rows] = boxes, time_s, class_ids
        self.sightings[rows] += 1
        self.missed[rows] = 0
        self._places[rows, :-1], self._times[rows, :-1] = self._places[rows, 1:], self._times[rows, 1:]
        self._places[rows, -1], self._times[rows, -1] = centres(boxes), time_s

    def _led(self, rows: Indices, boxes: Doubles, time_s: float) -> kalman.Motion:
        """Return the motion of rows led to boxes, by as many steps as there were updates."""
        start, motion = self.boxes[rows], self.motion[rows]
        steps = np.minimum(self.missed[rows], MOST_STEPS - 1) + 1
        step_s, way = (time_s - self.seen_at[rows]) / steps, (boxes - start) / steps[:, None]
        for step in range(1, int(steps.max(initial=0)) + 1):
            going = np.flatnonzero(steps >= step)
            there = kalman.predict(motion[going], step_s[going])
            motion.put(going, kalman.correct(there, start[going] + step * way[going]))
        return motion

    def courses(self) -> Doubles:
        """Return (N, 2) directions, from -1 to 1: of length 1 where the way was `FAR` or more, shorter where not."""
        before = self._times <= self._times[:, -1:] - (LOOK_BACK_S - ROUNDING_S)
        latest = np.where(before.any(axis=1), PLACES - 1 - before[:, ::-1].argmax(axis=1), 0)
        way = self._places[:, -1] - self._places[np.arange(len(self)), latest]
        length = np.hypot(way[:, :1], way[:, 1:])
        return np.asarray(way / np.maximum(length, FAR * kalman.sizes(self.motion.place)))

    def warp(self, affine: Doubles) -> None:
        """Take all places to where a camera sees them that has moved, by a (2, 3) similarity."""
        linear, shift = affine[:, :2], affine[:, 2]
        self.motion = kalman.warp(self.motion, affine)
        centre, half = centres(self.boxes) @ linear.T + shift, sides(self.boxes) / 2
        half *= np.sqrt(abs(np.linalg.det(linear)))
        self.boxes = np.concatenate([centre - half, centre + half], axis=1)
        self._places = self._places @ linear.T + shift


def sides(boxes: Doubles) -> Doubles:
    """Return the (N, 2) widths and heights of (N, 4) xyxy boxes."""
    return boxes[:, 2:] - boxes[:, :2]
