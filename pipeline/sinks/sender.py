"""Sender: what every sink has that sends events elsewhere: a spool, and a thread of its own that empties it.

`consume` only writes to the spool, so a receiver that is slow, down or refuses never slows the pipeline. The thread is
a daemon, and `close` gives it a moment for what is left; what it cannot send then waits on disk for the next run.
Whatever goes wrong on the thread is said in a sentence, and it begins again: a run of months goes on.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import random
import select
import socket
import ssl
import threading
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from platformdirs import user_data_path

from pipeline.capture.source import SourceInfo
from pipeline.errors import ConfigError, SinkError
from pipeline.frame import Frame
from pipeline.sinks.records import event_lines, plain, wanted
from pipeline.sinks.sink import MissedEvents, Sink
from pipeline.sinks.spool import Spool, SpoolInUse

logger = logging.getLogger(__name__)

CLOSE_WITHIN_S = 0.25
"""What the thread gets for its last events: all sinks together have 0.3 s."""
SYNC_EVERY_S = 1.0
"""A power cut costs what came in this time."""
BEGIN_AGAIN_S = 1.0
"""After something that nobody has foreseen."""
ENCODE = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class Doorbell:
    """Wakes a thread that waits for sockets."""

    def __init__(self) -> None:
        self._inside, self._outside = socket.socketpair()
        self._inside.setblocking(False)
        self._outside.setblocking(False)

    def fileno(self) -> int:
        """What can be waited for."""
        return self._inside.fileno()

    def ring(self) -> None:
        """Wake it; from any thread."""
        with contextlib.suppress(OSError):  # it rings already, or nobody is there any more
            self._outside.send(b"!")

    def wait(self, seconds: float) -> None:
        """Wait for a ring, at most for so long."""
        poll = select.poll()
        poll.register(self, select.POLLIN)
        poll.poll(seconds * 1e3)
        self.hush()

    def hush(self) -> None:
        """Be ready for the next ring."""
        with contextlib.suppress(OSError):
            self._inside.recv(4096)

    def close(self) -> None:
        """Give back both ends."""
        self._inside.close()
        self._outside.close()


class Backoff:
    """How long to wait before the next attempt: twice as long each time, up to a limit, and never at the same moment as
    all others that lost the same receiver ("equal jitter", AWS Architecture Blog 2015).
    """

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._first_s, self._longest_s = first_s, longest_s
        self._next_s = first_s

    def next(self) -> float:
        """Return seconds to wait."""
        seconds = self._next_s * random.uniform(0.5, 1.0)
        self._next_s = min(2 * self._next_s, self._longest_s)
        return seconds

    def reset(self) -> None:
        """An attempt has succeeded."""
        self._next_s = self._first_s


class Sender(Sink):
    """A sink that keeps events in a spool and sends them from there.

    Args:
        name: of the sink, and of its settings.
        destination: what tells this receiver from others; two runs that send to one need folders of their own.
        receiver: as messages call it: `the broker localhost:1883`. No secrets.
        on: names of the events to send.
        folder: that holds the spool, in a folder of the sink's name: several sinks may share it; None: in the user's
            data folder, one for each destination.
        limit_mb: of the spool, megabytes.
    """

    def __init__(
        self, name: str, destination: str, receiver: str, on: Sequence[str], folder: Path | None, limit_mb: float
    ) -> None:
        self.name = name
        self.receiver = receiver
        self._on = tuple(on)
        self._limit = int(limit_mb * 1e6)
        digest = hashlib.sha256(destination.encode()).hexdigest()[:16]
        own = user_data_path("frameloom", appauthor=False) / "spool" / name / digest
        self._folder = own if folder is None else folder / name
        self._spool: Spool | None = None
        self._thread: threading.Thread | None = None
        self._halt = threading.Event()
        self._bell: Doorbell | None = None
        self._end_at = float("inf")
        self._trouble: str | None = None
        self._synced_at = 0.0
        self._dropped = self._waiting = 0

    # ------------------------------------------------------------------ the sink

    def check(self, sources: Sequence[SourceInfo]) -> None:
        """Refuse a spool that cannot be written or that another run uses."""
        try:
            Spool(self._folder, self._limit).close()
        except SpoolInUse:
            raise ConfigError(self._in_use()) from None
        except OSError as error:
            raise ConfigError(f"sinks.{self.name}.spool: cannot write to {self._folder}: {error.strerror}") from error

    def open(self) -> None:
        """Take the spool; begin to send."""
        try:
            self._spool = Spool(self._folder, self._limit)
        except SpoolInUse:
            raise SinkError(self._in_use()) from None
        except OSError as error:
            raise SinkError(f"cannot keep events in {self._folder}: {error.strerror}") from error
        self._bell = Doorbell()
        self._thread = threading.Thread(target=self._send_all, name=f"{self.name} sender", daemon=True)
        self._thread.start()

    def _in_use(self) -> str:
        return (
            f"sinks.{self.name}.spool: another run keeps its events for {self.receiver} in {self._folder}: "
            "name another folder for this one"
        )

    def consume(self, frame: Frame) -> None:
        """Keep the events that are wanted."""
        self._keep(event_lines(frame))

    def missed(self, events: MissedEvents) -> None:
        """Keep what happened in a frame that was dropped."""
        self._keep(events.lines)

    def _keep(self, records: Iterable[Mapping[str, Any]]) -> None:
        for record in records:
            if wanted(record, self._on):
                self._put({**record, "id": uuid.uuid4().hex, "reported_at": round(time.time(), 3)})

    def _put(self, record: Mapping[str, Any]) -> None:
        self.spool.put(as_json(record, self.name))
        self._ring()

    def _ring(self) -> None:
        if self._bell is not None:
            self._bell.ring()

    def close(self) -> None:
        """Let the thread end; leave what it could not send to the next run."""
        if self._spool is None or self._thread is None:
            return
        self._end_at = time.monotonic() + CLOSE_WITHIN_S
        self._halt.set()
        self._ring()
        self._thread.join(CLOSE_WITHIN_S + 0.02)
        self._spool.close()
        self._waiting = self._spool.waiting

    @property
    def spool(self) -> Spool:
        """Of an open sink."""
        assert self._spool is not None
        return self._spool

    @property
    def dropped(self) -> int:
        """Events that were given up."""
        return 0 if self._spool is None else self._spool.dropped

    def remark(self) -> str | None:
        """Return what waits or was given up, and why; or that the receiver was away in the end."""
        said = []
        if self.dropped:
            said.append(f"{self.dropped} events for {self.receiver} were given up")
        if self._waiting:
            said.append(f"{self._waiting} events wait for {self.receiver}; the next run sends them")
        if not said:
            return self._trouble
        return "; ".join(said) + (f" ({self._trouble})" if self._trouble else "")

    # ------------------------------------------------------------------ the thread

    def _send_all(self) -> None:
        try:
            while not self._halt.is_set():
                try:
                    self._send_until_closed()
                except Exception as error:
                    logger.debug("%s: its thread begins again", self.name, exc_info=True)
                    self._failed(f"events could not be sent to {self.receiver}: {why(error)}")
                    self.spool.rewind()
                    self._halt.wait(BEGIN_AGAIN_S)
        finally:
            assert self._bell is not None
            bell, self._bell = self._bell, None
            bell.close()

    def _send_until_closed(self) -> None:
        """Send what is in the spool, and what comes, until `_is_over`."""
        raise NotImplementedError

    def _is_over(self) -> bool:
        """Whether the sink is being closed, and either nothing is left or the time is up."""
        return self._halt.is_set() and (time.monotonic() >= self._end_at or not self.spool.waiting)

    def _pause(self, seconds: float) -> None:
        """Wait before another attempt; end early when the sink is closed."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._halt.wait(min(left, SYNC_EVERY_S)):
            self._sync()

    def _sync(self) -> None:
        now = time.monotonic()
        if now - self._synced_at >= SYNC_EVERY_S:
            self.spool.sync()
            self._synced_at = now

    def _failed(self, trouble: str) -> None:
        """Tell of a failure, once until something succeeds or another reason comes."""
        if trouble != self._trouble:
            logger.warning("%s: %s; events wait on disk, and it is tried again", self.name, trouble)
        self._trouble = trouble

    def _succeeded(self) -> None:
        if self._trouble is not None:
            logger.info("%s: %s takes events again", self.name, self.receiver)
        self._trouble = None


def as_json(record: Mapping[str, Any], sink: str) -> bytes:
    """Return a record as one line of JSON.

    Raises:
        SinkError: an event of somebody's own stage holds what JSON has no word for.
    """
    try:
        try:
            return ENCODE(record).encode()
        except (TypeError, ValueError):
            return ENCODE(plain(record)).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise SinkError(f"{sink}: an event is no JSON: {error}") from error


def why(error: BaseException) -> str:
    """Return what went wrong with a connection, in a few words without addresses."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message or error.reason}"
    if isinstance(error, ssl.SSLError):
        return f"no encrypted connection: {(error.reason or str(error)).lower().replace('_', ' ')}"
    if isinstance(error, socket.gaierror):
        return "no such host is known"
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there"
    if isinstance(error, TimeoutError):
        return "it does not answer"
    if isinstance(error, ConnectionError):
        return "it closed the connection"
    if isinstance(error, OSError) and error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
        return "it cannot be reached"
    return getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
