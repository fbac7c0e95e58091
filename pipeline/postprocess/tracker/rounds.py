"""Rounds: who is matched first. Whatever one round has not matched takes part in the next.

1. Tracks that have a number, with boxes that the detector is sure of.
2. The same, with weak boxes that lie well where the track should be. A weak box there is that thing half hidden;
   anywhere else it is a mistake (ByteTrack; Zhang et al., 2022, section 3).
3. Tracks that have no number yet, with sure boxes only: two mistakes in a row are no thing.
4. Where there is a way to compare looks: tracks that are lost, with sure boxes anywhere that look the same.

After 1, a track that comes back after having been hidden and a box that clearly looks like something else are parted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pipeline.boxes import centres
from pipeline.postprocess.overlaps import overlaps
from pipeline.postprocess.tracker.association import (
    DIRECTION_WEIGHT,
    NONE,
    SIZE_WEIGHT,
    Matching,
    assign,
    same_size,
    straightness,
)
from pipeline.postprocess.tracker.tracks import sides

if TYPE_CHECKING:
    from pipeline.postprocess.tracker.association import Bools, Indices
    from pipeline.postprocess.tracker.kalman import Doubles
    from pipeline.postprocess.tracker.looks import Looks
    from pipeline.postprocess.tracker.tracks import Ints, Tracks

WEAK_IOU = 0.3
"""A weak box must overlap by so much with where a track should be. At 0.1, MOTA on KITTI is 0.5 to 1 less."""


class Seen(NamedTuple):
    """The boxes of one frame."""

    boxes: Doubles
    """(D, 4) xyxy."""
    class_ids: Ints
    """(D,); all 0 where classes do not matter."""
    high: Indices
    """Which the detector is sure of."""
    weak: Indices
    """Which continue tracks only."""


def match(tracks: Tracks, seen: Seen, time_s: float, min_iou: float, looks: Looks | None) -> Matching:
    """Return which of the tracks is which of the boxes.

    Args:
        tracks: as they were seen last.
        seen: the boxes.
        time_s: when.
        min_iou: less overlap never makes a pair, but by looks.
        looks: what tracks look like, and the boxes of this frame.
    """
    found = Matching(len(tracks), len(seen.boxes))
    if not len(tracks) or not len(seen.boxes):
        return found
    expected = tracks.expected(time_s).boxes
    overlap = overlaps(expected.T[:, :, None], seen.boxes.T[:, None])
    same_class = tracks.class_ids[:, None] == seen.class_ids
    near = same_class & (overlap >= min_iou) & (overlap > 0)
    gain, gain_with_way = _gains(overlap, near, expected, tracks, seen)
    sure, unsure = np.flatnonzero(tracks.confirmed), np.flatnonzero(~tracks.confirmed)
    _round(found, sure, seen.high, gain_with_way, near)
    if looks is not None:
        _part(found, tracks, looks)
    _round(found, sure, seen.weak, gain, near & (overlap >= WEAK_IOU))
    _round(found, unsure, seen.high, gain, near)
    if looks is not None:
        _find_again(found, sure, tracks, seen, same_class, looks)
    return found


def _gains(overlap: Doubles, near: Bools, expected: Doubles, tracks: Tracks, seen: Seen) -> tuple[Doubles, Doubles]:
    """Return what each pair is worth, (T, D): by overlap and size, and with the way that the track goes."""
    rows, columns = np.nonzero(near)
    boxes = seen.boxes[columns]
    by_size: Doubles = overlap.copy()
    by_size[rows, columns] += SIZE_WEIGHT * same_size(sides(expected[rows]), sides(boxes))
    by_way: Doubles = by_size.copy()
    step = centres(boxes) - centres(tracks.boxes[rows])
    by_way[rows, columns] += DIRECTION_WEIGHT * straightness(step, tracks.courses()[rows])
    return by_size, by_way


def _round(found: Matching, rows: Indices, columns: Indices, gain: Doubles, allowed: Bools) -> None:
    """Match what is left of some tracks with what is left of some boxes."""
    rows, columns = rows[found.is_free[rows]], columns[found.row_of[columns] == NONE]
    if len(rows) and len(columns):
        part = np.ix_(rows, columns)
        chosen, taken = assign(gain[part], allowed[part])
        found.take(rows[chosen], columns[taken])


def _part(found: Matching, tracks: Tracks, looks: Looks) -> None:
    """Take apart pairs of a track that was hidden and a box that clearly is something else."""
    columns = np.flatnonzero(found.row_of != NONE)
    columns = columns[tracks.missed[found.row_of[columns]] > 0]
    likeness = looks.likeness(tracks.numbers[found.row_of[columns]], columns).diagonal()
    found.undo(columns[likeness < looks.different])


def _find_again(found: Matching, sure: Indices, tracks: Tracks, seen: Seen, same_class: Bools, looks: Looks) -> None:
    """Match lost tracks with new boxes by looks alone."""
    rows, columns = sure[found.is_free[sure]], seen.high[found.row_of[seen.high] == NONE]
    if len(rows) and len(columns):
        likeness = looks.likeness(tracks.numbers[rows], columns)
        allowed = same_class[np.ix_(rows, columns)] & (likeness >= looks.same)
        chosen, taken = assign(likeness, allowed)
        found.take(rows[chosen], columns[taken])
