"""Which of many boxes may overlap: far fewer than all pairs need to be looked at.

A packed R-tree (Kamel and Faloutsos, "On Packing R-trees", 1993), joined with itself or another: boxes are sorted along
a space-filling curve, every FAN of them make a node, every FAN nodes one of the next level. Pairs of nodes are followed
down as long as boxes within them could overlap by more than the threshold; thousands of pairs are compared at once.
The curve runs through four dimensions, place and size: boxes of very different sizes never overlap much (an IoU above t
wants widths and heights within a factor of 1 / t), so thousands of boxes on one spot are told apart as well.

The tree is float32 and rounded away from the boxes, so it misses nothing; who asks compares the few it names exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from pipeline.arrays import FloatArray, IntArray
    from pipeline.postprocess.overlaps import Doubles, Overlap

FAN = 4
"""Children of a node. 16 make fewer calls and four times as many pairs."""
BATCH = 2048
"""Pairs of nodes compared at a time: 32,768 pairs of children fit a core's cache. It also bounds the memory."""
BITS = 7
"""Of each dimension in the curve."""
CLASS_BITS = 8
"""Of the class in front of them; classes that share them are told apart last."""
CHILD_A, CHILD_B = np.divmod(np.arange(FAN**2), FAN)
INDEX_BITS = 63 - 4 * BITS - CLASS_BITS
SPREAD = [
    np.array([sum((value >> bit & 1) << 4 * bit + dimension for bit in range(BITS)) for value in range(1 << BITS)])
    for dimension in range(4)
]
"""For each dimension, numbers with their bits set apart for interleaving."""

Indices = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]
Pairs = tuple[Indices, Indices]


@dataclass(frozen=True)
class Tree:
    """A packed R-tree over some boxes. Arrays end in (FAN, nodes), child c of node n at [..., c, n]."""

    members: Indices
    """The boxes, in the order of the curve."""
    boxes: FloatArray
    """(5, FAN, nodes) x1, y1, x2, y2, and the share of its area that an overlap must have."""
    levels: list[tuple[FloatArray, FloatArray]]
    """(rows, FAN, nodes) where the reach of each child begins and ends in each dimension, the lowest level first."""

    @property
    def tops(self) -> Indices:
        """The nodes of the highest level."""
        lows = self.levels[-1][0] if self.levels else self.boxes
        return np.arange(lows.shape[2])


class Near:
    """Boxes, sorted so that those near each other are found."""

    def __init__(self, corners: Doubles, class_ids: IntArray | None, threshold: float, overlap: Overlap) -> None:
        """Sort.

        Args:
            corners: (4, N) x1, y1, x2, y2, finite and with an area.
            class_ids: (N,); boxes of different classes are not near each other. None: all are of one class.
            threshold: 0..1, the overlap above which two boxes are asked for.
            overlap: its measure.
        """
        self._of_smaller = overlap == "ios"
        share = threshold if self._of_smaller else threshold / (1 + threshold)
        sizes = (corners[2:] - corners[:2]).astype(np.float32)
        boxes = np.empty((5, corners.shape[1]), np.float32)
        boxes[:4] = corners
        np.multiply(sizes[0] * np.float32(share * (1 - 1e-5)), sizes[1], out=boxes[4])
        margins = np.abs(boxes[:4]).max(axis=0) * np.float32(1e-6) + np.float32(1e-12)
        centres = (boxes[:2] + boxes[2:4]) * np.float32(0.5)
        self._order = _along_curve(centres, sizes, class_ids)
        reach = _reach(centres, sizes, margins, class_ids, 0.0 if self._of_smaller else threshold)
        self._lows, self._highs = (each.take(self._order, 1) for each in reach)
        boxes[:2] -= margins
        boxes[2:4] += margins
        self._boxes = boxes.take(self._order, 1)

    def within(self, chosen: Mask) -> Iterator[Pairs]:
        """Yield the pairs of chosen boxes that may overlap by more than the threshold, each once, part by part."""
        tree = self._tree(chosen)
        first, second = _product(tree.tops, tree.tops)
        once = first <= second
        yield from self._descend(tree, tree, len(tree.levels), first[once], second[once])

    def between(self, some: Mask, others: Mask) -> Iterator[Pairs]:
        """Yield the pairs of one of some and one of others that may overlap by more than the threshold."""
        second = self._tree(others)
        first = self._tree(some, len(second.levels))
        yield from self._descend(first, second, len(second.levels), *_product(first.tops, second.tops))

    def _tree(self, chosen: Mask, height: int | None = None) -> Tree:
        """Build; to the height of another, or until few nodes are left."""
        places = np.flatnonzero(chosen[self._order])
        boxes = _in_nodes(self._boxes[:, places], 0)
        lows, highs = self._lows[:, places], self._highs[:, places]
        levels: list[tuple[FloatArray, FloatArray]] = []
        lows, highs = _in_nodes(lows, np.inf).min(axis=1), _in_nodes(highs, -np.inf).max(axis=1)
        while lows.shape[1] > FAN**3 if height is None else len(levels) < height:
            levels.append((_in_nodes(lows, np.inf), _in_nodes(highs, -np.inf)))
            lows, highs = levels[-1][0].min(axis=1), levels[-1][1].max(axis=1)
        return Tree(self._order[places], boxes, levels)

    def _descend(self, a: Tree, b: Tree, level: int, first: Indices, second: Indices) -> Iterator[Pairs]:
        """Follow pairs of nodes down: a batch to the ground before the next, so that memory stays bounded."""
        for start in range(0, len(first), BATCH):
            in_a, in_b = first[start : start + BATCH], second[start : start + BATCH]
            if level:
                meet = _meet(a.levels[level - 1], b.levels[level - 1], in_a, in_b)
            else:
                meet = self._overlap(a.boxes.take(in_a, 2), b.boxes.take(in_b, 2))
            child_a, child_b = _children(meet, in_a, in_b)
            if a is b:
                once = child_a <= child_b if level else child_a < child_b
                child_a, child_b = child_a.compress(once), child_b.compress(once)
            if level:
                yield from self._descend(a, b, level - 1, child_a, child_b)
            else:
                yield a.members.take(child_a), b.members.take(child_b)

    def _overlap(self, a: FloatArray, b: FloatArray) -> Mask:
        """(FAN, FAN, pairs): whether the boxes' shared area is large enough.

        IoU > t is shared > t / (1 + t) of the sum of both areas.
        """
        a, b = a[:, :, None], b[:, None]
        shared = np.minimum(a[2], b[2])
        work = np.maximum(a[0], b[0])
        shared -= work  # below 0 times a height of 0 and more is not enough, either
        height = np.minimum(a[3], b[3])
        np.maximum(a[1], b[1], out=work)
        height -= work
        np.maximum(height, 0, out=height)
        shared *= height
        (np.minimum if self._of_smaller else np.add)(a[4], b[4], out=work)
        enough: Mask = shared > work
        return enough


