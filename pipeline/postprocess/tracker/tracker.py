"""Tracker: the same number for the same thing from frame to frame, of one source.

In the line of ByteTrack (weak boxes continue tracks; see `rounds`) and OC-SORT (how things move is taken from where
they were seen, not from where a filter guessed that they were; see `tracks`). All times are real ones (see `kalman`),
so that frames may be missing and rates may vary; the clock stands only while nobody looks (see `clock`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pipeline.frame import UNTRACKED, Detections
from pipeline.postprocess.between import moved
from pipeline.postprocess.tracker.association import NONE, Indices, Matching
from pipeline.postprocess.tracker.camera_motion import CameraMotion
from pipeline.postprocess.tracker.clock import Clock
from pipeline.postprocess.tracker.looks import Looks
from pipeline.postprocess.tracker.rounds import Seen, match
from pipeline.postprocess.tracker.tracks import Tracks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.arrays import FloatArray, IntArray
    from pipeline.picture import Picture
    from pipeline.postprocess.tracker.appearance import Appearance
    from pipeline.postprocess.tracker.association import Bools
    from pipeline.postprocess.tracker.tracks import Ints

HUGE = 1e7
"""Pixels: boxes with coordinates beyond are not followed."""


@dataclass(frozen=True)
class TrackerOptions:
    """How things are followed. Scores are the detector's, whatever their range."""

    high: float = 0.3
    """Boxes that score more than this are shown, and matched first."""
    low: float = 0.1
    """Boxes from this score continue tracks."""
    start: float | None = None
    """Boxes from this score begin tracks, where it is above `high`; None: all above `high`."""
    min_iou: float = 0.1
    """A box that overlaps by less with where a track should be is not it."""
    confirm_frames: int = 2
    """A track gets its number when it was seen in so many frames in a row; those of the very first frame at once."""
    max_gap_s: float = 2.0
    """A track that was not seen for longer, though somebody looked, has ended; and all have where no frame came.

    Where frames are rarer than three in this time, it is three times the interval between them."""
    class_agnostic: bool = False
    """Whether a track's class may change."""
    camera_motion: bool = False
    """Whether to allow for a camera that moves: takes the pictures."""
    appearance: Appearance | None = None
    """How to compare looks: takes the pictures, too."""


