"""IouTracker: the same number for the same thing from frame to frame, by overlap alone.

Good for faces, which overlap themselves from frame to frame and seldom each other. Source: Bochinski et al.,
"High-Speed Tracking-by-Detection Without Using Image Information" (2017), with optimal assignment.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from pipeline.arrays import FloatArray, IntArray
from pipeline.postprocess.overlaps import iou_matrix


@dataclass
class Track:
    """One thing that is being followed."""

    number: int
    box: FloatArray
    seen_at: float


class IouTracker:
    """Follows the boxes of one source."""

    def __init__(self, min_iou: float = 0.2, max_gap_s: float = 2.0) -> None:
        """Begin with nothing.

        Args:
            min_iou: boxes that overlap by less are never the same thing.
            max_gap_s: seconds of media time after which a thing that was not seen is forgotten.
        """
        self._min_iou, self._max_gap_s = min_iou, max_gap_s
        self._tracks: list[Track] = []
        self._last_number = 0

    def update(self, boxes: FloatArray, time_s: float) -> IntArray:
        """Return the (N,) track numbers, from 1, of (N, 4) xyxy boxes seen at `time_s`; numbers are never used again.

        A clock that has jumped back ends all tracks.
        """
        self._tracks = [track for track in self._tracks if 0 <= time_s - track.seen_at <= self._max_gap_s]
        numbers = np.zeros(len(boxes), np.int32)
        if self._tracks and len(boxes):
            overlap = iou_matrix(np.stack([track.box for track in self._tracks]), boxes)
            for row, column in zip(*linear_sum_assignment(overlap, maximize=True), strict=True):
                if overlap[row, column] >= self._min_iou:
                    track = self._tracks[row]
                    track.box, track.seen_at = boxes[column], time_s
                    numbers[column] = track.number
        for column in np.flatnonzero(numbers == 0):
            self._last_number += 1
            self._tracks.append(Track(self._last_number, boxes[column], time_s))
            numbers[column] = self._last_number
        return numbers
