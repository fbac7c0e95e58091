"""Publish: the annotated pictures as a live stream to a media server (RTSP or RTMP), a stream for each source.

`consume` only lays the picture down. A thread per source encodes what is there and passes it to a process that talks to
the server (`push` says why a process). What the server is too slow for, or what comes while it is away, is dropped,
oldest first, and counted. A server that has gone is tried again like a camera (`Outage`).
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import quote, urlsplit

# OpenCV first: loaded after PyAV, whose libxcb differs, its windows hang (PyAV issue 978)
import cv2  # noqa: F401

# isort: split
import av

from pipeline.capture.live.failure import Failure
from pipeline.capture.live.outage import Outage
from pipeline.capture.source import SourceInfo
from pipeline.config.sink_settings import PublishSettings
from pipeline.errors import ConfigError
from pipeline.frame import Frame
from pipeline.picture import Picture, Planes
from pipeline.sinks.live_video import Form, LiveEncoder, LiveOptions, Packet
from pipeline.sinks.push import Push
from pipeline.sinks.push_process import FORMATS
from pipeline.sinks.sink import Sink
from pipeline.sinks.video import padded, problem_of

WAITING = 4
"""Pictures of a source that may wait: a stall of 0.15 s costs none."""
PLACEHOLDER = "{source}"
GOODBYE_S = 0.2
"""Time that `close` gives all streams to send what waits and to say goodbye to their servers."""
KILLED_S = 0.02
"""Time for a stream to count what is lost, after its process was killed."""
DEFAULT_FPS = 25.0
logger = logging.getLogger(__name__)


class Publish(Sink):
    """The streams of a run."""

    name = "publish"

    def __init__(self, settings: PublishSettings) -> None:
        """Connect to nothing yet."""
        self._settings = settings
        self._sources: dict[str, SourceInfo] = {}
        self._streams: dict[str, Stream] = {}

    def check(self, sources: Sequence[SourceInfo]) -> None:
        """Refuse an address that no media server can have, and one for several sources.

        Raises:
            ConfigError: with what to write instead.
        """
        url = self._settings.url
        try:
            parts = urlsplit(url.replace(PLACEHOLDER, "source"))
            has_host = bool(parts.hostname) and (parts.port is None or parts.port > 0)
        except ValueError:
            has_host = False
        where = place_of(url)
        if url.partition("://")[0].lower() not in FORMATS:
            raise ConfigError(f"sinks.publish: {where} is no address of a media server: write rtsp:// or rtmp://")
        if not has_host:
            raise ConfigError(f"sinks.publish: {where} names no host: write {url.partition('://')[0]}://HOST/PATH")
        if len(sources) > 1 and PLACEHOLDER not in url:
            raise ConfigError(
                f"sinks.publish: {len(sources)} sources cannot have one address: put {PLACEHOLDER} into its path, such "
                f"as {where}/{PLACEHOLDER}"
            )
        for source in sources:
            if url_of(url, source.name) in {each.url for each in sources}:
                raise ConfigError(f"sinks.publish: {where} is also where source {source.name} is read: name another")
        if problem := problem_of("libx264"):
            raise ConfigError(f"sinks.publish: libx264, which encodes the pictures, does not work here: {problem}")
        self._sources = {source.name: source for source in sources}

    def open(self) -> None:
        """Begin a thread for each source; it connects with the first picture."""
        settings = self._settings
        options = LiveOptions(settings.preset, settings.crf, settings.max_kbps, settings.keyframe_s)
        for source in self._sources.values():
            own = replace(options, fps=source.fps or DEFAULT_FPS)
            self._streams[source.name] = Stream(source.name, url_of(settings.url, source.name), own)

    def consume(self, frame: Frame) -> None:
        """Lay the picture down for its stream: with a file's media time, or when it was captured."""
        time_s = frame.captured_at if self._sources[frame.source].live else frame.pts
        self._streams[frame.source].offer(frame.output, time_s)

    def end(self, source: str) -> None:
        """Let the source's stream end with what waits."""
        self._streams[source].finish()

    def close(self) -> None:
        """Let all streams end, within `GOODBYE_S`."""
        until = time.monotonic() + GOODBYE_S
        for stream in self._streams.values():
            stream.finish()
        for stream in self._streams.values():
            stream.join(max(0.0, until - time.monotonic()))
        for stream in self._streams.values():
            stream.kill()
        for stream in self._streams.values():
            stream.join(KILLED_S)

    @property
    def dropped(self) -> int:
        """Pictures that were not sent."""
        return sum(stream.dropped for stream in self._streams.values())

    def remark(self) -> str | None:
        """Say which streams lost pictures, and why."""
        return "; ".join(filter(None, (stream.remark() for stream in self._streams.values()))) or None


