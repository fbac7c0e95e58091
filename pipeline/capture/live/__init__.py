"""Live sources: cameras and streams, which go on without us and may break off at any time."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from engines.masking import mask_passwords
from pipeline.capture.address import check_network, is_camera
from pipeline.capture.live.camera import CameraConnection, check_camera, device_of
from pipeline.capture.live.connection import Connection, way_to
from pipeline.capture.live.link import Connected, Link
from pipeline.capture.live.source import LiveSource
from pipeline.capture.options import SourceOptions
from pipeline.capture.source import SourceInfo

__all__ = ["LiveSource", "make_live"]


def make_live(name: str, url: str | int, options: SourceOptions) -> LiveSource:
    """Return a camera or stream as a source; nothing is connected yet.

    Raises:
        SourceError: the address is none, or there is no such camera.
    """
    live = options.live
    if is_camera(url):
        address = device_of(url)
        check_camera(address)
        connect: Callable[[], Connected] = partial(CameraConnection, name, address, options, told=set())
    else:
        address = str(url)
        check_network(address)
        connect = partial(Connection, name, way_to(address, live), options)
    timeouts_s = (live.open_timeout_s, live.read_timeout_s)
    return LiveSource(
        SourceInfo(name, mask_passwords(address), live=True, fps=live.fps),
        live,
        partial(Link, name, address, connect, timeouts_s, time.monotonic),
    )
