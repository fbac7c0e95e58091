"""Recognition: what a detector's file that nobody describes is, how it is fed, and how its outputs are read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from engines.engine import EngineOptions, open_engine
from pipeline.postprocess import heads
from pipeline.postprocess.heads.head import Seen

if TYPE_CHECKING:
    from engines.spec import ModelSpec


@dataclass(frozen=True)
class Assumption:
    """One thing that is taken for true of a model."""

    what: str
    """`head`, `labels`, `colour order`, ..."""
    value: str
    why: str


@dataclass(frozen=True)
class Recognition:
    """A model as it was recognised."""

    spec: ModelSpec
    """Complete: head, its options, input and labels are set."""
    assumptions: tuple[Assumption, ...] = ()


def recognise(spec: ModelSpec, size: tuple[int, int] | None = None) -> ModelSpec:
    """Complete the spec of a file that no zoo entry describes; one that is complete is returned as it is.

    Args:
        spec: what is known.
        size: height and width of the input; None: the model's own.

    Raises:
        UnknownHead: no head fits the outputs.
    """
    return spec if spec.head is not None else explain(spec, size).spec


def explain(spec: ModelSpec, size: tuple[int, int] | None = None) -> Recognition:
    """Do the same, and say what was assumed and why."""
    engine = open_engine(spec, EngineOptions(backend="onnxruntime", precision="fp32", requests=1, input_size=size))
    try:
        outputs = engine.infer(np.zeros((1, *engine.input_size, 3), np.uint8))
        shapes = {name: array.shape for name, array in outputs.items()}
        chosen = heads.choose(spec.head, Seen(shapes, engine.input_size, outputs), spec.head_options)
    finally:
        engine.close()
    fed = replace(chosen.head.input, height=spec.input.height, width=spec.input.width)
    complete = replace(spec, head=chosen.head.name, head_options=chosen.head.options, input=fed)
    return Recognition(complete, (Assumption("head", chosen.head.name, chosen.why),))
