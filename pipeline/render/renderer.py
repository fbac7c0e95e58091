"""Renderer: zones, trails, masks, keypoints, boxes, labels and the head-up display, on a copy of the frame's picture.

What is drawn on is `frame.output`: a picture that was stylized stays so. From below to above in this order; of several
objects the best is on top. Labels come last, so that no box crosses one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from pipeline.arrays import FloatArray
from pipeline.config.result_settings import RenderSettings
from pipeline.faces import Faces
from pipeline.frame import UNTRACKED, Detections, Frame
from pipeline.render.canvas import Canvas, Colour, Point, canvas_of, outer_edges
from pipeline.render.hud import Pace
from pipeline.render.labels import Label, Placement
from pipeline.render.objects import draw_keypoints, draw_mask
from pipeline.render.text import Typeface
from pipeline.render.theme import THEMES
from pipeline.render.trails import STEP, Trails, draw_trail
from pipeline.render.zones import draw_zone, zone_anchor, zone_text
from pipeline.stage import Stage

SCALE_1 = 25
"""Pixels of text at a `font_scale` of 1."""
SMALLEST_TEXT = 10
"""Pixels: below, letters run together."""
HEAD = 5
"""Of a box's height, the uppermost of so many parts should not be covered by a label."""
EVERYTHING = RenderSettings()

Box = tuple[int, int, int, int]


