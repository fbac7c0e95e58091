"""The gate: a compiled engine is compared with its model file on real pictures before it is used.

The pictures come with the package, so it works on any machine. They are run one by one and as batches of two sizes:
an engine that mixes up the pictures of a batch, or is wrong for one size, says nothing of it by itself. All is done
again until each of its lanes has run each of these twice: from the second time on a CUDA graph does the work, in a run
too. The reference runs on the CPU, once, and takes a second for small models.

An engine that cuts its input out of whole frames is also asked whether it cuts them as the CPU does. What the two cut
may differ by 1/255, for a sum may be rounded another way. How far that moves what a model says depends on the model,
so it is measured: each value of the pictures is changed by up to 1/255, and `ROOM` times what that does is allowed.
Measured with yolox-nano, CenterFace, YuNet and a style network, in fp16: a kernel that samples half a pixel beside
breaks at least one bound by a tenth; swapped colours or chroma, the nearest pixel instead of a mean, another padding
or a picture that is missing break one by more.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, cast

import numpy as np

from engines.trust.parity import FP32, Bounds, ParityReport, bounds_for, compare, submitted
from engines.trust.pictures import cut_for, frames_for
from engines.trust.reference import PlainFile

if TYPE_CHECKING:
    from engines.engine import Batch, CutsFrames, Engine, Outputs
    from engines.spec import ModelSpec
    from engines.trust.parity import Decide, Judge
    from engines.trust.pictures import Frames

logger = logging.getLogger(__name__)

SINGLES, FEW = 2, 3
"""Pictures that are run one by one, and as a first batch; all others are the second."""
RUNS = 2
"""Of each batch, on each lane: the first is done step by step, the second by a CUDA graph."""
ROOM = 2.0
"""How many times as far as a change of each value by up to 1/255 frames may move what an engine says."""


def examine(spec: ModelSpec, engine: Engine, judge: Judge | None = None) -> ParityReport:
    """Compare an engine with its model file, and return the worst of what was found.

    Args:
        spec: the model.
        engine: compiled from it.
        judge: how outputs are read as boxes; without it tensors are compared, and encodings where it is an encoder.

    Raises:
        ParityFailed: the two do not even give the same outputs.
        EngineBuildError: the model file cannot be run by ONNX Runtime.
        BackendUnavailable: ONNX Runtime is not installed.
    """
    size, bounds = engine.input_size, bounds_for(engine.describe().precision)
    decide = None if judge is None else judge(size)
    batches = list(_in_batches(cut_for(spec, size)))
    file = PlainFile(spec, size)
    said = _Said({id(batch): file.infer(batch) for batch in batches})
    is_encoder = spec.encoder is not None
    reports = [
        compare(engine, said, batches, decide, encodings=is_encoder, ranked=file.ranked)
        for _ in range(RUNS * max(engine.requests, 1))
    ]
    report = max(reports, key=lambda each: each.strain(bounds))
    if report.no_box_found:
        logger.info("%s: no box was found: only values were compared", spec.name)
    if engine.cuts_frames:
        report.frames = examine_frames(spec, cast("CutsFrames", engine), decide, ranked=file.ranked)
    return report


def examine_frames(
    spec: ModelSpec, engine: CutsFrames, decide: Decide | None = None, *, ranked: bool = False
) -> dict[str, tuple[ParityReport, Bounds]]:
    """Compare what an engine says of whole frames with what it says of what the CPU cuts out of them; by layout."""
    return {
        layout: _compare_frames(engine, frames, decide, ranked=ranked)
        for layout, frames in frames_for(spec, engine.input_size).items()
    }


def _in_batches(pictures: Batch) -> Iterator[Batch]:
    for number in range(SINGLES):
        yield pictures[number : number + 1]
    yield pictures[SINGLES : SINGLES + FEW]
    yield pictures[SINGLES + FEW :]


class _Said:
    """Outputs that are known already, by the batch that they are of."""

    def __init__(self, outputs: Mapping[int, Outputs]) -> None:
        self._outputs = outputs

    def infer(self, batch: Batch) -> Outputs:
        return self._outputs[id(batch)]


def _compare_frames(
    engine: CutsFrames, frames: Frames, decide: Decide | None, *, ranked: bool
) -> tuple[ParityReport, Bounds]:
    cut = frames.cut
    on_cpu = submitted(engine, cut)
    noise = np.random.default_rng(0).integers(-1, 2, cut.shape, np.int16)
    noisy = submitted(engine, np.asarray((cut + noise).clip(0, 255), np.uint8))
    on_gpu = engine.submit_frames(frames.uncut).result()
    moved, report = (
        compare(_Said({id(cut): each}), _Said({id(cut): on_cpu}), [cut], decide, ranked=ranked)
        for each in (noisy, on_gpu)
    )
    return report, _allowed(moved)


def _allowed(moved: ParityReport) -> Bounds:
    """Return `ROOM` times how far something was moved; at least as much as fp32 is allowed."""
    shares = [(each.max_error / each.scale, each.mean_error / each.scale) for each in moved.tensors.values()]
    boxes = moved.decisions
    unmatched = boxes.unmatched / max(1, boxes.reference + boxes.engine) if boxes else 0.0
    return Bounds(
        max_error=max(FP32.max_error, ROOM * max((largest for largest, _ in shares), default=0.0)),
        mean_error=max(FP32.mean_error, ROOM * max((mean for _, mean in shares), default=0.0)),
        unmatched=max(FP32.unmatched, ROOM * unmatched),
        other_class=boxes.other_class / max(1, boxes.matched) * ROOM if boxes else 0.0,
        max_score_drift=max(FP32.max_score_drift, ROOM * boxes.max_score_drift if boxes else 0.0),
        mean_score_drift=max(FP32.mean_score_drift, ROOM * boxes.mean_score_drift if boxes else 0.0),
    )
