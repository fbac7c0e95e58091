"""Face quality: how well a face can be recognised, as one number with a reason.

Four properties, each mapped to 0..1, and the quality is the least of them: a sharp face that is turned away is as
useless as a blurred one that looks at the camera, and the worst property is what a person can do something about.
The ramps were set on 300 LFW pictures, also blurred and shrunk, and MobileFaceNet: what still encodes alike is good.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from pipeline.arrays import FloatArray, Image
    from pipeline.faces import Faces

PROPERTIES = ("small", "blurred", "turned away", "doubtful")
"""What is wrong where a property is the least: size, sharpness, pose, the finder's score."""
EYES_APART = (6.0, 30.0)
"""Pixels between the eyes. At 12, encodings of LFW faces are still 0.85 (cosine) like those of the whole picture."""
SHARPNESS = (0.11, 0.23)
"""What a further blur takes away of the gradients: 0.31 of those of LFW pictures, 0.16 behind a Gaussian blur of 2
pixels (cosine to the encoding before: 0.81), 0.11 behind one of 3 (0.54), 0.09 behind one of 4 (0.33: another face)."""
POSE = (1.2, 0.4)
"""How far the nose is from the middle of the face, in half its width or height. Above 0.75, pairs of LFW pictures of
one person are 0.57 alike in the median, below 0.6 they are 0.66; a profile is beyond 1."""
SCORE = (0.3, 0.7)
"""The finder's score."""
SIDE, MARGIN, FURTHER_BLUR = 48, 0.3, 1.5
"""Sharpness is measured on the middle of a chip, at this size: so it means the same for every encoder, and no edge of
the picture is in it. The margin is a part of the chip's sides; the blur is a Gaussian's sigma in pixels."""
FLAT = 0.5
"""Grey levels from pixel to pixel: less is a plain surface."""
NOSE_HEIGHT = 0.52
"""Where the nose is between eyes (0) and mouth (1) of a face that looks straight ahead."""


@dataclass(frozen=True)
class Quality:
    """Of N faces."""

    properties: FloatArray
    """(N, 4) float32 in 0..1, in the order of `PROPERTIES`."""

    @property
    def values(self) -> FloatArray:
        """(N,) float32: the least of the four."""
        least: FloatArray = self.properties.min(axis=1)
        return least

    def worst(self, row: int) -> str:
        """Return what is most wrong with a face."""
        return PROPERTIES[int(self.properties[row].argmin())]


def measure(faces: Faces, chips: Image) -> Quality:
    """Measure faces.

    Args:
        faces: N of them, with landmarks.
        chips: (N, height, width, 3) uint8 BGR, the same faces aligned.
    """
    sharpness = np.array([_sharpness(chip) for chip in chips]).reshape(-1)
    landmarks = np.where(np.isfinite(faces.landmarks), faces.landmarks, 0)
    values = (
        _ramp(_eyes_apart(landmarks), EYES_APART),
        _ramp(sharpness, SHARPNESS),
        _ramp(_off_centre(landmarks), POSE),
        _ramp(faces.scores, SCORE),
    )
    return Quality(np.stack(values, axis=1).astype(np.float32))


def _ramp(values: npt.ArrayLike, ends: tuple[float, float]) -> npt.NDArray[np.float64]:
    """Return 0 at the first end, 1 at the second, and a line in between."""
    return np.asarray(np.clip((np.asarray(values, np.float64) - ends[0]) / (ends[1] - ends[0]), 0, 1))


def _eyes_apart(landmarks: FloatArray) -> npt.NDArray[np.float64]:
    return np.asarray(np.linalg.norm(landmarks[:, 1].astype(np.float64) - landmarks[:, 0], axis=1))


def _off_centre(landmarks: FloatArray) -> npt.NDArray[np.float64]:
    """Return how far the nose is from where a frontal face has it, the larger of both directions.

    Across, in half the distance of the eyes; along the face, in half the distance from eyes to mouth.
    """
    points = landmarks.astype(np.float64)
    eyes, mouth = points[:, :2].mean(axis=1), points[:, 3:].mean(axis=1)
    down = mouth - eyes
    across = points[:, 1] - points[:, 0] + points[:, 4] - points[:, 3]
    nose = points[:, 2] - eyes
    with np.errstate(divide="ignore", invalid="ignore"):
        along = (nose * down).sum(axis=1) / (down * down).sum(axis=1)
        width = np.maximum(np.linalg.norm(across, axis=1) / 2, np.linalg.norm(down, axis=1) / 2)
        side = (nose[:, 0] * down[:, 1] - nose[:, 1] * down[:, 0]) / np.linalg.norm(down, axis=1)
        off = np.maximum(np.abs(side) / (width / 2), np.abs(along - NOSE_HEIGHT) / 0.5)
    return np.asarray(np.nan_to_num(off, nan=POSE[0], posinf=POSE[0]))


def _sharpness(chip: Image) -> float:
    """Return the part of the gradients that a further blur takes away: little of those of a blurred picture.

    Source: Crete et al., "The Blur Effect: Perception and Estimation with a New No-Reference Perceptual Blur Metric"
    (2007), with a Gaussian. Neither light nor contrast counts. (The Laplacian's energy rises again with strong blur.)
    """
    rows, columns = (round(MARGIN * side) for side in chip.shape[:2])
    middle = cv2.resize(chip[rows:-rows, columns:-columns], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(middle, cv2.COLOR_BGR2GRAY).astype(np.float32)
    before, after = _gradients(grey), _gradients(cv2.GaussianBlur(grey, (0, 0), FURTHER_BLUR))
    return 0.0 if before < FLAT else 1 - after / before


def _gradients(grey: npt.NDArray[Any]) -> float:
    return float(np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean())
