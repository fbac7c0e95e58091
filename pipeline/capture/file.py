"""A video file, of this machine or of a web server, by PyAV: real timestamps, rotation, variable rates; no sound.

The first picture is decoded when the file is opened, so a file without one is refused before a run starts. What is
damaged or missing further on is passed over, and `remark` says how much. One decoder thread: with frame threads the
decoder takes the core that the model needs. The planes are copied out of the decoder (0.06 ms at 768 x 576): its
buffers are references for later pictures.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

# OpenCV first: loaded after PyAV, whose libxcb differs, its windows hang (PyAV issue 978)
import cv2  # noqa: F401

# isort: split
import av
from av.stream import Disposition
from av.video.reformatter import VideoReformatter

from engines.masking import mask_passwords
from pipeline.capture.address import is_network
from pipeline.capture.decode import to_picture, turn_of, turned, use_threads
from pipeline.capture.hardware import usable
from pipeline.capture.options import SourceOptions
from pipeline.capture.paths import beginning, check_readable
from pipeline.capture.source import Damaged, Source, SourceInfo
from pipeline.capture.times import MediaTime
from pipeline.errors import SourceError
from pipeline.frame import Frame
from pipeline.picture import Picture

BREAKS = 20
"""Read errors without a packet in between after which the rest of a container is given up."""
COMPLETE = 0.95
"""Part of the promised frames that may be missing without a remark: containers round and estimate."""
SLACK_S = 0.5
"""Media time that may be missing: some containers count from 0, some from their first picture."""
AGAIN = {"reconnect": "1", "reconnect_on_network_error": "1", "reconnect_delay_max": "5"}
"""FFmpeg's own way of going on where a web server broke off."""
NETWORK_BREAKS = 2
"""The same for a web server: each may cost a whole read timeout, and FFmpeg has tried again by itself."""
NO_VIDEO_FORMATS = ("tty",)
"""FFmpeg would draw a text file as a film of a terminal."""


