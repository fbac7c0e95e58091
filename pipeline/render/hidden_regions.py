"""HiddenRegions: which places of one source's pictures are hidden, when nobody can be sure that all were found.

It fails closed. What is not known to be nobody is hidden:

- A place that was found stays hidden for `hold_s` after it was last seen: where it was, where its motion takes it, and
  what lies between, growing with time, as nobody knows what it does meanwhile.
- A place is given up earlier only where the same thing was found again: a box that covers it well (`SAME`).
- The whole picture is hidden until the finder has looked at `LOOKS` pictures of a scene: it may miss somebody once.
  A scene begins with the source, after a gap, when the clock jumps back, the picture changes its size, or is another
  one from one frame to the next (`SceneChange`).
- The whole picture is hidden while nobody has looked for longer than `hold_s`, and where there are more places than
  can be followed.
- Somebody who is not to be hidden takes no place away from another: only what bears the same track number may.

What it cannot do: hide somebody who walks into a scene before the finder has found them once.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from pipeline.arrays import FloatArray, Image
from pipeline.picture import Picture
from pipeline.postprocess.overlaps import iou_matrix

LOOKS = 5
"""Pictures of a scene that are looked at before one is shown: of a finder that misses each fifth face, 3 in 10,000
scenes still begin with somebody in sight."""
SAME = 0.3
"""IoU from which a box is a place that was seen before. With less, both are hidden."""
GROWTH_PER_S = 1.0
"""Part of its size by which each side of a place moves outwards in a second in which it was not found. Faces of people
who talk move by up to half their width in a second."""
CONTINUES_S = 0.5
"""A scene ends with a gap that is longer than this and than `hold_s`."""
MOST = 400
"""Places; with more the whole picture is hidden."""
THUMBNAIL = (32, 18)
BEFORE = (128, 72)
"""The picture is thinned out to this, then averaged: 0.03 ms at any size."""
CHANGE = 10.0
"""Mean difference of luma from which it is another scene: at the four cuts of a film trailer it is 30 to 37, between
other frames of it and of talking faces, also in a driving car, below 4. With a finder that fails in half of that
trailer's frames, 5 of 357 faces were in sight after cuts without this, none with it."""

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Seen:
    """What was found in a picture that was looked at."""

    boxes: FloatArray
    """(N, 4) xyxy."""
    spared: BoolArray
    """(N,) which are not to be hidden."""
    tracks: npt.NDArray[np.int64]
    """(N,) track numbers; below 0 where there is none."""


@dataclass
class Place:
    """Something that was found."""

    box: FloatArray
    velocity: FloatArray
    """(2,) pixels per second."""
    seen_at: float
    track: int
    spared: bool

    def moved_to(self, time_s: float) -> FloatArray:
        """Return where its motion takes it."""
        moved: FloatArray = self.box + np.tile(self.velocity, 2) * np.float32(time_s - self.seen_at)
        return moved

    def around(self, time_s: float) -> FloatArray:
        """Return where it may be: between where it was and where it should be, and somewhat around."""
        passed = max(0.0, time_s - self.seen_at)
        if passed == 0:
            return self.box
        moved = self.moved_to(time_s)
        edge = (self.box[2:] - self.box[:2]) * GROWTH_PER_S * passed
        lower, upper = np.minimum(self.box, moved)[:2] - edge, np.maximum(self.box, moved)[2:] + edge
        return np.concatenate([lower, upper]).astype(np.float32)

    def seen_again(self, box: FloatArray, time_s: float, track: int) -> None:
        """Follow it to where it was found; its velocity is the mean of the old one and the new."""
        passed = time_s - self.seen_at
        if passed > 0:
            step = (box.reshape(2, 2).mean(axis=0) - self.box.reshape(2, 2).mean(axis=0)) / np.float32(passed)
            self.velocity = np.asarray((self.velocity + step) / 2, np.float32)
        self.box, self.seen_at, self.track = box, time_s, track


class HiddenRegions:
    """The places of one kind, faces or persons, in one source's pictures."""

    def __init__(self, hold_s: float) -> None:
        """Begin with nothing known, so with everything hidden."""
        self._hold_s = hold_s
        self._places: list[Place] = []
        self._looks = 0
        self._looked_at: float | None = None

    def scene_changed(self) -> None:
        """Trust nothing until the new scene has been looked at; what was seen before stays hidden for its time."""
        self._looks = 0

    def forget(self) -> None:
        """Begin anew: the picture's size has changed."""
        self._places, self._looks, self._looked_at = [], 0, None

    def update(self, time_s: float, seen: Seen | None) -> FloatArray | None:
        """Take over what was found in a picture; return what to hide in it.

        Args:
            time_s: of the picture, media time.
            seen: None: nobody has looked at it.

        Returns:
            (N, 4) xyxy, as tight as they were found; None: the whole picture.
        """
        passed = None if self._looked_at is None else time_s - self._looked_at
        if passed is not None and passed < 0:
            self.forget()
        elif passed is not None and passed > max(self._hold_s, CONTINUES_S):
            self._looks = 0
        if seen is not None:
            self._look(time_s, seen)
        self._places = [place for place in self._places if time_s - place.seen_at <= self._hold_s]
        unknown = self._looked_at is None or time_s - self._looked_at > self._hold_s
        if unknown or self._looks < LOOKS or len(self._places) > MOST:
            return None
        around = [place.around(time_s) for place in self._places if not place.spared]
        return np.array(around, np.float32).reshape(-1, 4)

    def _look(self, time_s: float, seen: Seen) -> None:
        matched = self._match(time_s, seen)
        for row, (box, spared, track) in enumerate(
            zip(seen.boxes, seen.spared.tolist(), seen.tracks.tolist(), strict=True)
        ):
            place = matched.get(row)
            if place is None or (spared and not place.spared and (track < 0 or track != place.track)):
                self._places.append(Place(box, np.zeros(2, np.float32), time_s, track, spared))
            else:
                place.seen_again(box, time_s, track)
                place.spared = spared
        self._looked_at = time_s
        self._looks += 1

    def _match(self, time_s: float, seen: Seen) -> dict[int, Place]:
        """Return the place that each box is, where it is one; of many that would fit, the best for all."""
        places = self._places[-MOST:]
        if not places or not len(seen.boxes):
            return {}
        overlap = iou_matrix(np.stack([place.moved_to(time_s) for place in places]), seen.boxes)
        rows, columns = linear_sum_assignment(overlap, maximize=True)
        pairs = zip(rows.tolist(), columns.tolist(), strict=True)
        return {column: places[row] for row, column in pairs if overlap[row, column] >= SAME}


class SceneChange:
    """Says when a picture is another one than that before it: a cut, a camera that was turned, another camera."""

    def __init__(self) -> None:
        self._last: npt.NDArray[np.float32] | None = None

    def __call__(self, picture: Picture) -> bool:
        """Take the next picture; return whether it is of another scene. The first one is not."""
        last, self._last = self._last, _thumbnail(picture)
        return last is not None and float(np.abs(self._last - last).mean()) > CHANGE


def _thumbnail(picture: Picture) -> npt.NDArray[np.float32]:
    pixels: Image = picture.bgr if picture.planes is None else picture.planes.y
    thinned = cv2.resize(pixels, BEFORE, interpolation=cv2.INTER_NEAREST)
    if thinned.ndim == 3:
        thinned = cv2.cvtColor(thinned, cv2.COLOR_BGR2GRAY)
    return np.asarray(cv2.resize(thinned, THUMBNAIL, interpolation=cv2.INTER_AREA), np.float32)
