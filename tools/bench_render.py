"""`frameloom bench render`: what it costs to draw on a picture, each part by itself and all together.

Objects of made-up places walk through a made-up picture, so that labels, scores and trails change from frame to frame
as they do in a run. Each figure is CPU time of the whole stage; the copy of the picture, without which nothing is
drawn, is a part of its own and taken off the other parts.
"""

from __future__ import annotations

import itertools
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import cv2
import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.table import Table

from pipeline.config.result_settings import RenderSettings
from pipeline.frame import Detections, Frame
from pipeline.picture import Picture, bgr_to_planes
from pipeline.render.renderer import Renderer
from pipeline.sinks.paths import prepare_file
from pipeline.zones import ZoneState
from tools.benchmark import environment

SIZES = {"720p": (1280, 720), "1080p": (1920, 1080), "2160p": (3840, 2160)}
COUNTS = (5, 20, 100)
BARE = RenderSettings(boxes=False, labels=False, trail_s=0, zones=False, hud=False)
SHOWN: dict[str, RenderSettings] = {
    "copy": BARE,
    "boxes": BARE.model_copy(update={"boxes": True}),
    "labels": BARE.model_copy(update={"labels": True}),
    "trails": BARE.model_copy(update={"trail_s": 1.5}),
    "zones": BARE.model_copy(update={"zones": True}),
    "hud": BARE.model_copy(update={"hud": True}),
    "boxes + labels": BARE.model_copy(update={"boxes": True, "labels": True}),
    "all": RenderSettings(),
}
"""What is switched on to measure a part."""
WHOLE = ("copy", "boxes + labels", "all")
"""Those that include the copy."""
LABELS = ("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck")
FRAMES = 40
"""Before the clock runs, so many that trails are whole."""
REPEAT_S = 0.15
"""How long one case is measured."""
FPS = 25
TABLE_WIDTH = 110

Sides = npt.NDArray[Any]


@dataclass(frozen=True)
class Cost:
    """One part of drawing, on one kind of picture."""

    part: str
    size: str
    pixels: str
    objects: int
    ms: float
    """CPU, median."""


