"""Non-maximum suppression: of boxes that show the same thing, keep the best.

Greedy, as in Felzenszwalb et al. (2010) and every detector since: take the best box, drop all of its class that
overlap it by more than the threshold, and go on with the rest. The answer is exactly that of this loop, in float64; it
is found by naming the pairs that overlap too much (`near`), and going through them once, the best box's first.

Of many boxes on few objects there would be too many pairs. So a block of the best goes first, what it suppresses is
gone, and the next block is as large as a sample of pairs allows.

Measured in turns with OpenCV's NMSBoxesBatched, best of many on a busy machine: 70 boxes 0.09 ms (OpenCV 0.04), 300 0.8
(0.3), 8,400 of 80 classes 5 (300), the best 300 of them 1.5. OpenCV knows IoU only, and keeps its threshold in float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipeline.postprocess.near import Indices, Mask, Near, Pairs
from pipeline.postprocess.overlaps import Doubles, Overlap, overlaps, sound

if TYPE_CHECKING:
    from pipeline.arrays import FloatArray, IntArray

FEW = 200
"""Up to so many boxes all pairs are compared."""
FIRST_LOOK = 4
"""Where the number to keep is given, so many times it are looked at first, and more where not enough of them stay."""
PAIRS = 200_000
"""Pairs that overlap too much to be gone through at a time: 10 ms."""
SMALLEST_BLOCK = 128
SAMPLE = 2
"""One box of so many is compared with another one to see how many overlap."""
CONFLICTS = 3
"""Others of its block that a box may overlap too much with, on average."""


def nms(
    boxes: npt.ArrayLike,
    scores: npt.ArrayLike,
    class_ids: npt.ArrayLike,
    iou_threshold: float,
    *,
    class_agnostic: bool = False,
    overlap: Overlap = "iou",
    most: int | None = None,
    groups: Indices | None = None,
) -> Indices:
    """Choose the boxes to keep.

    Args:
        boxes: (N, 4) xyxy.
        scores: (N,).
        class_ids: (N,); boxes of different classes never suppress each other, unless `class_agnostic`.
        iou_threshold: 0..1; a box is dropped when its overlap with a better one is larger than this.
        overlap: what is held against the threshold: IoU, distance IoU, or intersection over the smaller area.
        most: how many to keep; None: all.
        groups: (N,); boxes of one group never suppress each other. None: all may.

    Returns:
        Indices of the boxes kept, best first, ties in the order given. Boxes or scores that are not finite, boxes
        without an area, and scores that are not positive, are never kept.

    Raises:
        ValueError: the threshold is not within 0..1.
    """
    if not 0 <= iou_threshold <= 1:
        raise ValueError(f"an overlap threshold lies within 0..1, not {iou_threshold}")
    corners = np.ascontiguousarray(np.asarray(boxes, np.float64).reshape(-1, 4).T)
    with np.errstate(over="ignore"):
        values = np.asarray(scores, np.float32).reshape(-1)
    usable = sound(corners, values)
    order = usable[best_first(values[usable])]
    classes = None if class_agnostic else np.asarray(class_ids, np.int32).reshape(-1)
    count = len(order) if most is None else FIRST_LOOK * most
    while True:
        best = order[:count]
        greedy = _Greedy(
            corners[:, best],
            None if classes is None else classes[best],
            None if groups is None else groups[best],
            iou_threshold,
            overlap,
        )
        kept = greedy.few() if len(best) <= FEW else greedy.many(most)
        if most is None or len(kept) >= most or count >= len(order):
            return best[kept[:most]]
        count *= FIRST_LOOK


def best_first(scores: FloatArray) -> Indices:
    """Sort positive float32 scores, ties in the order given.

    Their bits, read as integers, sort as they do, and leave room for the index: two to three times faster than a stable
    argsort.
    """
    key = (np.iinfo(np.int32).max - scores.view(np.int32).astype(np.int64)) << 32
    key |= np.arange(len(scores))
    key.sort()
    return key & 0xFFFFFFFF


class _Greedy:
    """Boxes from the best to the worst."""

    def __init__(
        self,
        corners: Doubles,
        class_ids: IntArray | None,
        groups: Indices | None,
        threshold: float,
        overlap: Overlap,
    ) -> None:
        self.corners, self.class_ids, self.groups = corners, class_ids, groups
        self.threshold, self.overlap = threshold, overlap
        self.count = corners.shape[1]
        self.alive = np.ones(self.count, np.bool_)
        """Which are kept, or not decided on yet."""

    def few(self) -> Indices:
        """Compare all pairs: whether they overlap at all, and those that do, how much."""
        left, top, right, bottom = self.corners
        width, height = np.minimum(right[:, None], right), np.minimum(bottom[:, None], bottom)
        width -= np.maximum(left[:, None], left)
        height -= np.maximum(top[:, None], top)
        better, worse = np.divmod(np.flatnonzero(np.minimum(width, height, out=width) > 0), self.count)
        once = better < worse
        self._suppress(*self._too_much(better[once], worse[once]))
        return np.flatnonzero(self.alive)

    def many(self, most: int | None) -> Indices:
        """Go through blocks, the best first."""
        near = Near(self.corners, self.class_ids, self.threshold, self.overlap)
        left, kept = np.arange(self.count), np.zeros(0, np.intp)
        while len(left) and (most is None or len(kept) < most):
            size = self._block_size(left)
            while (pairs := self._conflicts(near, left[:size])) is None:
                size //= 4
            self._suppress(*pairs)
            block, left = left[:size], left[size:]
            good = block[self.alive[block]]
            kept = np.concatenate([kept, good])
            if len(left):
                for better, worse in near.between(self._mask(good), self._mask(left)):
                    self.alive[self._too_much(better, worse)[1]] = False
                left = left[self.alive[left]]
        return kept

    def _block_size(self, left: Indices) -> int:
        """As many as overlap too much with CONFLICTS others each; a sample says how many all overlap with."""
        count = len(left)
        if count <= SMALLEST_BLOCK:
            return count
        first = np.arange(0, count, SAMPLE)
        second = (first * 7919 + count // 2) % count
        apart = first != second
        hits = len(self._too_much(left[first[apart]], left[second[apart]])[0])
        return min(count, max(SMALLEST_BLOCK, int(count * CONFLICTS / (hits * SAMPLE + 1))))

    def _conflicts(self, near: Near, block: Indices) -> Pairs | None:
        """Return the pairs of a block that overlap too much, the better one first; None: far more than expected."""
        parts: list[Pairs] = [(block[:0], block[:0])]
        count = 0
        for one, other in near.within(self._mask(block)):
            parts.append(self._too_much(np.minimum(one, other), np.maximum(one, other)))
            count += len(parts[-1][0])
            if count > 4 * PAIRS and len(block) > SMALLEST_BLOCK:
                return None
        better, worse = zip(*parts, strict=True)
        return np.concatenate(better), np.concatenate(worse)

    def _too_much(self, one: Indices, other: Indices) -> Pairs:
        """Of pairs of boxes, keep those of one class and of two groups that overlap by more than the threshold."""
        if self.class_ids is not None:
            same = self.class_ids[one] == self.class_ids[other]
            one, other = one[same], other[same]
        if self.groups is not None:
            apart = self.groups[one] != self.groups[other]
            one, other = one[apart], other[apart]
        corners = self.corners
        hit = overlaps(corners.take(one, 1), corners.take(other, 1), self.overlap) > self.threshold
        return one[hit], other[hit]

    def _suppress(self, better: Indices, worse: Indices) -> None:
        """Drop what a box that stays suppresses; what a dropped one would have suppressed stays."""
        while len(better) > 1000:
            before = len(better)
            beaten = np.zeros(self.count, np.bool_)
            beaten[worse] = True
            self.alive[worse[~beaten[better]]] = False  # by boxes that nothing beats
            open_ = self.alive[better] & self.alive[worse] & beaten[better]
            better, worse = better[open_], worse[open_]
            if len(better) > before / 2:  # long chains: this would take a round for each link
                break
        if not len(better):
            return
        order = np.argsort(better, kind="stable")
        alive = bytearray(self.alive.tobytes())
        for winner, loser in zip(better[order].tolist(), worse[order].tolist(), strict=True):
            if alive[winner]:
                alive[loser] = 0
        self.alive = np.frombuffer(alive, np.bool_)

    def _mask(self, chosen: Indices) -> Mask:
        mask = np.zeros(self.count, np.bool_)
        mask[chosen] = True
        return mask
