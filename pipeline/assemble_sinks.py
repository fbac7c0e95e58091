"""Settings -> where results go."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.config.result_settings import ClipsSettings
    from pipeline.config.settings import Settings
    from pipeline.config.sink_settings import RecordSettings, SinksSettings
    from pipeline.runner import Runner
    from pipeline.sinks.sink import Sink


def is_watched(settings: Settings) -> bool:
    """Whether anybody looks at the annotated pictures."""
    sinks = settings.sinks
    clips = settings.clips.on and settings.clips.pictures == "annotated"
    return bool(sinks.record or sinks.window or sinks.frames or sinks.publish or clips)


def make_sinks(settings: Settings, runner: Callable[[], Runner]) -> list[Sink]:
    """Make the sinks that are switched on.

    Args:
        settings: of the run.
        runner: returns the run, once it is built: a key in the window stops it, metrics tell of it.
    """
    check_occasions(settings)
    return [*_video(settings), *_files(settings.sinks), *_senders(settings.sinks, runner), *_window(settings, runner)]


def check_occasions(settings: Settings) -> None:
    """Refuse to wait for events that cannot happen.

    Raises:
        ConfigError: naming one, and what is missing.
    """
    kinds = {"line" if zone.line else "zone" for zone in settings.zones}
    if settings.faces.gallery is not None:
        kinds.add("person")
    lacking = {"zone": "an area under zones", "line": "a line under zones", "person": "faces.gallery"}
    for name in settings.clips.on:
        kind = name.partition(".")[0]
        if kind in lacking and kind not in kinds and not (name.startswith("zone.speed") and "line" in kinds):
            raise ConfigError(f"clips.on: {name} never happens without {lacking[kind]}")


def _video(settings: Settings) -> list[Sink]:
    record, clips, is_shared = settings.sinks.record, None, False
    if settings.clips.on:
        from pipeline.sinks.clips import Clips

        is_shared = record is not None and _is_same_video(record, settings.clips)
        clips = Clips(settings.clips, encodes=not is_shared)
    sinks: list[Sink] = []
    if record is not None:
        from pipeline.sinks.recorder import Recorder, RecorderOptions
        from pipeline.sinks.video import VideoOptions

        video = VideoOptions(record.encoder, record.preset, record.crf)
        options = RecorderOptions(record.path, record.layout, record.segment_s, video, record.keep_s, record.keep_mb)
        sinks.append(Recorder(options, clips if is_shared else None))
    return sinks if clips is None else [*sinks, clips]


def _is_same_video(record: RecordSettings, clips: ClipsSettings) -> bool:
    """Whether clips can be made of what is encoded for the recording."""
    if record.layout == "grid" or clips.pictures != "annotated":
        return False
    return (record.preset, record.crf) == (clips.preset, clips.crf)


def _files(settings: SinksSettings) -> list[Sink]:
    sinks: list[Sink] = []
    if settings.events is not None:
        from pipeline.sinks.events import Events

        sinks.append(Events(settings.events))
    if (frames := settings.frames) is not None:
        from pipeline.sinks.pictures import PictureOptions, Pictures

        sinks.append(Pictures(PictureOptions(frames.path, frames.format, frames.quality, frames.every)))
    if settings.csv is not None:
        from pipeline.sinks.csv_table import CsvTable

        sinks.append(CsvTable(settings.csv.path))
    if settings.mot is not None:
        from pipeline.sinks.mot_text import MotText

        sinks.append(MotText(settings.mot.path))
    if settings.coco is not None:
        from pipeline.sinks.coco_results import CocoResults

        sinks.append(CocoResults(settings.coco.path))
    if settings.trace is not None:
        from pipeline.sinks.trace import Trace

        sinks.append(Trace(settings.trace.path))
    return sinks


def _senders(settings: SinksSettings, runner: Callable[[], Runner]) -> list[Sink]:
    sinks: list[Sink] = []
    if settings.mqtt is not None:
        from pipeline.sinks.mqtt import Mqtt

        sinks.append(Mqtt(settings.mqtt))
    if settings.webhook is not None:
        from pipeline.sinks.webhook import Webhook

        sinks.append(Webhook(settings.webhook))
    if settings.metrics is not None:
        from pipeline.sinks.metrics import Metrics

        sinks.append(Metrics(settings.metrics, runner))
    if settings.publish is not None:
        from pipeline.sinks.publish import Publish

        sinks.append(Publish(settings.publish))
    return sinks


def _window(settings: Settings, runner: Callable[[], Runner]) -> list[Sink]:
    if settings.sinks.window is None:
        return []
    from pipeline.sinks.window import Window

    return [Window(settings.sinks.window.title, stop=lambda: runner().stop())]