class Sizes(NamedTuple):
    """What depends on how large the picture is, in pixels."""

    short_side: int
    thickness: int
    text: int

    @property
    def bar(self) -> int:
        """Of colour at the left of a label: even, as chroma wants it."""
        return max(4, self.text // 8 * 2)

    @property
    def radius(self) -> int:
        """Of keypoints and landmarks."""
        return self.thickness + (self.thickness < 2)

    @classmethod
    def of(cls, settings: RenderSettings, frame: Frame) -> Sizes:
        """Choose what is not set: small pictures have letters that are larger in proportion."""
        short = min(frame.width, frame.height)
        text = max(SMALLEST_TEXT, 3 + short / 60) if settings.font_scale is None else SCALE_1 * settings.font_scale
        return cls(short, settings.thickness or max(1, round(short / 480)), max(4, round(text)))


@dataclass(slots=True)
class Scene:
    """One frame being drawn, with the labels that are written when all else is there."""

    frame: Frame
    canvas: Canvas
    sizes: Sizes
    paper: int
    ink: int
    """Levels of a label's pixels."""
    display: list[Label] = field(default_factory=list)
    """Of the head-up display and zones: they choose first, so that they stay where they are."""
    faces: list[Label] = field(default_factory=list)
    objects: list[Label] = field(default_factory=list)
    keep_free: list[list[int]] = field(default_factory=list)
    """What labels should not cover."""


class Renderer(Stage):
    """The rendering stage of a run.

    Args:
        settings: what is drawn and how.
        clock: monotonic seconds.

    Raises:
        ConfigError: `font` is no font.
    """

    name = "render"

    def __init__(self, settings: RenderSettings = EVERYTHING, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._theme = THEMES[settings.theme]
        self._typeface = Typeface(settings.font)
        self._trails = Trails(settings.trail_s)
        self._paces: dict[str, Pace] = {}

    def open(self) -> None:
        """Load the font: 25 ms."""
        self._typeface.patch("0", SMALLEST_TEXT)

    def process(self, frame: Frame) -> None:
        """Add the annotated picture."""
        canvas = canvas_of(frame.output)
        levels = canvas.grey(self._theme.paper), canvas.grey(self._theme.ink)
        scene = Scene(frame, canvas, Sizes.of(self._settings, frame), *levels)
        if self._settings.hud:
            self._write_hud(scene)
        if self._settings.zones:
            self._draw_zones(scene)
        if frame.detections is not None:
            self._draw_detections(scene, frame.detections)
        if frame.faces is not None:
            self._draw_faces(scene, frame.faces)
        self._write_labels(scene)
        frame.rendered = scene.canvas.picture()

    def end(self, source: str) -> None:
        """Forget the source's pace and trails."""
        self._paces.pop(source, None)
        self._trails.end(source)

    def _write_hud(self, scene: Scene) -> None:
        frame = scene.frame
        pace = self._paces.setdefault(frame.source, Pace())
        pace.update(self._clock(), frame.captured_at)
        scene.display.append(self._label(scene, pace.text(frame.source), (0, 0, 0, 0), None))

    def _draw_zones(self, scene: Scene) -> None:
        for zone in scene.frame.zones:
            colour = self._theme.alarm if zone.alarm else self._theme.zone
            thickness = scene.sizes.thickness + zone.alarm
            draw_zone(scene.canvas, zone, colour, thickness, scene.sizes.short_side)
            if self._settings.labels:
                scene.display.append(self._label(scene, zone_text(zone), zone_anchor(zone), colour))

    def _draw_detections(self, scene: Scene, detections: Detections) -> None:
        finite = np.isfinite(detections.boxes).all(axis=1)
        if not finite.all():
            detections = detections[finite]
        colours = [self._theme.of_class(class_id) for class_id in detections.class_ids.tolist()]
        self._draw_trails(scene, detections, colours)
        self._draw_objects(scene, detections, colours)
        boxes = _inside(scene, detections.boxes)
        for box, colour in zip(reversed(boxes), reversed(colours), strict=True):  # the best on top
            self._draw_box(scene, box, colour, scene.frame.predicted)
        if self._settings.labels:
            texts = self._texts(scene.frame, detections)
            scene.keep_free.extend(_heads(boxes))
            for row in _oldest_first(detections):
                edges = _edges(scene, boxes[row], scene.frame.predicted)
                scene.objects.append(self._label(scene, texts[row], edges, colours[row]))

    def _draw_trails(self, scene: Scene, detections: Detections, colours: list[Colour]) -> None:
        """Draw where tracked objects were, under them."""
        if detections.track_ids is None or not self._settings.trail_s:
            return
        frame, sizes = scene.frame, scene.sizes
        step = max(2.0, STEP * sizes.short_side)
        self._trails.follow(frame.source, frame.pts, detections.track_ids, detections.boxes, step)
        for track, colour in zip(detections.track_ids.tolist(), colours, strict=True):
            if track != UNTRACKED:
                draw_trail(scene.canvas, self._trails.of(frame.source, track), colour, sizes.thickness + 1)

    def _draw_objects(self, scene: Scene, detections: Detections, colours: list[Colour]) -> None:
        """Draw masks and keypoints, under all boxes; the best on top."""
        thickness = 1 if scene.frame.predicted else scene.sizes.thickness
        masks = detections.masks if self._settings.masks else None
        keypoints = detections.keypoints if self._settings.keypoints else None
        if masks is None and keypoints is None:
            return
        for row in reversed(range(len(detections))):
            if masks is not None:
                draw_mask(scene.canvas, masks, row, colours[row])
            if keypoints is not None:
                draw_keypoints(scene.canvas, keypoints[row], colours[row], scene.sizes.radius, thickness)

    def _texts(self, frame: Frame, detections: Detections) -> list[str]:
        """Return what is written at each object: who or what it is, its track, its score, its speed."""
        count, about = len(detections), "~" if frame.predicted else ""
        names = detections.names or (None,) * count
        tracks = [UNTRACKED] * count if detections.track_ids is None else detections.track_ids.tolist()
        speeds = _speeds(detections) if self._settings.speeds else [""] * count
        kinds = [frame.label(class_id) for class_id in detections.class_ids.tolist()]
        texts = []
        for name, kind, track, score, speed in zip(
            names, kinds, tracks, detections.scores.tolist(), speeds, strict=True
        ):
            number = "" if track == UNTRACKED else f" #{track}"
            sure = f" {score:.2f}" if name is None else ""  # how sure the class is: beside a name it would mislead
            texts.append(f"{about}{kind if name is None else name}{number}{sure}{speed}")
        return texts

    def _draw_faces(self, scene: Scene, faces: Faces) -> None:
        finite = np.isfinite(faces.boxes).all(axis=1)
        if not finite.all():
            faces = faces[finite]
        boxes = _inside(scene, faces.boxes)
        names = faces.names or (None,) * len(faces)
        similarities = [math.nan] * len(faces) if faces.similarities is None else faces.similarities.tolist()
        for row in reversed(range(len(faces))):
            colour = self._theme.unknown if names[row] is None else self._theme.known
            self._draw_box(scene, boxes[row], colour, faces.predicted)
            if self._settings.landmarks:
                points = faces.landmarks[row]
                for x, y, _, _ in _inside(scene, np.tile(points[np.isfinite(points).all(axis=1)], 2)):
                    scene.canvas.disc((x, y), scene.sizes.radius, self._theme.landmark)
        for row in _oldest_first(faces) if self._settings.labels else ():
            text = ("~" if faces.predicted else "") + face_text(names[row], similarities[row])
            edges = _edges(scene, boxes[row], faces.predicted)
            colour = self._theme.unknown if names[row] is None else self._theme.known
            scene.faces.append(self._label(scene, text, edges, colour))
        scene.keep_free.extend(boxes)

    def _draw_box(self, scene: Scene, box: list[int], colour: Colour, predicted: bool) -> None:
        if not self._settings.boxes:
            return
        left, top, right, bottom = box
        thickness = 1 if predicted else scene.sizes.thickness
        if self._theme.halo is not None:
            scene.canvas.rectangle((left, top), (right - 1, bottom - 1), self._theme.halo, thickness + 2)
        scene.canvas.rectangle((left, top), (right - 1, bottom - 1), colour, thickness)

    def _label(self, scene: Scene, text: str, box: Box, colour: Colour | None) -> Label:
        return Label(self._typeface.patch(text, scene.sizes.text, scene.paper, scene.ink), box, colour)

    def _write_labels(self, scene: Scene) -> None:
        """Find a place for each, the most important first; write them the other way round."""
        size = scene.frame.width, scene.frame.height
        placement = Placement(size, max(4, scene.sizes.text // 2))
        placement.avoid(scene.keep_free)
        placed: list[tuple[Label, Point]] = []
        bar, canvas = scene.sizes.bar, scene.canvas
        for label in (*scene.display, *scene.faces, *scene.objects):
            if _is_seen(label.box, size):
                height, width = label.text.shape
                placed.append((label, placement.place(label.box, width + (bar if label.colour else 0), height)))
        for label, corner in reversed(placed):
            if label.colour is None:
                canvas.write(corner, label.text)
            else:
                canvas.write(corner, label.text, bar, label.colour)


def face_text(name: str | None, similarity: float) -> str:
    """Return what is written at a face: who it is and how alike; unknown; or, where nobody asked, that it is one."""
    if name is not None:
        return f"{name} {similarity:.2f}" if math.isfinite(similarity) else name
    return "unknown" if math.isfinite(similarity) else "face"


def _heads(boxes: list[list[int]]) -> list[list[int]]:
    """Return the part of each box by which an object is known: of a person, the head."""
    return [[left, top, right, top + (bottom - top) // HEAD] for left, top, right, bottom in boxes]


def _speeds(detections: Detections) -> list[str]:
    """Return how fast each moves: on the ground where that is known, else in the picture."""
    texts = [""] * len(detections)
    if detections.velocities is not None:
        in_picture = np.hypot(detections.velocities[:, 0], detections.velocities[:, 1]).tolist()
        texts = [f" {speed:.0f} px/s" if math.isfinite(speed) else "" for speed in in_picture]
    if detections.speeds_m_s is not None:
        on_ground = detections.speeds_m_s.tolist()
        texts = [
            f" {speed:.1f} m/s" if math.isfinite(speed) else text for speed, text in zip(on_ground, texts, strict=True)
        ]
    return texts


def _oldest_first(found: Detections | Faces) -> list[int]:
    """Return the rows in the order in which their labels choose a place.

    By track where there are tracks: by score, two that are close would change places from frame to frame.
    """
    if found.track_ids is None:
        return list(range(len(found)))
    tracks = found.track_ids.tolist()
    return sorted(range(len(found)), key=lambda row: (tracks[row] == UNTRACKED, tracks[row]))


def _edges(scene: Scene, box: list[int], predicted: bool) -> Box:
    """Return what a box takes with its outline."""
    left, top, right, bottom = box
    return outer_edges((left, top), (right - 1, bottom - 1), 1 if predicted else scene.sizes.thickness)


def _inside(scene: Scene, boxes: FloatArray) -> list[list[int]]:
    """Return boxes as whole pixels; a line beyond the frame is not seen, and OpenCV's integers do not overflow."""
    beyond, frame = 4 * scene.sizes.thickness, scene.frame
    lowest, highest = (-beyond,) * 4, (frame.width + beyond, frame.height + beyond) * 2
    whole: list[list[int]] = boxes.round().clip(lowest, highest).astype(int).tolist()
    return whole


def _is_seen(box: Box, size: tuple[int, int]) -> bool:
    """Return whether any of a box is in the picture: nothing is said of what cannot be seen."""
    left, top, right, bottom = box
    return right >= 0 and bottom >= 0 and left <= size[0] and top <= size[1]
