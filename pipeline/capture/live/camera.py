"""Cameras: V4L2 devices of Linux, by number or path.

MJPG is tried before YUYV: raw pictures of 1280 x 720 fill a USB 2 bus at 10 fps, compressed ones come at 30.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av

from pipeline.capture.live.connection import Connection, Way
from pipeline.capture.options import LiveOptions
from pipeline.errors import SourceError

PIXEL_FORMATS = ("mjpeg", "yuyv422", None)
"""In the order they are tried; None: whatever the camera gives."""


def device_of(url: str | int) -> str:
    """Return the device's path."""
    return f"/dev/video{url}" if isinstance(url, int) else url


def check_camera(device: str) -> None:
    """See that there is such a device.

    Raises:
        SourceError: there is none; the message names those that there are.
    """
    if Path(device).is_char_device():
        return
    others = ", ".join(sorted(map(str, Path("/dev").glob("video*")))) or "none"
    raise SourceError(f"no camera {device} (cameras here: {others})")


def ways_to(device: str, live: LiveOptions) -> list[Way]:
    """Return how to open a camera, the best way first."""
    options: dict[str, str] = {}
    if live.width and live.height:
        options["video_size"] = f"{live.width}x{live.height}"
    if live.fps:
        options["framerate"] = f"{live.fps:g}"
    formats = [{} if name is None else {"input_format": name} for name in PIXEL_FORMATS]
    return [Way(device, "v4l2", options | each | dict(live.ffmpeg)) for each in formats]


def connect_camera(ways: list[Way], connect: Callable[[Way], Connection]) -> Connection:
    """Open a camera in the first way that it takes.

    Raises:
        av.FFmpegError, OSError: of the last way.
    """
    for way in ways[:-1]:
        try:
            return connect(way)
        except (av.ArgumentError, av.InvalidDataError):  # it has no such pixel format
            continue
    return connect(ways[-1])
