"""TiledDetector: one picture, detected in window by window, as one.

A CPU's engine takes one picture a request, so a picture's windows are as many requests; on a GPU they are batches. An
engine's `submit` waits where all its requests are busy. Whoever starts more than that must not wait for itself, so
`start` reads its own oldest window before it would: what it waits for then is in the hands of others, who need nothing
from it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipeline.frame import Detections
from pipeline.infer.requests import Request
from pipeline.infer.tiles import TileOptions, windows
from pipeline.picture import Picture, Rectangle, cropped
from pipeline.postprocess.seams import InWindow, join

if TYPE_CHECKING:
    from pipeline.arrays import FloatArray
    from pipeline.infer.letterbox import Letterbox
    from pipeline.infer.picture_detector import PictureDetector

CUT_WITHIN = 4
"""Pixels of the model's input: a box that ends so near a seam is cut by it. By 1 and by 8 AP falls by 0.6 and 0.9."""


class Window:
    """A part of a picture that a model works on; `read` keeps what was found and lets go of the outputs."""

    def __init__(self, detector: PictureDetector, search: Search, place: Rectangle) -> None:
        """A window at `place`, not started yet."""
        self._detector, self._search, self.place = detector, search, place
        self._work: tuple[Request, int, Letterbox] | None = None
        self._seen: InWindow | None = None

    @property
    def picture(self) -> Picture:
        """Its pixels; BGR is not copied."""
        left, top, width, height = self.place
        whole = self._search.picture
        if self.place == (0, 0, whole.width, whole.height):
            return whole
        if whole.planes is None:
            return Picture(bgr=whole.bgr[top : top + height, left : left + width])
        return cropped(whole, self.place)

    def started(self, request: Request, number: int, plan: Letterbox) -> None:
        """Note that it is picture `number` of a request."""
        self._work = request, number, plan

    def read(self) -> InWindow | None:
        """Wait for what was found, once; None where it was never started.

        Raises:
            EngineError: the request failed.
        """
        if self._work is not None:
            (request, number, plan), self._work = self._work, None
            found = self._detector.read(request.outputs_of(number), plan)
            margin = CUT_WITHIN * max(plan.source) / max(plan.content)
            cut = self._ends_at_seam(found.boxes, margin)
            self._seen = InWindow(_moved(found, self.place, self._search.size), cut)
        return self._seen

    def _ends_at_seam(self, boxes: FloatArray, margin: float) -> npt.NDArray[np.bool_]:
        """Return which of its (N, 4) boxes end at an edge that is not the edge of all windows together."""
        left, top, width, height = self.place
        area = self._search.area
        seams = (left > area[0], top > area[1], left + width < area[2], top + height < area[3])
        at_edge = np.concatenate([boxes[:, :2] < margin, boxes[:, 2:] > np.array([width, height]) - margin], axis=1)
        return np.asarray((at_edge & seams).any(axis=1))


class Search:
    """A picture whose windows a model works on."""

    def __init__(self, detector: PictureDetector, picture: Picture, places: Sequence[Rectangle]) -> None:
        """Windows at `places`, not started yet."""
        self._detector, self.picture = detector, picture
        self.labels = detector.labels
        self.size = picture.height, picture.width
        edges = np.array([(left, top, left + width, top + height) for left, top, width, height in places])
        self.area = (*edges[:, :2].min(axis=0).tolist(), *edges[:, 2:].max(axis=0).tolist())
        """Left, top, right, bottom of all windows together."""
        self.windows = [Window(detector, self, place) for place in places]

    def detections(self) -> Detections:
        """Wait for all windows and return what they show, in frame pixels.

        Raises:
            EngineError: a request failed; all others have been waited for.
        """
        try:
            seen = [each for window in self.windows if (each := window.read()) is not None]
        except BaseException:
            _let_go(self.windows)
            raise
        options = self._detector.options
        return join(seen, options.iou, class_agnostic=options.class_agnostic, most=options.max_detections)


class TiledDetector:
    """A detector that looks at the windows of pictures. `start` is for one thread, each search for one, too."""

    def __init__(self, detector: PictureDetector, options: TileOptions | None = None) -> None:
        """Nothing is started.

        Args:
            detector: what looks at each window.
            options: how `__call__` cuts a picture.
        """
        self.detector, self.options = detector, options or TileOptions()

    def start(self, pictures: Sequence[Picture], places: Sequence[Sequence[Rectangle]]) -> list[Search]:
        """Start on pictures; wait only where the engine has no room.

        Args:
            pictures: of any sizes; they are kept until they are collected.
            places: the windows of each.

        Returns:
            A search for each picture; the `detections` of each must be asked for, in this order.

        Raises:
            EngineError: a request failed; what was started has been waited for.
        """
        searches = [Search(self.detector, *each) for each in zip(pictures, places, strict=True)]
        waiting = iter([window for search in searches for window in search.windows])
        running: deque[list[Window]] = deque()
        engine = self.detector.engine
        try:
            while group := list(islice(waiting, max(1, self.detector.batch))):
                if len(running) == engine.requests:  # all are ours: nobody else can make room
                    for window in running.popleft():
                        window.read()
                plans, pending = self.detector.start([window.picture for window in group])
                request = Request(pending, len(group))
                for number, (window, plan) in enumerate(zip(group, plans, strict=True)):
                    window.started(request, number, plan)
                running.append(group)
        except BaseException:
            _let_go([window for search in searches for window in search.windows])
            raise
        return searches

    def __call__(self, picture: Picture, region: Rectangle | None = None) -> Detections:
        """Detect in one picture, or a region of it.

        Raises:
            ConfigError: the region lies outside the picture, or there are too many tiles.
        """
        size = picture.height, picture.width
        places = windows(size, self.detector.engine.input_size, self.options, region)
        return self.start([picture], [places])[0].detections()


def _let_go(several: Sequence[Window]) -> None:
    """After a failure: wait for the others' requests, or the engine would never have room for them again."""
    for window in several:
        with suppress(Exception):
            window.read()


def _moved(found: Detections, place: Rectangle, size: tuple[int, int]) -> Detections:
    """Return what was found in a window in pixels of the frame, which is of `size` (height, width)."""
    left, top = place[:2]
    shift = np.array([left, top, left, top], np.float32)
    masks, points = found.masks, found.keypoints
    return Detections(
        found.boxes + shift,
        found.scores,
        found.class_ids,
        masks=None if masks is None else masks.moved(left, top, size),
        keypoints=None if points is None else points + np.array([left, top, 0], np.float32),
    )