class Stream(threading.Thread):
    """One source's stream: the pictures that wait, and the thread that sends them."""

    def __init__(self, source: str, url: str, options: LiveOptions) -> None:
        """Begin to wait for pictures."""
        super().__init__(name=f"publish.{source}", daemon=True)
        self.dropped = 0
        self._source, self._url, self._options = source, url, options
        self._changed = threading.Condition()
        self._pictures: deque[tuple[Picture, float]] = deque()
        self._is_ending = False
        self._is_killed = False
        self._push: Push | None = None
        self._outage = Outage(random.random)
        self._last_failure: Failure | None = None
        self._is_away = False
        self.start()

    def offer(self, picture: Picture, time_s: float) -> None:
        """Take a picture; the oldest that waits gives way. Returns at once."""
        with self._changed:
            if len(self._pictures) == WAITING:
                self._pictures.popleft()
                self.dropped += 1
            self._pictures.append((picture, time_s))
            self._changed.notify_all()

    def finish(self) -> None:
        """Send what waits, then end. A server that is away is not waited for. Returns at once."""
        with self._changed:
            self._is_ending = True
            self._changed.notify_all()

    def kill(self) -> None:
        """End now, whatever it waits for."""
        with self._changed:
            self._is_ending = self._is_killed = True
            self.dropped += len(self._pictures)
            self._pictures.clear()
            if self._push is not None:
                self._push.kill()
            self._changed.notify_all()

    def remark(self) -> str | None:
        """Say what was lost; None: nothing."""
        if not self.dropped:
            return None
        why = f" ({self._last_failure.reason}: {self._last_failure.text})" if self._last_failure else ""
        return f"sinks.publish: {self.dropped} pictures of {self._source} were not sent to {place_of(self._url)}{why}"

    def run(self) -> None:
        """Connect, send, and connect again, until the end."""
        while (first := self._take()) is not None:
            failure = self._send_from(*first)
            if failure is None:
                continue
            pause_s = self._outage.failed(failure.reason, time.monotonic())
            self._last_failure = failure
            if not self._is_away:
                self._is_away = True
                logger.warning(
                    "sinks.publish: cannot send %s to %s: %s: %s; trying again",
                    *(self._source, place_of(self._url), failure.reason, failure.text),
                )
            with self._changed:
                self._changed.wait_for(lambda: self._is_ending, pause_s)
                if self._is_ending:
                    self.dropped += len(self._pictures)
                    self._pictures.clear()

    def _send_from(self, picture: Picture, time_s: float) -> Failure | None:
        """Send this picture and those after it over one connection, as long as their form stays and it holds."""
        planes = padded(picture.as_planes())
        form = Form.of(planes)
        try:
            encoder = LiveEncoder(form, self._options)
            push = Push(self._url, form, self._options)
        except (av.FFmpegError, ValueError, OSError) as error:
            self._lose()
            return Failure("unsupported", str(getattr(error, "strerror", None) or error))
        with self._changed:
            self._push = push
            if self._is_killed:
                push.kill()
        try:
            if push.wait_for_connection():
                self._stream(push, encoder, *self._newer(planes, time_s, encoder.form))
            else:
                self._lose()
        except av.FFmpegError as error:
            push.kill()
            self._lose()
            return Failure("unsupported", str(error.strerror or error))
        finally:
            failure = push.failure()
            with self._changed:
                self._push = None
                self.dropped += push.lost
        return failure

    def _stream(self, push: Push, encoder: LiveEncoder, planes: Planes, time_s: float) -> None:
        if self._is_away:
            self._is_away = False
            logger.info("sinks.publish: sending %s to %s again", self._source, place_of(self._url))
        while True:
            packets: list[Packet] = encoder.encode(planes, time_s)
            if not all(push.send(packet) for packet in packets):
                self._lose()
                return
            self._outage.picture()
            item = self._take()
            if item is None:
                return
            planes, time_s = padded(item[0].as_planes()), item[1]
            if Form.of(planes) != encoder.form:
                with self._changed:
                    self._pictures.appendleft(item)
                return

    def _newer(self, planes: Planes, time_s: float, form: Form) -> tuple[Planes, float]:
        """Return a picture that has come while the connection was made, instead of the one that it was made for."""
        with self._changed:
            item = self._pictures.popleft() if self._pictures else None
        if item is None:
            return planes, time_s
        newer = padded(item[0].as_planes())
        if Form.of(newer) != form:
            with self._changed:
                self._pictures.appendleft(item)
            return planes, time_s
        self._lose()
        return newer, item[1]

    def _take(self) -> tuple[Picture, float] | None:
        """Return the next picture, waiting for one; None: there will be no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._pictures or self._is_ending)
            return self._pictures.popleft() if self._pictures else None

    def _lose(self) -> None:
        with self._changed:
            self.dropped += 1


def url_of(url: str, source: str) -> str:
    """Return the address of a source's stream."""
    return url.replace(PLACEHOLDER, quote(source, safe=""))


def place_of(url: str) -> str:
    """Return the part of an address that holds no secret: RTMP has its key in the path."""
    scheme, _, rest = url.partition("://")
    host = rest.partition("/")[0].rpartition("@")[2]
    return f"{scheme}://{host}" if rest else "what is written there"
