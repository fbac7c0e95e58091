"""What kind of thing an address names."""

from __future__ import annotations

import difflib
import re
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from engines.masking import mask_passwords
from pipeline.errors import SourceError

CAMERA = re.compile(r"/dev/(video\d+|v4l/.+)")
SCHEMES = (
    *("rtsp", "rtsps", "rtspt", "rtspu", "rtmp", "rtmps", "rtmpt", "rtmpe", "rtmpte", "rtmpts", "http", "https"),
    *("tcp", "tls", "udp", "rtp", "srtp", "srt", "mmsh", "mmst", "ftp", "sftp"),
)
"""What FFmpeg reads from a network; builds of it differ."""
RECORDINGS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts")
"""What a web server has under such a name is a file that ends, not a stream."""


def is_camera(url: str | int) -> bool:
    """Whether it is a camera's number or device."""
    return isinstance(url, int) or CAMERA.fullmatch(url) is not None


def is_network(url: str | int) -> bool:
    """Whether it is to be fetched."""
    return isinstance(url, str) and "://" in url and not url.startswith(("file://", "synthetic://"))


def is_recording(url: str) -> bool:
    """Whether an address of the network is that of a video file."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https", "ftp") and PurePosixPath(parts.path.lower()).suffix in RECORDINGS


def check_network(url: str) -> None:
    """See that the address can be one of a stream.

    Raises:
        SourceError: its scheme is unknown, or it names no host.
    """
    shown = mask_passwords(url)
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise SourceError(f"{shown} is no address: {error}") from error
    if parts.scheme.lower() not in SCHEMES:
        scheme = parts.scheme.lower()
        swapped = [known for known in SCHEMES if sorted(known) == sorted(scheme)]
        near = swapped or difflib.get_close_matches(scheme, SCHEMES, n=1)
        hint = f"did you mean {near[0]}://?" if near else f"known are: {', '.join(SCHEMES)}"
        raise SourceError(f"{shown}: nothing here reads {parts.scheme}:// addresses; {hint}")
    if not host and parts.scheme.lower() not in ("udp", "rtp", "srtp"):
        raise SourceError(f"{shown} names no host")


def local_path(url: str) -> str:
    """Return the path that a file:// address names; other addresses as they are."""
    return unquote(url.removeprefix("file://")) if url.startswith("file://") else url
