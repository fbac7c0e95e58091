"""The settings of a run: frozen, typed, each with its default and a sentence that explains it.

The fields are the keys of `config.yaml`. A short form (`record: out.mp4` for `record: {path: out.mp4}`) becomes the
long one here, so whoever reads `Settings` sees one shape only. `load.py` loads them.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePath
from typing import Annotated

from pydantic import Field, ValidationError, ValidationInfo, field_validator

from pipeline.config.find_settings import DetectSettings, FacesSettings
from pipeline.config.input_settings import EngineSettings, SourceSettings
from pipeline.config.look_settings import SegmentSettings, StylizeSettings
from pipeline.config.result_settings import BlurSettings, ClipsSettings, RenderSettings, TrackSettings, ZoneSettings
from pipeline.config.section import Section
from pipeline.config.sink_settings import SinksSettings
from pipeline.config.values import EmptyIsNone, Ladder, wrong_at


class LatencySettings(Section):
    """How old a result may be."""

    max_age_ms: float | None = Field(
        default=None,
        gt=0,
        description="Drop frames of sources with policy latest that are older, milliseconds (null: never).",
    )
    objective_ms: float | None = Field(
        default=None,
        gt=0,
        description="Time from capture to delivery to hold for live sources, milliseconds, by stepping down the ladder "
        "(null: do nothing).",
    )
    percentile: float = Field(default=95, gt=0, le=99.9, description="Part of the frames that must hold it, percent.")
    ladder: Ladder = Field(
        default=("stylize", "segment", "detect_every_2", "detect_every_3", "smaller_model"),
        description="What to do without, first to last; all there are: stylize (none), segment (every 4th frame), "
        "detect_every_2, detect_every_3, smaller_model.",
    )


class Settings(Section):
    """Everything a run needs to know."""

    sources: Annotated[tuple[SourceSettings, ...], EmptyIsNone] = Field(
        default=(),
        strict=False,
        description="What to read: a list of videos, images, folders, globs or mappings.",
    )
    max_frames: int | None = Field(
        default=None, ge=1, description="Stop each source after this many frames (null: at its end)."
    )
    engine: EngineSettings = Field(default_factory=EngineSettings, description="What runs the models.")
    detect: DetectSettings = Field(default_factory=DetectSettings, description="Finding objects.")
    track: TrackSettings = Field(default_factory=TrackSettings, description="Following objects.")
    faces: FacesSettings = Field(default_factory=FacesSettings, description="Finding and recognising faces.")
    segment: SegmentSettings = Field(
        default_factory=SegmentSettings, description="Saying of every pixel what it belongs to: true, or a mapping."
    )
    stylize: StylizeSettings = Field(
        default_factory=StylizeSettings,
        description="Painting the picture in the style of a painting: the name of a style, or a mapping.",
    )
    zones: Annotated[tuple[ZoneSettings, ...], EmptyIsNone] = Field(
        default=(),
        strict=False,
        description="Areas and lines that report what enters, leaves, stays, crosses or is too fast.",
    )
    clips: ClipsSettings = Field(default_factory=ClipsSettings, description="Short recordings around events.")
    blur: BlurSettings = Field(
        default_factory=BlurSettings, description="Making people unrecognisable: true, or a mapping."
    )
    latency: LatencySettings = Field(default_factory=LatencySettings, description="How old a result may be.")
    render: RenderSettings = Field(default_factory=RenderSettings, description="Drawing the results into the picture.")
    sinks: SinksSettings = Field(default_factory=SinksSettings, description="Where results go.")

    @field_validator("sources")
    @classmethod
    def _names_differ(cls, sources: tuple[SourceSettings, ...]) -> tuple[SourceSettings, ...]:
        first: dict[str, int] = {}
        again = [
            wrong_at((i, "name"), source.name, f"is also the name of source {first[source.name]}")
            for i, source in enumerate(sources)
            if source.name is not None and first.setdefault(source.name, i) != i
        ]
        if again:
            raise ValidationError.from_exception_data("sources", again)
        return sources

    @field_validator("zones")
    @classmethod
    def _zones_differ(cls, zones: tuple[ZoneSettings, ...]) -> tuple[ZoneSettings, ...]:
        first: dict[str, int] = {}
        again = [
            wrong_at((i, "name"), zone.name, f"is also the name of zone {first[zone.name]}")
            for i, zone in enumerate(zones)
            if first.setdefault(zone.name, i) != i
        ]
        if again:
            raise ValidationError.from_exception_data("zones", again)
        return zones

    @field_validator("sinks")
    @classmethod
    def _paths_differ(cls, sinks: SinksSettings, info: ValidationInfo) -> SinksSettings:
        clashes = []
        taken: dict[str, str] = {}
        for name, path in sinks.paths().items():
            if any(_reads(source.url, path) for source in info.data.get("sources", ())):
                clashes.append(wrong_at((name, "path"), path, "is also a source: it would be overwritten"))
            elif (other := taken.setdefault(os.path.realpath(path), name)) != name:
                clashes.append(wrong_at((name, "path"), path, f"is also sinks.{other}.path: name another file"))
        if clashes:
            raise ValidationError.from_exception_data("sinks", clashes)
        return sinks


def _reads(url: int | str, path: Path) -> bool:
    """Whether a source is that file, or a glob that finds it."""
    if isinstance(url, int) or url == "synthetic" or "://" in url.removeprefix("file://"):
        return False
    source = os.path.realpath(url.removeprefix("file://"))
    target = os.path.realpath(path)
    return source == target or PurePath(target).match(source)
