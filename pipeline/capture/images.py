"""Images as a source: one file, a folder, or a glob; in natural order (img2 before img10)."""

from __future__ import annotations

import glob
import os
import re
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from pipeline.arrays import Image
from pipeline.capture.paths import check_readable
from pipeline.capture.source import Damaged, Source, SourceInfo
from pipeline.errors import SourceError
from pipeline.frame import Frame
from pipeline.picture import Picture

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
FPS = 25.0
"""Images have no time of their own; a recording of them plays at this rate."""
PNG = b"\x89PNG\r\n\x1a\n"


def is_image(path: Path) -> bool:
    """Whether the name is that of an image."""
    return path.suffix.lower() in SUFFIXES


def find_images(place: str) -> list[Path]:
    """Return the images that a file name, a folder or a glob stands for, in natural order.

    Raises:
        SourceError: there are none.
    """
    path = Path(place)
    if os.path.isdir(path):
        try:
            found = [entry for entry in path.iterdir() if is_image(entry) and not entry.is_dir()]
        except OSError as error:
            raise SourceError(f"folder {path} cannot be read: {error.strerror}") from error
        if not found:
            raise SourceError(f"{path} holds no images ({', '.join(sorted(SUFFIXES))})")
    elif os.path.lexists(path) or not glob.has_magic(place):
        found = [path]
    else:
        matches = [Path(name) for name in glob.glob(place, recursive=True)]
        found = [match for match in matches if is_image(match) and not match.is_dir()]
        if not found:
            videos = f"; it matches {matches[0].name}, but of a glob only images are taken" if matches else ""
            raise SourceError(f"no image matches {place}{videos}")
    return sorted(found, key=_natural)


def read_image(path: Path, by_exif: bool = True) -> Image | None:
    """Read H x W x 3 uint8 BGR, turned by its EXIF orientation unless told not to; None where it cannot be decoded."""
    flags = cv2.IMREAD_COLOR if by_exif else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        data = path.read_bytes()
        if data.startswith(PNG) and not _is_whole_png(data):
            return None
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except (OSError, cv2.error):  # among the latter: more pixels than OpenCV takes
        return None
    return None if image is None else np.asarray(image, dtype=np.uint8)


def _is_whole_png(data: bytes) -> bool:
    """Check every chunk's CRC (PNG specification, 5.3), because libpng writes what it finds wrong to the terminal."""
    view, position = memoryview(data), len(PNG)
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        end = position + 8 + length
        if end + 4 > len(data) or zlib.crc32(view[position + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            return False
        if data[position + 4 : position + 8] == b"IEND":
            return True
        position = end + 4
    return False


class Images(Source):
    """Image files as a source; `frame.file` names each.

    Args:
        name: of the source.
        place: a file, a folder or a glob.
        rotate: degrees clockwise (0, 90, 180, 270); None follows each file's EXIF orientation.
    """

    def __init__(
        self, name: str, place: str, rotate: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.info = SourceInfo(name, place, fps=FPS)
        self._by_exif, self._turns = rotate is None, -(rotate or 0) // 90
        self._clock = clock
        self._stopped = False
        self._unreadable: list[Path] = []

    def open(self) -> None:
        """Find the files, and see that one of them is an image."""
        # what OpenCV would write about a damaged file, `remark` says
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        self._files = find_images(self.info.url)
        if len(self._files) == 1:
            check_readable(self._files[0])
        first = next((image for path in self._files if (image := self._read(path)) is not None), None)
        if first is None:
            if len(self._files) == 1:
                raise SourceError(f"{self._files[0]} is not an image that can be read")
            raise SourceError(f"{self.info.url}: none of the {len(self._files)} images can be read")
        folders = frozenset(path.resolve().parent for path in self._files)
        height, width = first.shape[:2]
        self.info = replace(self.info, frames=len(self._files), height=height, width=width, folders=folders)

    def _read(self, path: Path) -> Image | None:
        image = read_image(path, self._by_exif)
        return None if image is None else np.ascontiguousarray(np.rot90(image, self._turns))

    def frames(self) -> Iterator[Frame | Damaged]:
        """Read one after the other."""
        for index, path in enumerate(self._files):
            if self._stopped:
                return
            image = self._read(path)
            now = self._clock()
            if image is None:
                self._unreadable.append(path)
                yield Damaged(self.info.name, now)
            else:
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


def _natural(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    parts = re.split(r"(\d+)", str(path))
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts], str(path)
