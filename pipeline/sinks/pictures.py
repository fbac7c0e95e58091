"""Pictures: frames as JPEG or PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2

from pipeline.capture.source import SourceInfo
from pipeline.errors import ConfigError, SinkError
from pipeline.frame import Frame
from pipeline.sinks.paths import prepare_folder
from pipeline.sinks.sink import Sink


@dataclass(frozen=True)
class PictureOptions:
    """Where and how pictures are written."""

    folder: Path
    format: Literal["jpg", "png"] = "jpg"
    quality: int = 90
    """Of JPEG, 1..100."""
    every: int = 1
    """Write each n-th frame of a source."""


class Pictures(Sink):
    """Writes `<folder>/<source>-<frame number>.jpg`."""

    name = "frames"

    def __init__(self, options: PictureOptions) -> None:
        self._options = options
        self._parameters = [cv2.IMWRITE_JPEG_QUALITY, options.quality] if options.format == "jpg" else []

    def check(self, sources: Sequence[SourceInfo]) -> None:
        """Make the folder; refuse one whose pictures are a source."""
        for source in sources:
            if self._options.folder.resolve() in source.folders:
                raise ConfigError(
                    f"sinks.frames: source {source.name} reads its images from {self._options.folder}, where they "
                    "could be overwritten: name another folder"
                )
        prepare_folder(self._options.folder, "sinks.frames")

    def consume(self, frame: Frame) -> None:
        """Write the annotated picture."""
        if frame.index % self._options.every:
            return
        path = self._options.folder / f"{frame.source}-{frame.index:06d}.{self._options.format}"
        try:
            done, encoded = cv2.imencode(path.suffix, frame.output.bgr, self._parameters)
        except cv2.error:
            done = False
        if not done:  # JPEG ends at 65535 pixels a side
            size = f"{frame.width} x {frame.height}"
            raise SinkError(f"cannot write {path}: a picture of {size} is no {self._options.format}")
        try:
            path.write_bytes(encoded.tobytes())
        except OSError as error:
            path.unlink(missing_ok=True)  # a part of a picture is none
            raise SinkError(f"cannot write {path}: {error.strerror}") from error

    @property
    def files(self) -> list[Path]:
        """The folder."""
        return [self._options.folder]
