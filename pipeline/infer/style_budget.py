"""The largest size that a style network can paint in a time: measured on this machine, when the stage opens.

The time of a network goes almost with the number of pixels. So a few sizes are measured, from the largest asked for
down to one that fits, and between the last two the pixels are interpolated; what comes out is measured again, and made
smaller where it still takes too long. Each size that is measured is compiled, 0.3 to 0.6 s on a CPU.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from pipeline.infer.picture_stylizer import PictureStylizer, Styling
from pipeline.picture import Picture

if TYPE_CHECKING:
    from pipeline.infer.sized_engines import Size

ROUNDS = 3
"""Measurements of which the fastest counts: whatever else runs only makes one slower."""
FRAMES = 2
"""Of a measurement, for each request in flight."""
SMALLER = 0.5
"""Part of the pixels' side that is tried next."""
SMALLEST = 64
"""Short side, pixels, below which no budget goes."""
CORRECTIONS = 2

logger = logging.getLogger(__name__)


def fit_budget(stylizer: PictureStylizer, budget_ms: float, frame: Size) -> str:
    """Set `stylizer.most_pixels` so that a picture is painted within a time, and say in words what came out.

    Args:
        stylizer: whose network is measured.
        budget_ms: for each picture, with as many in flight as there may be.
        frame: height and width of the frames.
    """
    slower: tuple[float, int] | None = None
    side = float(min(stylizer.short_side, *frame))
    while True:
        took, pixels, size = _at(stylizer, frame, side)
        if took <= budget_ms or stylizer.only_size or side <= SMALLEST:
            break
        slower, side = (took, pixels), max(SMALLEST, side * SMALLER)
    if took <= budget_ms and slower is not None:
        share = (budget_ms - took) / (slower[0] - took)
        took, size = _corrected(stylizer, frame, budget_ms, pixels + share * (slower[1] - pixels))
    words = f"{size[1]}x{size[0]} takes {took:.1f} ms of {budget_ms:g}"
    if took > budget_ms:
        logger.warning("%s: no size fits stylize.budget_ms: %s", stylizer.spec.name, words)
    return words


def _at(stylizer: PictureStylizer, frame: Size, side: float) -> tuple[float, int, Size]:
    """Measure with a short side, and leave the stylizer at it."""
    stylizer.most_pixels = side * side * max(frame) / min(frame)
    took, size = seconds(stylizer, frame)
    return took * 1e3, size[0] * size[1], size


def _corrected(stylizer: PictureStylizer, frame: Size, budget_ms: float, pixels: float) -> tuple[float, Size]:
    for _ in range(CORRECTIONS):
        stylizer.most_pixels = pixels
        took, size = seconds(stylizer, frame)
        if took * 1e3 <= budget_ms:
            break
        pixels = size[0] * size[1] * budget_ms / (took * 1e3)
    return took * 1e3, size


def seconds(stylizer: PictureStylizer, frame: Size) -> tuple[float, Size]:
    """Return what a picture takes with all requests in flight, the fastest of a few rounds, and the input's size."""
    picture = Picture(bgr=np.random.default_rng(0).integers(0, 256, (*frame, 3), np.uint8))
    size = stylizer.prepare(*frame).engine.input_size
    count = FRAMES * stylizer.requests
    return min(paint_all(stylizer, picture, count) for _ in range(ROUNDS)) / count, size


def paint_all(stylizer: PictureStylizer, picture: Picture, count: int) -> float:
    """Paint a picture so many times, as many at once as may be; return the seconds."""
    began = time.perf_counter()
    running: deque[Styling] = deque()
    for _ in range(count):
        if len(running) == stylizer.requests:
            stylizer.finish(running.popleft())
        running.append(stylizer.start(picture))
    while running:
        stylizer.finish(running.popleft())
    return time.perf_counter() - began
