"""Zones and lines on the picture: an area has an outline and a light tint, a line an arrow to the side that is in."""

from __future__ import annotations

import numpy as np

from pipeline.arrays import FloatArray, IntArray
from pipeline.render.canvas import Canvas, Colour
from pipeline.render.objects import BEYOND
from pipeline.zones import ZoneState

TINT, ALARM_TINT = 0.15, 0.25
ARROW = 0.06
"""Length, as part of the picture's shorter side."""
HEAD = 0.4
"""Of the arrow, as part of its length."""


def draw_zone(canvas: Canvas, zone: ZoneState, colour: Colour, thickness: int, short_side: int) -> None:
    """Draw an area or a line.

    Args:
        canvas: what to draw on.
        zone: it.
        colour: of all of it.
        thickness: of its outline.
        short_side: of the picture, pixels.
    """
    points = pixels(zone.points)
    if not zone.is_line:
        canvas.tint_polygon(points, colour, ALARM_TINT if zone.alarm else TINT)
        canvas.polyline(points, colour, thickness, closed=True)
        return
    canvas.polyline(points, colour, thickness + 1)
    for place in points.tolist():
        canvas.disc((place[0], place[1]), 2 * thickness + 1, colour)
    for stroke in arrow(zone.points, max(8.0, ARROW * short_side)):
        canvas.polyline(pixels(stroke), colour, thickness + 1)


def arrow(line: FloatArray, length: float) -> list[FloatArray]:
    """Return the strokes of an arrow from the middle of a line to its right, as seen from its first end."""
    start, end = line[0].astype(float), line[1].astype(float)
    along = (end - start) / max(1e-6, float(np.hypot(*(end - start))))
    across = np.array([-along[1], along[0]])  # y points down
    foot = (start + end) / 2
    tip = foot + across * length
    barbs = [tip + (side * along - across) * (HEAD * length) for side in (-1, 1)]
    return [np.array([foot, tip], np.float32), np.array([barbs[0], tip, barbs[1]], np.float32)]


def zone_text(zone: ZoneState) -> str:
    """Return its name and counts: how many of each class are in an area, how many have crossed a line."""
    if zone.is_line:
        return f"{zone.name}  in {sum(zone.entered.values())}  out {sum(zone.left.values())}"
    inside = ", ".join(f"{count} {name}" for name, count in zone.inside.items() if count)
    return f"{zone.name}  {inside or '0'}"


def zone_anchor(zone: ZoneState) -> tuple[int, int, int, int]:
    """Return the corner that its label is at, as a box: the highest, of several the leftmost; of a line its start."""
    points = pixels(zone.points).tolist()
    x, y = points[0] if zone.is_line else min(points, key=lambda point: (point[1], point[0]))
    return x, y, x, y


def pixels(points: FloatArray) -> IntArray:
    """Round to (K, 2) int32 that OpenCV can count to."""
    return np.asarray(points.round().clip(-BEYOND, BEYOND), np.int32)
