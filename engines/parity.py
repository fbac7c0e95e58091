"""Parity: does a compiled engine still say what the ONNX file says?

Two levels, for each alone misleads. Tensors: the error of every output, which is near nothing in fp32 and says little
in bf16 (a log-width may be off by 3 where nothing is). Decisions: what the outputs are taken to mean, matched
box by box. The usual reference is `engines.reference.PlainFile`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from engines.errors import ParityFailed

if TYPE_CHECKING:
    from engines.engine import Batch, Outputs
    from engines.spec import Precision

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


Decide = Callable[["Outputs"], Decisions]


class Runs(Protocol):
    """What can be compared: an `Engine`, or anything else that takes its batches."""

    def infer(self, batch: Batch) -> Outputs:
        """Return the outputs of N x H x W x 3 uint8 BGR by name."""


@dataclass(frozen=True)
class Bounds:
    """How far an engine may be from its file. The defaults are for fp32 and leave room for another order of sums.

    Measured for yolox-nano on 50 frames of demo-bikes and 159 COCO pictures: OpenVINO and ONNX Runtime in fp32
    differ by at most 4.4e-4 in a tensor (mean 3e-7) and 4e-6 in a score, and no box of 842 is unmatched.
    """

    max_error: float = 1e-3
    """Largest absolute error in an output, as a share of its largest value (of 1 where that is smaller)."""
    mean_error: float = 1e-5
    """Largest mean absolute error of an output, as the same share."""
    unmatched: float = 0.005
    """Share of boxes that only one of the two has. One box is always allowed: it may lie on the threshold."""
    other_class: float = 0.0
    """Share of matched boxes with another class."""
    max_score_drift: float = 0.005
    mean_score_drift: float = 0.0005


FP32 = Bounds()
REDUCED = Bounds(
    max_error=2.0, mean_error=0.01, unmatched=0.1, other_class=0.05, max_score_drift=0.25, mean_score_drift=0.05
)
"""For bf16, fp16 and int8. The tensor bounds only catch what is broken; the decisions decide.

Measured for yolox-nano in bf16 on the same pictures: tensors 3.3 (mean 0.0053), scores 0.16 (mean 0.026 on the clip,
0.011 on COCO), 4 % of the boxes unmatched, 2 of 115 with another class; COCO AP did not fall.
"""


def bounds_for(precision: Precision | str) -> Bounds:
    """Return the bounds that an engine of this precision is held to."""
    return FP32 if precision == "fp32" else REDUCED


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
class ParityReport:
    """What was found."""

    pictures: int = 0
    tensors: dict[str, TensorDrift] = field(default_factory=dict)
    decisions: DecisionDrift | None = None
    """None where nobody said how to read the outputs."""

    def failures(self, bounds: Bounds) -> list[str]:
        """Return a sentence for each bound that is broken, with both numbers."""
        return [
            f"{what} is {value:.4g}, allowed {limit:.4g}"
            for what, value, limit in self.measured(bounds)
            if not value <= limit
        ]

    def measured(self, bounds: Bounds) -> Iterator[tuple[str, float, float]]:
        """Yield what was measured: in words, the value, and the most that is allowed."""
        for name, drift in self.tensors.items():
            yield f"the largest error of {name}", drift.max_error, bounds.max_error * drift.scale
            yield f"the mean error of {name}", drift.mean_error, bounds.mean_error * drift.scale
        if (found := self.decisions) is not None:
            allowed = max(1.0, bounds.unmatched * (found.reference + found.engine))
            yield "the number of boxes without counterpart", found.unmatched, allowed
            yield "the number of boxes of another class", found.other_class, bounds.other_class * found.matched
            yield "the largest score drift", found.max_score_drift, bounds.max_score_drift
            yield "the mean score drift", found.mean_score_drift, bounds.mean_score_drift

    def passed(self, bounds: Bounds) -> bool:
        """Whether every bound holds and something was compared."""
        return self.pictures > 0 and not self.failures(bounds)

    def require(self, bounds: Bounds, what: str = "the engine") -> None:
        """Refuse an engine that is not within the bounds.

        Raises:
            ParityFailed: with the numbers.
        """
        if self.pictures == 0:
            raise ParityFailed(f"{what} was compared with its ONNX file on no picture at all")
        if failures := self.failures(bounds):
            raise ParityFailed(f"{what} disagrees with its ONNX file: {'; '.join(failures)}; do not use it")

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        found, tensors = self.decisions, self.tensors.items()
        errors = {name: {"max_error": each.max_error, "mean_error": each.mean_error} for name, each in tensors}
        derived = {} if found is None else {"unmatched": found.unmatched, "mean_score_drift": found.mean_score_drift}
        decisions = None if found is None else {**asdict(found), **derived}
        return {"pictures": self.pictures, "tensors": errors, "decisions": decisions}


def compare(engine: Runs, reference: Runs, batches: Iterable[Batch], decide: Decide | None = None) -> ParityReport:
    """Run both on the same pictures and report how they differ.

    Args:
        engine: what is to be trusted.
        reference: what it should say, usually a `PlainFile`.
        batches: each N x H x W x 3 uint8 BGR, real pictures.
        decide: reads the outputs of one picture; without it only tensors are compared.

    Raises:
        ParityFailed: the two do not even give the same outputs.
    """
    report = ParityReport(decisions=DecisionDrift() if decide is not None else None)
    for batch in batches:
        ours, theirs = engine.infer(batch), reference.infer(batch)
        _check_layout(ours, theirs)
        for name, value in ours.items():
            report.tensors.setdefault(name, TensorDrift()).add(value, theirs[name])
        if decide is not None and report.decisions is not None:
            for i in range(len(batch)):
                report.decisions.add(decide(_of_one(ours, i)), decide(_of_one(theirs, i)))
        report.pictures += len(batch)
    return report


def _check_layout(ours: Outputs, theirs: Outputs) -> None:
    """Refuse other names or shapes; the message shows only what differs."""
    mine, file = ({name: array.shape for name, array in outputs.items()} for outputs in (ours, theirs))
    if mine != file:
        only = [sorted(first.items() - second.items()) for first, second in ((mine, file), (file, mine))]
        raise ParityFailed(f"the engine gives {only[0] or 'nothing more'}, its ONNX file {only[1] or 'nothing more'}")


def _of_one(outputs: Outputs, index: int) -> Outputs:
    return {name: array[index : index + 1] for name, array in outputs.items()}


def match(ours: Decisions, theirs: Decisions) -> Iterator[tuple[int, int]]:
    """Pair boxes that overlap by `MATCH_IOU` or more, each at most once: same class first, then largest overlap."""
    overlaps = _iou(ours.boxes, theirs.boxes)
    same_class = ours.class_ids[:, None] == theirs.class_ids[None]
    order = np.lexsort((-overlaps.ravel(), ~same_class.ravel()))  # one object may have boxes of two classes
    free_ours, free_theirs = set(range(len(ours.boxes))), set(range(len(theirs.boxes)))
    for flat in order:
        i, j = divmod(int(flat), len(theirs.boxes))
        if overlaps[i, j] >= MATCH_IOU and i in free_ours and j in free_theirs:
            free_ours.remove(i)
            free_theirs.remove(j)
            yield i, j


def _iou(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    first, second = a.astype(np.float64)[:, None], b.astype(np.float64)[None]
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    shared = sides.clip(min=0).prod(axis=-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).prod(axis=-1) for boxes in (first, second)]
    union = areas[0] + areas[1] - shared
    iou: npt.NDArray[np.float64] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return iou
