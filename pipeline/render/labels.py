"""Where labels go: each at its box, in the picture, not over another label and, where there is room, not over a face.

Greedy, the most important first. What is taken is noted in a coarse raster, a bit for each cell, so that a place costs
the same to look at whether 5 labels are there or 500.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pipeline.arrays import Image
from pipeline.render.canvas import Colour, Point

FACE, LABEL = 1, 8
"""What it costs to cover a cell of either."""


class Label(NamedTuple):
    """A text at a box."""

    text: Image
    """(H, W), a patch."""
    box: tuple[int, int, int, int]
    """Outer edges of what it belongs to."""
    colour: Colour | None
    """Of the bar at its left; None: it has none."""


class Placement:
    """The places of one picture.

    Args:
        size: width and height of the picture.
        cell: side of a cell of the raster, pixels: a part of a label's height.
    """

    def __init__(self, size: tuple[int, int], cell: int) -> None:
        self._width, self._height = size
        self._cell = cell
        rows = -(-self._height // cell)
        self._faces, self._labels = [0] * rows, [0] * rows
        """A bit for each cell of each row."""
        self._taken = [0] * rows
        """Both."""

    def avoid(self, boxes: Sequence[Sequence[int]]) -> None:
        """Keep labels off faces, where that can be; one may touch a face's edge."""
        cell = self._cell
        for left, top, right, bottom in boxes:
            first, last = -(-max(0, left) // cell), right // cell
            if last > first:
                bits = (1 << last) - (1 << first)
                for row in range(-(-max(0, top) // cell), min(bottom // cell, len(self._faces))):
                    self._faces[row] |= bits
                    self._taken[row] |= bits

    def place(self, box: tuple[int, int, int, int], width: int, height: int) -> Point:
        """Take the first free place at a box, or the one that covers least.

        Args:
            box: left, top, right, bottom.
            width: of the label.
            height: of the label.

        Returns:
            Left and top of the label, even.
        """
        best, least = (0, 0), -1
        rightmost, lowest = max(0, self._width - width), max(0, self._height - height)
        for left, top in _places(box, width, height):
            x = rightmost if left > rightmost else left if left > 0 else 0
            y = lowest if top > lowest else top if top > 0 else 0
            corner = x & -2, y & -2
            cost = self._cost(*self._cells(corner, width, height))
            if least < 0 or cost < least:
                best, least = corner, cost
            if not cost:
                break
        bits, rows = self._cells(best, width, height)
        for row in rows:
            self._labels[row] |= bits
            self._taken[row] |= bits
        return best

    def _cells(self, corner: Point, width: int, height: int) -> tuple[int, range]:
        """Return all cells that a label touches: their bits in each row, and the rows."""
        left, top, cell = *corner, self._cell
        bits = (1 << -(-(left + width) // cell)) - (1 << left // cell)
        return bits, range(top // cell, min(-(-(top + height) // cell), len(self._labels)))

    def _cost(self, bits: int, rows: range) -> int:
        taken, cost = self._taken, 0
        for row in rows:
            if taken[row] & bits:
                cost += FACE * (self._faces[row] & bits).bit_count() + LABEL * (self._labels[row] & bits).bit_count()
        return cost


def _places(box: tuple[int, int, int, int], width: int, height: int) -> Iterator[Point]:
    """Return where a label may be, the best place first: above, below, inside, beside, and then farther off."""
    left, top, right, bottom = box
    flush, middle = right - width, (left + right - width) // 2
    for x in (left, flush):
        yield x, top - height
        yield x, bottom
    yield left, top
    yield left, bottom - height
    for y in (top, bottom - height):
        yield right, y
        yield left - width, y
    yield middle, top - height
    yield middle, bottom
    for away in (2, 3):
        yield left, top - away * height
        yield left, bottom + (away - 1) * height
        yield flush, top - away * height
        yield flush, bottom + (away - 1) * height
