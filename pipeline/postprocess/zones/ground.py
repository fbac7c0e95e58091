"""The ground: from the picture to metres by a homography, and how fast things move there.

Where an object stands, the middle of its box's lower edge, is taken to the ground in every frame; its speed is the
slope of a straight line through the last places, each worth less the older it is. The other way, the tracker's velocity
by the homography's Jacobian, is that of the box's centre: a person who comes nearer grows, so the feet are faster than
the centre. People of 1.75 m before a simulated camera 5 m high, 25 pictures a second, edges of boxes off by 1 pixel
(standard deviation): the median error of the speed is 1.7 %, and 10 % by the Jacobian of the centre's true velocity.

Source of the homography: Hartley and Zisserman, Multiple View Geometry, algorithm 4.2 (normalised direct linear
transformation).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipeline.postprocess.zones.tracks import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.postprocess.zones.geometry import Points, Values
    from pipeline.postprocess.zones.tracks import Places, Seen

Matrix = npt.NDArray[np.float64]
DEGENERATE = 1e-3
"""Of the normalised system's singular values: the last that must not be 0 is less than this part of the first."""
MISFIT = 0.1
"""Part of the size of the ground by which one of its points may lie beside where the others say."""
MEMORY_S = 0.5
"""Time constant of how much older places are worth."""
LEAST_TIME_S, LEAST_PLACES = 0.4, 4
"""What must have been seen of an object before its speed is said."""
CUT = 1.0
"""Pixels from the picture's edge within which a box is cut off there: where it stands is not known."""


def ground_fault(points: Sequence[Sequence[float]]) -> str | None:
    """Return what keeps places, each x, y, east and north, from saying where the ground is, to be read after them."""
    rows = np.array(points, np.float64)
    if len(rows) < 4:
        return f"has {len(rows)} places, and the ground needs 4 or more"
    pixels, metres = rows[:, :2], rows[:, 2:]
    for where, named in ((pixels, "in the picture"), (metres, "on the ground")):
        if not _spans(where):
            return f"does not say where the ground is, since all of its places, or all but one, lie on one line {named}"
    matrix, is_certain = _homography(pixels, metres)
    if not is_certain:
        return "does not say where the ground is, since too many of its places lie on one line"
    depths = (pixels @ matrix[2, :2]) + matrix[2, 2]
    if depths.min() * depths.max() <= 0:
        return "has places whose order on the ground is another one than in the picture"
    misfits = np.hypot(*(_mapped(matrix, pixels) - metres).T)
    if misfits.max() > MISFIT * float(np.hypot(*np.ptp(metres, axis=0))):
        worst = int(misfits.argmax())
        text = f"[{', '.join(f'{number:g}' for number in points[worst])}]"
        return f"does not fit together, since all together put {text} {misfits[worst]:.3g} m from there"
    return None


class GroundMap:
    """Where places of the picture are on the ground."""

    def __init__(self, points: Sequence[Sequence[float]], scale: tuple[float, float] = (1.0, 1.0)) -> None:
        """Take places, each x and y in pixels, east and north in metres, without `ground_fault`.

        Args:
            points: four or more.
            scale: what the picture's width and height are now, by what they were for the points.
        """
        rows = np.array(points, np.float64)
        self._origin = rows[:, 2:].mean(axis=0)
        pixels = rows[:, :2] * scale
        self._matrix = _homography(pixels, rows[:, 2:] - self._origin)[0]
        depths = pixels @ self._matrix[2, :2] + self._matrix[2, 2]
        self._matrix *= np.sign(depths[0])
        self._horizon = 1e-3 * float(np.abs(depths).min())

    def at(self, points: Points) -> Points:
        """Return (N, 2) metres east and north of the middle of the ground's places; NaN at and above the horizon."""
        depths = points @ self._matrix[2, :2] + self._matrix[2, 2]
        with np.errstate(invalid="ignore", divide="ignore"):
            mapped = _mapped(self._matrix, points)
        return np.where((depths > self._horizon)[:, None], mapped, np.nan)


