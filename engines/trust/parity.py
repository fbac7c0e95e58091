"""Parity: does a compiled engine still say what the ONNX file says?

Two levels, for each alone misleads. Tensors: the error of every output, which is near nothing in fp32 and says little
in bf16 (a log-width may be off by 3 where nothing is). Decisions: what the outputs are taken to mean, matched
box by box. The usual reference is `engines.trust.reference.PlainFile`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from engines.engine import shapes_of
from engines.errors import ParityFailed
from engines.trust.drift import DecisionDrift, Decisions, EncodingDrift, TensorDrift, count_mixed, match

if TYPE_CHECKING:
    from engines.engine import Batch, EngineInfo, Outputs, Pending
    from engines.spec import Precision

__all__ = [
    "FP16",
    "FP32",
    "REDUCED",
    "Bounds",
    "Decide",
    "Decisions",
    "Judge",
    "ParityReport",
    "bounds_for",
    "compare",
    "match",
]

Decide = Callable[["Outputs"], Decisions]
Judge = Callable[[tuple[int, int]], Decide]
"""From height and width of a model's input to how its outputs are read."""


class Runs(Protocol):
    """What can be compared: an `Engine`, or anything else that takes its batches."""

    def infer(self, batch: Batch) -> Outputs:
        """Return the outputs of N x H x W x 3 uint8 BGR by name."""


@runtime_checkable
class Submits(Protocol):
    """An engine whose runs use `submit`."""

    def submit(self, batch: Batch) -> Pending:
        """Start a run."""

    def describe(self) -> EngineInfo:
        """Say what it is."""


@dataclass(frozen=True)
class Bounds:
    """How far an engine may be from its file. The defaults are for fp32 and leave room for another order of sums.

    Measured for yolox-nano on 50 frames of demo-bikes and 159 COCO pictures: OpenVINO and ONNX Runtime in fp32
    differ by at most 4.4e-4 in a tensor (mean 3e-7) and 4e-6 in a score, and no box of 842 is unmatched. Encodings of
    MobileFaceNet and dlib-resnet drift by 3e-12.
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
    max_encoding_drift: float = 1e-6
    mean_encoding_drift: float = 1e-7


FP32 = Bounds()
FP16 = Bounds(
    max_error=1.0, mean_error=0.005, unmatched=0.1, other_class=0.05, max_score_drift=0.1, mean_score_drift=0.02,
    max_encoding_drift=1e-3, mean_encoding_drift=2e-4,
)  # fmt: skip
"""Measured on `engines.trust.pictures`, with all weights and values rounded to fp16 between fp32 operations (a GPU may
also add up in fp16, so there is room for several times as much). Tensors, largest and mean error as shares: yolox- nano
0.22 and 1.9e-4 (a log-width where nothing is), CenterFace 0.045 and 1.5e-3, YuNet 0.01 and 6e-4, YOLOv8n 0.06 and
1.3e-5, a style network (0..255) 6e-3 and 1.3e-4, MobileFaceNet 7e-3 and 1.1e-3, dlib-resnet 3e-4 and 8e-5. Scores drift
by 0.015 (mean 0.004), one box of 55 is unmatched; encodings by 5.7e-5 (mean 1.8e-5).
"""
REDUCED = Bounds(
    max_error=2.0, mean_error=0.01, unmatched=0.1, other_class=0.05, max_score_drift=0.25, mean_score_drift=0.05,
    max_encoding_drift=0.02, mean_encoding_drift=0.01,
)  # fmt: skip
"""For bf16 and int8. The tensor bounds only catch what is broken; the decisions decide.

