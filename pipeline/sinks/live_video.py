"""LiveEncoder: H.264 for viewers who watch now: a picture comes out of it as soon as it went in.

x264's `zerolatency`: no pictures are held back, no B-frames. Keyframes come by time, not by count, because a source's
rate varies, and each has the parameter sets with it, so that a viewer can begin at any of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, Colorspace

if TYPE_CHECKING:
    from pipeline.picture import Planes

TIME_BASE = Fraction(1, 90_000)
SECOND = 90_000
MILLISECOND = 90
"""Ticks: the shortest step of time. RTMP counts milliseconds."""
NEVER = 100_000
"""Keyframe distance in frames that the encoder itself would keep; time decides instead."""


@dataclass(frozen=True)
class LiveOptions:
    """How pictures are encoded."""

    preset: str = "ultrafast"
    crf: int = 26
    max_kbps: int | None = None
    """Kilobits per second, over a second."""
    keyframe_s: float = 1.0
    fps: float = 25.0
    """Nominal rate."""

    def settings(self) -> dict[str, str]:
        """Return x264's own options."""
        options = {"preset": self.preset, "tune": "zerolatency", "crf": str(self.crf), "forced-idr": "1"}
        if self.max_kbps is not None:
            options |= {"maxrate": f"{self.max_kbps}k", "bufsize": f"{self.max_kbps}k"}
        return options


@dataclass(frozen=True)
class Form:
    """What cannot change within a stream."""

    width: int
    height: int
    matrix: str
    full_range: bool

    @classmethod
    def of(cls, planes: Planes) -> Form:
        """Return the form of a picture."""
        return cls(planes.width, planes.height, planes.matrix, planes.full_range)


@dataclass(frozen=True)
class Packet:
    """One encoded picture."""

    ticks: int
    """When to show it."""
    is_keyframe: bool
    data: bytes


class LiveEncoder:
    """Encodes pictures of one form."""

    def __init__(self, form: Form, options: LiveOptions) -> None:
        """Open the encoder.

        Raises:
            av.FFmpegError, ValueError: it does not take pictures of this form.
        """
        self.form = form
        self._keyframe_ticks = round(options.keyframe_s * SECOND)
        self._keyframe: int | None = None
        self._clock = ViewersClock()
        self._context: Any = av.CodecContext.create("libx264", "w")
        configure(self._context, form, options)
        self._context.open()

    def encode(self, planes: Planes, time_s: float) -> list[Packet]:
        """Encode a picture.

        Args:
            planes: of the encoder's form.
            time_s: when to show it; made to rise strictly, from 0.

        Raises:
            av.FFmpegError: the encoder fails.
        """
        frame = planes.to_video_frame()
        frame.pts, frame.time_base = self._clock.ticks(time_s), TIME_BASE
        if self._keyframe is None or frame.pts - self._keyframe >= self._keyframe_ticks:
            frame.pict_type = PictureType.I
            self._keyframe = frame.pts
        return [Packet(each.pts, bool(each.is_keyframe), bytes(each)) for each in self._context.encode(frame)]


class ViewersClock:
    """Turns seconds into ticks from 0 that rise strictly, whatever the times do.

    A time that is more than a second before the last, as where a file's counter wraps, goes on one step after it.
    """

    def __init__(self) -> None:
        self._shift_s: float | None = None
        self._last = -MILLISECOND

    def ticks(self, time_s: float) -> int:
        """Return the next timestamp."""
        if self._shift_s is None:
            self._shift_s = -time_s
        ticks = round((time_s + self._shift_s) * SECOND)
        if ticks < self._last - SECOND:
            self._shift_s = (self._last + MILLISECOND) / SECOND - time_s
        self._last = max(ticks, self._last + MILLISECOND)
        return self._last


def configure(context: Any, form: Form, options: LiveOptions) -> None:
    """Prepare an encoder; two that are prepared alike write the same parameter sets."""
    context.width, context.height, context.pix_fmt = form.width, form.height, "yuv420p"
    context.time_base = TIME_BASE
    context.framerate = Fraction(options.fps).limit_denominator(1001)
    context.gop_size = NEVER
    context.max_b_frames = 0
    context.thread_count = 1
    context.colorspace = Colorspace.ITU709 if form.matrix == "bt709" else Colorspace.ITU601
    context.color_range = ColorRange.JPEG if form.full_range else ColorRange.MPEG
    context.options = options.settings()