class GroundSpeeds:
    """The speeds of the objects of one source: a line through the last places by least squares, older ones fading.

    What is kept, each faded by age: the sums of weights w and places x, of both times their time t, counted from the
    last one, and of the squares tt of the times. The slope is (w tx - t x) / (w tt - t t).
    """

    def __init__(self, ground: GroundMap, width: int, height: int) -> None:
        self._ground, self._width, self._height = ground, width, height
        self._table = Table(
            last=np.nan, first=np.nan, count=0.0, sums=(0.0,) * 3, timed=(0.0,) * 3, tt=0.0, speed=np.nan
        )

    def observe(self, seen: Seen) -> Values:
        """Take where objects are in a frame; return (N,) their speeds in metres per second, NaN where not known."""
        table, places = self._table, seen.places
        table.reach(seen.size)
        if not seen.is_predicted and len(places):
            found = self._ground.at(seen.feet)
            left, _, right, bottom = seen.boxes.T
            is_whole = (left > CUT) & (right < self._width - CUT) & (bottom < self._height - CUT)
            rows = is_whole & ~np.isnan(found[:, 0])
            self._add(places[rows], found[rows], seen.time_s)
        stale = ~(seen.time_s - table["last"][places] <= 2 * MEMORY_S)
        return np.where(stale, np.nan, table["speed"][places])

    def _add(self, places: Places, found: Points, time_s: float) -> None:
        table = self._table
        last, first = table["last"][places], np.fmin(table["first"][places], time_s)
        gap = np.where(np.isnan(last), 0.0, time_s - last)[:, None]
        fade = np.exp(-gap / MEMORY_S)
        sums, timed, tt = table["sums"][places] * fade, table["timed"][places] * fade, table["tt"][places] * fade[:, 0]
        tt += gap[:, 0] * (gap[:, 0] * sums[:, 0] - 2 * timed[:, 0])
        timed -= gap * sums
        sums[:, 0] += 1
        sums[:, 1:] += found  # its time is 0: nothing is added to the other sums
        count = table["count"][places] + 1
        known = (count >= LEAST_PLACES) & (time_s - first >= LEAST_TIME_S)
        w, t = sums[:, :1], timed[:, :1]
        slopes = (w * timed[:, 1:] - t * sums[:, 1:]) / np.where(known, w[:, 0] * tt - t[:, 0] ** 2, 1.0)[:, None]
        table["sums"][places], table["timed"][places], table["tt"][places] = sums, timed, tt
        table["last"][places], table["first"][places], table["count"][places] = time_s, first, count
        table["speed"][places] = np.where(known, np.hypot(slopes[:, 0], slopes[:, 1]), np.nan)

    def clear(self, place: int) -> None:
        """Forget somebody."""
        self._table.clear(place)


def _spans(points: Points) -> bool:
    """Whether more than one point lies off every line: else all, or all but one, are on one line."""
    for left_out in range(-1, len(points)):
        kept = points if left_out < 0 else np.delete(points, left_out, axis=0)
        sizes = np.linalg.svd(kept - kept.mean(axis=0), compute_uv=False)
        if sizes[1] <= DEGENERATE * sizes[0]:
            return False
    return True


def _homography(source: Points, target: Points) -> tuple[Matrix, bool]:
    """Return the 3 x 3 homography that takes (N, 2) points to others, and whether they leave no choice."""
    a, b = _normaliser(source), _normaliser(target)
    (x, y), (u, v) = _mapped(a, source).T, _mapped(b, target).T
    one, zero = np.ones_like(x), np.zeros_like(x)
    rows = np.concatenate(
        [
            np.stack([x, y, one, zero, zero, zero, -u * x, -u * y, -u], axis=1),
            np.stack([zero, zero, zero, x, y, one, -v * x, -v * y, -v], axis=1),
        ]
    )
    _, sizes, directions = np.linalg.svd(rows)
    normalised = directions[8].reshape(3, 3)
    is_certain = bool(sizes[7] > DEGENERATE * sizes[0])
    matrix = np.linalg.inv(b) @ normalised @ a
    return matrix / np.linalg.norm(matrix), is_certain


def _normaliser(points: Points) -> Matrix:
    """Return what moves points to the origin, at a mean distance of the square root of 2."""
    middle = points.mean(axis=0)
    scale = np.sqrt(2) / max(1e-12, float(np.hypot(*(points - middle).T).mean()))
    return np.array([[scale, 0, -scale * middle[0]], [0, scale, -scale * middle[1]], [0, 0, 1]])


def _mapped(matrix: Matrix, points: Points) -> Points:
    mapped = points @ matrix[:, :2].T + matrix[:, 2]
    return np.asarray(mapped[:, :2] / mapped[:, 2:], np.float64)
