"""A test pattern that needs no file: moving bars whose brightness tells the frame's number.

`synthetic` or `synthetic://640x480@30?frames=100`; without `frames` it never ends. With `live=1` (`?frames=100&live=1`)
it is a camera: pictures come at their rate, and one that nobody is there to take is lost.
"""

from __future__ import annotations

import itertools
import re
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np

from pipeline.capture.source import Damaged, Source, SourceInfo
from pipeline.errors import SourceError
from pipeline.frame import Frame
from pipeline.picture import Picture, Planes

PATTERN = re.compile(
    r"synthetic(?:://(?P<width>\d+)x(?P<height>\d+)(?:@(?P<fps>\d+(?:\.\d+)?))?)?(?:\?(?P<query>.+))?",
    re.ASCII,
)
QUERY = re.compile(r"frames=\d+|live=[01]", re.ASCII)
FORM = "synthetic://640x480@30?frames=100, with &live=1 as from a camera"
LARGEST_SIDE = 16384


def is_synthetic(url: str) -> bool:
    """Whether the address asks for the test pattern."""
    return url.split(":")[0].split("?")[0] == "synthetic"


class Synthetic(Source):
    """The test pattern as a source; as fast as it is taken, like a file, or in real time, like a camera."""

    def __init__(self, name: str, url: str = "synthetic", clock: Callable[[], float] = time.monotonic) -> None:
        """Read the address.

        Args:
            name: of the source.
            url: of the form shown above.
            clock: monotonic seconds; of a live one, those that really pass.

        Raises:
            SourceError: it is not of the form shown above, or a number makes no sense.
        """
        match = PATTERN.fullmatch(url)
        query = _query(match["query"]) if match else None
        if match is None or query is None:
            raise SourceError(f"{url!r} is not of the form {FORM}")
        width, height = int(match["width"] or 640), int(match["height"] or 480)
        if width % 2 or height % 2 or not width or not height:
            raise SourceError(f"{url!r}: width and height must be even and not zero")
        if max(width, height) > LARGEST_SIDE:
            raise SourceError(f"{url!r}: width and height must not exceed {LARGEST_SIDE}")
        fps, frames = float(match["fps"] or 30), query.get("frames")
        if fps == 0 or frames == 0:
            raise SourceError(f"{url!r}: neither the rate nor the number of frames can be 0")
        self.info = SourceInfo(name, url, query.get("live") == 1, width, height, fps, frames)
        self._clock = clock
        self._stopped = threading.Event()

    def open(self) -> None:
        """Draw the bars once."""
        height, width = self.info.height or 0, self.info.width or 0
        ramp = np.linspace(16, 235, width, dtype=np.uint8)
        self._pattern = np.full((height * 3 // 2, width * 2), 128, np.uint8)
        self._pattern[:height] = np.concatenate([ramp, ramp])

    def frames(self) -> Iterator[Frame | Damaged]:
        """Yield the pattern, moved by two pixels a frame."""
        width, fps, live = self.info.width or 0, self.info.fps or 30, self.info.live
        numbers = itertools.count() if self.info.frames is None else range(self.info.frames)
        for index, tick in zip(numbers, self._ticks(fps) if live else itertools.count(), strict=False):
            if self._stopped.is_set():
                return
            captured_at, wall_time = self._clock(), time.time() if live else None
            start = 2 * index % width
            planes = Planes(np.ascontiguousarray(self._pattern[:, start : start + width]))
            yield Frame(self.info.name, index, tick / fps, captured_at, Picture(planes=planes), wall_time)

    def _ticks(self, fps: float) -> Iterator[int]:
        """Yield the numbers of a camera's pictures, each when it is due, without those that were not taken in time."""
        began, tick = self._clock(), 0
        while not self._stopped.wait(max(0.0, began + tick / fps - self._clock())):
            yield tick
            tick = max(tick + 1, int((self._clock() - began) * fps))

    def remark(self) -> str | None:
        """Nothing can go wrong."""
        return None

    def stop(self) -> None:
        """End, after the current picture or while the next is awaited."""
        self._stopped.set()

    def close(self) -> None:
        """Nothing is held open."""


def _query(text: str | None) -> dict[str, int] | None:
    """Return what stands behind the question mark; None where that is not understood."""
    parts = text.split("&") if text else []
    if not all(QUERY.fullmatch(part) for part in parts):
        return None
    values = {name: int(value) for name, value in (part.split("=") for part in parts)}
    return values if len(values) == len(parts) else None
