"""Which corners make an area, and which ends a line: everything else is refused before a run.

An area is a simple polygon: its edges share the corners of neighbours and nothing else. Computed in fractions, so that
what touches, touches, and what just misses does not. A number of YAML is a fraction exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations

Corner = Sequence[float]
_Exact = tuple[Fraction, Fraction]
LEAST_CORNERS = 3


def polygon_fault(corners: Sequence[Corner]) -> str | None:
    """Return what keeps corners, each x and y, from enclosing an area, to be read after "it"; None: nothing."""
    if len(corners) < LEAST_CORNERS:
        return f"has {len(corners)} corners, and an area needs {LEAST_CORNERS} or more"
    if fault := _negative(corners):
        return fault
    if len({tuple(corner) for corner in corners}) < len(corners):
        if tuple(corners[0]) == tuple(corners[-1]):
            return f"ends with its first corner, {_text(corners[0])}, again, which is to be left out"
        again = next(corner for i, corner in enumerate(corners) if corner in corners[:i])
        return f"has the corner {_text(again)} twice"
    exact = [_exact(corner) for corner in corners]
    if all(_turn(exact[0], exact[1], corner) == 0 for corner in exact):
        return "encloses no area, since its corners lie on one line"
    edges = list(zip(exact, exact[1:] + exact[:1], strict=True))
    for i, j in combinations(range(len(edges)), 2):
        if _clash(edges[i], edges[j]):
            named = [f"{_text(corners[k])}-{_text(corners[(k + 1) % len(corners)])}" for k in (i, j)]
            return f"crosses or touches itself where its edges {named[0]} and {named[1]} meet"
    return None


def line_fault(ends: Sequence[Corner]) -> str | None:
    """Return what keeps two ends, each x and y, from being a line, to be read after "it"; None: nothing."""
    if tuple(ends[0]) == tuple(ends[1]):
        return "has no length, since its ends are the same point"
    return _negative(ends)


def _negative(points: Sequence[Corner]) -> str | None:
    wrong = next((point for point in points if min(point) < 0), None)
    return None if wrong is None else f"has the point {_text(wrong)}, which is outside the picture"


def _text(point: Corner) -> str:
    return f"[{', '.join(f'{number:g}' for number in point)}]"


def _exact(point: Corner) -> _Exact:
    return Fraction(point[0]), Fraction(point[1])


def _turn(a: _Exact, b: _Exact, c: _Exact) -> int:
    """Return 1 or -1 where a, b, c turn one way or the other, 0 where they lie on one line."""
    area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    return (area > 0) - (area < 0)


def _clash(one: tuple[_Exact, _Exact], other: tuple[_Exact, _Exact]) -> bool:
    """Whether two edges share more than one end of each."""
    shared = set(one) & set(other)
    if shared:
        corner = shared.pop()
        ends = [end for end in (*one, *other) if end != corner]
        return any(_lies_on(end, edge) for end, edge in zip(ends, (other, one), strict=True))
    (a, b), (c, d) = one, other
    if _turn(a, b, c) * _turn(a, b, d) < 0 and _turn(c, d, a) * _turn(c, d, b) < 0:
        return True
    return _lies_on(a, other) or _lies_on(b, other) or _lies_on(c, one) or _lies_on(d, one)


def _lies_on(point: _Exact, edge: tuple[_Exact, _Exact]) -> bool:
    a, b = edge
    if _turn(a, b, point) != 0:
        return False
    return all(min(a[axis], b[axis]) <= point[axis] <= max(a[axis], b[axis]) for axis in (0, 1))
