"""How far two sets of outputs are apart: value by value, box by box, encoding by encoding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from engines.engine import Outputs

MATCH_IOU = 0.5
"""Two boxes are the same decision where they overlap by at least this."""


class Decisions(NamedTuple):
    """What is read from the outputs of one picture."""

    boxes: npt.NDArray[np.float32]
    """(N, 4) xyxy."""
    scores: npt.NDArray[np.float32]
    """(N,), descending."""
    class_ids: npt.NDArray[np.int32]
    """(N,)."""


@dataclass
class TensorDrift:
    """Absolute error of one output over all batches; infinite where one is NaN and the other is not."""

    max_error: float = 0.0
    largest: float = 0.0
    """Largest absolute value of the reference: outputs in pixels have larger errors than probabilities."""
    total: float = 0.0
    count: int = 0

    @property
    def mean_error(self) -> float:
        """Over all values."""
        return self.total / self.count if self.count else 0.0

    @property
    def scale(self) -> float:
        """What errors are taken as a share of."""
        return max(1.0, self.largest)

    def add(self, ours: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> None:
        """Count one batch."""
        a, b = ours.astype(np.float64), theirs.astype(np.float64)
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        with np.errstate(invalid="ignore"):
            error = np.where(same, 0.0, np.abs(a - b))
        error = np.nan_to_num(error, nan=np.inf, posinf=np.inf)
        self.largest = max(self.largest, float(np.abs(b[np.isfinite(b)]).max(initial=0.0)))
        self.max_error = max(self.max_error, float(error.max(initial=0.0)))
        self.total += float(error.sum())
        self.count += error.size


@dataclass
class DecisionDrift:
    """How the boxes differ over all pictures."""

    reference: int = 0
    """Boxes that the reference found."""
    engine: int = 0
    """Boxes that the engine found."""
    matched: int = 0
    other_class: int = 0
    """Matched boxes whose class differs."""
    max_score_drift: float = 0.0
    total_score_drift: float = 0.0

    @property
    def unmatched(self) -> int:
        """Boxes that only one of the two has."""
        return self.reference + self.engine - 2 * self.matched

    @property
    def mean_score_drift(self) -> float:
        """Mean absolute difference of matched boxes' scores."""
        return self.total_score_drift / self.matched if self.matched else 0.0

    def add(self, ours: Decisions, theirs: Decisions) -> None:
        """Match the boxes of one picture and count."""
        self.engine += len(ours.boxes)
        self.reference += len(theirs.boxes)
        for i, j in match(ours, theirs):
            drift = abs(float(ours.scores[i]) - float(theirs.scores[j]))
            self.matched += 1
            self.other_class += int(ours.class_ids[i] != theirs.class_ids[j])
            self.max_score_drift = max(self.max_score_drift, drift)
            self.total_score_drift += drift


@dataclass
class EncodingDrift:
    """How the encodings of faces differ: 1 - cosine of the angle between the engine's and the reference's."""

    largest: float = 0.0
    total: float = 0.0
    count: int = 0

    @property
    def mean(self) -> float:
        """Over all pictures."""
        return self.total / self.count if self.count else 0.0

    def add(self, ours: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> None:
        """Count one batch of encodings, N x anything; one that is nothing or no number is as far off as can be."""
        a, b = (each.astype(np.float64).reshape(len(each), -1) for each in (ours, theirs))
        lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            drift = np.nan_to_num(1 - (a * b).sum(axis=1) / lengths, nan=np.inf, posinf=np.inf, neginf=np.inf)
        self.largest = max(self.largest, float(drift.max(initial=0.0)))
        self.total += float(drift.sum())
        self.count += len(drift)


def count_mixed(ours: Outputs, theirs: Outputs) -> int:
    """Count pictures of one batch whose outputs are nearer to what the reference says of another of them.

    Precision does not bring that about: an engine that takes one picture's values for another's does.
    """
    return sum(_nearest(ours, theirs, picture) != picture for picture in range(len(next(iter(ours.values())))))


def _nearest(ours: Outputs, theirs: Outputs, picture: int) -> int:
    """Return whose outputs by the reference are the nearest to ours of `picture`: its own, where several are."""
    apart = np.zeros(len(next(iter(theirs.values()))))
    for name, reference in theirs.items():
        mine = ours[name][picture].astype(np.float64)
        scale = max(1.0, float(np.abs(reference).max(initial=0.0)))
        with np.errstate(invalid="ignore"):
            apart += [float(np.abs(mine - each).mean()) / scale if mine.size else 0.0 for each in reference]
    nearest = int(np.argmin(apart))
    return nearest if apart[nearest] < apart[picture] else picture


def match(ours: Decisions, theirs: Decisions) -> Iterator[tuple[int, int]]:
    """Pair boxes that overlap by `MATCH_IOU` or more, each at most once: same class first, then largest overlap."""
    overlaps = iou_of(ours.boxes, theirs.boxes)
    same_class = ours.class_ids[:, None] == theirs.class_ids[None]
    order = np.lexsort((-overlaps.ravel(), ~same_class.ravel()))  # one object may have boxes of two classes
    free_ours, free_theirs = set(range(len(ours.boxes))), set(range(len(theirs.boxes)))
    for flat in order:
        i, j = divmod(int(flat), len(theirs.boxes))
        if overlaps[i, j] >= MATCH_IOU and i in free_ours and j in free_theirs:
            free_ours.remove(i)
            free_theirs.remove(j)
            yield i, j


def iou_of(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return the IoU of each of N boxes with each of M: N x M."""
    first, second = a.astype(np.float64)[:, None], b.astype(np.float64)[None]
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    shared = sides.clip(min=0).prod(axis=-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).prod(axis=-1) for boxes in (first, second)]
    union = areas[0] + areas[1] - shared
    iou: npt.NDArray[np.float64] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return iou
