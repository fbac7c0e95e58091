"""Which models a configuration runs, and at which input size: what `frameloom engines` builds and compares.

A plan is for one input size. Detectors and segmentation models have theirs from the configuration or from the file;
those of face finders and style networks follow the frames, which nobody has seen yet: the usual ones, of 16:9.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from engines.engine import EngineOptions, open_engine
from engines.errors import EngineBuildError, ModelError, UnknownHead
from engines.zoo import Zoo
from pipeline.assemble import find_model, smaller_model
from pipeline.assemble_engine import engine_options
from pipeline.assemble_faces import (
    DEFAULT_EMBEDDER,
    LIVENESS,
    find_encoder,
    find_finder,
    looks_for_faces,
    recognises,
)
from pipeline.assemble_look import segments
from pipeline.errors import ConfigError
from pipeline.infer import face_finder, recognition
from pipeline.infer.decisions import judge_of
from pipeline.infer.face_points import as_fed
from pipeline.infer.picture_segmenter import find_segmenter
from pipeline.infer.picture_stylizer import find_stylizer, size_for
from pipeline.infer.sized_engines import declared_size
from pipeline.postprocess import heads
from tools.engines.options import refuse_uneven
from tools.terminal import download_progress

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from engines.spec import ModelSpec
    from engines.trust.parity import Judge
    from pipeline.config.settings import Settings

USUAL_FRAME = (1080, 1920)
"""Height and width of the frames that face finders and style networks are built for."""
FIND_BOXES = ("detect", "face-detect")
"""Tasks."""

Size = tuple[int, int]


@dataclass(frozen=True)
class Wanted:
    """A model, and how a run opens it."""

    spec: ModelSpec
    options: EngineOptions
    note: str = ""
    """Why its boxes cannot be compared, where it is for finding some."""

    @property
    def judge(self) -> Judge | None:
        """How its outputs are read as boxes; None where they are not."""
        return judge_of(self.spec)


def named(names: Sequence[str], settings: Settings, input_size: Size | None) -> Iterator[Wanted]:
    """Yield models by name or file, run as the settings say.

    Args:
        names: of known models, or ONNX files.
        settings: of the run that they are for.
        input_size: height and width; None: what the settings, the model and its task say.

    Raises:
        ModelError: one is nowhere, damaged, or runs at another size only.
        ConfigError: one finds boxes, and the size is not for such models.
    """
    zoo, options = Zoo.load(), engine_options(settings.engine)
    for name in names:
        with download_progress(name) as progress:
            spec = zoo.spec(name, progress=progress)
        size = input_size or (settings.detect.input_size if spec.task == "detect" else None)
        _refuse_other_size(spec, size)
        spec, note = _recognised(spec, size)
        if spec.task in FIND_BOXES and not note:
            refuse_uneven(size)
        yield _wanted(spec, replace(options, input_size=size or _usual_size(spec, settings)), note)


def configured(settings: Settings) -> Iterator[Wanted]:
    """Yield every model that a run with these settings opens.

    Raises:
        ConfigError: it opens none, or the smaller model has no size.
        ModelError: one is nowhere, damaged, or for another task.
        GalleryError: there is no gallery, or it is another encoder's.
    """
    runs = settings.detect.enabled, looks_for_faces(settings), segments(settings), settings.stylize.enabled
    if not any(runs):
        raise ConfigError("this configuration runs no model: detect, faces, segment and stylize are off")
    if settings.detect.enabled:
        yield from _of_detection(settings)
    if looks_for_faces(settings):
        yield from _of_faces(settings)
    if segments(settings):
        wanted = settings.segment
        with download_progress(wanted.model) as progress:
            spec = find_segmenter(wanted.model, wanted.input_size, progress)
        yield _wanted(spec, engine_options(settings.engine, wanted.input_size))
    if settings.stylize.enabled:
        with download_progress(settings.stylize.model) as progress:
            style = find_stylizer(settings.stylize.model, progress)
        yield _wanted(style, replace(engine_options(settings.engine), input_size=_usual_size(style, settings)))


def _of_detection(settings: Settings) -> Iterator[Wanted]:
    detect = settings.detect
    options = engine_options(settings.engine, detect.input_size)
    with download_progress(detect.model) as progress:
        spec = find_model(detect.model, detect.input_size, progress)
    yield _wanted(spec, options)
    with download_progress(detect.smaller_model or detect.model) as progress:
        smaller = smaller_model(settings, spec, options, progress)
    if smaller is not None:
        yield _wanted(*smaller)


def _of_faces(settings: Settings) -> Iterator[Wanted]:
    faces, options, zoo = settings.faces, engine_options(settings.engine), Zoo.load()
    with download_progress(faces.finder) as progress:
        finder = find_finder(faces, progress)
    yield _wanted(finder, replace(options, input_size=_usual_size(finder, settings)))
    for name in LIVENESS if faces.liveness else ():
        with download_progress(name) as progress:
            yield _wanted(zoo.spec(name, task="liveness", progress=progress), options)
    if faces.points is not None:
        with download_progress(faces.points) as progress:
            yield _wanted(as_fed(zoo.spec(faces.points, task="face-points", progress=progress)), options)
    if recognises(settings):
        with download_progress(faces.embedder or DEFAULT_EMBEDDER) as progress:
            yield _wanted(find_encoder(faces, progress), options)


def _wanted(spec: ModelSpec, options: EngineOptions, note: str = "") -> Wanted:
    """Return what a run opens: a detector of objects lets the GPU choose among its rows."""
    candidates = heads.candidates(spec) if spec.task == "detect" else None
    return Wanted(spec, replace(options, candidates=candidates), note)


def _refuse_other_size(spec: ModelSpec, size: Size | None) -> None:
    """Refuse a size that the file's input can be given, but nothing behind it: compilers say so at great length.

    Detectors are tried. Models for cuts of one size, such as faces, may run at another, but mean nothing there. Face
    finders get their own size where they are opened.

    Raises:
        ModelError: with the size that the file is for.
    """
    own = declared_size(spec)
    if size is None or own is None or own == size or spec.task == "face-detect":
        return
    if spec.task == "detect" and (_runs_at(spec, size) or not _runs_at(spec, own)):
        return
    height, width = size
    raise ModelError(
        f"{spec.path.name} only runs at {own[0]}x{own[1]}, the size in the file, not at {height}x{width}: leave the "
        "size out, or export the model for another"
    )


def _runs_at(spec: ModelSpec, size: Size) -> bool:
    """Whether ONNX Runtime can run the file on a picture of that size."""
    options = EngineOptions(backend="onnxruntime", precision="fp32", requests=1, input_size=size)
    try:
        with closing(open_engine(spec, options)) as engine:
            engine.infer(np.zeros((1, *size, 3), np.uint8))
    except Exception:  # onnxruntime's exceptions share no public base
        return False
    return True


def _recognised(spec: ModelSpec, size: Size | None) -> tuple[ModelSpec, str]:
    """Return the spec with its head, and a note where its outputs cannot be read as boxes."""
    try:
        if spec.task == "detect":
            return recognition.recognise(spec, size), ""
        return face_finder.recognise(spec) if spec.task == "face-detect" else spec, ""
    except (UnknownHead, EngineBuildError) as reason:  # ONNX Runtime, which is asked here, does not know all plugins
        return spec, f"only tensors are compared: {reason}"


def _usual_size(spec: ModelSpec, settings: Settings) -> Size | None:
    """Return the input's height and width for `USUAL_FRAME` where it follows the frame; None: the model's own."""
    if spec.task == "stylize":
        return declared_size(spec) or size_for(*USUAL_FRAME, settings.stylize.short_side, spec.input.multiple)
    if spec.task != "face-detect":
        return None
    return face_finder.size_for(*USUAL_FRAME, settings.faces.short_side, spec.input.multiple)
