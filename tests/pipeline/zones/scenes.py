"""Objects with known tracks, walking through the frames of a source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pipeline.capture.source import SourceInfo
from pipeline.config.result_settings import ZoneSettings
from pipeline.config.values import Ground
from pipeline.frame import UNTRACKED, Detections, Frame
from pipeline.picture import Picture
from pipeline.postprocess.zones.stage import WatchZones

WIDTH, HEIGHT = 640, 480
PIXELS = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
LABELS = ("person", "car", "dog")
INFO = SourceInfo("cam", "cam", width=WIDTH, height=HEIGHT)
TALL = 100.0


class Thing(NamedTuple):
    """An object that stands at x, y."""

    track: int
    x: float
    y: float
    class_id: int = 0
    name: str | None = None
    speed: float | None = None
    tall: float = TALL

    @property
    def box(self) -> list[float]:
        return [self.x - self.tall / 5, self.y - self.tall, self.x + self.tall / 5, self.y]


def zone(**settings: Any) -> ZoneSettings:
    return ZoneSettings(**({"name": "yard"} | settings))


def square(**settings: Any) -> ZoneSettings:
    """200..440 x 200..400 in pixels."""
    return zone(polygon=((200, 200), (440, 200), (440, 400), (200, 400)), **settings)


def make_frame(
    things: Iterable[Thing],
    time_s: float,
    *,
    predicted: bool = False,
    source: str = "cam",
    size: tuple[int, int] | None = None,
    clip: bool = False,
) -> Frame:
    things = list(things)
    pixels = PIXELS if size is None else np.zeros((size[1], size[0], 3), np.uint8)
    frame = Frame(source, round(time_s * 1000), time_s, time_s, Picture(bgr=pixels), labels=LABELS)
    boxes = np.array([thing.box for thing in things], np.float32).reshape(-1, 4)
    velocities = [(np.nan, np.nan) if thing.speed is None else (thing.speed, 0.0) for thing in things]
    frame.detections = Detections(
        boxes,
        np.full(len(things), 0.9, np.float32),
        np.array([thing.class_id for thing in things], np.int32),
        track_ids=np.array([thing.track for thing in things], np.int32),
        velocities=np.array(velocities, np.float32).reshape(-1, 2),
        names=tuple(thing.name for thing in things),
    )
    if clip:
        frame.detections = frame.detections.clip(frame.width, frame.height)
    frame.predicted = predicted
    return frame


def stage(*zones: ZoneSettings, info: SourceInfo = INFO, grounds: Mapping[str, Ground] | None = None) -> WatchZones:
    return WatchZones(zones, grounds or {}, [info])


def run(watching: WatchZones, frames: Iterable[Frame]) -> list[dict[str, Any]]:
    """Return the events of frames, each with its time."""
    events = []
    for frame in frames:
        watching.process(frame)
        events += [{"pts": frame.pts} | event for event in frame.events]
    return events


def walk(points: Sequence[tuple[float, float]], *, fps: float = 10, start: float = 0, **more: Any) -> list[Frame]:
    """Return frames of one object, track 1 if nothing else is said, that is at a point in each."""
    things = [Thing(more.get("track", 1), x, y, more.get("class_id", 0), more.get("name")) for x, y in points]
    return [make_frame([thing], start + i / fps) for i, thing in enumerate(things)]


def names(events: Iterable[Mapping[str, Any]]) -> list[str]:
    return [event["event"] for event in events]


def nobody(times: Iterable[float]) -> list[Frame]:
    return [make_frame([], time_s) for time_s in times]


def between(start: tuple[float, float], end: tuple[float, float], steps: int) -> list[tuple[float, float]]:
    """Return points on the way, both ends included."""
    return [(float(x), float(y)) for x, y in np.linspace(start, end, steps)]


__all__ = ["UNTRACKED", "Thing", "between", "make_frame", "names", "nobody", "run", "square", "stage", "walk", "zone"]
