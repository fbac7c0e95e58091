"""Maps that live on from picture to picture: moved with what the picture shows, and averaged against flicker.

The last map is moved by the optical flow between the two pictures. It stands for the current one in frames that are
not segmented, and is mixed into the new map otherwise: exponentially, by real time, and only where the moved picture
looks like the current one, so that nothing lags where something else has come into sight. What is as like its
place in the last picture as it is when moved counts as standing. Measured with selfie-landscape on 80 pictures of
carphone (retalking_1, retalking_3): mean change of alpha, 0..255, where the picture stands still, 0.69 (0.11, 0.43) as
it is, 0.32 (0.08, 0.29) so; against the last alpha moved along 1.56 (0.17, 0.65), and 0.86 (0.13, 0.48) so. Plain
averaging over 0.1 s is off by 10 (6, 4) where something moves, this by 1.1 (1.3, 0.5). With every third picture
segmented, IoU with all segmented is 0.990 (0.999, 0.995), at worst 0.967.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.arrays import FloatArray, Image
from pipeline.picture import Picture
from pipeline.postprocess.flow import backward_flow, is_new_scene, look_up, places_of, small_luma, warp
from pipeline.postprocess.soft_map import SoftMap, blend, of_two

GAP_S = 1.0
"""Media time between two pictures beyond which the second has nothing to do with the first."""
LEAST_STEP_S = 1 / 240
"""Taken where two pictures have one time: or the second would count for nothing."""
STRIDE = 6
"""Pixels between the patches whose motion is found. With 4 flicker is 1 % less, and a picture takes 0.3 ms more."""
UNLIKE = 8.0
"""Grey levels by which a moved picture may differ and still count by 37 %."""
LIKENESS = np.exp(-((np.arange(256) / UNLIKE) ** 2)).astype(np.float32)
"""How much a pixel counts, by its difference."""


@dataclass(frozen=True, slots=True)
class Step:
    """From one picture of a source to the next."""

    flow: FloatArray
    """(h, w, 2) backward, in pixels of small pictures."""
    trust: FloatArray
    """(h, w) float32, 0..1: how much the moved picture looks like this one."""


class Steps:
    """Finds the steps between a source's pictures. 0.4 ms for 640 x 360."""

    def __init__(self) -> None:
        """Know no picture."""
        self._last: tuple[Image, tuple[int, int], float] | None = None

    def to(self, picture: Picture, time_s: float) -> Step | None:
        """Return the step from the last picture to this one; None: it goes on from nothing.

        There was none, it had another size, the time made a jump, or there was a cut.

        Args:
            picture: the next.
            time_s: its media time.
        """
        current, size, last = small_luma(picture), (picture.height, picture.width), self._last
        self._last = current, size, time_s
        if last is None or last[1] != size or not 0 <= time_s - last[2] <= GAP_S:
            return None
        flow = backward_flow(last[0], current, STRIDE)
        moved = np.asarray(warp(last[0], flow), np.uint8)
        if is_new_scene(moved, current):
            return None
        off, off_unmoved = _differences(moved, current), _differences(last[0], current)
        has_moved = cv2.compare(off_unmoved, off, cv2.CMP_GT)
        # where it stands, its flow is noise, and would make edges tremble: it becomes 0
        flow = np.asarray(cv2.copyTo(flow, has_moved), np.float32)
        return Step(flow, np.asarray(cv2.LUT(cv2.min(off, off_unmoved), LIKENESS), np.float32))


def _differences(before: Image, current: Image) -> Image:
    """Return (h, w) uint8, grey levels between two small pictures; single pixels are noise."""
    return np.asarray(cv2.blur(cv2.absdiff(before, current), (3, 3)), np.uint8)


class Memory:
    """The last map of a source, as of its last picture."""

    def __init__(self) -> None:
        """Know no map."""
        self._map: SoftMap | None = None
        self._trust: FloatArray | None = None
        self._made_at = 0.0

    def move(self, step: Step | None) -> SoftMap | None:
        """Take a step and return the map moved along; None: there is none any more."""
        if step is None:
            self._map = None
        if self._map is None or step is None:
            return None
        self._map = moved(self._map, step.flow)
        self._trust = step.trust if self._trust is None else self._trust * step.trust
        return self._map

    def renew(self, fresh: SoftMap, time_s: float, smooth_s: float) -> SoftMap:
        """Take the map of the current picture, after `move`, and return what counts.

        Args:
            fresh: as the model says.
            time_s: media time of the picture.
            smooth_s: time constant of the average; 0: none.
        """
        last, trust = self._map, self._trust
        if last is not None and trust is not None and smooth_s > 0 and last.size == fresh.size:
            kept = math.exp(-max(LEAST_STEP_S, time_s - self._made_at) / smooth_s)
            height, width = fresh.size
            part = cv2.resize(trust * np.float32(kept), (width, height), interpolation=cv2.INTER_LINEAR)
            fresh = blend(fresh, last, np.asarray(part, np.float32))
        self._map, self._trust, self._made_at = fresh, None, time_s
        return fresh


def moved(soft: SoftMap, flow: FloatArray) -> SoftMap:
    """Return a map moved by a backward flow of any size."""
    places = places_of(flow, soft.size)
    if len(soft.ids) == 2:
        return of_two(soft.ids, look_up(soft.values[0], places))
    return SoftMap(soft.ids, np.stack([look_up(plane, places) for plane in soft.values]))
