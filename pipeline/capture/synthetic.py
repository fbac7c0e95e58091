"""A test pattern that needs no file: moving bars whose brightness tells the frame's number.

`synthetic` or `synthetic://640x480@30?frames=100`; without `frames` it never ends.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Iterator

import numpy as np

from pipeline.capture.source import Damaged, Source, SourceInfo
from pipeline.errors import SourceError
from pipeline.frame import Frame
from pipeline.picture import Picture, Planes

PATTERN = re.compile(
    r"synthetic(?:://(?P<width>\d+)x(?P<height>\d+)(?:@(?P<fps>\d+(?:\.\d+)?))?)?(?:\?frames=(?P<frames>\d+))?",
    re.ASCII,
)
LARGEST_SIDE = 16384


def is_synthetic(url: str) -> bool:
    """Whether the address asks for the test pattern."""
    return url.split(":")[0].split("?")[0] == "synthetic"


class Synthetic(Source):
    """The test pattern as a source; as fast as it is taken, like a file."""

    def __init__(self, name: str, url: str = "synthetic", clock: Callable[[], float] = time.monotonic) -> None:
        """Read the address.

        Raises:
            SourceError: it is not of the form shown above, or a number makes no sense.
        """
        match = PATTERN.fullmatch(url)
        if match is None:
            raise SourceError(f"{url!r} is not of the form synthetic://640x480@30?frames=100")
        width, height = int(match["width"] or 640), int(match["height"] or 480)
        if width % 2 or height % 2 or not width or not height:
            raise SourceError(f"{url!r}: width and height must be even and not zero")
        if max(width, height) > LARGEST_SIDE:
            raise SourceError(f"{url!r}: width and height must not exceed {LARGEST_SIDE}")
        fps, frames = float(match["fps"] or 30), int(match["frames"]) if match["frames"] else None
        if fps == 0 or frames == 0:
            raise SourceError(f"{url!r}: neither the rate nor the number of frames can be 0")
        self.info = SourceInfo(name, url, False, width, height, fps, frames)
        self._clock = clock
        self._stopped = False

    def open(self) -> None:
        """Draw the bars once."""
        height, width = self.info.height or 0, self.info.width or 0
        ramp = np.linspace(16, 235, width, dtype=np.uint8)
        self._pattern = np.full((height * 3 // 2, width * 2), 128, np.uint8)
        self._pattern[:height] = np.concatenate([ramp, ramp])

    def frames(self) -> Iterator[Frame | Damaged]:
        """Yield the pattern, moved by two pixels a frame."""
        width, fps = self.info.width or 0, self.info.fps or 30
        for index in itertools.count() if self.info.frames is None else range(self.info.frames):
            if self._stopped:
                return
            start = 2 * index % width
            planes = Planes(np.ascontiguousarray(self._pattern[:, start : start + width]))
            yield Frame(self.info.name, index, index / fps, self._clock(), Picture(planes=planes))

    def remark(self) -> str | None:
        """Nothing can go wrong."""
        return None

    def stop(self) -> None:
        """End after the current picture."""
        self._stopped = True

    def close(self) -> None:
        """Nothing is held open."""
