"""CameraMotion: how a camera's view has moved between two frames, so that tracks can move along.

Corners of the earlier picture, but for those on things that are followed, are found again in the later one by sparse
optical flow; a shift, turn and scale that most of them agree on is the camera's. Source: BoT-SORT (Aharon et al., 2022,
section 3.2); flow by Lucas and Kanade in pyramids, agreement by RANSAC. 5 ms of one core at 720p.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from pipeline.arrays import FloatArray, Image
    from pipeline.picture import Picture
    from pipeline.postprocess.tracker.kalman import Doubles

WIDTH = 480
"""Pixels of a row that are looked at, at most."""
CORNERS = 200
QUALITY, APART = 0.01, 8
"""Weakest corner, as a part of the strongest; pixels between two."""
WINDOW, LEVELS = (21, 21), 4
"""Of the flow: pixels around a corner, and how often the picture is halved."""
TOLERANCE = 1.5
"""Pixels by which a corner may miss where the camera's motion takes it."""
ENOUGH, AGREEING = 12, 0.4
"""Corners that are needed, and which part of them must agree: else nothing is said."""
STILL = np.eye(2, 3)


class CameraMotion:
    """Looks at the pictures of one source."""

    def __init__(self) -> None:
        """Know no picture."""
        self.forget()

    def forget(self) -> None:
        """Forget the last picture."""
        self._luma: Image | None = None
        self._corners: FloatArray = np.empty((0, 1, 2), np.float32)

    def since_last(self, picture: Picture | None, boxes: Doubles) -> Doubles:
        """Return the (2, 3) similarity that takes pixels of the last picture to this one; the unit where none is found.

        Args:
            picture: the frame's; None: there is none.
            boxes: (N, 4) xyxy of things in it, which move by themselves.
        """
        if picture is None:
            self.forget()
            return STILL
        luma, step = _small(picture)
        affine = STILL if self._luma is None or self._luma.shape != luma.shape else self._moved(self._luma, luma)
        self._luma, self._corners = luma, _corners(luma, boxes / step)
        return np.column_stack([affine[:, :2], affine[:, 2] * step])

    def _moved(self, before: Image, now: Image) -> Doubles:
        """Return the similarity in small pixels."""
        if len(self._corners) < ENOUGH:
            return STILL
        guess: Any = None  # which OpenCV takes, whatever its stubs say
        found, is_found, _ = cv2.calcOpticalFlowPyrLK(
            before, now, self._corners, guess, winSize=WINDOW, maxLevel=LEVELS
        )
        kept = is_found.reshape(-1) == 1
        if np.count_nonzero(kept) < ENOUGH:
            return STILL
        affine, agrees = cv2.estimateAffinePartial2D(
            self._corners[kept], np.asarray(found)[kept], method=cv2.RANSAC, ransacReprojThreshold=TOLERANCE
        )
        if affine is None or np.count_nonzero(agrees) < max(ENOUGH, AGREEING * np.count_nonzero(kept)):
            return STILL
        return np.asarray(affine, np.float64)


def _small(picture: Picture) -> tuple[Image, float]:
    """Return luma of at most `WIDTH` columns, and how many pixels one of it stands for."""
    luma = cv2.cvtColor(picture.bgr, cv2.COLOR_BGR2GRAY) if picture.planes is None else picture.planes.y
    step = max(1.0, picture.width / WIDTH)
    size = (round(picture.width / step), max(1, round(picture.height / step)))
    return np.asarray(cv2.resize(luma, size, interpolation=cv2.INTER_AREA), np.uint8), step


def _corners(luma: Image, boxes: Doubles) -> FloatArray:
    """Return (K, 1, 2) corners outside of the boxes."""
    mask = np.full(luma.shape, 255, np.uint8)
    height, width = luma.shape
    for left, top, right, bottom in boxes.round().clip(0, max(height, width)).astype(int).tolist():
        mask[top:bottom, left:right] = 0
    corners = cv2.goodFeaturesToTrack(luma, CORNERS, QUALITY, APART, mask=mask)
    return np.empty((0, 1, 2), np.float32) if corners is None else np.asarray(corners, np.float32)
