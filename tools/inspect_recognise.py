"""What a model is taken for, with what somebody states about it in the place of what would be assumed."""

from __future__ import annotations

from contextlib import closing, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from engines.engine import EngineOptions, open_engine
from engines.errors import UnknownHead
from engines.trust.pictures import FOLDER
from pipeline.infer import face_finder
from pipeline.infer.assumptions import STATED, Assumption, of_input
from pipeline.infer.recognition import Recognition, explain
from pipeline.infer.sized_engines import declared_size
from pipeline.picture import Picture

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from engines.spec import ModelSpec
    from tools.inspect_options import Stated

ASSUMED_BY = {"colour": "colour order", "mean": "pixels", "std": "pixels", "fit": "fit", "pad": "fit"}
"""What is said of the input, by the fields that decide it."""
FACE_SIZE = (320, 320)
"""Height and width at which a face finder is shown whose file leaves them open."""


@dataclass(frozen=True)
class Recognised:
    """A model with a complete spec, and why it is that."""

    spec: ModelSpec
    assumptions: tuple[Assumption, ...]
    size: tuple[int, int]
    """Height and width of its input."""
    outputs: Mapping[str, tuple[int, ...]]
    """Shapes of its outputs for one picture."""


def recognise(spec: ModelSpec, stated: Stated, size: tuple[int, int] | None, *, only_task: bool) -> Recognised:
    """Complete a spec.

    Args:
        spec: the file, and what is known of it.
        stated: what somebody says of it.
        size: height and width of its input; None: its own.
        only_task: whether it must be for the spec's task; else a file that is no detector may be a face finder.

    Raises:
        UnknownHead: no head reads its outputs.
        FrameloomError: it cannot be run.
    """
    if spec.task == "face-detect":
        return _ran(_finder(spec, stated, size), size or declared_size(spec) or FACE_SIZE)
    if spec.task != "detect":
        return _ran(Recognition(replace(spec, input=stated.of_input(spec.input))), size)
    try:
        return _ran(_detector(spec, stated, size), size)
    except UnknownHead as no_detector:
        if only_task or spec.head is not None or stated.head is not None:
            raise
        with suppress(UnknownHead):
            return recognise(replace(spec, task="face-detect"), stated, size, only_task=True)
        raise no_detector from None


def _detector(spec: ModelSpec, stated: Stated, size: tuple[int, int] | None) -> Recognition:
    """Recognise a detector; where its input is stated in part, the rest is what would be assumed."""
    said, described = stated.of_outputs(spec), spec.head is not None
    first = explain(said, size, input_stated=described)
    if not stated.input:
        return first
    fed = stated.of_input(first.spec.input)
    second = explain(replace(said, input=fed), size, input_stated=True)
    decided = {ASSUMED_BY[name] for name in stated.input}
    reasons = {each.what: each.why for each in first.assumptions}
    kept = set(ASSUMED_BY.values()) - decided
    assumptions = tuple(
        replace(each, why=reasons.get(each.what, each.why)) if each.what in kept else each
        for each in second.assumptions
    )
    return Recognition(second.spec, assumptions)


def _finder(spec: ModelSpec, stated: Stated, size: tuple[int, int] | None) -> Recognition:
    complete = face_finder.recognise(stated.of_outputs(spec))
    complete = replace(complete, input=stated.of_input(complete.input))
    named = spec.head is not None or stated.head is not None
    usual = STATED if spec.head is not None else f"usual for models with the head {complete.head}"
    decided = {ASSUMED_BY[name] for name in stated.input}
    inputs = (replace(each, why=STATED) if each.what in decided else each for each in of_input(complete.input, usual))
    head = Assumption("head", str(complete.head), STATED if named else "its outputs have this layout")
    height, width = size or declared_size(complete) or FACE_SIZE
    how_closely = f"shown here at {width}x{height}; faces.short_side says how closely a run looks"
    followed = Assumption("input size", "follows the frames", how_closely)
    return Recognition(complete, (head, followed, *inputs, _faces_found(complete)))


def _faces_found(spec: ModelSpec) -> Assumption:
    options = EngineOptions(backend="onnxruntime", precision="fp32", requests=1)
    with closing(face_finder.FaceFinder(spec, options)) as finder:
        count = sum(len(finder(picture).scores) for picture in _pictures())
    return Assumption("faces found", str(count), "in the pictures that come with Frameloom, of streets and faces")


def _pictures() -> Iterator[Picture]:
    for path in sorted(FOLDER.glob("*.jpg")):
        yield Picture(bgr=np.asarray(cv2.imread(str(path)), np.uint8))


def _ran(recognition: Recognition, size: tuple[int, int] | None) -> Recognised:
    """Add what the outputs are for one picture."""
    spec = recognition.spec
    options = EngineOptions(backend="onnxruntime", precision="fp32", requests=1, input_size=size)
    with closing(open_engine(spec, options)) as engine:
        outputs = engine.infer(np.full((1, *engine.input_size, 3), spec.input.pad, np.uint8))
        shapes = {name: array.shape for name, array in outputs.items()}
        return Recognised(spec, recognition.assumptions, engine.input_size, shapes)
