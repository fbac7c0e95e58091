"""VideoWriter: one H.264 file that plays up to its last second even if the process is killed.

Hybrid-fragmented MP4: while it is written it is a fragmented file (a fragment ends at each keyframe, and a keyframe
comes at least every second of media time), on a clean close it becomes an ordinary one. Plain MP4 lost every frame
to a SIGKILL, this 1 of 361. `delay_moov` keeps the time of the first picture where it is not 0. One encoder thread:
more would take the cores that the model needs.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, Literal

# OpenCV first: loaded after PyAV, whose libxcb differs, its windows hang (PyAV issue 978)
import cv2

# isort: split
import av
import numpy as np
from av.video.frame import PictureType

from pipeline.errors import SinkError
from pipeline.picture import Planes

TIME_BASE = Fraction(1, 90_000)
SECOND = 90_000
"""Ticks: a keyframe comes at least this often, and a step back by more is a new beginning."""
NEVER = 100_000
"""Keyframe distance in frames that the encoder itself would keep; time decides instead."""
SMALLEST_SIDE = 16
"""One macroblock; x264 refuses a picture of two rows."""
LOOKAHEAD = 10
"""Frames that the slower presets may hold back to plan their bits: what is held back is lost to a SIGKILL."""

Encoder = Literal["auto", "libx264", "h264_nvenc"]
Codec = Literal["libx264", "h264_nvenc"]
FALLBACK: Codec = "libx264"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class VideoOptions:
    """How pictures are encoded."""

    encoder: Encoder = "auto"
    preset: str = "superfast"
    crf: int = 23

    @property
    def codec(self) -> Codec:
        """FFmpeg's name of the encoder."""
        return FALLBACK if self.encoder == "auto" else self.encoder

    def settings(self) -> dict[str, str]:
        """Return the encoder's own options."""
        if self.codec != FALLBACK:
            return {"forced-idr": "1", "cq": str(self.crf)}
        x264 = {"preset": self.preset, "crf": str(self.crf), "forced-idr": "1"}
        return x264 if self.preset in ("ultrafast", "superfast") else x264 | {"rc-lookahead": str(LOOKAHEAD)}


class VideoWriter:
    """Writes planes of one size and colour to one file."""

    def __init__(self, path: Path, sample: Planes, fps: float, options: VideoOptions) -> None:
        """Create the file.

        Args:
            path: of the MP4 file; an existing one is replaced.
            sample: planes whose size and colour tags the file gets; small ones are padded.
            fps: nominal rate; timestamps need not follow it.
            options: the encoder and its settings.

        Raises:
            SinkError: the file cannot be created, or the encoder does not work here.
        """
        self.path = path
        self.form = form_of(sample)
        self._clock = RisingClock(round(SECOND / fps) if fps else SECOND)
        self._held: av.VideoFrame | None = None
        self._keyframe: int | None = None
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
            self._stream: Any = self._container.add_stream(options.codec, rate=Fraction(fps).limit_denominator(1001))
            _configure(self._stream.codec_context, padded(sample), options)
            self._stream.time_base = TIME_BASE
        except (av.FFmpegError, OSError, ValueError) as error:
            raise SinkError(f"cannot record to {path}: {describe(error)}") from error

    def write(self, planes: Planes, time_s: float) -> None:
        """Encode one picture.

        A picture waits for the next one where that decides whether it must be a keyframe: all of them, except
        keyframes themselves. The pixels must stay as they are until then.

        Args:
            planes: of the writer's size and colour.
            time_s: when to show it; made to rise strictly.

        Raises:
            SinkError: the disk is full or gone; what is written so far plays.
        """
        frame = padded(planes).to_video_frame()
        frame.pts = self._clock.ticks(time_s)
        frame.time_base = TIME_BASE
        self._release(frame.pts)
        if self._keyframe is None or frame.pts - self._keyframe >= SECOND:
            self._encode_keyframe(frame)
        else:
            self._held = frame

    def _release(self, next_pts: int) -> None:
        """Encode the picture that waited, now that it is known whether a keyframe after it would come too late."""
        held, self._held = self._held, None
        if held is not None and self._keyframe is not None and next_pts - self._keyframe > SECOND:
            self._encode_keyframe(held)
        elif held is not None:
            self._mux(held)

    def _encode_keyframe(self, frame: av.VideoFrame) -> None:
        frame.pict_type = PictureType.I
        self._keyframe = frame.pts
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
        held, self._held = self._held, None
        try:
            if held is not None:
                self._mux(held)
            self._mux(None)
        finally:
            try:
                self._container.close()
            except (av.FFmpegError, OSError) as error:
                raise SinkError(f"cannot finish {self.path}: {describe(error)}") from error