class Street:
    """Objects that walk.

    Args:
        size: width and height of the picture.
        count: of objects.
    """

    def __init__(self, size: tuple[int, int], count: int) -> None:
        random = np.random.default_rng(count)
        self._size, self._count = np.array(size), count
        self._places = random.uniform(0, 1, (count, 2)) * self._size
        heights = random.uniform(0.08, 0.3, count) * size[1]
        self._sides = np.stack([heights * random.uniform(0.4, 1.2, count), heights], 1)
        self._velocities = random.uniform(-0.1, 0.1, (count, 2)) * size[1]
        self._class_ids = random.integers(0, len(LABELS), count).astype(np.int32)
        self._scores = np.sort(random.uniform(0.4, 0.95, count))[::-1]
        picture = random.integers(0, 256, (size[1] // 8, size[0] // 8, 3), np.uint8)
        self._bgr = np.asarray(cv2.resize(picture, size), np.uint8)
        self._planes = bgr_to_planes(self._bgr)

    def frame(self, number: int, pixels: str, zones: bool) -> Frame:
        """Return a frame of this street."""
        time_s = number / FPS
        centres = (self._places + time_s * self._velocities) % self._size
        boxes = np.concatenate([centres - self._sides / 2, centres + self._sides / 2], axis=1).astype(np.float32)
        scores = np.asarray(self._scores + 0.01 * (number % 4), np.float32)
        ids = np.arange(1, self._count + 1, dtype=np.int32)
        found = Detections(boxes, scores, self._class_ids, ids, velocities=np.asarray(self._velocities, np.float32))
        picture = Picture(planes=self._planes) if pixels == "planes" else Picture(bgr=self._bgr)
        return Frame(
            "street",
            number,
            time_s,
            time_s,
            picture,
            detections=found.clip(int(self._size[0]), int(self._size[1])),
            labels=LABELS,
            zones=self._zones() if zones else (),
        )

    def _zones(self) -> tuple[ZoneState, ...]:
        """An area of an eighth of the picture, one of a tenth, and a line."""
        corners = [
            np.array([(0.1, 0.5), (0.4, 0.45), (0.45, 0.85), (0.08, 0.9)]),
            np.array([(0.6, 0.2), (0.9, 0.2), (0.95, 0.5), (0.55, 0.5)]),
            np.array([(0.5, 0.1), (0.5, 0.9)]),
        ]
        first, second, line = (np.asarray(each * self._size, np.float32) for each in corners)
        return (
            ZoneState("entrance", first, inside={"person": 3, "car": 1}),
            ZoneState("exit", second, inside={"person": 12}, alarm=True),
            ZoneState("door", line, is_line=True, entered={"person": 7}, left={"person": 5}),
        )


def render(
    objects: Annotated[list[int] | None, typer.Option(min=0, help="How many objects; may be repeated.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all figures there.")] = None,
) -> None:
    """Measure what boxes, labels, trails, zones and the display cost to draw, in CPU milliseconds a frame."""
    if json_file is not None:
        prepare_file(json_file, "bench render --json")
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        costs = [
            Cost(part, size, pixels, count, ms)
            for size, pixels, count in itertools.product(SIZES, ("planes", "bgr"), objects or COUNTS)
            for part, ms in measure(SIZES[size], pixels, count).items()
        ]
    finally:
        cv2.setNumThreads(threads)
    machine = environment()
    console = Console(highlight=False)
    console.width = max(console.width, TABLE_WIDTH)  # wrapped, it says nothing
    console.print(_table(costs))
    console.print(
        f"CPU ms a frame, medians; {', '.join(WHOLE)} include the copy; zones: two areas and a line; "
        f"{machine['cpu']}, {machine['cores']} cores, load {machine['load']}, Python {machine['python']}",
        soft_wrap=True,
    )
    if json_file is not None:
        report = {"environment": machine, "costs": [asdict(each) for each in costs]}
        json_file.write_text(json.dumps(report, indent=2) + "\n")


def measure(size: tuple[int, int], pixels: str, count: int) -> dict[str, float]:
    """Return the CPU milliseconds of each part.

    Args:
        size: width and height.
        pixels: planes or bgr.
        count: of objects.
    """
    street = Street(size, count)
    ms = {part: _timed(settings, street, pixels) for part, settings in SHOWN.items()}
    return {part: value if part in WHOLE else max(0.0, value - ms["copy"]) for part, value in ms.items()}


def _timed(settings: RenderSettings, street: Street, pixels: str) -> float:
    """Return the median of what `process` takes."""
    clock = itertools.count(0, 1 / FPS)
    renderer = Renderer(settings, clock=lambda: next(clock))
    renderer.open()
    times: list[float] = []
    for number in itertools.count():
        frame = street.frame(number, pixels, settings.zones)
        began = time.thread_time()
        renderer.process(frame)
        if number >= FRAMES:
            times.append((time.thread_time() - began) * 1e3)
        if sum(times) > REPEAT_S * 1e3 or len(times) > 500:
            break
    return round(median(times), 4)


def _table(costs: list[Cost]) -> Table:
    """A row for each kind of picture, a column for each part."""
    table = Table(box=None, pad_edge=False)
    for heading in ("picture", "pixels"):
        table.add_column(heading)
    for heading in ("objects", *SHOWN):
        table.add_column(heading, justify="right")
    rows: dict[tuple[str, str, int], dict[str, float]] = {}
    for each in costs:
        rows.setdefault((each.size, each.pixels, each.objects), {})[each.part] = each.ms
    for (size, pixels, objects), row in rows.items():
        table.add_row(size, pixels, str(objects), *(f"{row[part]:.2f}" for part in SHOWN))
    return table
