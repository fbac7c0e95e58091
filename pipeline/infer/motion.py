"""Motion: whether anything moves in a source's pictures, so that the model can rest where nothing does.

Every picture, made small, is compared with a background that follows the scene. What does not count: noise, which is
measured in each picture, slow changes of light (the background follows), sudden ones of the whole (both are made
equally bright). What has stopped becomes background after some seconds. 0.2 ms at 1080p.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.picture import Picture

WIDTH = 160
"""Cells of a row, at most: at 1080p a cell is a square of 12 pixels, and a thousandth of the picture 14 cells."""
SAMPLED = 3
"""Pixels of a cell that are looked at, along each axis."""
LEAST_CHANGE = 8.0
"""Grey levels: less is what an encoder does to a still scene at a keyframe."""
NOISE_FACTOR = 6.0
"""How many standard deviations of the noise are a change."""
SURE_CHANGE = 48.0
"""Grey levels that are a change whatever the noise: what is new all over looks like noise, too."""
DEVIATIONS = 1.4826 / 2**0.5
"""Standard deviations of a normal distribution in the median absolute difference of two values."""
FORGET_S = 2.0
"""Time constant of the background."""
NEW_SCENE = 24.0
"""Grey levels: a picture that differs by more in the mean is another scene, and the background from then on."""
GO_ON = 0.5
"""Part of the area that must change to begin which is enough to go on: what moves at the threshold does not flicker."""

Cells = npt.NDArray[np.float32]


@dataclass(frozen=True)
class MotionOptions:
    """When something moves."""

    area: float = 0.001
    """Part of the picture that must change."""
    hold_s: float = 1.0
    """For how long it counts as moving after the last motion."""
    keep_alive_s: float | None = 5.0
    """Detect at least this often even where nothing moves; None: never."""


@dataclass
class _Scene:
    """What is known of one source."""

    background: Cells
    time_s: float
    moved_at: float
    detected_at: float = -math.inf


class MotionGate:
    """Says which pictures are worth detecting in. Times are seconds of media time."""

    def __init__(self, options: MotionOptions) -> None:
        """Know no source."""
        self._options = options
        self._scenes: dict[str, _Scene] = {}

    def wants(self, source: str, picture: Picture, time_s: float) -> bool:
        """Return whether something moves, has moved just now, or nobody has looked for long; for every picture.

        A source's first picture is wanted, and the first after its size has changed or its clock has jumped back.
        """
        cells, scene = small(picture), self._scenes.get(source)
        if scene is None or scene.background.shape != cells.shape or time_s < scene.time_s:
            self._scenes[source] = _Scene(cells, time_s, moved_at=time_s)
            return True
        self._look(scene, cells, time_s)
        options = self._options
        is_due = options.keep_alive_s is not None and time_s - scene.detected_at >= options.keep_alive_s
        return is_due or time_s - scene.moved_at <= options.hold_s

    def _look(self, scene: _Scene, cells: Cells, time_s: float) -> None:
        is_moving = time_s - scene.moved_at <= self._options.hold_s
        changed, is_new = compare(cells, scene.background)
        if is_new or changed >= self._options.area * (GO_ON if is_moving else 1):
            scene.moved_at = time_s
        follow = 1.0 if is_new else 1 - math.exp((scene.time_s - time_s) / FORGET_S)
        cv2.accumulateWeighted(cells, scene.background, follow)
        scene.time_s = time_s

    def detected(self, source: str, time_s: float) -> None:
        """Note that a picture of a source is being detected in."""
        if source in self._scenes:
            self._scenes[source].detected_at = time_s

    def end(self, source: str) -> None:
        """Forget a source."""
        self._scenes.pop(source, None)


def small(picture: Picture) -> Cells:
    """Return the picture's luma in square cells, float32; green stands for it where there are no planes."""
    luma = picture.bgr[:, :, 1] if picture.planes is None else picture.planes.y
    step = math.ceil(picture.width / (WIDTH * SAMPLED))
    sampled = luma[::step, ::step]
    height, width = (max(1, side // SAMPLED) for side in sampled.shape)
    sampled = np.ascontiguousarray(sampled[: height * SAMPLED, : width * SAMPLED])
    return np.asarray(cv2.resize(sampled, (width, height), interpolation=cv2.INTER_AREA), np.float32)


def compare(cells: Cells, background: Cells) -> tuple[float, bool]:
    """Return which part of the picture differs from the background, 0..1, and whether it is another scene.

    Noise is what neighbouring cells do not share: of the cells alone, a camera that turns would make noise, too.
    """
    rows = slice(None, None, SAMPLED)  # medians of a third of the rows are as good, and less work
    light = np.median((cells[rows] + 1) / (background[rows] + 1))
    difference = cells - background * light
    noise = DEVIATIONS * float(np.median(np.abs(np.diff(difference[rows], axis=1)))) if cells.shape[1] > 1 else 0.0
    size = np.abs(difference)
    change = size > min(SURE_CHANGE, max(LEAST_CHANGE, NOISE_FACTOR * noise))
    return int(np.count_nonzero(change)) / int(change.size), bool(size.mean() > NEW_SCENE)
