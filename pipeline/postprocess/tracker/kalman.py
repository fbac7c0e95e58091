"""Kalman filter over boxes: where the box of each track is, how fast it moves, and how sure that is.

The state is centre, width and height, and the speed of each of the four. They are independent of each other, so that
each is a filter of two numbers, whose update is a few products: those of all tracks are done at once, without a matrix.
Speeds are constant but for noise: white acceleration in continuous time (Bar-Shalom et al., "Estimation with
Applications to Tracking and Navigation", 2001, section 6.2.2). One step over a gap of any length is then the same as
many short ones, so neither the frame rate matters nor frames that are missing. All noise grows with the size of the
box, as in DeepSORT (Wojke et al., 2017).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp] | npt.NDArray[np.bool_]

MEASUREMENT = 0.05
"""Standard deviation of a detected box's centre and sides, in box sizes (roots of areas)."""
ACCELERATION = 2.0
"""Root of the spectral density of the acceleration, in box sizes per second to the power of 1.5."""
FIRST_SPEED = 2.0
"""Standard deviation of the speed of a thing that was seen once, in box sizes per second."""


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """What is known of N tracks. Each array is (N, 4): x and y of the centre, width, height."""

    place: Doubles
    """Pixels."""
    speed: Doubles
    """Pixels per second."""
    place_variance: Doubles
    covariance: Doubles
    """Of place and speed."""
    speed_variance: Doubles

    def __len__(self) -> int:
        return len(self.place)

    def __getitem__(self, rows: Rows) -> Motion:
        return Motion(*(array[rows] for array in self.arrays))

    @property
    def arrays(self) -> list[Doubles]:
        """All five."""
        return [getattr(self, name) for name in ARRAYS]

    @property
    def boxes(self) -> Doubles:
        """(N, 4) xyxy; no side is shorter than a pixel."""
        centre, half = self.place[:, :2], np.maximum(self.place[:, 2:], 1.0) / 2
        return np.concatenate([centre - half, centre + half], axis=1)

    def with_more(self, more: Motion) -> Motion:
        """Return these tracks and then others."""
        return Motion(*(np.concatenate(pair) for pair in zip(self.arrays, more.arrays, strict=True)))

    def put(self, rows: Rows, motion: Motion) -> None:
        """Replace some, in place."""
        for array, new in zip(self.arrays, motion.arrays, strict=True):
            array[rows] = new


ARRAYS = tuple(each.name for each in fields(Motion))


def begin(boxes: Doubles) -> Motion:
    """Return tracks that begin with (N, 4) xyxy boxes and, as far as is known, stand still."""
    place = centred(boxes)
    size, nothing = sizes(place), np.zeros_like(place)
    place_variance, speed_variance = (MEASUREMENT * size) ** 2, (FIRST_SPEED * size) ** 2
    return Motion(place, nothing.copy(), nothing + place_variance, nothing.copy(), nothing + speed_variance)


def predict(motion: Motion, after_s: Doubles) -> Motion:
    """Return the same tracks, each its own time later: (N,) seconds."""
    dt = after_s[:, None]
    density = (ACCELERATION * sizes(motion.place)) ** 2
    return Motion(
        motion.place + dt * motion.speed,
        motion.speed,
        motion.place_variance + dt * (2 * motion.covariance + dt * (motion.speed_variance + density * dt / 3)),
        motion.covariance + dt * (motion.speed_variance + density * dt / 2),
        motion.speed_variance + density * dt,
    )


def correct(motion: Motion, boxes: Doubles) -> Motion:
    """Return the same tracks, now seen at (N, 4) xyxy boxes."""
    seen = centred(boxes)
    noise = (MEASUREMENT * sizes(seen)) ** 2
    total = motion.place_variance + noise
    place_gain, speed_gain = motion.place_variance / total, motion.covariance / total
    surprise = seen - motion.place
    return Motion(
        motion.place + place_gain * surprise,
        motion.speed + speed_gain * surprise,
        noise * place_gain,
        noise * speed_gain,
        motion.speed_variance - speed_gain * motion.covariance,
    )


def warp(motion: Motion, affine: Doubles) -> Motion:
    """Return the same tracks as a camera sees them that has moved: a (2, 3) similarity takes old pixels to new ones."""
    linear, scale = affine[:, :2], np.sqrt(abs(np.linalg.det(affine[:, :2])))
    area = scale * scale
    return Motion(
        np.concatenate([motion.place[:, :2] @ linear.T + affine[:, 2], motion.place[:, 2:] * scale], axis=1),
        np.concatenate([motion.speed[:, :2] @ linear.T, motion.speed[:, 2:] * scale], axis=1),
        motion.place_variance * area,
        motion.covariance * area,
        motion.speed_variance * area,
    )


def centred(boxes: Doubles) -> Doubles:
    """Return (N, 4) xyxy as x and y of the centre, width, height."""
    low, high = boxes[:, :2], boxes[:, 2:]
    return np.concatenate([(low + high) / 2, high - low], axis=1)


def sizes(place: Doubles) -> Doubles:
    """Return (N, 1) sizes of (N, 4) centres and sides: roots of the areas, at least a pixel."""
    sides = np.maximum(place[:, 2:], 1.0)
    return np.asarray(np.sqrt(sides[:, :1] * sides[:, 1:]))
