"""View: a part of a source's pictures, or not all of them.

What `max_fps` leaves out is not captured, as far as the accounts go: it is a choice, no loss.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from pipeline.capture.source import Damaged, Source, Wrapped
from pipeline.errors import SourceError
from pipeline.frame import Frame
from pipeline.picture import Rectangle, cropped

SLACK = 0.25
"""Part of an interval by which a picture may be early and is taken nevertheless: timestamps are not exact."""


class Throttled(Wrapped):
    """At most so many pictures per second of media time."""

    def __init__(self, source: Source, max_fps: float) -> None:
        super().__init__(source)
        self._interval_s = 1 / max_fps

    def frames(self) -> Iterator[Frame | Damaged]:
        """Yield the pictures that are due, numbered without gaps."""
        interval_s, due_s, index = self._interval_s, -math.inf, 0
        for item in super().frames():
            if isinstance(item, Frame):
                early_s = due_s - item.pts
                if SLACK * interval_s < early_s <= (1 + SLACK) * interval_s:  # earlier still: its clock has jumped back
                    continue
                regular = abs(early_s) < interval_s
                due_s = interval_s + (due_s if regular else item.pts)
                item.index = index
            index += 1
            yield item


class Cropped(Wrapped):
    """A rectangle of each picture."""

    def __init__(self, source: Source, box: Rectangle) -> None:
        super().__init__(source)
        self._box = box
        self._resize_info()

    def open(self) -> None:
        """Open it.

        Raises:
            SourceError: the rectangle reaches beyond the picture.
        """
        super().open()
        if self.info.width is not None and self.info.height is not None:
            self._check(self.info.width, self.info.height)
        self._resize_info()

    def _resize_info(self) -> None:
        self.info = replace(self.inner.info, width=self._box[2], height=self._box[3])

    def frames(self) -> Iterator[Frame | Damaged]:
        """Yield the parts."""
        for item in super().frames():
            if isinstance(item, Frame):
                self._check(item.width, item.height)
                item.picture = cropped(item.picture, self._box)
            yield item

    def _check(self, width: int, height: int) -> None:
        left, top, across, down = self._box
        if left + across > width or top + down > height:
            raise SourceError(
                f"{self.info.name}: crop {list(self._box)} (left, top, width, height) reaches beyond the picture, "
                f"which is {width} x {height}"
            )


def view_of(source: Source, max_fps: float | None, crop: Rectangle | None) -> Source:
    """Return the source with what was asked for around it."""
    if max_fps is not None:
        source = Throttled(source, max_fps)
    return source if crop is None else Cropped(source, crop)