class Tracker:
    """Follows what is detected in one source."""

    def __init__(self, options: TrackerOptions | None = None) -> None:
        """Follow nothing yet."""
        self._options = options or TrackerOptions()
        self._camera = CameraMotion() if self._options.camera_motion else None
        self._looks = None if self._options.appearance is None else Looks(self._options.appearance)
        self._last_number = 0
        self.end_all()

    def end_all(self) -> None:
        """End all tracks; the next frame is the first of something else. Numbers go on."""
        self._tracks = Tracks()
        self._last = Detections.empty()
        self._clock = Clock(self._options.max_gap_s)
        if self._camera is not None:
            self._camera.forget()
        if self._looks is not None:
            self._looks.forget()

    @property
    def last(self) -> Detections:
        """What the last update returned; nothing where all tracks have ended since."""
        return self._last

    def update(self, detections: Detections, time_s: float, picture: Picture | None = None) -> Detections:
        """Follow what was detected in a frame; return what of it is shown.

        Args:
            detections: those of the frame. Boxes that are not finite or have no area are left out.
            time_s: media time of the frame in seconds. A clock that jumps back ends all tracks, and so do more than
                `max_gap_s` without any frame.
            picture: the frame's; camera motion and appearance do nothing without it.

        Returns:
            Detections with a score over `high`, or that continue a track; their boxes as they were, with `track_ids`
            (from 1, never used again; `UNTRACKED` where there is no number yet) and `velocities`.

        Raises:
            ValueError: the time is not finite.
        """
        self._come_to(time_s)
        is_first = not self._clock.has_looked
        time_s = self._clock.look(time_s)
        self._keep(~self._clock.are_over(self._tracks.seen_at, self._tracks.missed))
        detections = _sound(detections)
        seen = self._seen(detections)
        if self._camera is not None:
            self._tracks.warp(self._camera.since_last(picture, seen.boxes))
        if self._looks is not None:
            self._looks.look(picture, seen.boxes)
        found = match(self._tracks, seen, time_s, self._options.min_iou, self._looks)
        self._tracks.missed[found.is_free] += 1
        matched = np.flatnonzero(found.row_of != NONE)
        self._tracks.see(found.row_of[matched], seen.boxes[matched], seen.class_ids[matched], time_s)
        self._begin(found, seen, detections.scores, time_s)
        self._confirm(is_first)
        self._last = self._shown(detections, found)
        if self._looks is not None:
            self._looks.learn(self._numbers(found.row_of), time_s)
        self._tracks.keep(self._tracks.confirmed | (self._tracks.missed == 0))
        return self._last

    def rename(self, classes: Mapping[int, int]) -> None:
        """Take classes by other ids from now on, as where another model has taken over; tracks of no class end.

        Args:
            classes: the new id of each old one; those that are missing are known no more.
        """
        if not self._options.class_agnostic:
            self._keep(_are_known(self._tracks.class_ids, classes))
            self._tracks.class_ids = np.array(_renamed(self._tracks.class_ids, classes), np.int64)
        last = self._last[_are_known(self._last.class_ids, classes)]
        self._last = replace(last, class_ids=np.array(_renamed(last.class_ids, classes), np.int32))

    def pass_by(self, time_s: float) -> None:
        """Take note of a frame that is not detected in: what is not found there has not gone.

        Raises:
            ValueError: the time is not finite.
        """
        self._come_to(time_s)
        self._clock.pass_by(time_s)

    def predict(self, time_s: float, width: int, height: int) -> Detections:
        """Return what the last update returned, moved on to a later time and clipped: for frames without detection."""
        if self._last.velocities is None:
            return self._last.clip(width, height)
        after_s = np.float32(self._clock.goes_on_for(time_s))
        return moved(self._last, np.nan_to_num(self._last.velocities) * after_s).clip(width, height)

    def _come_to(self, time_s: float) -> None:
        """End all tracks where the clock has jumped back, or no frame has come for too long."""
        if not math.isfinite(time_s):
            raise ValueError(f"the time of a frame must be a number of seconds, not {time_s}")
        if self._clock.since_frame(time_s) < 0:
            self.end_all()
        elif self._clock.is_gap(time_s):
            self._tracks, self._last = Tracks(), Detections.empty()

    def _keep(self, rows: Bools) -> None:
        """End all other tracks."""
        self._tracks.keep(rows)
        if self._looks is not None:
            self._looks.keep(self._tracks.numbers)

    def _seen(self, detections: Detections) -> Seen:
        scores, options = detections.scores, self._options
        class_ids = np.zeros_like(detections.class_ids) if options.class_agnostic else detections.class_ids
        return Seen(
            detections.boxes.astype(np.float64),
            class_ids.astype(np.int64),
            np.flatnonzero(scores > options.high),
            np.flatnonzero((scores >= options.low) & (scores <= options.high)),
        )

    def _begin(self, found: Matching, seen: Seen, scores: FloatArray, time_s: float) -> None:
        """Begin tracks with sure boxes that are none yet."""
        start = self._options.high if self._options.start is None else self._options.start
        new = seen.high[(found.row_of[seen.high] == NONE) & (scores[seen.high] >= start)]
        found.row_of[new] = len(self._tracks) + np.arange(len(new))
        self._tracks.begin(seen.boxes[new], seen.class_ids[new], time_s)

    def _confirm(self, is_first: bool) -> None:
        """Give numbers to tracks that have earned one."""
        tracks = self._tracks
        ready = ~tracks.confirmed & (is_first | (tracks.sightings >= self._options.confirm_frames))
        count = int(np.count_nonzero(ready))
        tracks.numbers[ready] = self._last_number + 1 + np.arange(count)
        self._last_number += count

    def _shown(self, detections: Detections, found: Matching) -> Detections:
        rows = np.flatnonzero((detections.scores > self._options.high) | (found.row_of != NONE))
        tracks = found.row_of[rows]
        return replace(detections[rows], track_ids=self._numbers(tracks), velocities=self._velocities(tracks))

    def _numbers(self, rows: Indices) -> IntArray:
        """Return (N,) numbers of tracks."""
        numbers = np.append(self._tracks.numbers, UNTRACKED)  # which is what `NONE` finds
        return numbers[rows].astype(np.int32)

    def _velocities(self, rows: Indices) -> FloatArray:
        """Return (N, 2) pixels per second; NaN for what was seen once only."""
        velocities = np.full((len(self._tracks) + 1, 2), np.nan, np.float32)
        moves = np.flatnonzero(self._tracks.sightings > 1)
        velocities[moves] = self._tracks.motion.speed[moves, :2]
        return velocities[rows]


def _are_known(class_ids: IntArray | Ints, classes: Mapping[int, int]) -> Bools:
    return np.isin(class_ids, list(classes))


def _renamed(class_ids: IntArray | Ints, classes: Mapping[int, int]) -> list[int]:
    return [classes[class_id] for class_id in class_ids.tolist()]


def _sound(detections: Detections) -> Detections:
    """Leave out boxes that nothing can be computed with, and what has no score."""
    boxes = detections.boxes
    with np.errstate(invalid="ignore"):
        fine = (np.abs(boxes) < HUGE).all(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    fine &= ~np.isnan(detections.scores)
    return detections if fine.all() else detections[fine]
