"""Renderer: boxes, labels, masks, keypoints and the head-up display, drawn on a copy of the frame's picture."""

from __future__ import annotations

import colorsys
import math
import time
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from pipeline.arrays import FloatArray
from pipeline.faces import Faces
from pipeline.frame import Detections, Frame
from pipeline.render.canvas import Canvas, Colour, canvas_of, text_size
from pipeline.render.objects import draw_keypoints, draw_mask
from pipeline.stage import Stage

GOLDEN_RATIO = 0.618034
HUD_SMOOTHING = 0.9
SHORTEST_S = 1e-6
DARK: Colour = (24, 24, 24)
KNOWN: Colour = (80, 220, 60)
UNKNOWN: Colour = (190, 190, 190)
LANDMARK: Colour = (255, 160, 0)


@dataclass(frozen=True)
class RenderOptions:
    """What is drawn; None takes it from the picture's size."""

    boxes: bool = True
    labels: bool = True
    landmarks: bool = False
    masks: bool = True
    keypoints: bool = True
    hud: bool = True
    thickness: int | None = None
    font_scale: float | None = None


class Style(NamedTuple):
    """How a box is drawn."""

    colour: Colour
    predicted: bool
    """Whether it was carried over from an earlier frame: a thin line."""


@dataclass
class Pace:
    """One source's frames per second and latency, smoothed for the eye."""

    last_at: float | None = None
    interval_s: float | None = None
    latency_ms: float = 0.0

    @property
    def fps(self) -> float:
        """Frames per second: the smoothed interval, inverted (a mean of rates would be too high)."""
        return 0.0 if self.interval_s is None else 1 / max(self.interval_s, SHORTEST_S)

    def update(self, now: float, captured_at: float) -> None:
        """Count one frame."""
        latency_ms = (now - captured_at) * 1e3
        if self.last_at is None:
            self.latency_ms = latency_ms
        else:
            interval_s = now - self.last_at
            self.interval_s = interval_s if self.interval_s is None else _smooth(self.interval_s, interval_s)
            self.latency_ms = _smooth(self.latency_ms, latency_ms)
        self.last_at = now


