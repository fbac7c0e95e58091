"""Cameras: V4L2 devices of Linux, by number or path."""

from __future__ import annotations

import errno
import logging
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pipeline.capture.decode import turned
from pipeline.capture.live.connection import Arrival
from pipeline.capture.live.failure import Unsupported
from pipeline.capture.live.pixels import PREFERRED, best_of, converter_for
from pipeline.capture.live.v4l2 import Device, Filled, Layout
from pipeline.capture.live.videodev2 import CAPTURE, CAPTURE_MPLANE, STREAMING
from pipeline.capture.options import LiveOptions, SourceOptions
from pipeline.errors import SourceError

logger = logging.getLogger(__name__)

NODES = Path("/sys/class/video4linux")
GONE = (errno.ENODEV, errno.ENXIO, errno.ENOENT)
NOT_VIDEO = (errno.ENOTTY, errno.EINVAL)
LATEST_S = 1.0
"""A timestamp that is older is not believed."""
CLOSE_ENOUGH = 0.01
"""Part by which a rate may differ from what was asked for: 30 is often 29.97."""


def device_of(url: str | int) -> str:
    """Return the device's path."""
    return f"/dev/video{url}" if isinstance(url, int) else url


def check_camera(device: str) -> None:
    """See that there is such a camera and that this user may open it; whether it is free is seen later.

    Raises:
        SourceError: there is none; the message names those that there are.
    """
    try:
        objection = objection_to(device)
    except FileNotFoundError:
        objection = f"there is no {device}"
    except PermissionError:
        objection = f"{device} may not be opened by this user (who is usually to be in the group video)"
    except OSError:  # it is busy, or being plugged in: a matter for the attempts to connect
        return
    if objection:
        raise SourceError(f"{objection}; cameras here: {', '.join(cameras()) or 'none'}")


def objection_to(device: str) -> str | None:
    """Return why a device is no camera that can be read here; None: it is one.

    Raises:
        OSError: it cannot be asked.
    """
    if not stat.S_ISCHR(os.stat(device).st_mode):
        return f"{device} is no device"
    try:
        with Device(device) as opened:
            name, can = opened.capability()
    except OSError as error:
        if error.errno in NOT_VIDEO:
            return f"{device} is no video device"
        raise
    if can & CAPTURE and can & STREAMING:
        return None
    if can & CAPTURE_MPLANE:
        return f"{device} ({name}) has only the multi-planar API, which is not read here"
    return f"{device} ({name}) is no camera: it has no pictures to give"


def cameras() -> list[str]:
    """Return the cameras of this machine, each as its path and name."""
    nodes = sorted(NODES.glob("video*"), key=lambda node: [int(number) for number in re.findall(r"\d+", node.name)])
    return [f"/dev/{node.name} ({_name_of(node)})" for node in nodes if _may_be_camera(f"/dev/{node.name}")]


def _name_of(node: Path) -> str:
    try:
        return (node / "name").read_text().strip()
    except OSError:
        return "?"


def _may_be_camera(device: str) -> bool:
    try:
        return objection_to(device) is None
    except OSError as error:
        return error.errno not in GONE


class CameraConnection:
    """One opened camera; what `Connection` is for streams, but nothing of it ever blocks without a deadline."""

    is_complete = False

    def __init__(
        self,
        name: str,
        device: str,
        options: SourceOptions,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        told: set[str] | None = None,
    ) -> None:
        """Open it; it begins to send.

        Args:
            name: of the source.
            device: path.
            options: how to read it; one decoder thread, whatever they say.
            clock: monotonic seconds.
            wall_clock: UTC seconds.
            told: warnings that have been given; kept by the caller, so that no further connection repeats them.

        Raises:
            OSError: it does not open (EBUSY: another has it).
            Unsupported: it has no pictures that can be read here.
        """
        self._name, self._options = name, options
        self._clock, self._wall_clock = clock, wall_clock
        self._told = set() if told is None else told
        self.heard_at = clock()
        self._device = Device(device)
        try:
            self.layout = self._choose(options.live)
            self._converter = converter_for(self.layout)
            self._device.start()
        except BaseException:
            self.close()
            raise

    def _choose(self, live: LiveOptions) -> Layout:
        fourccs = list(self._device.fourccs())
        best = best_of(fourccs)
        layout = None if best is None else self._device.choose(best, live.width, live.height)
        if layout is None or layout.fourcc not in PREFERRED:
            raise Unsupported(f"it has no pixel format that can be read here (it has {', '.join(fourccs) or 'none'})")
        wanted = live.width or layout.width, live.height or layout.height
        if wanted != (layout.width, layout.height):
            self._warn(f"asked for {wanted[0]} x {wanted[1]}, the camera gives {layout.width} x {layout.height}")
        if live.fps:
            self._choose_rate(live.fps)
        if live.ffmpeg:
            self._warn("ffmpeg_options say nothing to a camera, which is not read by FFmpeg")
        return layout

    def _choose_rate(self, fps: float) -> None:
        given = self._device.choose_rate(fps)
        if given is None:
            self._warn(f"asked for {fps:g} fps, the camera's rate cannot be set")
        elif abs(given / fps - 1) > CLOSE_ENOUGH:
            self._warn(f"asked for {fps:g} fps, the camera gives {given:g}")

    def _warn(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            logger.warning("%s: %s", self._name, text)

    def arrivals(self) -> Iterator[Arrival]:
        """Yield pictures in their order until `interrupt`; the driver drops those for which it has no room.

        Raises:
            OSError: it broke off (ENODEV: unplugged; TimeoutError: it sends nothing).
        """
        live = self._options.live
        limit_s = live.open_timeout_s
        while filled := self._device.read(limit_s):
            self.heard_at = self._clock()
            limit_s = live.read_timeout_s
            yield self._arrival(filled)

    def _arrival(self, filled: Filled) -> Arrival:
        captured_at = self.heard_at
        if filled.is_monotonic and filled.stamped_s is not None:  # may be the end of the exposure, yet to come
            captured_at = min(max(filled.stamped_s, captured_at - LATEST_S), captured_at)
        picture = None if filled.is_damaged else self._converter.picture(filled.data)
        if picture is not None and self._options.rotate:
            picture = turned(picture, -self._options.rotate % 360)
        wall_time = self._wall_clock() - (self._clock() - captured_at)
        return Arrival(self._name, picture, captured_at, filled.stamped_s, wall_time, None)

    def interrupt(self) -> None:
        """End `arrivals` at once; from any thread, at any time."""
        self._device.interrupt()

    def close(self) -> None:
        """Give the camera back."""
        self._device.close()
