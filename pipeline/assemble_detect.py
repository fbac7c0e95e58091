"""Settings -> which frames are detected in, and where in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from engines.engine import EngineOptions
    from engines.spec import ModelSpec
    from pipeline.capture import Source
    from pipeline.config.find_settings import DetectSettings
    from pipeline.config.settings import Settings
    from pipeline.infer.detector import Load, Where


def detection_load(detect: DetectSettings, smaller: tuple[ModelSpec, EngineOptions] | None) -> Load:
    """Return which frames are detected in."""
    from pipeline.infer.detector import Load
    from pipeline.infer.motion import MotionOptions

    motion = MotionOptions(detect.motion_area, detect.motion_hold_s, detect.keep_alive_s)
    return Load(
        every=detect.every,
        bypass=detect.on_overload == "bypass",
        smaller=smaller,
        motion=motion if detect.when == "motion" else None,
        between=detect.between,
    )


def detection_regions(settings: Settings, sources: Sequence[Source]) -> Where:
    """Return which parts of the frames are detected in.

    Raises:
        ConfigError: a region reaches beyond the frames of a source that says how large those are.
    """
    from pipeline.infer.detector import Where
    from pipeline.infer.tiles import TileOptions, reaches_beyond

    detect = settings.detect
    regions = {}
    for source, each in zip(sources, settings.sources, strict=True):
        if each.detect_in is None:
            continue
        width, height = source.info.width, source.info.height
        if width is not None and height is not None and reaches_beyond(each.detect_in, (height, width)):
            raise ConfigError(
                f"{source.info.name}: detect_in {list(each.detect_in)} (left, top, width, height) reaches beyond the "
                f"picture, which is {width} x {height}"
            )
        regions[source.info.name] = each.detect_in
    return Where(TileOptions(detect.tiles, detect.tile_overlap, detect.full_frame), regions)
