"""Connection: one opened stream or camera, decoded picture by picture.

Measured (720p30 over RTSP): one decoder thread gives a picture 37 ms after it was taken, FFmpeg's own choice of frame
threads 105 ms. FFmpeg's default analysis takes 1.6 to 2.1 s before the first picture; 0.2 s of it are enough.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

# OpenCV first: loaded after PyAV, whose libxcb differs, its windows hang (PyAV issue 978)
import cv2  # noqa: F401

# isort: split
import av
from av.format import Flags
from av.stream import Disposition
from av.video.reformatter import VideoReformatter

from pipeline.capture.decode import to_picture, turn_of, turned, use_threads
from pipeline.capture.hardware import usable
from pipeline.capture.live.damage import DamageFilter, prepare
from pipeline.capture.live.failure import Unsupported
from pipeline.capture.options import LiveOptions, SourceOptions
from pipeline.picture import Picture

ANALYSE_RTSP_US, ANALYSE_US = 200_000, 1_000_000
"""Microseconds of a stream that FFmpeg looks at before the first picture: RTSP announces its codecs beforehand.
FFmpeg's own 5 s would all pass where an RTMP stream has no sound."""
PROBE_RTSP_BYTES = 200_000
PACED = ("hls", "dash")
"""Formats that come in pieces of many seconds; their pictures are given at the pace of their timestamps."""
COMPLETE_S = 1.0
"""A recording that ends this close to its announced length has ended; earlier, it was cut off."""
MOST_EARLY_S = 60.0
"""A picture that is earlier than that follows a jump of the timestamps."""
ARRIVALS_KEPT = 64
"""Packets whose pictures the decoder may still hold back."""


@dataclass(frozen=True, slots=True)
class Way:
    """How FFmpeg is told to open something."""

    url: str
    format: str | None
    options: dict[str, str]


@dataclass(frozen=True, slots=True)
class Arrival:
    """A picture as it came; `picture` is None where it is damaged."""

    source: str
    picture: Picture | None
    captured_at: float
    """Monotonic seconds when its last byte arrived."""
    stream_s: float | None
    """The stream's own timestamp, which may start anywhere."""
    wall_time: float
    """UTC seconds when it arrived."""
    sent_wall: float | None
    """UTC seconds when it was taken, by the camera's clock."""


def way_to(url: str, live: LiveOptions) -> Way:
    """Return the FFmpeg options that suit an address; the user's own win."""
    timeout_us = str(round(live.read_timeout_s * 1e6))
    scheme = urlsplit(url).scheme.lower()
    options: dict[str, str] = {}
    if scheme in ("rtsp", "rtsps"):
        options = {
            "rtsp_transport": live.transport,
            "allowed_media_types": "video",
            "analyzeduration": str(ANALYSE_RTSP_US),
            "probesize": str(PROBE_RTSP_BYTES),
            "timeout": timeout_us,
        }
    elif scheme in ("http", "https", "rtmp", "rtmps", "tcp", "tls"):
        options = {"analyzeduration": str(ANALYSE_US), "rw_timeout": timeout_us}
    else:
        options = {"analyzeduration": str(ANALYSE_US), "timeout": timeout_us}
    return Way(url, None, options | dict(live.ffmpeg))


