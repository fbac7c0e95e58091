"""Mp4File: encoded pictures in a file that plays up to its last second even if the process is killed.

Hybrid-fragmented MP4: while it is written it is a fragmented file (a fragment ends at each keyframe, and a keyframe
comes at least every second of media time), on a clean close it becomes an ordinary one. Plain MP4 lost every frame
to a SIGKILL, this 1 of 361. `delay_moov` keeps the time of the first picture where it is not 0.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

# OpenCV first: loaded after PyAV, whose libxcb differs, its windows hang (PyAV issue 978)
import cv2  # noqa: F401

# isort: split
import av

from pipeline.errors import SinkError
from pipeline.sinks.video import TIME_BASE, Encoded, describe

BASE, PER_PICTURE, PER_FRAGMENT = 2_000, 32, 120
"""Bytes besides the pictures: of a file, of each picture, and of each fragment, of which a keyframe begins one
(measured at 1 to 60 pictures a second: 1,600, 20 and 110)."""


class Mp4File:
    """One file of one stream; it appears on the disk with its first picture."""

    def __init__(self, path: Path, stream: Any, zero: int = 0) -> None:
        """Prepare the file.

        Args:
            path: of the MP4 file; an existing one is replaced.
            stream: the `Encoded.stream` of all its pictures.
            zero: ticks that become 0 in the file.

        Raises:
            SinkError: the file cannot be created.
        """
        self.path = path
        self.size = BASE
        """Bytes that it takes on the disk, or will when it is finished: an estimate on the safe side."""
        self._zero = zero
        try:
            self._container = av.open(
                f"file:{path}",
                "w",
                format="mp4",
                options={
                    "movflags": "hybrid_fragmented+frag_keyframe+default_base_moof+delay_moov",
                    "flush_packets": "1",
                },
            )
            self._stream: Any = self._container.add_stream_from_template(stream)
            self._stream.time_base = TIME_BASE
        except (av.FFmpegError, OSError, ValueError) as error:
            raise SinkError(f"cannot record to {path}: {describe(error)}") from error

    def write(self, picture: Encoded) -> None:
        """Add one picture; the first must be a keyframe.

        Raises:
            SinkError: the disk is full or gone; what is written so far plays.
        """
        packet = av.Packet(picture.data)
        packet.pts = packet.dts = picture.ticks - self._zero
        packet.time_base = TIME_BASE
        packet.is_keyframe = picture.is_keyframe
        packet.stream = self._stream
        try:
            self._container.mux(packet)
        except (av.FFmpegError, OSError) as error:
            raise SinkError(f"cannot record to {self.path}: {describe(error)}") from error
        self.size += len(picture.data) + PER_PICTURE + (PER_FRAGMENT if picture.is_keyframe else 0)

    def close(self) -> None:
        """Finish the file.

        Raises:
            SinkError: as `write`; the file is closed nevertheless.
        """
        try:
            self._container.close()
        except (av.FFmpegError, OSError) as error:
            raise SinkError(f"cannot finish {self.path}: {describe(error)}") from error
