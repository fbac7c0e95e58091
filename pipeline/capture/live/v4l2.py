"""V4L2: a video device of Linux by ioctl, mmap and poll, with a deadline for every wait.

FFmpeg's reader of such devices is not used: it blocks for ever where a camera sends nothing (while opening, too), hands
out the kernel's own buffers, so that a packet that outlives its container crashes the process, and keeps the camera
busy until the process ends where opening fails half-way. Here pictures are copied out (0.04 ms at 1280 x 720, YUYV),
and whatever happens, `close` gives the device back.

Only the single-planar API, which all USB cameras have.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import mmap
import os
import select
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from ctypes import c_int32
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from pipeline.capture.live.videodev2 import (
    ERROR,
    MEMORY_MMAP,
    PER_NODE,
    REQUESTS,
    TIME_PER_FRAME,
    TIMESTAMP_MASK,
    TIMESTAMP_MONOTONIC,
    TYPE_CAPTURE,
    BufferRequest,
    BufferState,
    Capability,
    Format,
    FormatDescription,
    StreamParameters,
    fourcc_of,
)

logger = logging.getLogger(__name__)

BUFFERS = 4
"""Pictures that the driver may fill while one is taken."""
HINTS = {errno.ENOSPC: "the USB bus has no room for such pictures: ask for fewer or smaller ones, or use another port"}


@dataclass(frozen=True, slots=True)
class Layout:
    """What the driver's pictures look like."""

    fourcc: str
    width: int
    height: int
    stride: int = 0
    """Bytes from one row of the first plane to the next; 0: no padding."""
    colorspace: int = 0
    encoding: int = 0
    quantization: int = 0
    """By V4L2's numbers (v4l2_colorspace, v4l2_ycbcr_encoding, v4l2_quantization); 0: the default."""


@dataclass(frozen=True, slots=True)
class Filled:
    """What was in a buffer."""

    data: bytes
    stamped_s: float | None
    """The driver's timestamp, seconds of a clock of its own; None: it gave none."""
    is_monotonic: bool
    """Whether that clock is CLOCK_MONOTONIC, which `time.monotonic` reads."""
    is_damaged: bool
    """Whether the driver says so, or the buffer is empty."""


class Waiter:
    """Waits for a file to become readable; another thread may end the wait."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._lock = threading.Lock()
        self._is_open = True
        self.is_woken = False
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)
        self._poll.register(self._wakeup, select.POLLIN)

    def wait(self, timeout_s: float) -> int:
        """Return the file's events, as of poll(2); 0: the time is up, or `wake` has been called."""
        events = dict(self._poll.poll(max(0.0, 1000 * timeout_s)))
        return 0 if self.is_woken else events.get(self._fd, 0)

    def wake(self) -> None:
        """End the present wait and all that follow; from any thread, at any time."""
        with self._lock:  # or the number may be another file's by now
            self.is_woken = True
            if self._is_open:
                os.eventfd_write(self._wakeup, 1)

    def close(self) -> None:
        """Close what it waits with, not the file."""
        with self._lock:
            if self._is_open:
                self._is_open = False
                os.close(self._wakeup)