class Connection:
    """One opened stream."""

    def __init__(
        self,
        name: str,
        way: Way,
        options: SourceOptions,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Open it.

        Raises:
            av.FFmpegError, OSError: it does not open.
            Unsupported: nothing in it can be decoded here.
        """
        self._name, self._options = name, options
        self._clock, self._wall_clock = clock, wall_clock
        self.heard_at = clock()
        live = options.live
        self._container: Any = av.open(
            way.url,
            format=way.format,
            options=way.options,
            timeout=(live.open_timeout_s, live.read_timeout_s),
            metadata_errors="replace",
            hwaccel=usable(options.hardware),
        )
        try:
            self._open_stream()
        except BaseException:
            self.close()
            raise

    def _open_stream(self) -> None:
        streams = [each for each in self._container.streams.video if not each.disposition & Disposition.attached_pic]
        if not streams:
            kinds = ", ".join(sorted({each.type for each in self._container.streams})) or "none"
            raise Unsupported(f"there is no video in it (streams: {kinds})")
        self._stream: Any = streams[0]
        if self._stream.codec_context is None:
            raise Unsupported("there is no decoder here for its video")
        use_threads(self._stream, self._options.decode_threads)
        prepare(self._stream.codec_context)
        self._reformatter = VideoReformatter()
        self._damage = DamageFilter(self._stream.codec_context, clock=self._clock)
        self._pace = Pace(self._clock) if self._container.format.name.startswith(PACED) else None
        self._has_times = not self._container.format.flags & Flags.no_timestamps.value
        self._last_s: float | None = None

    def arrivals(self) -> Iterator[Arrival]:
        """Yield pictures until the stream ends.

        Raises:
            av.FFmpegError, OSError: it broke off.
        """
        held: OrderedDict[int | None, float] = OrderedDict()
        for packet in self._container.demux(self._stream):
            now = self.heard_at = held[packet.pts] = self._clock()
            if len(held) > ARRIVALS_KEPT:
                held.popitem(last=False)
            self._damage.feed(packet)
            try:
                pictures = self._stream.codec_context.decode(packet)
            except av.InvalidDataError:
                self._damage.error()
                yield Arrival(self._name, None, now, None, self._wall_clock(), None)
                continue
            for decoded in pictures:
                yield self._arrival(decoded, held.pop(decoded.pts, now))

    def _arrival(self, decoded: Any, captured_at: float) -> Arrival:
        stream_s = self._stream_time(decoded)
        self._last_s = self._last_s if stream_s is None else stream_s
        if self._pace is not None and stream_s is not None:
            self._pace.wait(stream_s)
            captured_at = self._clock()
        picture = self._picture(decoded) if self._damage.passes(decoded) else None
        wall_time = self._wall_clock() - (self._clock() - captured_at)
        return Arrival(self._name, picture, captured_at, stream_s, wall_time, self._sent_wall(stream_s))

    def _stream_time(self, decoded: Any) -> float | None:
        if decoded.pts is None or not self._has_times:  # MJPEG over HTTP: FFmpeg counts 25 pictures a second
            return None
        return float(decoded.pts * decoded.time_base)

    def _picture(self, decoded: Any) -> Picture:
        rotate = self._options.rotate
        degrees = turn_of(decoded) if rotate is None else -rotate % 360
        return turned(to_picture(decoded, self._reformatter), degrees)

    def _sent_wall(self, stream_s: float | None) -> float | None:
        """Return when the camera took the picture, once its first RTCP sender report has told."""
        start_us = getattr(self._container, "start_time_realtime", None)
        return None if start_us is None or stream_s is None else start_us / 1e6 + stream_s

    @property
    def is_complete(self) -> bool:
        """Whether it was a recording that has been read to its end, and no live stream that broke off."""
        duration, start = self._container.duration, self._container.start_time or 0
        if not duration or self._last_s is None:
            return False
        return float((start + duration) / av.time_base) - self._last_s < COMPLETE_S

    def interrupt(self) -> None:
        """Do nothing: FFmpeg's calls cannot be ended; they come back by their own deadlines."""

    def close(self) -> None:
        """Close it."""
        self._container.close()


class Pace:
    """Holds pictures back that came in one piece; where a piece comes late, what follows is as much later."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._shift_s: float | None = None

    def wait(self, stream_s: float) -> None:
        """Sleep until it is the picture's turn."""
        early_s = 0.0 if self._shift_s is None else stream_s + self._shift_s - self._clock()
        if self._shift_s is None or not 0 <= early_s < MOST_EARLY_S:
            self._shift_s = self._clock() - stream_s
        else:
            time.sleep(early_s)
