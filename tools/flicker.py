"""How much a stylized video flickers, and what keeping it steady costs in sharpness.

The warping error is that of Lai et al., "Learning Blind Video Temporal Consistency" (2018), equations 6 and 7: mean
squared difference of a frame to the last one, moved by the optical flow of the original video, where that flow can be
trusted. Pixels that are covered or uncovered, and edges of motion, are left out as in Ruder et al. (2016), section 4.
The flow is not the one of the pipeline, which would flatter it: another setting, four times as fine, larger pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.arrays import Image
from pipeline.postprocess.flow import is_consistent, places_of

EDGE_RELATIVE, EDGE_ABSOLUTE = 0.01, 0.002
"""Squared gradient of the flow beyond which a pixel is an edge of motion (Ruder et al., equation 6)."""
STILL_LEVELS, STILL_PIXELS, AROUND = 3, 0.3, 15
"""Nothing moves at a pixel where grey levels, averaged, change by no more and the flow is no longer, for so many pixels
around."""
MOVES = 1.0
"""Pixels of motion between two frames from which a place is a moving one."""

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Change:
    """What happens between two frames of the original."""

    places: npt.NDArray[np.float32]
    """(H, W, 2): where each pixel of the later frame was in the earlier, for `cv2.remap`."""
    seen_before: BoolArray
    still: BoolArray
    moving: BoolArray


@dataclass(frozen=True)
class Flicker:
    """Of one video; errors in squared grey levels, 0..255."""

    warping_error: float
    still_error: float
    """Mean squared difference of a frame to the last one where nothing moves in the original."""
    strokes: float
    """Mean absolute Laplacian where something moves: how fine strokes are there."""


def changes(frames: Sequence[Image]) -> list[Change]:
    """Look at an original, (H, W, 3) uint8 BGR each; return what happens from each frame to the next."""
    greys = [np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), np.uint8) for frame in frames]
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return [_change(before, now, flow) for before, now in pairwise(greys)]


def _change(before: Image, now: Image, dis: cv2.DISOpticalFlow) -> Change:
    empty = np.zeros((*now.shape, 2), np.float32)
    back = np.asarray(dis.calc(now, before, empty.copy()), np.float32)
    forward = np.asarray(dis.calc(before, now, empty.copy()), np.float32)
    squared = np.square(back).sum(axis=2)
    gradients = sum(np.square(np.gradient(back, axis=axis)).sum(axis=2) for axis in (0, 1))
    edge = gradients > EDGE_RELATIVE * squared + EDGE_ABSOLUTE
    changed = (cv2.blur(cv2.absdiff(before, now), (5, 5)) > STILL_LEVELS) | (squared > STILL_PIXELS**2)
    near = cv2.dilate(changed.astype(np.uint8), np.ones((AROUND, AROUND)))
    height, width = now.shape
    places = places_of(back, (height, width))
    return Change(places, is_consistent(forward, back) & ~edge, near == 0, squared > MOVES**2)


def flicker(shown: Sequence[Image], original: Sequence[Change]) -> Flicker:
    """Measure a video made of that original: (H, W, 3) uint8 BGR each, of the size of its frames."""
    warping, still, strokes = _Mean(), _Mean(), _Mean()
    none: Any = None  # which OpenCV takes, whatever its stubs say
    for (before, now), change in zip(pairwise(shown), original, strict=True):
        moved = cv2.remap(before, change.places, none, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        warping.add(_squared(now, moved), change.seen_before)
        still.add(_squared(now, before), change.still)
        grey = cv2.cvtColor(now, cv2.COLOR_BGR2GRAY)
        strokes.add(np.abs(cv2.Laplacian(grey, cv2.CV_32F)), change.moving)
    return Flicker(warping.value, still.value, strokes.value)


def _squared(one: npt.ArrayLike, other: npt.ArrayLike) -> npt.NDArray[np.float32]:
    difference = np.asarray(one, np.float32) - np.asarray(other, np.float32)
    return np.asarray(np.square(difference).mean(axis=2), np.float32)


class _Mean:
    """Of all pixels of all frames that a mask has."""

    def __init__(self) -> None:
        self._sum, self._count = 0.0, 0

    def add(self, values: npt.NDArray[np.float32], mask: BoolArray) -> None:
        """Take the values under a mask."""
        self._sum += float(values[mask].sum(dtype=np.float64))
        self._count += int(np.count_nonzero(mask))

    @property
    def value(self) -> float:
        """NaN where no pixel was under a mask."""
        return self._sum / self._count if self._count else float("nan")