Measured for yolox-nano in bf16 on the pictures of `Bounds`: tensors 3.3 (mean 0.0053), scores 0.16 (mean 0.026 on the
clip, 0.011 on COCO), 4 % of the boxes unmatched, 2 of 115 with another class; COCO AP did not fall.
Encodings in bf16: MobileFaceNet 0.007 (mean 0.0014), dlib-resnet 8e-5.
"""


def bounds_for(precision: Precision | str) -> Bounds:
    """Return the bounds that an engine of this precision is held to."""
    return {"fp32": FP32, "fp16": FP16}.get(precision, REDUCED)


@dataclass
class ParityReport:
    """What was found."""

    pictures: int = 0
    tensors: dict[str, TensorDrift] = field(default_factory=dict)
    decisions: DecisionDrift | None = None
    """None where nobody said how to read the outputs."""
    encodings: EncodingDrift | None = None
    """None where the outputs are no encodings."""
    mixed: int = 0
    """Pictures of a batch that got the outputs of another."""
    frames: dict[str, tuple[ParityReport, Bounds]] = field(default_factory=dict)
    """By the layout of whole frames: how far what the GPU cuts out of them is from what the CPU does, and may be."""

    @property
    def no_box_found(self) -> bool:
        """Whether boxes were looked for, and the reference has none: then only values were compared."""
        return self.decisions is not None and self.decisions.reference == 0

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
        if (boxes := self.decisions) is not None:
            allowed = max(1.0, bounds.unmatched * (boxes.reference + boxes.engine))
            yield "the number of boxes without counterpart", boxes.unmatched, allowed
            yield "the number of boxes of another class", boxes.other_class, bounds.other_class * boxes.matched
            yield "the largest score drift", boxes.max_score_drift, bounds.max_score_drift
            yield "the mean score drift", boxes.mean_score_drift, bounds.mean_score_drift
        if self.encodings is not None:
            yield "the largest drift of an encoding", self.encodings.largest, bounds.max_encoding_drift
            yield "the mean drift of encodings", self.encodings.mean, bounds.mean_encoding_drift
        if self.mixed:
            yield "the number of pictures of a batch that got another's outputs", self.mixed, 0
        for layout, (found, own) in self.frames.items():
            for what, value, limit in found.measured(own):
                yield f"{what}, for {layout} frames that the GPU cuts,", value, limit

    def strain(self, bounds: Bounds) -> float:
        """Return the largest of what was measured, as a share of what is allowed."""
        return max((_share(value, limit) for _, value, limit in self.measured(bounds)), default=0.0)

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
        faces = self.encodings
        encodings = None if faces is None else {"max_drift": faces.largest, "mean_drift": faces.mean}
        return {
            "pictures": self.pictures,
            "tensors": errors,
            "decisions": decisions,
            "encodings": encodings,
            "mixed": self.mixed,
            "no_box_found": self.no_box_found,
            "frames": {layout: report.as_dict() for layout, (report, _) in self.frames.items()},
        }


def _share(value: float, limit: float) -> float:
    if value <= limit:
        return value / limit if limit else 0.0
    return value / limit if limit and math.isfinite(value) else math.inf


def compare(
    engine: Runs,
    reference: Runs,
    batches: Iterable[Batch],
    decide: Decide | None = None,
    *,
    encodings: bool = False,
    ranked: bool = False,
) -> ParityReport:
    """Run both on the same pictures and report how they differ.

    Tensors are what `infer` gives. Decisions are read from what a run sees, `submit`, where the engine has that: it
    may leave out what it takes for unimportant.

    Args:
        engine: what is to be trusted.
        reference: what it should say, usually a `PlainFile`.
        batches: each N x H x W x 3 uint8 BGR, real pictures; those of a batch must differ.
        decide: reads the outputs of one picture; without it only tensors are compared.
        encodings: whether the first output is an encoding of a face.
        ranked: whether the model orders its rows by score (see `PlainFile.ranked`). Two that are nearly alike may then
            change places, so where decisions are compared, of the tensors only those that are in order are.

    Raises:
        ParityFailed: the two do not even give the same outputs.
    """
    report = ParityReport(
        decisions=DecisionDrift() if decide is not None else None, encodings=EncodingDrift() if encodings else None
    )
    for batch in batches:
        ours, theirs = engine.infer(batch), reference.infer(batch)
        _check_layout(ours, theirs)
        compared = _in_order(theirs) if ranked and decide is not None else theirs
        for name in compared:
            report.tensors.setdefault(name, TensorDrift()).add(ours[name], theirs[name])
        if report.encodings is not None:
            name = next(iter(theirs))
            report.encodings.add(ours[name], theirs[name])
        if decide is not None and report.decisions is not None:
            seen = _as_in_a_run(engine, batch, ours)
            _check_layout(seen, theirs)
            for i in range(len(batch)):
                report.decisions.add(decide(_of_one(seen, i, len(batch))), decide(_of_one(theirs, i, len(batch))))
        if compared and len(batch) > 1 and all(len(value) == len(batch) for value in theirs.values()):
            report.mixed += count_mixed(ours, compared)
        report.pictures += len(batch)
    return report


def _as_in_a_run(engine: Runs, batch: Batch, outputs: Outputs) -> Outputs:
    """Return what `submit` gives for a batch; `outputs` where the engine has no such method."""
    return submitted(engine, batch) if isinstance(engine, Submits) else outputs


def submitted(engine: Submits, batch: Batch) -> Outputs:
    """Return what `submit` gives for a batch, one by one where the engine takes no more."""
    if engine.describe().input_shape[0] is None:
        return engine.submit(batch).result()
    each = [engine.submit(batch[i : i + 1]).result() for i in range(len(batch))]
    return {name: np.concatenate([values[name] for values in each]) for name in each[0]}


def _check_layout(ours: Outputs, theirs: Outputs) -> None:
    """Refuse other names or shapes; the message shows only what differs."""
    mine, file = (shapes_of(outputs) for outputs in (ours, theirs))
    if mine != file:
        only = [sorted(first.items() - second.items()) for first, second in ((mine, file), (file, mine))]
        raise ParityFailed(f"the engine gives {only[0] or 'nothing more'}, its ONNX file {only[1] or 'nothing more'}")


def _in_order(outputs: Outputs) -> Outputs:
    """Return the outputs whose values fall from row to row, as the scores by which rows are ranked do."""
    return {name: array for name, array in outputs.items() if array.ndim == 2 and not (np.diff(array) > 0).any()}


def _of_one(outputs: Outputs, index: int, pictures: int) -> Outputs:
    """Return the outputs of one picture of a batch; of a batch of one they may have no axis for it."""
    return outputs if pictures == 1 else {name: array[index : index + 1] for name, array in outputs.items()}
