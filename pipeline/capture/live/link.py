"""Link: one connection and its thread.

No deadline that FFmpeg is given holds everywhere: a stopped server over UDP took twice the limit, name resolution takes
none, a camera's driver may never return. So whoever waits for pictures waits here, on a mailbox, for as long as he
likes, and lets go of a thread that does not come back: it ends, and closes its connection, whenever its call returns.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit
from urllib.request import getproxies

import av

from pipeline.capture.live.connection import Arrival
from pipeline.capture.live.failure import Failure, Unsupported, failure_of
from pipeline.errors import SourceError
from pipeline.mailbox import EndOfSource, Mailbox

AHEAD = 2
"""Pictures that may wait for whoever takes them."""


@dataclass(frozen=True, slots=True)
class Ending:
    """The last that comes from a link."""

    source: str
    captured_at: float
    failure: Failure | None
    """None: a recording has been read to its end."""
    error: BaseException | None = None
    """What waiting does not mend: a protocol that is not there, a mistake in the program."""


class Connected(Protocol):
    """An opened stream or camera."""

    heard_at: float
    """Monotonic seconds of the last packet."""

    @property
    def is_complete(self) -> bool:
        """Whether it was a recording that has been read to its end."""

    def arrivals(self) -> Iterator[Arrival]:
        """Yield pictures until it ends, or is interrupted.

        Raises:
            av.FFmpegError, OSError: it broke off.
        """

    def interrupt(self) -> None:
        """End a wait in `arrivals`, where that is possible; from any thread."""

    def close(self) -> None:
        """Close it."""


class Incoming(Protocol):
    """What a live source reads from; a link, or a script in tests."""

    def get(self, timeout_s: float) -> Arrival | Ending | None:
        """Return what comes next; None where nothing came in that time, or it was closed."""

    def close(self) -> None:
        """Let go; wakes whoever waits in `get`. Returns at once."""

    def join(self, timeout_s: float) -> None:
        """Wait for its thread."""

    @property
    def heard_at(self) -> float:
        """Monotonic seconds of the last sign of life: a packet, also of a picture that cannot be decoded yet."""

    @property
    def is_alive(self) -> bool:
        """Whether a library call still holds its thread."""


class Link:
    """A connection that is opened and read on a thread of its own."""

    def __init__(
        self,
        name: str,
        url: str,
        connect: Callable[[], Connected],
        timeouts_s: tuple[float, float],
        clock: Callable[[], float],
    ) -> None:
        """Begin to connect.

        Args:
            name: of the source.
            url: what is opened: its host is resolved first.
            connect: opens the connection; called on the link's thread.
            timeouts_s: FFmpeg's own deadlines, for opening and reading.
            clock: monotonic seconds.
        """
        self._name, self._url, self._connect, self._clock = name, url, connect, clock
        self._open_timeout_s, self._read_timeout_s = timeouts_s
        self._box: Mailbox[Arrival | Ending] = Mailbox({name: "every"}, AHEAD)
        self._connection: Connected | None = None
        self._closed = False
        self._begun_at = clock()
        self._thread = threading.Thread(target=self._run, name=f"link.{name}", daemon=True)
        self._thread.start()

    def get(self, timeout_s: float) -> Arrival | Ending | None:
        """Return what comes next."""
        item: Any = self._box.get(timeout_s)
        return None if isinstance(item, EndOfSource) else item

    def close(self) -> None:
        """Let go."""
        self._closed = True
        self._box.close()
        if self._connection is not None:
            self._connection.interrupt()

    def join(self, timeout_s: float) -> None:
        """Wait for its thread."""
        self._thread.join(timeout_s)

    @property
    def heard_at(self) -> float:
        """Monotonic seconds of the last packet."""
        return self._begun_at if self._connection is None else self._connection.heard_at

    @property
    def is_alive(self) -> bool:
        """Whether its thread has not ended."""
        return self._thread.is_alive()

    def _run(self) -> None:
        self._box.put(self._end())

    def _end(self) -> Ending:
        try:
            is_complete = self._follow()
        except av.ProtocolNotFoundError:
            scheme = urlsplit(self._url).scheme
            error = SourceError(f"{self._name}: {scheme}:// is not built into the FFmpeg that PyAV brings here")
            return Ending(self._name, self._clock(), None, error)
        except (av.FFmpegError, OSError, Unsupported) as error:
            return Ending(self._name, self._clock(), self._explain(error))
        except BaseException as error:
            return Ending(self._name, self._clock(), None, error)
        failure = None if is_complete else Failure("eof", "the stream ended")
        return Ending(self._name, self._clock(), failure)

    def _follow(self) -> bool:
        """Open, read to the end, close; return whether it was a recording's end."""
        resolve(self._url)
        connection = self._connection = self._connect()
        if self._closed:  # while it was being opened
            connection.interrupt()
        try:
            self._read(connection)
            return connection.is_complete
        finally:
            connection.close()

    def _read(self, connection: Connected) -> None:
        for arrival in connection.arrivals():
            if not self._box.put(arrival):
                return

    def _explain(self, error: Exception) -> Failure:
        opened = self._connection is not None
        limit_s = self._read_timeout_s if opened else self._open_timeout_s
        return failure_of(error, self._url, opened, self._clock() - self.heard_at, limit_s)


def resolve(url: str) -> None:
    """Look up an address's host, because FFmpeg does not say that it is this which failed.

    Raises:
        socket.gaierror: there is no such host.
    """
    try:
        parts = urlsplit(url)
        host, proxied = parts.hostname, parts.scheme in getproxies()
    except ValueError:
        return
    if host and not proxied:
        try:
            socket.getaddrinfo(host, None)
        except UnicodeError as error:  # an empty or too long part between dots
            raise socket.gaierror(socket.EAI_NONAME, f"no host can be called {host}") from error
