"""VideoEncoder: pictures become H.264 packets, which anybody may put into a file, or keep for later.

A keyframe comes at least every second of media time, so that a file that is cut off loses no more than that, and a
clip can begin a second before it has to. One encoder thread: more would take the cores that the model needs. Packets
are apart from files because a clip's beginning is encoded before anybody knows that there will be a clip, and because
a recording and a clip of the same pictures need not encode them twice.
"""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
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
Form = tuple[int, int, str, bool]
"""Size and colour tags."""
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


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """One encoded picture."""

    data: bytes
    ticks: int
    """When to show it."""
    is_keyframe: bool
    stream: Any
    """The stream of PyAV that it belongs to: size, colours, parameter sets. Another one begins with a keyframe."""


class VideoEncoder:
    """Encodes pictures, whose size and colour may change on the way."""

    def __init__(self, fps: float, options: VideoOptions) -> None:
        """Encode nothing yet.

        Args:
            fps: nominal rate; timestamps need not follow it.
            options: the encoder and its settings.
        """
        self._rate = Fraction(fps).limit_denominator(1001)
        self._options = options
        self._shell: Any = None
        self._stream: Any = None
        self._held: av.VideoFrame | None = None
        self._keyframe: int | None = None
        self.form: Form | None = None
        """Of the last picture; None: none has come, or they are flushed."""

    def encode(self, planes: Planes, ticks: int, keyframe: bool = False) -> list[Encoded]:
        """Take one picture; return what has become ready, which may be earlier ones.

        A picture waits for the next one where that decides whether it must be a keyframe: all of them, except
        keyframes themselves. The pixels must stay as they are until then. Small pictures are padded.

        Args:
            planes: of any size and colour; a change begins another stream.
            ticks: when to show it; must rise strictly (`RisingClock`).
            keyframe: whether it must be one, for a file to begin with it.

        Raises:
            SinkError: the encoder does not take it.
        """
        ready = [] if self.form == form_of(planes) else self.flush()
        if self.form is None:
            self._open(padded(planes))
            self.form = form_of(planes)
        frame = padded(planes).to_video_frame()
        frame.pts = ticks
        frame.time_base = TIME_BASE
        ready += self._release(ticks)
        if keyframe or self._keyframe is None or ticks - self._keyframe >= SECOND:
            ready += self._as_keyframe(frame)
        else:
            self._held = frame
        return ready

    def flush(self) -> list[Encoded]:
        """Return what still waits; the next picture begins another stream."""
        if self.form is None:
            return []
        held, self._held = self._held, None
        ready = [] if held is None else self._packets(held)
        try:
            return ready + self._packets(None)
        finally:
            self._shell.close()  # else the encoder's memory waits for the garbage collector
            self._shell = self._stream = self._keyframe = self.form = None

    def _open(self, sample: Planes) -> None:
        """Begin a stream: one of a file without a byte, which other files take for their template."""
        try:
            self._shell = av.open(io.BytesIO(), "w", format="mp4", options={"movflags": "delay_moov+frag_keyframe"})
            self._stream = self._shell.add_stream(self._options.codec, rate=self._rate)
            _configure(self._stream.codec_context, sample, self._options)
            self._stream.time_base = TIME_BASE
            self._shell.start_encoding()
        except (av.FFmpegError, OSError, ValueError) as error:
            size = f"{sample.width} x {sample.height}"
            raise SinkError(
                f"cannot encode pictures of {size} with {self._options.codec}: {describe(error)}"
            ) from error

    def _release(self, next_ticks: int) -> list[Encoded]:
        """Encode the picture that waited, now that it is known whether a keyframe after it would come too late."""
        held, self._held = self._held, None
        if held is None:
            return []
        if self._keyframe is not None and next_ticks - self._keyframe > SECOND:
            return self._as_keyframe(held)
        return self._packets(held)

    def _as_keyframe(self, frame: av.VideoFrame) -> list[Encoded]:
        frame.pict_type = PictureType.I
        self._keyframe = frame.pts
        return self._packets(frame)

    def _packets(self, frame: av.VideoFrame | None) -> list[Encoded]:
        try:
            packets = self._stream.encode(frame)
        except (av.FFmpegError, OSError) as error:
            raise SinkError(f"cannot encode: {describe(error)}") from error
        return [Encoded(bytes(packet), packet.pts, packet.is_keyframe, self._stream) for packet in packets]


class RisingClock:
    """Turns seconds into ticks that rise strictly, whatever a file's timestamps do.

    A repeated or slightly earlier time becomes the next tick. One that is more than a second earlier is a new
    beginning (joined files, a counter that wrapped): it goes on one nominal step after the last.
    """

    def __init__(self, fps: float) -> None:
        self._step = round(SECOND / fps) if fps else SECOND
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


def form_of(planes: Planes) -> Form:
    """Return what cannot change within a stream."""
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