class Device:
    """An opened device. One thread uses it; `interrupt` is for all others.

    Each method raises OSError with the kernel's number: ENODEV where the device is gone, EBUSY where another has it.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._maps: list[mmap.mmap] = []
        self._sequence: int | None = None
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            self._waiter = Waiter(self._fd)
        except BaseException:
            os.close(self._fd)
            raise

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def capability(self) -> tuple[str, int]:
        """Return its name and what this node can do."""
        answer = Capability()
        self._ioctl("QUERYCAP", answer)
        bits = answer.device_caps if answer.capabilities & PER_NODE else answer.capabilities
        return answer.card.decode(errors="replace"), bits

    def fourccs(self) -> Iterator[str]:
        """Yield its pixel formats in its own order."""
        for index in range(1000):
            answer = FormatDescription(index=index, type=TYPE_CAPTURE)
            try:
                self._ioctl("ENUM_FMT", answer)
            except OSError as error:
                if error.errno == errno.EINVAL:  # there are no more
                    return
                raise
            yield fourcc_of(answer.pixelformat)

    def choose(self, fourcc: str, width: int | None, height: int | None) -> Layout:
        """Set pixel format and size (None: as it is); return what the driver has made of it."""
        wanted = Format(type=TYPE_CAPTURE)
        self._ioctl("G_FMT", wanted)
        wanted.pixelformat = int.from_bytes(fourcc.encode(), "little")
        wanted.width, wanted.height = width or wanted.width, height or wanted.height
        wanted.field = wanted.bytesperline = wanted.sizeimage = 0
        self._ioctl("S_FMT", wanted)
        return Layout(
            fourcc_of(wanted.pixelformat),
            wanted.width,
            wanted.height,
            wanted.bytesperline,
            wanted.colorspace,
            wanted.ycbcr_enc,
            wanted.quantization,
        )

    def choose_rate(self, fps: float) -> float | None:
        """Set the rate; return what the driver has made of it, None where it cannot be set."""
        wanted = StreamParameters(type=TYPE_CAPTURE)
        try:
            self._ioctl("G_PARM", wanted)
            if not wanted.capability & TIME_PER_FRAME:
                return None
            period = Fraction(1 / fps).limit_denominator(1_000_000)
            wanted.numerator, wanted.denominator = period.numerator, period.denominator
            self._ioctl("S_PARM", wanted)
        except OSError as error:
            if error.errno in (errno.ENOTTY, errno.EINVAL):
                return None
            raise
        return wanted.denominator / wanted.numerator if wanted.numerator else None

    def start(self) -> None:
        """Give the driver its buffers and let it begin."""
        request = BufferRequest(count=BUFFERS, type=TYPE_CAPTURE, memory=MEMORY_MMAP)
        self._ioctl("REQBUFS", request)
        for index in range(request.count):
            buffer = BufferState(index=index, type=TYPE_CAPTURE, memory=MEMORY_MMAP)
            self._ioctl("QUERYBUF", buffer)
            self._maps.append(mmap.mmap(self._fd, buffer.length, access=mmap.ACCESS_READ, offset=buffer.offset))
            self._ioctl("QBUF", buffer)
        self._ioctl("STREAMON", c_int32(TYPE_CAPTURE))

    def read(self, timeout_s: float) -> Filled | None:
        """Return the next picture; None after `interrupt`.

        Raises:
            TimeoutError: none came in that time.
        """
        deadline = time.monotonic() + timeout_s
        while events := self._waiter.wait(deadline - time.monotonic()):
            buffer = BufferState(type=TYPE_CAPTURE, memory=MEMORY_MMAP)
            try:
                self._ioctl("DQBUF", buffer)
            except BlockingIOError:
                if events & ~select.POLLIN:
                    raise OSError(errno.EIO, "the driver has stopped", self.path) from None
                continue
            return self._take(buffer)
        if self._waiter.is_woken:
            return None
        raise TimeoutError(errno.ETIMEDOUT, f"no picture came for {timeout_s:g} s", self.path)

    def _take(self, buffer: BufferState) -> Filled:
        """Copy what is in a buffer, then give it back to the driver."""
        self._count(buffer.sequence)
        data = self._maps[buffer.index][: buffer.bytesused]
        stamped_s = buffer.seconds + buffer.microseconds / 1e6
        is_monotonic = buffer.flags & TIMESTAMP_MASK == TIMESTAMP_MONOTONIC
        is_damaged = bool(buffer.flags & ERROR) or not data
        self._ioctl("QBUF", buffer)
        return Filled(data, stamped_s or None, is_monotonic, is_damaged)

    def _count(self, sequence: int) -> None:
        if self._sequence is not None and sequence > self._sequence + 1:
            logger.debug("%s: the driver left out %d pictures", self.path, sequence - self._sequence - 1)
        self._sequence = sequence

    def interrupt(self) -> None:
        """End a `read` at once, and all that follow; from any thread, at any time, also after `close`."""
        self._waiter.wake()

    def close(self) -> None:
        """Give it back, whatever state it is in: who still holds it when it is plugged in again makes it change its
        number."""
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        with suppress(OSError):
            fcntl.ioctl(fd, REQUESTS["STREAMOFF"], c_int32(TYPE_CAPTURE))
        for each in self._maps:
            each.close()
        self._maps.clear()
        self._waiter.close()
        os.close(fd)

    def _ioctl(self, name: str, argument: Any) -> None:
        """Ask the driver; signals do not count (PEP 475 leaves ioctl out)."""
        while True:
            try:
                fcntl.ioctl(self._fd, REQUESTS[name], argument)
                return
            except InterruptedError:
                continue
            except OSError as error:
                raise self._error(name, error.errno or errno.EIO) from None

    def _error(self, name: str, number: int) -> OSError:
        if name == "DQBUF" and number == errno.EINVAL:  # what some unplugged cameras' drivers say
            number = errno.ENODEV
        return OSError(number, HINTS.get(number) or f"{os.strerror(number)} (VIDIOC_{name})", self.path)
