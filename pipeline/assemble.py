"""Settings -> opened sources, stages and sinks -> a Runner that is ready to start.

Whatever can be wrong with a request is found here, before a thread is started or a file is created.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from engines.engine import EngineOptions
from engines.zoo import Zoo
from pipeline.capture import Source, make_source, source_names
from pipeline.capture.step import in_step
from pipeline.config.settings import EngineSettings, Settings, SinksSettings
from pipeline.errors import ConfigError
from pipeline.mailbox import Policy
from pipeline.runner import Runner
from pipeline.sinks.sink import Sink
from pipeline.stage import Stage

if TYPE_CHECKING:
    from engines.download import Progress
    from engines.spec import ModelSpec


def assemble(settings: Settings, extra_stages: Sequence[Stage] = (), progress: Progress | None = None) -> Runner:
    """Build the run that the settings describe.

    Args:
        settings: of the run.
        extra_stages: your own; a frame passes them between detection and rendering.
        progress: called while a model is downloaded.

    Raises:
        FrameloomError: a source, a model, a class name or an output folder is not usable.
    """
    sources = open_sources(settings)
    if settings.sinks.record is not None and settings.sinks.record.layout != "separate":
        sources = in_step(sources)
    try:
        stages = _named_apart([*_detection(settings, progress), *extra_stages, *_rendering(settings)])
        runner: Runner
        sinks = make_sinks(settings.sinks, stop=lambda: runner.stop())
        for sink in sinks:
            sink.check([source.info for source in sources])
        max_age_ms = settings.latency.max_age_ms
        runner = Runner(
            sources,
            stages,
            sinks,
            policies=_policies(settings, sources),
            max_frames=settings.max_frames,
            max_age_s=None if max_age_ms is None else max_age_ms / 1e3,
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
            source = make_source(name, each.url, None if each.rotate == "auto" else each.rotate)
            source.open()
            opened.append(source)
    except BaseException:
        for source in opened:
            source.close()
        raise
    return opened


def engine_options(settings: EngineSettings, input_size: tuple[int, int] | None = None) -> EngineOptions:
    """Return the engine's part of the settings."""
    return EngineOptions(
        settings.backend, settings.precision, settings.device, settings.threads, settings.requests, input_size
    )


def find_model(model: str, input_size: tuple[int, int] | None, progress: Progress | None) -> ModelSpec:
    """Return the complete spec of a detector: a name of the zoo, or an ONNX file.

    Raises:
        ModelError: it is nowhere, damaged, or no detector.
    """
    from pipeline.infer.detector import recognise

    return recognise(Zoo.load().spec(model, progress=progress), input_size)


def make_sinks(settings: SinksSettings, stop: Callable[[], None]) -> list[Sink]:
    """Make the sinks that are switched on; `stop` is what a key in the window calls."""
    sinks: list[Sink] = []
    if (record := settings.record) is not None:
        from pipeline.sinks.recorder import Recorder, RecorderOptions
        from pipeline.sinks.video import VideoOptions

        video = VideoOptions(record.encoder, record.preset, record.crf)
        sinks.append(Recorder(RecorderOptions(record.path, record.layout, record.segment_s, video)))
    if settings.events is not None:
        from pipeline.sinks.events import Events

        sinks.append(Events(settings.events.path))
    if (frames := settings.frames) is not None:
        from pipeline.sinks.pictures import PictureOptions, Pictures

        sinks.append(Pictures(PictureOptions(frames.path, frames.format, frames.quality, frames.every)))
    if settings.window is not None:
        from pipeline.sinks.window import Window

        sinks.append(Window(settings.window.title, stop))
    return sinks


def _detection(settings: Settings, progress: Progress | None) -> list[Stage]:
    detect = settings.detect
    if not detect.enabled:
        return []
    from pipeline.infer.detector import Detector, DetectorOptions

    spec = find_model(detect.model, detect.input_size, progress)
    options = DetectorOptions(detect.confidence, detect.iou, detect.classes, detect.class_agnostic)
    return [Detector(spec, engine_options(settings.engine, detect.input_size), options)]


def _rendering(settings: Settings) -> list[Stage]:
    """Render only where somebody looks: a run that only writes events draws nothing."""
    render, sinks = settings.render, settings.sinks
    watched = sinks.record or sinks.window or sinks.frames
    if not render.enabled or not watched:
        return []
    from pipeline.render.renderer import Renderer, RenderOptions

    return [Renderer(RenderOptions(render.boxes, render.labels, render.hud, render.thickness, render.font_scale))]


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
