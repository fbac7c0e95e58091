"""WatchZones: the stage that reports what tracked objects do in zones, at lines and on the ground.

Only objects with a track count. Positions that were predicted, not found, neither begin nor end anything: they only say
that the object has not gone. An object that was not found for `gone_after_s`, though somebody looked, has left, with
the time until it was last seen: that is when the tracker ends its track.
"""

from __future__ import annotations

import logging
from copy import copy
from typing import TYPE_CHECKING

import numpy as np

from pipeline.errors import ConfigError
from pipeline.postprocess.zones.area import AreaWatch
from pipeline.postprocess.zones.crossing import LineWatch
from pipeline.postprocess.zones.ground import GroundMap, GroundSpeeds, ground_fault
from pipeline.postprocess.zones.tracks import Seen, Tracks
from pipeline.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.arrays import FloatArray
    from pipeline.capture.source import SourceInfo
    from pipeline.config.result_settings import ZoneSettings
    from pipeline.config.values import Ground
    from pipeline.frame import Frame

logger = logging.getLogger(__name__)

GONE_AFTER_S = 2.0
"""The tracker's own patience where nobody has changed it."""
Size = tuple[int, int]
"""Width and height of pictures."""


class WatchZones(Stage):
    """Adds zones, events and speeds on the ground to frames."""

    name = "zones"

    def __init__(
        self,
        zones: Sequence[ZoneSettings],
        grounds: Mapping[str, Ground],
        sources: Sequence[SourceInfo],
        gone_after_s: float = GONE_AFTER_S,
    ) -> None:
        """Check the zones against the sources.

        Args:
            zones: each with a name of its own.
            grounds: by the source's name, where the ground is known.
            sources: all there are.
            gone_after_s: an object that was not found for longer has gone; the tracker's `max_gap_s`.

        Raises:
            ConfigError: a zone is for a source that does not exist, or lies outside of the pictures; or some ground
                does not say where it is.
        """
        self._zones, self._grounds, self._gone_after_s = zones, grounds, gone_after_s
        self._sizes: dict[str, Size] = {}
        self._watches: dict[str, _Watch] = {}
        names = [info.name for info in sources]
        for zone in zones:
            _check_sources(zone, names)
        for name, ground in grounds.items():
            if fault := ground_fault(ground):
                raise ConfigError(f"sources: {name}: ground {fault}")
        for info in sources:
            if info.width is not None and info.height is not None:
                self._sizes[info.name] = info.width, info.height
                for zone in self._of(info.name):
                    if fault := _outside(zone, self._sizes[info.name]):
                        raise ConfigError(f"zones: {zone.name} {fault} of {info.name}")

    def process(self, frame: Frame) -> None:
        """Add what is known now."""
        watch = self._watches.get(frame.source)
        if watch is None:
            watch = self._watches[frame.source] = self._begin(frame)
        watch.process(frame)

    def end(self, source: str) -> None:
        """Forget a source."""
        self._watches.pop(source, None)

    def _of(self, source: str) -> list[ZoneSettings]:
        return [zone for zone in self._zones if not zone.source or source in zone.source]

    def _begin(self, frame: Frame) -> _Watch:
        """Begin with the first frame of a source: now its size is known."""
        zones, size = self._of(frame.source), (frame.width, frame.height)
        if frame.source not in self._sizes:
            for zone in zones:
                if fault := _outside(zone, size):
                    logger.warning("zones: %s %s of %s: nothing is seen there", zone.name, fault, frame.source)
        meant_for = self._sizes.setdefault(frame.source, size)
        return _Watch(zones, self._grounds.get(frame.source), meant_for, self._gone_after_s)


class _Watch:
    """The zones and the ground of one source."""

    def __init__(
        self, zones: Sequence[ZoneSettings], ground: Ground | None, meant_for: Size, gone_after_s: float
    ) -> None:
        """Take what is to be watched, and the size of pictures that pixels are meant for."""
        self._settings, self._ground, self._meant_for = zones, ground, meant_for
        self._zones = [AreaWatch(zone) if zone.line is None else LineWatch(zone) for zone in zones]
        self._tracks = Tracks(gone_after_s)
        self._speeds: GroundSpeeds | None = None
        self._size: Size | None = None
        self._time_s = -np.inf

    def process(self, frame: Frame) -> None:
        size = frame.width, frame.height
        if frame.pts < self._time_s or size != self._size:  # tracks do not outlast either
            self._let_go(frame, self._tracks.all())
        if size != self._size:
            self._place(size)
        self._time_s = frame.pts
        seen = self._tracks.see(frame)
        self._let_go(frame, self._tracks.gone())
        self._measure(frame, seen)
        for zone in self._zones:
            frame.events += zone.watch(seen)
        frame.zones = tuple(zone.state() for zone in self._zones)

    def _place(self, size: Size) -> None:
        """Fit all to frames of a size."""
        self._size = size
        for settings, zone in zip(self._settings, self._zones, strict=True):
            zone.place(in_pixels(settings, size, self._meant_for), *size)
        if self._ground is not None:
            scale = size[0] / self._meant_for[0], size[1] / self._meant_for[1]
            self._speeds = GroundSpeeds(GroundMap(self._ground, scale), *size)

    def _let_go(self, frame: Frame, places: Sequence[int]) -> None:
        for place in places:
            someone, seen_at = self._tracks.someone(place), self._tracks.seen_at(place)
            for zone in self._zones:
                frame.events += zone.gone(place, someone, seen_at)
            if self._speeds is not None:
                self._speeds.clear(place)
            self._tracks.forget(place)

    def _measure(self, frame: Frame, seen: Seen) -> None:
        """Add the speeds on the ground, where there is one."""
        if self._speeds is None or frame.detections is None:
            return
        seen.speeds, seen.unit = self._speeds.observe(seen), "m/s"
        speeds = np.full(len(frame.detections), np.nan, np.float32)
        speeds[seen.rows] = seen.speeds
        frame.detections = copy(frame.detections)  # others may hold the same ones
        frame.detections.speeds_m_s = speeds


def in_pixels(zone: ZoneSettings, size: Size, meant_for: Size) -> FloatArray:
    """Return the (K, 2) points of a zone in pixels of frames of a size; pixels are meant for frames of another size."""
    points = np.array(zone.polygon or zone.line, np.float64)
    unit = np.array((1, 1) if zone.is_relative else meant_for)
    return np.asarray(points / unit * size, np.float32)


def _outside(zone: ZoneSettings, size: Size) -> str | None:
    """Return that a zone reaches beyond frames of a size; None: it does not."""
    beyond = next((point for point in zone.points if point[0] > size[0] or point[1] > size[1]), None)
    if zone.is_relative or beyond is None:
        return None
    at = f"[{beyond[0]:g}, {beyond[1]:g}]"
    return f"has the point {at}, which is outside the pictures, {size[0]} x {size[1]},"


def _check_sources(zone: ZoneSettings, names: Sequence[str]) -> None:
    from pipeline.config.reasons import nearest

    for source in zone.source:
        if source not in names:
            near = nearest(source, names)
            hint = f"did you mean {near!r}?" if near else f"there are {', '.join(map(repr, names))}"
            raise ConfigError(f"zones: {zone.name} is for {source!r}, which is no source: {hint}")