def _reach(
    centres: FloatArray, sizes: FloatArray, margins: FloatArray, class_ids: IntArray | None, threshold: float
) -> tuple[FloatArray, FloatArray]:
    """Return where boxes begin and end in each dimension, (rows, N); boxes that do not meet in all overlap too little.

    IoU > t wants centres less than (1 - t) / 2 of both widths apart, and the smaller width more than t of the other:
    so the boxes' middle parts of (1 - t) must meet, and the ranges from t times the width to the width; heights, too.
    """
    rows = 2 + 2 * (threshold > 0) + (class_ids is not None)
    lows, highs = np.empty((rows, len(margins)), np.float32), np.empty((rows, len(margins)), np.float32)
    parts = sizes * np.float32((1 - threshold) / 2 + 1e-6) + margins
    np.subtract(centres, parts, out=lows[:2])
    np.add(centres, parts, out=highs[:2])
    if threshold:
        np.multiply(sizes, np.float32(threshold * (1 - 1e-6)), out=lows[2:4])
        np.multiply(sizes, np.float32(1 + 1e-6), out=highs[2:4])
    if class_ids is not None:
        lows[-1] = class_ids & 0xFFFFF  # exact in float32; who asks compares the whole number
        highs[-1] = lows[-1] + np.float32(0.5)
    return lows, highs


def _along_curve(centres: FloatArray, sizes: FloatArray, class_ids: IntArray | None) -> Indices:
    """Sort by class, then along a Morton curve through place and size."""
    values = np.concatenate([centres, np.log2(np.maximum(sizes, np.float32(1e-30)))])
    count = values.shape[1]
    sample = slice(None, None, max(1, count // 256))
    ranked = np.sort(values[:, sample], axis=1)
    edge = ranked.shape[1] // 50  # one box far off must not squeeze the others
    low, high = ranked[:, edge], ranked[:, -1 - edge]
    finest = np.append(np.median(sizes[:, sample], axis=1) * 0.1, (0.25, 0.25))
    units = np.maximum(finest, (high - low) / (1 << BITS)).astype(np.float32)
    values -= low[:, None]
    values /= units[:, None]
    cells = np.clip(values, 0, (1 << BITS) - 1, out=values).astype(np.intp)
    key: Indices = SPREAD[0].take(cells[0])
    for dimension in (1, 2, 3):
        key |= SPREAD[dimension].take(cells[dimension])
    if class_ids is not None:
        key |= (class_ids.astype(np.int64) & (1 << CLASS_BITS) - 1) << 4 * BITS
    key <<= INDEX_BITS
    key |= np.arange(count)
    key.sort()
    return key & ((1 << INDEX_BITS) - 1)


def _product(a: Indices, b: Indices) -> Pairs:
    return np.repeat(a, len(b)), np.tile(b, len(a))


def _in_nodes(rows: FloatArray, filler: float) -> FloatArray:
    """(rows, N) -> (rows, FAN, nodes); what the last node lacks reaches nowhere."""
    count, length = rows.shape
    padded = np.full((count, -(-length // FAN) * FAN), filler, np.float32)
    padded[:, :length] = rows
    return np.ascontiguousarray(padded.reshape(count, -1, FAN).transpose(0, 2, 1))


def _meet(a: tuple[FloatArray, FloatArray], b: tuple[FloatArray, FloatArray], in_a: Indices, in_b: Indices) -> Mask:
    """(FAN, FAN, pairs): whether children reach each other in all dimensions."""
    low_a, high_a = (each.take(in_a, 2)[:, :, None] for each in a)
    low_b, high_b = (each.take(in_b, 2)[:, None] for each in b)
    meet: Mask | None = None
    for row in range(len(low_a)):
        also = np.maximum(low_a[row], low_b[row]) < np.minimum(high_a[row], high_b[row])
        meet = also if meet is None else np.logical_and(meet, also, out=meet)
    assert meet is not None
    return meet


def _children(meet: Mask, in_a: Indices, in_b: Indices) -> Pairs:
    """Return the pairs of children that meet."""
    hits = np.flatnonzero(meet)
    begins = np.arange(FAN**2 + 1) * len(in_a)
    ends = np.searchsorted(hits, begins)
    counts = ends[1:] - ends[:-1]
    hits -= np.repeat(begins[:-1], counts)
    first, second = in_a.take(hits), in_b.take(hits)
    first *= FAN
    first += np.repeat(CHILD_A, counts)
    second *= FAN
    second += np.repeat(CHILD_B, counts)
    return first, second
