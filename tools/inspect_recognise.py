"""What a model is taken for, with what somebody states about it in the place of what would be assumed."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from engines import graph
from engines.engine import EngineOptions, open_engine, shapes_of
from engines.errors import EngineError, UnknownHead
from engines.metadata import read_metadata
from engines.trust.pictures import FOLDER
from pipeline.errors import ConfigError
from pipeline.infer import face_finder
from pipeline.infer.assumptions import STATED, Assumption, of_input
from pipeline.infer.recognition import Recognition, explain
from pipeline.infer.sized_engines import declared_size
from pipeline.picture import Picture
from pipeline.postprocess.heads.refusal import EXPORT_BOXES, UNREAD
from tools import inspect_pictures
from tools.inspect_options import coco_by_id, coco_of_head

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from engines.spec import ModelSpec
    from pipeline.arrays import FloatArray
    from tools.inspect_options import Stated

ASSUMED_BY = {"colour": "colour order", "mean": "pixels", "std": "pixels", "fit": "fit", "pad": "fit"}
"""What is said of the input, by the fields that decide it."""
FACE_TASKS = (None, "pose", "face", "face-detect")
"""What the metadata of a face finder may call its task."""
ONE_OUTPUT = ("yolov5-face", "yolov8-face")
"""Heads whose layout is also that of 11 or 16 classes, or of 15 and an angle."""
SHOWN = "the pictures that come with Frameloom, of streets and faces"
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
        only_task: whether it must be for the spec's task; else a file that is no detector may be a face finder, or
            for segmentation or style.

    Raises:
        UnknownHead: no head reads its outputs.
        FrameloomError: it cannot be run.
    """
    if spec.task == "face-detect":
        return _ran(_finder(spec, stated, size, _count_faces), size or declared_size(spec) or FACE_SIZE)
    if spec.task in inspect_pictures.TASKS:
        return _ran(inspect_pictures.recognise(spec, stated, size), size)
    if spec.task != "detect":
        return _ran(Recognition(replace(spec, input=stated.of_input(spec.input))), size)
    try:
        return _ran(_detector(spec, stated, size), size)
    except UnknownHead as no_detector:
        if only_task or spec.head is not None or stated.head is not None:
            raise
        if read_metadata(graph.load(spec.path)).task in FACE_TASKS:
            finder = _as_finder(replace(spec, task="face-detect"), stated, size)
            if finder is not None:
                return finder
        pictures = inspect_pictures.guess(spec, stated, size)
        if pictures is None:
            raise no_detector from None
        return _ran(pictures, size)


def _as_finder(spec: ModelSpec, stated: Stated, size: tuple[int, int] | None) -> Recognised | None:
    """Recognise a face finder that nobody calls one; None: it has the layout of none, or does not run as one.

    Raises:
        UnknownHead: they have, but what they say are no faces.
    """
    try:
        head = face_finder.recognise(stated.of_outputs(spec)).head
    except UnknownHead:
        return None
    count = _count_convincing_faces if head in ONE_OUTPUT else _count_faces
    try:
        return _ran(_finder(spec, stated, size, count), size or declared_size(spec) or FACE_SIZE)
    except EngineError:
        return None


def _detector(spec: ModelSpec, stated: Stated, size: tuple[int, int] | None) -> Recognition:
    """Recognise a detector; where its input is stated in part, the rest is what would be assumed."""
    said, described = stated.of_outputs(spec), spec.head is not None
    if stated.labels == coco_by_id():  # which of them is class 0 depends on the head
        read = explain(replace(said, labels=spec.labels), size, input_stated=described).spec
        said = replace(said, labels=coco_of_head(read.head, read.head_options))
    first = explain(said, size, input_stated=described)
    stated.check_used(str(first.spec.head))
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


def _finder(
    spec: ModelSpec, stated: Stated, size: tuple[int, int] | None, count: Callable[[ModelSpec], int]
) -> Recognition:
    if stated.head_options:
        option = next(iter(stated.head_options)).replace("_", "-")
        raise ConfigError(f"--{option} is not used by face finders, and the model is taken for one: leave it out")
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
    faces = Assumption("faces found", str(count(complete)), f"in {SHOWN}")
    return Recognition(complete, (head, followed, *inputs, faces))


def _count_faces(spec: ModelSpec) -> int:
    return len(_faces(spec))


def _count_convincing_faces(spec: ModelSpec) -> int:
    """Count faces.

    Raises:
        UnknownHead: there are none, or most have their five points elsewhere than in their box.
    """
    faces = _faces(spec)
    inside = sum(_has_points_inside(*each) for each in faces)
    if 2 * inside <= len(faces):
        elsewhere = f"{len(faces) - inside} of the {len(faces)} faces that it finds have their five points elsewhere"
        what = elsewhere if faces else f"it finds none in {SHOWN}"
        raise UnknownHead(
            f"{UNREAD}, and no face finder: its output has the layout of the head {spec.head}, but {what}; where it is "
            f"one all the same, say --task face-detect, else {EXPORT_BOXES}"
        )
    return len(faces)


def _faces(spec: ModelSpec) -> list[tuple[FloatArray, FloatArray]]:
    """Return box and points of each face in the pictures that come with the package."""
    options = EngineOptions(backend="onnxruntime", precision="fp32", requests=1)
    with closing(face_finder.FaceFinder(spec, options)) as finder:
        found = [finder(picture) for picture in _pictures()]
    return [pair for faces in found for pair in zip(faces.boxes, faces.landmarks, strict=True)]


def _has_points_inside(box: FloatArray, points: FloatArray) -> bool:
    """Whether the points of a face lie in its box, or beside it by a tenth: those of a profile may."""
    margin = (box[2:] - box[:2]) / 10
    return bool(((points >= box[:2] - margin) & (points <= box[2:] + margin)).all())


def _pictures() -> Iterator[Picture]:
    for path in sorted(FOLDER.glob("*.jpg")):
        yield Picture(bgr=np.asarray(cv2.imread(str(path)), np.uint8))


def _ran(recognition: Recognition, size: tuple[int, int] | None) -> Recognised:
    """Add what the outputs are for one picture."""
    spec = recognition.spec
    options = EngineOptions(backend="onnxruntime", precision="fp32", requests=1, input_size=size)
    with closing(open_engine(spec, options)) as engine:
        outputs = engine.infer(np.full((1, *engine.input_size, 3), spec.input.pad, np.uint8))
        shapes = shapes_of(outputs)
        return Recognised(spec, recognition.assumptions, engine.input_size, shapes)
