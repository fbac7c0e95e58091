"""Settings -> opened sources, stages and sinks -> a Runner that is ready to start.

Whatever can be wrong with a request is found here, before a thread is started or a file is created.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from engines.engine import EngineOptions
from engines.zoo import Zoo
from pipeline.assemble_detect import detection_load, detection_regions
from pipeline.assemble_engine import engine_options, suited
from pipeline.assemble_faces import face_stages, hides_persons
from pipeline.assemble_follow import DOUBTFUL_PERSON, check_labels, following_stages, hiding, tracks
from pipeline.assemble_look import Look, look_stages, segments
from pipeline.assemble_sinks import is_watched, make_sinks
from pipeline.capture import Source, make_source, source_names
from pipeline.capture.options import LiveOptions, SourceOptions
from pipeline.capture.step import in_step
from pipeline.config.input_settings import SourceSettings
from pipeline.config.settings import Settings
from pipeline.errors import ConfigError
from pipeline.governor import Governor, Objective
from pipeline.mailbox import Policy
from pipeline.runner import Runner
from pipeline.sinks.trace import Trace
from pipeline.stage import Stage

if TYPE_CHECKING:
    from engines.download import Progress
    from engines.spec import ModelSpec
    from pipeline.infer.detector import Detector


SMALLER = 0.75
"""Part of the input's sides that a smaller model has where none is named: about half the arithmetic."""
STRIDE = 32
"""Inputs are multiples of it."""
DETECT_EVERY = {"detect_every_2": 2, "detect_every_3": 3, "smaller_model": 1}
"""Steps of the ladder that are the detector's, and in every how many frames to detect then."""
SEGMENT_EVERY = 4
"""In every how many frames to segment where the ladder says to do with less; in between the map moves along."""


def assemble(settings: Settings, extra_stages: Sequence[Stage] = (), progress: Progress | None = None) -> Runner:
    """Build the run that the settings describe.

    Args:
        settings: of the run.
        extra_stages: your own; a frame passes them when all is found, before people are hidden and pictures made.
        progress: called while a model is downloaded.

    Raises:
        FrameloomError: a source, a model, a class name or an output folder is not usable.
    """
    sources = open_sources(settings)
    if settings.sinks.record is not None and settings.sinks.record.layout != "separate":
        sources = in_step(sources)
    try:
        detectors = _detection(settings, sources, progress)
        infos = [source.info for source in sources]
        faces = face_stages(settings, infos, progress)
        follow = following_stages(settings, infos, faces)
        look = look_stages(settings, infos, progress)
        stages = _named_apart(
            [
                *detectors,
                *follow.before_faces,
                *faces,
                *follow.after_faces,
                *look.before_hiding,
                *extra_stages,
                *hiding(settings),
                *look.after_hiding,
                *_rendering(settings),
            ]
        )
        runner: Runner
        sinks = make_sinks(settings, lambda: runner)
        for sink in sinks:
            sink.check(infos)
        max_age_ms = settings.latency.max_age_ms
        runner = Runner(
            sources,
            stages,
            sinks,
            policies=_policies(settings, sources),
            max_frames=settings.max_frames,
            max_age_s=None if max_age_ms is None else max_age_ms / 1e3,
            tracer=next((sink.file for sink in sinks if isinstance(sink, Trace)), None),
            governor=_governor(settings, detectors, look),
        )
    except BaseException:
        for source in sources:
            source.close()
        raise
    return runner


def open_sources(settings: Settings) -> list[Source]:
    """Open every source; where one cannot be, none stays open.

    Raises:
        ConfigError: there are none, or two have one name.
        SourceError: one cannot be opened.
    """
    if not settings.sources:
        raise ConfigError("no source: name a video, an image, a folder or a glob with --source, or under sources:")
    names = source_names([each.name for each in settings.sources], [each.url for each in settings.sources])
    opened: list[Source] = []
    try:
        for name, each in zip(names, settings.sources, strict=True):
            source = make_source(name, each.url, source_options(each))
            source.open()
            opened.append(source)
    except BaseException:
        for source in opened:
            source.close()
        raise
    return opened


def source_options(settings: SourceSettings) -> SourceOptions:
    """Return how to read a source."""
    return SourceOptions(
        rotate=None if settings.rotate == "auto" else settings.rotate,
        max_fps=settings.max_fps,
        crop=settings.crop,
        decode_threads=settings.decode_threads,
        hardware=settings.hardware,
        live=LiveOptions(
            transport=settings.transport,
            width=settings.width,
            height=settings.height,
            fps=settings.fps,
            open_timeout_s=settings.open_timeout_s,
            read_timeout_s=settings.read_timeout_s,
            give_up_after_s=settings.give_up_after_s,
            ffmpeg={
                name.strip(): value for name, _, value in (each.partition("=") for each in settings.ffmpeg_options)
            },
        ),
    )