class VideoFile(Source):
    """A video file as a source.

    Args:
        name: of the source.
        place: path of the file, or its address on a web server.
        options: how to read it.
    """

    def __init__(
        self,
        name: str,
        place: str | Path,
        options: SourceOptions | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._options = options or SourceOptions()
        self._network = is_network(str(place))
        self._address = str(place) if self._network else f"file:{place}"
        self._path = mask_passwords(str(place))
        self.info = SourceInfo(name, self._path)
        self._clock = clock
        self._stopped = self._ended = False
        self._decoded = self._unreadable = 0
        self._last_s = 0.0
        self._container: Any = None
        self._reformatter = VideoReformatter()

    def open(self) -> None:
        """Open the file, find its video stream and decode the first picture."""
        if not self._network:
            check_readable(Path(self._path))
        try:
            self._container = self._open_container()
        except (av.FFmpegError, OSError) as error:
            raise SourceError(f"{self._path} is not a video that can be read: {_reason(error, self._path)}") from error
        try:
            self._open_stream()
        except BaseException:
            self.close()
            raise

    def _open_container(self) -> Any:
        hardware = usable(self._options.hardware)
        if not self._network:
            return av.open(self._address, metadata_errors="replace", hwaccel=hardware)
        live = self._options.live
        timeouts_s = (live.open_timeout_s, live.read_timeout_s)
        settings = AGAIN | dict(live.ffmpeg)
        return interruptible(
            lambda: av.open(
                self._address, options=settings, timeout=timeouts_s, metadata_errors="replace", hwaccel=hardware
            )
        )

    def _open_stream(self) -> None:
        if self._container.format.name in NO_VIDEO_FORMATS:
            raise SourceError(f"{self._path} is not a video that can be read: it is text")
        streams = [each for each in self._container.streams.video if not each.disposition & Disposition.attached_pic]
        if not streams:
            kinds = ", ".join(sorted({each.type for each in self._container.streams} - {"video"})) or "none"
            raise SourceError(f"{self._path} has no video stream (streams: {kinds})")
        self._stream: Any = streams[0]
        if self._stream.codec_context is None:
            raise SourceError(f"{self._path}: there is no decoder here for its video")
        use_threads(self._stream, self._options.decode_threads)
        rate = self._stream.average_rate or self._stream.guessed_rate
        self._step_s = 1 / float(rate) if rate else 0.04
        self._pictures = self._decode()
        self._ahead = list(_up_to_first(self._pictures))
        first = self._ahead[-1] if self._ahead else None
        if first is None:
            raise SourceError(f"{self._path}: not one picture of it can be decoded")
        width, height = first.width, first.height
        if self._turn(first) % 180:
            width, height = height, width
        fps = float(rate) if rate else None
        self.info = replace(self.info, width=width, height=height, fps=fps, frames=self._expected_frames())

    @property
    def _duration_s(self) -> float | None:
        """What the container says; with edit lists this is the part that is shown."""
        if self._container.duration:
            return float(self._container.duration / av.time_base)
        if self._stream.duration and self._stream.time_base:
            return float(self._stream.duration * self._stream.time_base)
        return None

    def _expected_frames(self) -> int | None:
        by_time = None if self._duration_s is None else max(1, round(self._duration_s / self._step_s))
        count = int(self._stream.frames) or None
        if count and by_time and "mp4" in self._container.format.name:  # an edit list may leave a part out
            return min(count, by_time)
        return count or by_time

    def frames(self) -> Iterator[Frame | Damaged]:
        """Decode to the end; what is damaged is passed over."""
        times, index = MediaTime(self._step_s), 0
        for decoded in itertools.chain(self._ahead, self._pictures):
            now = self._clock()
            if decoded is None:
                self._unreadable += 1
                continue
            pts = times.of(decoded)
            if decoded.is_corrupt:
                self._unreadable += 1
                yield Damaged(self.info.name, now)
            else:
                yield Frame(self.info.name, index, pts, now, self._picture(decoded))
                self._decoded += 1
                self._last_s = pts
            index += 1
        self._ended = not self._stopped

    def _decode(self) -> Iterator[Any]:
        """Yield decoded pictures until the end or `stop`, None for what cannot be read or decoded."""
        breaks = 0
        packets = self._container.demux(self._stream)
        while breaks < (NETWORK_BREAKS if self._network else BREAKS) and not self._stopped:
            try:
                packet = next(packets, None)
            except av.FFmpegError:  # damage to the container itself: some find their way behind it
                breaks += 1
                packets = self._container.demux(self._stream)
                yield None
                continue
            if packet is None:
                return
            breaks = 0
            yield from self._pictures_of(packet)
        yield from self._pictures_of(None)  # the reader broke off, so nothing has told the decoder to give its last

    def _pictures_of(self, packet: Any) -> Iterator[Any]:
        try:
            pictures = self._stream.codec_context.decode(packet)
        except av.FFmpegError:
            pictures = [None]
        for picture in pictures:
            if self._stopped:
                return
            yield picture

    def _picture(self, decoded: Any) -> Picture:
        return turned(to_picture(decoded, self._reformatter), self._turn(decoded))

    def _turn(self, decoded: Any) -> int:
        rotate = self._options.rotate
        return turn_of(decoded) if rotate is None else -rotate % 360

    def remark(self) -> str | None:
        """Say how much was decoded where that is less than the file promises."""
        if not self._ended or not (self._unreadable or self._is_short()):
            return None
        promised = "" if self.info.frames is None else f" of about {self.info.frames}"
        return f"{self._path}: damaged or truncated; {self._decoded}{promised} frames decoded"

    def _is_short(self) -> bool:
        """Whether both frames and time are missing: edit lists leave out frames, variable rates mislead estimates."""
        if self.info.frames is None or self._decoded >= COMPLETE * self.info.frames:
            return False
        start_s = (self._container.start_time or 0) / av.time_base
        shown_s = self._last_s - start_s + self._step_s
        return self._duration_s is None or self._duration_s - shown_s > max(SLACK_S, (1 - COMPLETE) * self._duration_s)

    def stop(self) -> None:
        """End after the current picture."""
        self._stopped = True

    def close(self) -> None:
        """Close the file."""
        if self._container is not None:
            self._container.close()
            self._container = None


def _up_to_first(pictures: Iterator[Any]) -> Iterator[Any]:
    for picture in pictures:
        yield picture
        if picture is not None and not picture.is_corrupt:
            return


def interruptible(call: Callable[[], Any]) -> Any:
    """Make a call that a server may hold for seconds on another thread, so that Ctrl-C is answered meanwhile."""
    done: Future[Any] = Future()

    def run() -> None:
        try:
            done.set_result(call())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, name="open", daemon=True).start()
    return done.result()


def _reason(error: BaseException, path: str) -> str:
    text = getattr(error, "strerror", None) or str(error)
    if "Invalid data" not in text:
        return str(text)
    head = beginning(Path(path))
    if head[4:8] == b"ftyp" or head[:4] in (b"RIFF", b"\x1aE\xdf\xa3", b"OggS"):
        return "it is damaged, or was cut off before it was finished"
    return "its format is not recognised"
