"""Settings -> the stages that make something of what was found: tracks, people, zones, and what hides people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from pipeline.assemble_faces import hides_persons
from pipeline.errors import ConfigError
from pipeline.postprocess.persons import PERSON

if TYPE_CHECKING:
    from engines.spec import ModelSpec
    from pipeline.capture.source import SourceInfo
    from pipeline.config.settings import Settings
    from pipeline.postprocess.tracker import TrackerOptions
    from pipeline.stage import Stage


DOUBTFUL_PERSON = 0.1
"""Score from which something is hidden as a person might be. On vtest.avi yolox-nano finds 6.6 persons a frame at 0.3,
8.3 at 0.1, and what is hidden of a frame grows from 5.8 to 6.2 %."""


class Following(NamedTuple):
    """Stages, in the order of a frame, around those of faces."""

    before_faces: list[Stage]
    after_faces: list[Stage]


def tracks(settings: Settings) -> bool:
    """Whether objects are followed: where that is asked for, or needed and not refused.

    Raises:
        ConfigError: it is needed and refused, or nothing is detected that could be followed.
    """
    needs = {
        "zones": bool(settings.zones),
        "sources: ground": any(source.ground for source in settings.sources),
        "sinks.mot": bool(settings.sinks.mot),
    }
    needed_by = next((name for name, is_asked in needs.items() if is_asked), None)
    if settings.track.enabled is False and needed_by:
        raise ConfigError(f"{needed_by}: needs tracks, which are off (track.enabled)")
    wanted = needed_by or ("track.enabled" if settings.track.enabled else None)
    if wanted and not settings.detect.enabled:
        raise ConfigError(f"{wanted}: needs detection, which is off (detect.enabled)")
    names_bodies = settings.track.enabled is None and settings.detect.enabled and _recognises(settings)
    return wanted is not None or names_bodies


def _recognises(settings: Settings) -> bool:
    return settings.faces.on and settings.faces.gallery is not None


def tracker_options(settings: Settings) -> TrackerOptions:
    """Return how objects are followed."""
    from pipeline.postprocess.tracker import TrackerOptions, make_appearance

    track = settings.track
    return TrackerOptions(
        high=settings.detect.confidence,
        low=track.low_confidence,
        start=track.start_confidence,
        min_iou=track.min_iou,
        confirm_frames=track.confirm_frames,
        max_gap_s=track.max_gap_s,
        class_agnostic=track.class_agnostic,
        camera_motion=track.camera_motion,
        appearance=None if track.appearance is None else make_appearance(track.appearance),
    )


def following_stages(settings: Settings, sources: Sequence[SourceInfo], faces: Sequence[Stage]) -> Following:
    """Return the stages of tracks, people and zones, as far as the settings ask for them.

    Args:
        settings: of the run.
        sources: opened.
        faces: the stages of faces.

    Raises:
        ConfigError: a zone that cannot be, or that needs what is off.
    """
    before: list[Stage] = []
    after: list[Stage] = []
    if tracks(settings):
        from pipeline.postprocess.track import Track

        before.append(Track(tracker_options(settings), settings.detect.between))
    if _recognises(settings):
        from pipeline.infer.face_stages import RecogniseFaces
        from pipeline.postprocess.attendance import AttendanceOptions
        from pipeline.postprocess.people import People

        when = settings.faces
        options = AttendanceOptions(when.left_after_s, when.unknown_after_s, when.event_every_s)
        recognise = next(stage for stage in faces if isinstance(stage, RecogniseFaces))
        after.append(People(options, recognise.knows))
    grounds = {info.name: each.ground for info, each in zip(sources, settings.sources, strict=True) if each.ground}
    if settings.zones or grounds:
        from pipeline.postprocess.zones.stage import WatchZones

        after.append(WatchZones(settings.zones, grounds, sources, settings.track.max_gap_s))
    return Following(before, after)


def hiding(settings: Settings) -> list[Stage]:
    """Return the stage that hides people, where that is asked for."""
    if not settings.blur.enabled:
        return []
    from pipeline.render.blur import Blur

    return [Blur(settings.blur)]


def check_labels(settings: Settings, spec: ModelSpec, smaller: ModelSpec | None = None) -> None:
    """Refuse what names classes that a model has not, or that are left out.

    Args:
        settings: of the run.
        spec: the detector.
        smaller: the model that may take its place; it must know as much.

    Raises:
        ConfigError: naming them.
    """
    _check_shown(settings, settings.detect.classes or spec.labels, "detected here")
    if smaller is not None:
        _check_shown(
            settings, settings.detect.classes or smaller.labels, f"known to detect.smaller_model {smaller.name}"
        )


def _check_shown(settings: Settings, shown: Sequence[str], where: str) -> None:
    if hides_persons(settings) and PERSON not in shown:
        raise ConfigError(f"blur.what: {settings.blur.what} needs the class {PERSON!r}, which is not {where}")
    for zone in settings.zones:
        for name in zone.classes:
            if name not in shown:
                raise ConfigError(f"zones: {zone.name} counts {name!r}, which is not among the classes {where}")