def find_model(model: str, input_size: tuple[int, int] | None, progress: Progress | None) -> ModelSpec:
    """Return the complete spec of a detector: a name of the zoo, or an ONNX file.

    Raises:
        ModelError: it is nowhere, damaged, or no detector.
    """
    from pipeline.infer.recognition import recognise

    return recognise(Zoo.load().spec(model, task="detect", progress=progress), input_size)


def _detection(settings: Settings, sources: Sequence[Source], progress: Progress | None) -> list[Detector]:
    detect = settings.detect
    if not detect.enabled:
        return []
    from pipeline.infer.detector import Detector
    from pipeline.infer.picture_detector import DetectorOptions

    where = detection_regions(settings, sources)
    spec = find_model(detect.model, detect.input_size, progress)
    engine = engine_options(settings.engine, detect.input_size)
    if detect.tiles is None:  # else a frame is many requests
        engine = suited(engine, [source.info for source in sources])
    smaller = smaller_model(settings, spec, engine, progress)
    check_labels(settings, spec, None if smaller is None else smaller[0])
    options = DetectorOptions(
        confidence=min(detect.confidence, settings.track.low_confidence) if tracks(settings) else detect.confidence,
        iou=detect.iou,
        nms=detect.nms,
        classes=detect.classes,
        class_agnostic=detect.class_agnostic,
        max_detections=detect.max_detections,
    )
    load = detection_load(detect, smaller)
    if tracks(settings):  # which move the boxes themselves
        load = replace(load, between="hold")
    doubtful = DOUBTFUL_PERSON if hides_persons(settings) else None
    return [Detector(spec, engine, options, load, where, doubtful=doubtful)]


def smaller_model(
    settings: Settings, spec: ModelSpec, engine: EngineOptions, progress: Progress | None
) -> tuple[ModelSpec, EngineOptions] | None:
    """Return the model of the ladder's last step, and how it is run; None where the ladder is not used to its end.

    Args:
        settings: of the run.
        spec: the detector that it stands in for.
        engine: how that one is run.
        progress: called while a model is downloaded.

    Raises:
        ConfigError: none is named, and the detector's input has no size that could be made smaller.
        ModelError: it is nowhere, damaged, or no detector.
    """
    if "smaller_model" not in _rungs(settings):
        return None
    if settings.detect.smaller_model is not None:
        return find_model(settings.detect.smaller_model, None, progress), replace(engine, input_size=None)
    height, width = engine.input_size or (spec.input.height, spec.input.width)
    if height is None or width is None:
        raise ConfigError("latency.ladder: name a detect.smaller_model: this model has no input size of its own")
    sides = [max(STRIDE, round(SMALLER * side / STRIDE) * STRIDE) for side in (height, width)]
    return spec, replace(engine, input_size=(sides[0], sides[1]))


def _rungs(settings: Settings) -> tuple[str, ...]:
    """Return the steps of the ladder that make a difference to this run, if there is an objective."""
    if settings.latency.objective_ms is None:
        return ()
    of_detection = DETECT_EVERY if settings.detect.enabled else ()
    helps = {"stylize": settings.stylize.enabled, "segment": segments(settings)}
    return tuple(rung for rung in settings.latency.ladder if rung in of_detection or helps.get(rung))


def _governor(settings: Settings, detectors: Sequence[Detector], look: Look) -> Governor | None:
    latency, rungs = settings.latency, _rungs(settings)
    if latency.objective_ms is None or not rungs:
        return None

    def apply(active: frozenset[str]) -> None:
        if look.stylize is not None:
            look.stylize.suspend("stylize" in active)
        if look.segment is not None:
            look.segment.degrade(SEGMENT_EVERY if "segment" in active else None)
        every = max((DETECT_EVERY.get(rung, 1) for rung in active), default=1)
        for detector in detectors:
            detector.degrade(every, "smaller_model" in active)

    return Governor(Objective(latency.objective_ms / 1e3, latency.percentile), rungs, apply)


def _rendering(settings: Settings) -> list[Stage]:
    """Render only where somebody looks: a run that only writes events draws nothing."""
    render = settings.render
    if not render.enabled or not is_watched(settings):
        return []
    from pipeline.render.renderer import Renderer

    return [Renderer(render)]


def _named_apart(stages: list[Stage]) -> list[Stage]:
    """Refuse two stages of one name: their times would be one row.

    Raises:
        ConfigError: naming them.
    """
    names = [stage.name for stage in stages]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two stages are called {name!r}: give each a name of its own")
    return stages


def _policies(settings: Settings, sources: Sequence[Source]) -> dict[str, Policy]:
    wanted = zip(sources, settings.sources, strict=True)
    return {source.info.name: each.policy for source, each in wanted if each.policy != "auto"}
