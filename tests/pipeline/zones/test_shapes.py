"""What makes an area or a line, and what does not, whichever corner is named first and whichever way round."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.shapes import line_fault, polygon_fault

Corners = Sequence[tuple[float, float]]
WHOLE = st.tuples(st.integers(0, 6), st.integers(0, 6))


@pytest.mark.parametrize(
    ("corners", "fault"),
    [
        ([(0, 0), (4, 0), (4, 4)], None),
        ([(0, 0), (4, 0), (4, 4), (2, 1), (0, 4)], None),
        ([(0, 0), (2, 0), (4, 0), (4, 4)], None),
        ([(0.1, 0.1), (0.7, 0.1), (0.7, 0.3), (0.4, 0.3), (0.4, 0.2), (0.1, 0.2)], None),
        ([], "has 0 corners"),
        ([(0, 0), (1, 1)], "has 2 corners"),
        ([(0, 0), (4, 0), (4, 4), (0, 0)], "ends with its first corner, [0, 0]"),
        ([(0, 0), (4, 0), (4, 0), (4, 4)], "has the corner [4, 0] twice"),
        ([(0, 0), (4, 0), (2, 0)], "encloses no area"),
        ([(1, 1), (1, 5), (1, 3), (1, 4)], "encloses no area"),
        ([(0, 0), (4, 4), (4, 0), (0, 4)], "crosses or touches itself"),
        ([(0, 0), (4, 0), (4, 4), (2, 0)], "crosses or touches itself"),
        ([(0, 0), (4, 0), (2, 0), (2, 3)], "crosses or touches itself"),
        ([(0, 0), (6, 0), (6, 4), (3, 0), (0, 4)], "crosses or touches itself"),
        ([(0, 0), (4, 0), (4, -1)], "has the point [4, -1], which is outside"),
    ],
)
def test_corners_make_an_area_or_a_sentence_says_why_not(corners: Corners, fault: str | None) -> None:
    found = polygon_fault(corners)
    assert found is None if fault is None else found is not None and found.startswith(fault)


@pytest.mark.parametrize(("gap", "is_area"), [(-1e-12, False), (0.0, False), (1e-12, True)])
def test_a_corner_that_just_touches_an_edge_is_told_from_one_that_just_misses(gap: float, is_area: bool) -> None:
    assert (polygon_fault([(1, 1), (7, 1), (7, 7), (4, 1 + gap), (1, 7)]) is None) == is_area


def crosses_itself(corners: Corners) -> bool:
    """Brute force: whether two edges meet elsewhere than neighbours at their corner, by solving for the place."""
    count = len(corners)
    points = [(Fraction(x), Fraction(y)) for x, y in corners]
    for i in range(count):
        for j in range(i + 1, count):
            a, b, c, d = points[i], points[(i + 1) % count], points[j], points[(j + 1) % count]
            shared = {a, b} & {c, d}
            r, s = (b[0] - a[0], b[1] - a[1]), (d[0] - c[0], d[1] - c[1])
            cross = r[0] * s[1] - r[1] * s[0]
            q = (c[0] - a[0], c[1] - a[1])
            if cross:
                t, u = (q[0] * s[1] - q[1] * s[0]) / cross, (q[0] * r[1] - q[1] * r[0]) / cross
                if 0 <= t <= 1 and 0 <= u <= 1 and (a[0] + t * r[0], a[1] + t * r[1]) not in shared:
                    return True
            elif q[0] * r[1] == q[1] * r[0]:
                along = sorted(
                    ((p[0] - a[0]) * r[0] + (p[1] - a[1]) * r[1]) / (r[0] * r[0] + r[1] * r[1]) for p in (c, d)
                )
                low, high = max(along[0], Fraction(0)), min(along[1], Fraction(1))
                if low < high or (low == high and not shared):
                    return True
    return False


@settings(deadline=None)
@given(st.lists(WHOLE, min_size=3, max_size=7, unique=True))
def test_what_crosses_or_touches_itself_is_refused_and_nothing_else(corners: Corners) -> None:
    x0, y0 = corners[0]
    x1, y1 = corners[1]
    is_flat = all((x1 - x0) * (y - y0) == (y1 - y0) * (x - x0) for x, y in corners)
    assert (polygon_fault(corners) is None) == (not is_flat and not crosses_itself(corners))


@settings(deadline=None)
@given(st.lists(WHOLE, min_size=3, max_size=6), st.integers(0, 5), st.booleans())
def test_neither_the_first_corner_nor_the_way_round_matters(corners: Corners, by: int, back: bool) -> None:
    turned = list(corners[by % len(corners) :]) + list(corners[: by % len(corners)])
    assert (polygon_fault(turned[::-1] if back else turned) is None) == (polygon_fault(corners) is None)


def test_a_line_needs_two_ends_inside() -> None:
    assert line_fault([(0, 0), (0, 1e-9)]) is None
    assert line_fault([(2, 3), (2, 3)]) == "has no length, since its ends are the same point"
    assert line_fault([(2, -3), (2, 3)]) == "has the point [2, -3], which is outside the picture"
