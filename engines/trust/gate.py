"""The gate: a compiled engine is compared with its model file on real pictures before it is used.

The pictures come with the package, so it works on any machine. They are run one by one and as batches of two sizes:
an engine that mixes up the pictures of a batch, or is wrong for one size, says nothing of it by itself. The reference
runs on the CPU and takes a second for small models.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from engines.trust.parity import ParityReport, compare
from engines.trust.pictures import cut_for
from engines.trust.reference import PlainFile

if TYPE_CHECKING:
    from engines.engine import Batch, Engine
    from engines.spec import ModelSpec
    from engines.trust.parity import Judge

SINGLES, FEW = 2, 3
"""Pictures that are run one by one, and as a first batch; all others are the second."""


def examine(spec: ModelSpec, engine: Engine, judge: Judge | None = None) -> ParityReport:
    """Compare an engine with its model file.

    Args:
        spec: the model.
        engine: compiled from it.
        judge: how outputs are read as boxes; without it tensors are compared, and encodings where it is an encoder.

    Raises:
        ParityFailed: the two do not even give the same outputs.
        EngineBuildError: the model file cannot be run by ONNX Runtime.
        BackendUnavailable: ONNX Runtime is not installed.
    """
    size = engine.input_size
    decide = None if judge is None else judge(size)
    batches = _in_batches(cut_for(spec, size))
    return compare(engine, PlainFile(spec, size), batches, decide, encodings=spec.encoder is not None)


def _in_batches(pictures: Batch) -> Iterator[Batch]:
    for number in range(SINGLES):
        yield pictures[number : number + 1]
    yield pictures[SINGLES : SINGLES + FEW]
    yield pictures[SINGLES + FEW :]