class RisingClock:
    """Turns seconds into ticks that rise strictly, whatever a file's timestamps do.

    A repeated or slightly earlier time becomes the next tick. One that is more than a second earlier is a new
    beginning (joined files, a counter that wrapped): it goes on one nominal step after the last.
    """

    def __init__(self, step: int) -> None:
        self._step = step
        self._last = -1
        self._shift = 0

    def ticks(self, time_s: float) -> int:
        """Return the next timestamp."""
        ticks = round(time_s / TIME_BASE) + self._shift
        if ticks < self._last - SECOND:
            self._shift += self._last + self._step - ticks
            ticks = self._last + self._step
        self._last = max(ticks, self._last + 1)
        return self._last


def form_of(planes: Planes) -> tuple[int, int, str, bool]:
    """Return what cannot change within a file: size and colour tags."""
    return planes.width, planes.height, planes.matrix, planes.full_range


def padded(planes: Planes) -> Planes:
    """Return planes that the encoder takes: small ones grow at the right and below by repeating their edge."""
    right, below = (max(0, SMALLEST_SIDE - side) for side in (planes.width, planes.height))
    if not right and not below:
        return planes
    parts = [
        cv2.copyMakeBorder(plane, 0, below // scale, 0, right // scale, cv2.BORDER_REPLICATE)
        for plane, scale in ((planes.y, 1), (planes.u, 2), (planes.v, 2))
    ]
    data = np.concatenate([part.reshape(-1) for part in parts]).reshape(-1, planes.width + right)
    return replace(planes, data=np.asarray(data, np.uint8))


def usable(options: VideoOptions) -> VideoOptions:
    """Return options whose encoder works here: what was asked for, else libx264, which is said once."""
    return options if options.codec == FALLBACK or _works(options.codec) else replace(options, encoder=FALLBACK)


@cache
def _works(codec: Codec) -> bool:
    problem = problem_of(codec)
    if problem is not None:
        logger.warning("sinks.record.encoder: %s does not work here (%s); %s encodes", codec, problem, FALLBACK)
    return problem is None


def problem_of(codec: Codec) -> str | None:
    """Return why an encoder cannot be used here, tried by opening it as a recording does; None: it can."""
    try:
        context = av.CodecContext.create(codec, "w")
        _configure(context, Planes(np.full((384, 256), 128, np.uint8)), VideoOptions(encoder=codec))
    except (av.FFmpegError, OSError, ValueError) as error:
        return "there is no such encoder" if isinstance(error, av.codec.codec.UnknownCodecError) else describe(error)
    return None


def _configure(context: Any, sample: Planes, options: VideoOptions) -> None:
    frame = sample.to_video_frame()
    context.width, context.height, context.pix_fmt = sample.width, sample.height, "yuv420p"
    context.time_base = TIME_BASE
    context.gop_size = NEVER
    context.max_b_frames = 0
    context.thread_count = 1
    context.colorspace, context.color_range = frame.colorspace, frame.color_range
    context.options = options.settings()
    context.open()


def describe(error: BaseException) -> str:
    """Return what the system said, without its number."""
    return str(getattr(error, "strerror", None) or error)
