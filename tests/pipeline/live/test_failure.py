"""failure_of: what FFmpeg, the system and the network say, as one of seven reasons and a sentence without passwords."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import av
import av.logging
import pytest

from pipeline.capture.live.failure import Failure, Unsupported, failure_of
from pipeline.capture.source import Reason
from pipeline.errors import (
    AuthenticationFailed,
    DecodeError,
    Disconnected,
    OpenTimeout,
    ReadTimeout,
    SourceError,
)
from tests.servers.mute import HOST, refused_port

URL = "rtsp://user:s3cret@cam.example/live"


def os_error(number: int, kind: type[OSError] = OSError) -> OSError:
    return kind(number, "said by the system")


def logged(line: str) -> Any:
    """A line of FFmpeg's log as PyAV has it."""
    return (av.logging.ERROR, "rtsp", f"{line}\n")


SAID: list[tuple[BaseException, Reason, Reason]] = [
    (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "dns", "dns"),
    (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), "dns", "dns"),
    (av.HTTPUnauthorizedError(1, "401"), "auth", "auth"),
    (av.HTTPForbiddenError(1, "403"), "auth", "auth"),
    (av.PermissionError(errno.EACCES, "Permission denied"), "auth", "auth"),
    (os_error(errno.EACCES, PermissionError), "auth", "auth"),
    (av.TimeoutError(errno.ETIMEDOUT, "Connection timed out"), "timeout", "timeout"),
    (TimeoutError("timed out"), "timeout", "timeout"),
    (av.ExitError(1, "Immediate exit requested"), "timeout", "timeout"),
    (av.DemuxerNotFoundError(1, "Demuxer not found"), "unsupported", "unsupported"),
    (av.DecoderNotFoundError(1, "Decoder not found"), "unsupported", "unsupported"),
    (Unsupported("there is no video in it"), "unsupported", "unsupported"),
    (av.HTTPNotFoundError(1, "404"), "refused", "refused"),
    (av.HTTPBadRequestError(1, "400"), "refused", "refused"),
    (av.HTTPTooManyRequestsError(1, "429"), "refused", "refused"),
    (av.HTTPServerError(1, "500"), "refused", "refused"),
    (av.ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "refused", "refused"),
    (av.ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), "refused", "eof"),
    (av.BrokenPipeError(errno.EPIPE, "Broken pipe"), "refused", "eof"),
    (av.EOFError(1, "End of file"), "eof", "eof"),
    (av.OSError(errno.EIO, "Input/output error"), "refused", "eof"),
    (os_error(errno.ENODEV), "refused", "eof"),
    (os_error(errno.EHOSTUNREACH), "refused", "refused"),
    (os_error(errno.ENETUNREACH), "refused", "refused"),
    (os_error(errno.EBUSY), "refused", "refused"),
    (av.FileNotFoundError(errno.ENOENT, "No such file or directory"), "refused", "refused"),
    (av.InvalidDataError(1, "Invalid data found when processing input"), "decode", "decode"),
    (av.UnknownError(1, "Unknown error occurred"), "refused", "eof"),
]
"""The error, its reason while connecting, its reason after that."""


@pytest.mark.parametrize(
    ("error", "opening", "reading"),
    SAID,
    ids=[f"{type(error).__module__}.{type(error).__name__}" for error, *_ in SAID],
)
def test_each_error_has_its_reason(error: BaseException, opening: Reason, reading: Reason) -> None:
    assert failure_of(error, URL, opened=False, silent_s=0.1, timeout_s=5.0).reason == opening
    assert failure_of(error, URL, opened=True, silent_s=0.1, timeout_s=5.0).reason == reading


@pytest.mark.parametrize("error", [error for error, *_ in SAID])
def test_what_comes_after_a_long_silence_is_a_timeout_unless_it_is_certain(error: BaseException) -> None:
    failure = failure_of(error, URL, opened=True, silent_s=4.6, timeout_s=5.0)
    at_once = failure_of(error, URL, opened=True, silent_s=4.4, timeout_s=5.0)
    if at_once.reason in ("dns", "auth", "unsupported"):
        assert failure == at_once
    else:
        assert failure.reason == "timeout"
        assert failure.text == f"nothing came for 4.6 s ({at_once.text})"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (av.InvalidDataError(1, "Invalid data found", URL), "Invalid data found"),
        (OSError(f"cannot open {URL}"), "cannot open"),
        (OSError(f"{URL}: gone"), "gone"),
        (OSError("redirected to rtsp://user:other@cam/x"), "redirected to rtsp://user:***@cam/x"),
        (
            av.HTTPUnauthorizedError(1, "Server returned 401", URL, logged("DESCRIBE failed: 401 Unauthorized")),
            "Server returned 401; DESCRIBE failed: 401 Unauthorized",
        ),
        (
            av.OSError(errno.EIO, "Input/output error", URL, logged("rtsp://user:s3cret@cam.example:554/live?")),
            "Input/output error; rtsp://user:***@cam.example:554/live?",
        ),
        (OSError(), "OSError"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_the_text_is_what_was_said_without_the_address_and_without_passwords(error: BaseException, text: str) -> None:
    failure = failure_of(error, URL, opened=False, silent_s=0.0, timeout_s=5.0)
    assert failure.text == text
    assert "s3cret" not in str(failure.error("cam", streamed=False))


@pytest.mark.parametrize(
    ("reason", "opening", "reading"),
    [
        ("dns", SourceError, SourceError),
        ("refused", SourceError, SourceError),
        ("unsupported", SourceError, SourceError),
        ("auth", AuthenticationFailed, AuthenticationFailed),
        ("decode", DecodeError, DecodeError),
        ("eof", Disconnected, Disconnected),
        ("timeout", OpenTimeout, ReadTimeout),
    ],
)
def test_a_run_fails_with_the_error_that_says_what_to_do(
    reason: Reason, opening: type[SourceError], reading: type[SourceError]
) -> None:
    failure = Failure(reason, "it was so")
    assert type(failure.error("cam", streamed=False)) is opening
    assert type(failure.error("cam", streamed=True)) is reading
    assert str(failure.error("cam", streamed=True)) == f"cam: {reason}: it was so"


# ---------------------------------------------------------------------- said by the real FFmpeg


class Refusing(BaseHTTPRequestHandler):
    """Answers with the status that the path names."""

    def do_GET(self) -> None:
        self.send_response(int(self.path.strip("/")))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    with HTTPServer((HOST, 0), Refusing) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://{HOST}:{http.server_port}"
        http.shutdown()
        thread.join()


def opened(url: str) -> Failure:
    """What opening this address with PyAV fails with."""
    with pytest.raises((av.FFmpegError, OSError)) as caught:
        av.open(url, timeout=3)
    return failure_of(caught.value, url, opened=False, silent_s=0.0, timeout_s=3.0)


@pytest.mark.parametrize(
    ("status", "reason"), [(401, "auth"), (403, "auth"), (404, "refused"), (410, "refused"), (500, "refused")]
)
def test_what_a_web_server_answers(server: str, status: int, reason: Reason) -> None:
    failure = opened(f"{server}/{status}")
    assert failure.reason == reason
    assert server not in failure.text


@pytest.mark.parametrize("scheme", ["rtsp", "http", "tcp"])
def test_a_port_where_nobody_listens_refuses(scheme: str) -> None:
    with refused_port() as port:
        assert opened(f"{scheme}://{HOST}:{port}/live").reason == "refused"


def test_a_text_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video " * 200)
    assert opened(str(tmp_path / "text.mp4")).reason == "decode"
