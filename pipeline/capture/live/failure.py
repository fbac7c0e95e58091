"""Why a connection ended, in seven words that a program can act on and one sentence for a person."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass

import av

from engines.masking import mask_passwords
from pipeline.capture.source import Reason
from pipeline.errors import (
    AuthenticationFailed,
    DecodeError,
    Disconnected,
    OpenTimeout,
    ReadTimeout,
    SourceError,
)


class Unsupported(Exception):
    """What was opened has no pictures that can be decoded here."""


Kinds = type[BaseException] | tuple[type[BaseException], ...]

REASONS: tuple[tuple[Kinds, Reason], ...] = (
    (socket.gaierror, "dns"),
    ((av.HTTPUnauthorizedError, av.HTTPForbiddenError, PermissionError), "auth"),
    ((TimeoutError, av.ExitError), "timeout"),  # ExitError: PyAV's own deadline has interrupted the call
    ((Unsupported, av.DemuxerNotFoundError, av.DecoderNotFoundError), "unsupported"),
    ((av.HTTPClientError, av.HTTPServerError, ConnectionRefusedError), "refused"),
    (EOFError, "eof"),
    (av.InvalidDataError, "decode"),
)
"""The first that fits."""
CERTAIN = ("dns", "auth", "unsupported")
"""True however late it is said: cameras take their time to refuse a password."""
REFUSALS = (errno.EBUSY, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENOENT)


@dataclass(frozen=True, slots=True)
class Failure:
    """The end of a connection."""

    reason: Reason
    text: str
    """For a person; without passwords."""

    def error(self, name: str, streamed: bool) -> SourceError:
        """Return it as the error that a run fails with.

        Args:
            name: of the source.
            streamed: whether pictures came before it.
        """
        kinds: dict[str, type[SourceError]] = {"auth": AuthenticationFailed, "decode": DecodeError, "eof": Disconnected}
        kinds["timeout"] = ReadTimeout if streamed else OpenTimeout
        return kinds.get(self.reason, SourceError)(f"{name}: {self.reason}: {self.text}")


def failure_of(error: BaseException, url: str, opened: bool, silent_s: float, timeout_s: float) -> Failure:
    """Say why a connection failed.

    Args:
        error: what was raised.
        url: of the source: FFmpeg repeats it, which says nothing new.
        opened: whether the connection had been made.
        silent_s: seconds since the last sign of life.
        timeout_s: seconds after which FFmpeg gives up by itself; what it then says differs from case to case
            (`InvalidDataError` of a stopped RTSP server).
    """
    text = mask_passwords(_words(error).replace(url, "").strip(" :'\""))
    reason = next((reason for kinds, reason in REASONS if isinstance(error, kinds)), None)
    if reason not in CERTAIN and silent_s >= 0.9 * timeout_s:
        return Failure("timeout", f"nothing came for {silent_s:.1f} s ({text})")
    if reason is None:
        gone = opened and getattr(error, "errno", None) not in REFUSALS
        reason = "eof" if gone else "refused"
    return Failure(reason, text)


def _words(error: BaseException) -> str:
    """Return what was said, without a number, and the last line of FFmpeg's own log where there is one."""
    said = str(getattr(error, "strerror", None) or error) or type(error).__name__
    log = getattr(error, "log", None)
    return f"{said}; {log[2].strip()}" if log else said
