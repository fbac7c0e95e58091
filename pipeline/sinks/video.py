"""VideoWriter: one H.264 file that plays up to its last second even if the process is killed.

Hybrid-fragmented MP4: while it is written it is a fragmented file (a fragment ends at each keyframe, and a keyframe
comes at least every second of media time), on a clean close it becomes an ordinary one. Plain MP4 lost every frame
to a SIGKILL, this 1 of 361. One encoder thread: more would take the cores that the model needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
from av.video.frame import PictureType

from pipeline.errors import SinkError
from pipeline.picture import Planes

TIME_BASE = Fraction(1, 90_000)
KEYFRAME_EVERY_S = 1.0
NEVER = 100_000
"""Keyframe distance in frames that the encoder itself would keep; time decides instead."""

Encoder = Literal["auto", "libx264", "h264_nvenc"]


@dataclass(frozen=True)
class VideoOptions:
    """How pictures are encoded."""

    encoder: Encoder = "auto"
    preset: str = "superfast"
    crf: int = 23


class VideoWriter:
    """Writes planes of one size to one file."""

    def __init__(self, path: Path, width: int, height: int, fps: float, sample: Planes, options: VideoOptions) -> None:
        """Create the file.

        Args:
            path: of the MP4 file; an existing one is replaced.
            width: in pixels, even.
            height: in pixels, even.
            fps: nominal rate; timestamps need not follow it.
            sample: planes whose colour tags the file gets.
            options: the encoder and its settings.

        Raises:
            SinkError: the file cannot be created, or there is no such encoder.
        """
        self.path = path
        self.size = (width, height)
        self._last_pts = -1
        self._next_keyframe: int | None = None
        try:
            self._container = av.open(
                str(path),
                "w",
                format="mp4",
                options={"movflags": "hybrid_fragmented+frag_keyframe+default_base_moof", "flush_packets": "1"},
            )
            self._stream = self._add_stream(fps, sample, options)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise SinkError(f"cannot record to {path}: {describe(error)}") from error

    def _add_stream(self, fps: float, sample: Planes, options: VideoOptions) -> Any:
        encoder = "libx264" if options.encoder == "auto" else options.encoder
        stream: Any = self._container.add_stream(encoder, rate=Fraction(fps).limit_denominator(1001))
        stream.width, stream.height = self.size
        stream.pix_fmt = "yuv420p"
        stream.time_base = TIME_BASE
        context = stream.codec_context
        context.time_base = TIME_BASE
        context.gop_size = NEVER
        context.max_b_frames = 0
        context.thread_count = 1
        frame = sample.to_video_frame()
        context.colorspace, context.color_range = frame.colorspace, frame.color_range
        context.options = {"forced-idr": "1"}
        if encoder == "libx264":
            context.options |= {"preset": options.preset, "crf": str(options.crf)}
        else:
            context.options |= {"cq": str(options.crf)}
        context.open()
        return stream

    def write(self, planes: Planes, time_s: float) -> None:
        """Encode one picture.

        Args:
            planes: of the writer's size.
            time_s: when to show it; made to rise strictly.

        Raises:
            SinkError: the disk is full or gone; what is written so far plays.
        """
        frame = planes.to_video_frame()
        frame.pts = max(round(time_s / TIME_BASE), self._last_pts + 1)
        frame.time_base = TIME_BASE
        if self._next_keyframe is None or frame.pts >= self._next_keyframe:
            frame.pict_type = PictureType.I
            self._next_keyframe = frame.pts + round(KEYFRAME_EVERY_S / TIME_BASE)
        self._last_pts = frame.pts
        self._mux(frame)

    def _mux(self, frame: av.VideoFrame | None) -> None:
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except (av.FFmpegError, OSError) as error:
            raise SinkError(f"cannot record to {self.path}: {describe(error)}") from error

    def close(self) -> None:
        """Finish the file.

        Raises:
            SinkError: as `write`; the file is closed nevertheless.
        """
        try:
            self._mux(None)
        finally:
            try:
                self._container.close()
            except (av.FFmpegError, OSError) as error:
                raise SinkError(f"cannot finish {self.path}: {describe(error)}") from error


def describe(error: BaseException) -> str:
    """Return what the system said, without its number."""
    return str(getattr(error, "strerror", None) or error)
