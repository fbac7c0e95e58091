"""Points in areas, against OpenCV and in fractions; paths across lines, in fractions."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipeline.config.shapes import polygon_fault
from pipeline.postprocess.zones.geometry import Area, Line

Corners = list[tuple[int, int]]
Point = tuple[int, int]
PLACE = st.tuples(st.integers(3, 37), st.integers(3, 37))
"""Off the edge of a picture of 40 x 40."""
SIDE = 40


@st.composite
def areas(draw: st.DrawFn) -> Corners:
    """Draw simple polygons, convex and concave: corners by their direction from a point, or a comb."""
    if draw(st.booleans()):
        teeth = draw(st.lists(st.integers(8, 37), min_size=2, max_size=6))
        corners = [(3, 5), (3 + 5 * len(teeth), 5)]
        for i, tip in reversed(list(enumerate(teeth))):
            corners += [(3 + 5 * i + 4, tip), (3 + 5 * i + 1, 6)]
        return corners
    points = draw(st.lists(PLACE, min_size=3, max_size=9, unique=True))
    middle = np.mean(points, axis=0)
    points.sort(key=lambda p: (np.arctan2(p[1] - middle[1], p[0] - middle[0]), p))
    assume(polygon_fault(points) is None)
    return points


def area(corners: Sequence[tuple[float, float]]) -> Area:
    return Area(np.array(corners, np.float64), SIDE, SIDE)


def distances(corners: Corners, points: Sequence[Point]) -> list[float]:
    found: list[float] = area(corners).distances(np.array(points, np.float64)).tolist()
    return found


def side_in_fractions(corners: Corners, point: Point) -> int:
    """Exactly: 1 inside, 0 on an edge, -1 outside; by the winding number."""
    winding = 0
    for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
        x, y = point
        turn = (bx - ax) * (y - ay) - (by - ay) * (x - ax)
        if turn == 0 and min(ax, bx) <= x <= max(ax, bx) and min(ay, by) <= y <= max(ay, by):
            return 0
        if ay <= y < by and turn > 0:
            winding += 1
        elif by <= y < ay and turn < 0:
            winding -= 1
    return 1 if winding else -1


@settings(deadline=None)
@given(areas(), st.lists(PLACE, min_size=1, max_size=20))
def test_distances_are_those_of_opencv_and_sides_those_of_exact_arithmetic(
    corners: Corners, points: list[Point]
) -> None:
    contour = np.array(corners, np.float32)
    for point, found in zip(points, distances(corners, points), strict=True):
        expected = cv2.pointPolygonTest(contour, (float(point[0]), float(point[1])), measureDist=True)
        assert found == pytest.approx(expected, abs=1e-4)
        assert np.sign(found if abs(found) > 1e-9 else 0.0) == side_in_fractions(corners, point)


@settings(deadline=None)
@given(areas(), st.lists(PLACE, min_size=1, max_size=20), st.integers(0, 20), st.booleans())
def test_neither_the_first_corner_nor_the_way_round_moves_an_area(
    corners: Corners, points: list[Point], by: int, back: bool
) -> None:
    by %= len(corners)
    turned = corners[by:] + corners[:by]
    assert distances(turned[::-1] if back else turned, points) == pytest.approx(distances(corners, points), abs=1e-9)


@settings(deadline=None)
@given(areas())
def test_points_on_edges_and_corners_are_neither_inside_nor_outside(corners: Corners) -> None:
    doubled = [(2 * x, 2 * y) for x, y in corners]
    on = doubled + [(a[0] // 2 + b[0] // 2, a[1] // 2 + b[1] // 2) for a, b in pairwise(doubled)]
    found = Area(np.array(doubled, np.float64), 2 * SIDE, 2 * SIDE).distances(np.array(on, np.float64))
    assert np.abs(found) == pytest.approx(0, abs=1e-9)


def test_an_edge_of_the_picture_is_no_edge_of_an_area() -> None:
    lower_half = area([(0, 20), (39, 20), (39, 39), (0, 40)])
    found = lower_half.distances(np.array([(20.0, 40.0), (0.0, 30.0), (40.0, 21.0), (20.0, 19.0), (0.0, 20.0)]))
    assert found == pytest.approx([20, 10, 1, -1, 0], abs=0.01)
    whole = area([(0, 0), (40, 0), (40, 40), (0, 40)])
    assert (whole.distances(np.array([(0.0, 0.0), (40.0, 40.0), (20.0, 40.0)])) == np.inf).all()
    assert whole.thickness == np.inf


def test_the_thickness_is_the_radius_of_the_largest_circle_inside() -> None:
    assert area([(5, 5), (35, 5), (35, 15), (5, 15)]).thickness == pytest.approx(5, rel=0.1)


# --- lines --------------------------------------------------------------------------------------------------------


def crossing_in_fractions(ends: tuple[Point, Point], before: Point, after: Point) -> int:
    """Exactly: 1 to the right, -1 to the left, 0; points on the line are left of it."""

    def turn(point: Point) -> int:
        (ax, ay), (bx, by) = ends
        return (bx - ax) * (point[1] - ay) - (by - ay) * (point[0] - ax)

    was, now = turn(before), turn(after)
    if (was > 0) == (now > 0):
        return 0
    t = Fraction(was, was - now)
    place = [Fraction(b) + t * (a - b) for b, a in zip(before, after, strict=True)]
    along = sum((p - a) * (b - a) for p, a, b in zip(place, *ends, strict=True))
    length = sum((b - a) ** 2 for a, b in zip(*ends, strict=True))
    return (1 if now > 0 else -1) if 0 <= along <= length else 0


def crossing(ends: tuple[Point, Point], before: Point, after: Point) -> float:
    line = Line(np.array(ends, np.float64), SIDE, SIDE)
    return float(line.crossings(np.array([before], np.float64), np.array([after], np.float64))[0])


@settings(deadline=None)
@given(st.tuples(PLACE, PLACE), PLACE, PLACE)
def test_a_path_crosses_where_exact_arithmetic_says_so(ends: tuple[Point, Point], before: Point, after: Point) -> None:
    assume(ends[0] != ends[1])
    assert crossing(ends, before, after) == crossing_in_fractions(ends, before, after)


@settings(deadline=None)
@given(st.tuples(PLACE, PLACE), st.lists(PLACE, min_size=2, max_size=12))
def test_a_path_to_and_fro_comes_out_even_whatever_it_touches(ends: tuple[Point, Point], path: list[Point]) -> None:
    assume(ends[0] != ends[1])
    there = sum(crossing(ends, a, b) for a, b in pairwise(path))
    back = sum(crossing(ends, b, a) for a, b in pairwise(path))
    assert there == -back


@settings(deadline=None)
@given(st.tuples(PLACE, PLACE), PLACE, PLACE)
def test_a_reversed_line_has_its_sides_swapped(ends: tuple[Point, Point], before: Point, after: Point) -> None:
    assume(ends[0] != ends[1])
    line, reverse = (Line(np.array(each, np.float64), SIDE, SIDE) for each in (ends, ends[::-1]))
    points = np.array([before, after], np.float64)
    assert line.distances(points) == pytest.approx(-reverse.distances(points), abs=1e-9)
    if (np.abs(line.distances(points)) > 1e-9).all():
        assert crossing(ends, before, after) == -crossing((ends[1], ends[0]), before, after)


@pytest.mark.parametrize(
    ("ends", "to_right"),
    [
        (((10, 20), (30, 20)), (20, 30)),  # looking right, one's right hand is below
        (((30, 20), (10, 20)), (20, 10)),  # looking left, it is above
        (((20, 10), (20, 30)), (10, 20)),  # looking down, it is on the left of the screen
        (((20, 30), (20, 10)), (30, 20)),  # looking up, it is on the right of the screen
    ],
)
def test_right_is_what_a_person_sees_who_looks_from_the_first_end_to_the_second(
    ends: tuple[Point, Point], to_right: Point
) -> None:
    opposite = (40 - to_right[0], 40 - to_right[1])
    assert crossing(ends, opposite, to_right) == 1
    assert crossing(ends, to_right, opposite) == -1


def test_the_room_beside_a_line_ends_at_the_edge_of_the_picture() -> None:
    line = Line(np.array([(5.0, 38.0), (35.0, 38.0)]), SIDE, SIDE)
    assert (line.room_right, line.room_left) == pytest.approx((2, 38))
