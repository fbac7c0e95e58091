"""Images as a source: one file, a folder, or a glob; in natural order (img2 before img10)."""

from __future__ import annotations

import glob
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from pipeline.capture.file import check_readable
from pipeline.capture.source import Damaged, SourceInfo
from pipeline.errors import SourceError
from pipeline.frame import Frame
from pipeline.picture import Image, Picture

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
FPS = 25.0
"""Images have no time of their own; a recording of them plays at this rate."""


def is_image(path: Path) -> bool:
    """Whether the name is that of an image."""
    return path.suffix.lower() in SUFFIXES


def find_images(place: str) -> list[Path]:
    """Return the images that a file name, a folder or a glob stands for, in natural order.

    Raises:
        SourceError: there are none.
    """
    path = Path(place)
    if path.is_dir():
        found = [entry for entry in path.iterdir() if is_image(entry)]
        if not found:
            raise SourceError(f"{path} holds no images ({', '.join(sorted(SUFFIXES))})")
    elif path.exists() or not glob.has_magic(place):
        found = [path]
    else:
        found = [Path(name) for name in glob.glob(place, recursive=True) if is_image(Path(name))]
        if not found:
            raise SourceError(f"no image matches {place}")
    return sorted(found, key=_natural)


def read_image(path: Path) -> Image | None:
    """Read H x W x 3 uint8 BGR, turned by its EXIF orientation; None where it cannot be decoded."""
    try:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    except cv2.error:  # beyond OpenCV's own limit on pixels
        return None
    return None if image is None else np.asarray(image, dtype=np.uint8)


class Images:
    """Image files as a source; `frame.file` names each."""

    def __init__(
        self, name: str, place: str, rotate: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.info = SourceInfo(name, place, fps=FPS)
        self._turns = -(rotate or 0) // 90
        self._clock = clock
        self._stopped = False
        self._unreadable: list[Path] = []

    def open(self) -> None:
        """Find the files, and read the first to see that it is an image."""
        self._files = find_images(self.info.url)
        check_readable(self._files[0])
        if len(self._files) == 1 and read_image(self._files[0]) is None:
            raise SourceError(f"{self._files[0]} is not an image that can be read")
        self.info = replace(self.info, frames=len(self._files))

    def frames(self) -> Iterator[Frame | Damaged]:
        """Read one after the other."""
        for index, path in enumerate(self._files):
            if self._stopped:
                return
            image = read_image(path)
            now = self._clock()
            if image is None:
                self._unreadable.append(path)
                yield Damaged(self.info.name, now)
                continue
            image = np.ascontiguousarray(np.rot90(image, self._turns))
            yield Frame(self.info.name, index, index / FPS, now, Picture(bgr=image), file=path)

    def remark(self) -> str | None:
        """Name the files that could not be read."""
        if not self._unreadable:
            return None
        names = ", ".join(path.name for path in self._unreadable[:3])
        more = f" and {len(self._unreadable) - 3} more" if len(self._unreadable) > 3 else ""
        return f"{self.info.url}: {len(self._unreadable)} of {len(self._files)} images cannot be read: {names}{more}"

    def stop(self) -> None:
        """End after the current image."""
        self._stopped = True

    def close(self) -> None:
        """Nothing is held open."""


def _natural(path: Path) -> list[tuple[int, int, str]]:
    parts = re.split(r"(\d+)", str(path))
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]
