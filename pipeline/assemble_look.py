"""Settings -> the stages that look at the picture as a whole: segmentation, stylization, and what is made of a map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from pipeline.assemble_engine import engine_options, known_sizes
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from engines.download import Progress
    from pipeline.capture.source import SourceInfo
    from pipeline.config.settings import Settings
    from pipeline.infer.segment import Segment
    from pipeline.infer.stylize import Stylize
    from pipeline.stage import Stage


class Look(NamedTuple):
    """Stages, in the order of a frame; None where the settings do not ask for one."""

    segment: Segment | None
    stylize: Stylize | None
    effect: Stage | None

    @property
    def before_hiding(self) -> list[Stage]:
        """What has to see people as they are."""
        return [] if self.segment is None else [self.segment]

    @property
    def after_hiding(self) -> list[Stage]:
        """What makes pictures, of those in which people are hidden."""
        return [each for each in (self.stylize, self.effect) if each is not None]


def segments(settings: Settings) -> bool:
    """Whether pictures are segmented: where that is asked for, or needed and not refused.

    Raises:
        ConfigError: it is needed and refused.
    """
    needs = settings.stylize.enabled and settings.stylize.where in ("inside", "outside")
    if needs and settings.segment.enabled is False:
        raise ConfigError(f"stylize.where: {settings.stylize.where} needs segmentation, which is off (segment.enabled)")
    return settings.segment.enabled or (settings.segment.enabled is None and needs)


def look_stages(settings: Settings, sources: Sequence[SourceInfo], progress: Progress | None = None) -> Look:
    """Return the stages that the settings ask for.

    Args:
        settings: of the run.
        sources: opened.
        progress: called while a model is downloaded.

    Raises:
        ConfigError: a class that a model has not, or a background that cannot be.
        ModelError: a model is nowhere, damaged, or for something else.
    """
    return Look(_segment(settings, progress), _stylize(settings, sources, progress), _effect(settings))


def _segment(settings: Settings, progress: Progress | None) -> Segment | None:
    if not segments(settings):
        return None
    from pipeline.infer.picture_segmenter import find_segmenter
    from pipeline.infer.segment import Segment

    wanted = settings.segment
    spec = find_segmenter(wanted.model, wanted.input_size, progress)
    engine = engine_options(settings.engine, wanted.input_size)
    return Segment(spec, engine, wanted, bypass=settings.detect.on_overload == "bypass")


def _stylize(settings: Settings, sources: Sequence[SourceInfo], progress: Progress | None) -> Stylize | None:
    if not settings.stylize.enabled:
        return None
    from pipeline.infer.picture_stylizer import find_stylizer
    from pipeline.infer.stylize import Stylize

    spec = find_stylizer(settings.stylize.model, progress)
    bypass = settings.detect.on_overload == "bypass"
    return Stylize(spec, engine_options(settings.engine), settings.stylize, sizes=known_sizes(sources), bypass=bypass)


def _effect(settings: Settings) -> Stage | None:
    """Where segmentation was only switched on for `stylize.where`, nothing else is made of it."""
    if not settings.segment.enabled or settings.segment.effect == "none":
        return None
    from pipeline.render.effect import Effect

    return Effect(settings.segment, settings.render.theme)