class Renderer(Stage):
    """The rendering stage of a run."""

    name = "render"

    def __init__(self, options: RenderOptions, clock: Callable[[], float] = time.monotonic) -> None:
        self._options = options
        self._clock = clock
        self._paces: dict[str, Pace] = {}

    def process(self, frame: Frame) -> None:
        """Add the annotated picture."""
        canvas = canvas_of(frame.picture)
        if frame.detections is not None:
            self._draw_detections(canvas, frame, frame.detections)
        if frame.faces is not None:
            self._draw_faces(canvas, frame, frame.faces)
        if self._options.hud:
            self._draw_hud(canvas, frame)
        frame.rendered = canvas.picture()

    def end(self, source: str) -> None:
        """Forget the source's pace."""
        self._paces.pop(source, None)

    def _draw_detections(self, canvas: Canvas, frame: Frame, detections: Detections) -> None:
        detections = detections[np.isfinite(detections.boxes).all(axis=1)]
        boxes = self._inside(frame, detections.boxes)
        self._draw_objects(canvas, frame, detections)
        rows = zip(boxes, detections.scores.tolist(), detections.class_ids.tolist(), strict=True)
        for box, score, class_id in reversed(list(rows)):  # the best on top
            about = "~" if frame.predicted else ""
            style = Style(class_colour(class_id), frame.predicted)
            self._draw_box(canvas, frame, box, style, f"{about}{frame.label(class_id)} {score:.2f}")

    def _draw_objects(self, canvas: Canvas, frame: Frame, detections: Detections) -> None:
        """Draw masks and keypoints, under all boxes; the best on top."""
        thickness = 1 if frame.predicted else self._sizes(frame)[1]
        for row in reversed(range(len(detections))):
            colour = class_colour(int(detections.class_ids[row]))
            if detections.masks is not None and self._options.masks:
                draw_mask(canvas, detections.masks, row, colour)
            if detections.keypoints is not None and self._options.keypoints:
                draw_keypoints(canvas, detections.keypoints[row], colour, self._sizes(frame)[1], thickness)

    def _draw_faces(self, canvas: Canvas, frame: Frame, faces: Faces) -> None:
        names = faces.names or (None,) * len(faces)
        similarities = [math.nan] * len(faces) if faces.similarities is None else faces.similarities.tolist()
        radius = self._sizes(frame)[1]
        for row in reversed(range(len(faces))):
            name, box = names[row], self._inside(frame, faces.boxes[row : row + 1])[0]
            if name is not None:
                label = f"{drawable(name)} {similarities[row]:.2f}"
            else:
                label = "unknown" if math.isfinite(similarities[row]) else "face"
            style = Style(UNKNOWN if name is None else KNOWN, faces.predicted)
            self._draw_box(canvas, frame, box, style, f"{'~' if faces.predicted else ''}{label}")
            if self._options.landmarks:
                for x, y, _, _ in self._inside(frame, np.tile(faces.landmarks[row], 2)):
                    canvas.rectangle((x - radius, y - radius), (x + radius, y + radius), LANDMARK, -1)

    def _draw_box(self, canvas: Canvas, frame: Frame, box: list[int], style: Style, label: str) -> None:
        left, top, right, bottom = box
        scale, thickness = self._sizes(frame)
        colour, predicted = style
        if self._options.boxes:
            canvas.rectangle((left, top), (right - 1, bottom - 1), colour, 1 if predicted else thickness)
        if self._options.labels:
            _tag(canvas, (left, top), label, scale, colour)

    def _inside(self, frame: Frame, boxes: FloatArray) -> list[list[int]]:
        """Return boxes as whole pixels; a line beyond the frame is not seen, and OpenCV's integers do not overflow."""
        beyond = 2 * self._sizes(frame)[1]
        lowest, highest = (-beyond,) * 4, (frame.width + beyond, frame.height + beyond) * 2
        whole: list[list[int]] = boxes.round().clip(lowest, highest).astype(int).tolist()
        return whole

    def _draw_hud(self, canvas: Canvas, frame: Frame) -> None:
        pace = self._paces.setdefault(frame.source, Pace())
        pace.update(self._clock(), frame.captured_at)
        text = f"{frame.source}  {pace.fps:.0f} fps  {pace.latency_ms:.0f} ms"
        _tag(canvas, (0, 0), text, self._sizes(frame)[0], DARK)

    def _sizes(self, frame: Frame) -> tuple[float, int]:
        short = min(frame.width, frame.height)
        scale = self._options.font_scale or min(2.0, max(0.35, short / 1200))
        return scale, self._options.thickness or max(1, round(short / 400))


def _tag(canvas: Canvas, corner: tuple[int, int], text: str, scale: float, colour: Colour) -> None:
    """Write on a filled patch above the corner, or below it at the picture's top edge."""
    weight = 1 if scale < 1 else 2
    width, height, depth = text_size(text, scale, weight)
    left, patch = max(0, corner[0]), height + depth + 4
    top = corner[1] - patch if corner[1] >= patch else max(0, corner[1])
    canvas.rectangle((left, top), (left + width + 4, top + patch - 1), colour, -1)
    canvas.text((left + 2, top + height + 2), text, scale, weight, white=_is_dark(colour))


@lru_cache(maxsize=1024)
def class_colour(class_id: int) -> Colour:
    """Return a colour that is always the same for a class, and far from its neighbours' (hues a golden ratio apart)."""
    red, green, blue = colorsys.hsv_to_rgb(class_id * GOLDEN_RATIO % 1, 0.8, 1.0)
    return round(blue * 255), round(green * 255), round(red * 255)


def drawable(name: str) -> str:
    """Return a name in the letters that OpenCV's font has: é as e, and ? for what it lacks."""
    plain = (each for each in unicodedata.normalize("NFKD", name) if not unicodedata.combining(each))
    return "".join(each if " " <= each <= "~" else "?" for each in plain)


def _is_dark(colour: Colour) -> bool:
    blue, green, red = colour
    return 0.114 * blue + 0.587 * green + 0.299 * red < 110


def _smooth(old: float, new: float) -> float:
    return HUD_SMOOTHING * old + (1 - HUD_SMOOTHING) * new
