"""Looks: what tracks look like, and whether boxes of the frame at hand look the same.

To look costs more than all else that a tracker does, so it looks at few boxes: at those of tracks that come back or are
new, and at each track twice a second to learn how it looks now, where nothing else is in front of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipeline.frame import UNTRACKED
from pipeline.postprocess.overlaps import iou_matrix

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pipeline.arrays import FloatArray, IntArray
    from pipeline.picture import Picture
    from pipeline.postprocess.tracker.appearance import Appearance
    from pipeline.postprocess.tracker.association import Indices
    from pipeline.postprocess.tracker.kalman import Doubles
    from pipeline.postprocess.tracker.tracks import Ints

EVERY_S = 0.5
"""How often a track's looks are learnt anew."""
NEW_PART = 0.2
"""Part that the latest look has in what is known."""
CLEAR_IOU = 0.2
"""A box that overlaps by more with another shows both."""
UNKNOWN = float("nan")


class Looks:
    """What the tracks of one source look like, by their numbers."""

    def __init__(self, appearance: Appearance) -> None:
        """Know nothing."""
        self._appearance = appearance
        self.same, self.different = appearance.same, appearance.different
        self._known: dict[int, FloatArray] = {}
        self._learnt_at: dict[int, float] = {}
        self.look(None, np.empty((0, 4)))

    def forget(self) -> None:
        """Forget all tracks."""
        self.keep(())

    def keep(self, numbers: Iterable[int]) -> None:
        """Forget all other tracks."""
        kept = {int(number) for number in numbers}
        self._known = {number: look for number, look in self._known.items() if number in kept}
        self._learnt_at = {number: time_s for number, time_s in self._learnt_at.items() if number in kept}

    def look(self, picture: Picture | None, boxes: Doubles) -> None:
        """Turn to a frame; None: there is nothing to be seen."""
        self._picture, self._boxes = picture, boxes
        self._encoded: dict[int, FloatArray] = {}

    def likeness(self, numbers: Ints, columns: Indices) -> Doubles:
        """Return (T, D): how alike tracks and boxes of the frame are; NaN where one's looks are not known."""
        likeness = np.full((len(numbers), len(columns)), UNKNOWN)
        rows = [row for row, number in enumerate(numbers.tolist()) if number in self._known]
        if rows and len(columns) and self._picture is not None:
            known = np.stack([self._known[int(numbers[row])] for row in rows])
            likeness[rows] = known @ self._encode(columns.tolist()).T
        return likeness

    def learn(self, numbers: IntArray, time_s: float) -> None:
        """Learn how tracks look, whose numbers those of the frame's boxes are."""
        if self._picture is None:
            return
        overlap = iou_matrix(self._boxes, self._boxes)
        np.fill_diagonal(overlap, 0)
        clear = overlap.max(axis=1, initial=0) <= CLEAR_IOU
        due = [
            column
            for column in np.flatnonzero((numbers != UNTRACKED) & clear).tolist()
            if time_s - self._learnt_at.get(int(numbers[column]), -np.inf) >= EVERY_S
        ]
        for column, look in zip(due, self._encode(due), strict=True):
            number = int(numbers[column])
            before = self._known.get(number, look)
            mixed = (1 - NEW_PART) * before + NEW_PART * look
            length = float(np.linalg.norm(mixed))
            self._known[number] = mixed / length if length > 0 else look
            self._learnt_at[number] = time_s

    def _encode(self, columns: list[int]) -> FloatArray:
        """Return what (N,) boxes look like, each looked at once in a frame."""
        missing = [column for column in columns if column not in self._encoded]
        if missing and self._picture is not None:
            looks = self._appearance.encode(self._picture, self._boxes[missing].astype(np.float32))
            self._encoded.update(zip(missing, looks, strict=True))
        return np.stack([self._encoded[column] for column in columns]) if columns else np.empty((0, 0), np.float32)
