"""The part of V4L2 that needs no driver; `make test-v4l2` runs the rest with one."""

from __future__ import annotations

import ctypes
import errno
import os
import select
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.capture.live.v4l2 import Device, Waiter
from pipeline.capture.live.videodev2 import (
    REQUESTS,
    BufferRequest,
    BufferState,
    Capability,
    Format,
    FormatDescription,
    StreamParameters,
    fourcc_of,
)

LONG_S = 60.0
AT_ONCE_S = 5.0
"""Far below LONG_S, for a busy machine."""


@pytest.mark.parametrize(
    ("structure", "size"),
    [
        (Capability, 104),
        (FormatDescription, 64),
        (Format, 208),
        (StreamParameters, 204),
        (BufferRequest, 20),
        (BufferState, 88),
    ],
)
def test_structures_are_as_long_as_the_kernels(structure: type[ctypes.Structure], size: int) -> None:
    assert ctypes.sizeof(structure) == size


@pytest.mark.parametrize(
    ("structure", "field", "offset"),
    [
        (Capability, "device_caps", 88),
        (FormatDescription, "pixelformat", 44),
        (Format, "width", 8),
        (Format, "bytesperline", 24),
        (Format, "ycbcr_enc", 44),
        (StreamParameters, "numerator", 12),
        (BufferState, "seconds", 24),
        (BufferState, "sequence", 56),
        (BufferState, "offset", 64),
        (BufferState, "length", 72),
    ],
)
def test_fields_are_where_the_kernel_has_them(structure: type[ctypes.Structure], field: str, offset: int) -> None:
    assert getattr(structure, field).offset == offset


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("QUERYCAP", 0x80685600),
        ("ENUM_FMT", 0xC0405602),
        ("G_FMT", 0xC0D05604),
        ("S_FMT", 0xC0D05605),
        ("REQBUFS", 0xC0145608),
        ("QUERYBUF", 0xC0585609),
        ("QBUF", 0xC058560F),
        ("DQBUF", 0xC0585611),
        ("STREAMON", 0x40045612),
        ("STREAMOFF", 0x40045613),
        ("G_PARM", 0xC0CC5615),
        ("S_PARM", 0xC0CC5616),
    ],
)
def test_requests_have_the_kernels_numbers(name: str, number: int) -> None:
    assert REQUESTS[name] == number


@pytest.mark.parametrize(("number", "fourcc"), [(0x56595559, "YUYV"), (0x47504A4D, "MJPG"), (0xA0363159, "Y16 ")])
def test_a_pixel_format_is_four_characters_of_which_the_last_may_carry_the_byte_order(number: int, fourcc: str) -> None:
    assert fourcc_of(number) == fourcc


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A file that becomes readable when something is written to the other."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


@pytest.fixture
def waiter(pipe: tuple[int, int]) -> Iterator[Waiter]:
    made = Waiter(pipe[0])
    yield made
    made.close()


def test_a_wait_ends_when_there_is_something_to_read(pipe: tuple[int, int], waiter: Waiter) -> None:
    assert waiter.wait(0) == 0
    os.write(pipe[1], b"x")
    assert waiter.wait(LONG_S) == select.POLLIN


def test_a_wait_ends_in_time(waiter: Waiter) -> None:
    before = time.monotonic()
    assert waiter.wait(0.2) == 0
    assert 0.15 < time.monotonic() - before < AT_ONCE_S


def test_a_wait_is_ended_by_another_thread_and_so_are_all_that_follow(pipe: tuple[int, int], waiter: Waiter) -> None:
    before = time.monotonic()
    timer = threading.Timer(0.2, waiter.wake)
    timer.start()
    assert waiter.wait(LONG_S) == 0
    assert waiter.is_woken
    os.write(pipe[1], b"x")
    assert waiter.wait(LONG_S) == 0
    assert time.monotonic() - before < AT_ONCE_S
    timer.join()


def test_waking_what_is_closed_touches_no_other_file(pipe: tuple[int, int]) -> None:
    made = Waiter(pipe[0])
    made.close()
    read, write = os.pipe2(os.O_NONBLOCK)  # takes the numbers that have become free
    made.wake()
    made.close()
    with pytest.raises(BlockingIOError):
        os.read(read, 1)
    os.close(read)
    os.close(write)


@pytest.fixture
def silent(tmp_path: Path) -> str:
    """A file that can be opened and polled like a camera that sends nothing."""
    path = tmp_path / "silent"
    os.mkfifo(path)
    return str(path)


def test_a_device_that_sends_nothing_is_waited_for_until_the_deadline(silent: str) -> None:
    with Device(silent) as device, pytest.raises(TimeoutError, match=r"no picture came for 0\.2 s"):
        device.read(0.2)


def test_a_read_is_ended_by_another_thread(silent: str) -> None:
    with Device(silent) as device:
        timer = threading.Timer(0.2, device.interrupt)
        timer.start()
        before = time.monotonic()
        assert device.read(LONG_S) is None
        assert device.read(LONG_S) is None
        assert time.monotonic() - before < AT_ONCE_S
        timer.join()
    device.interrupt()


def test_an_error_of_the_driver_says_which_request_it_was_and_of_what(silent: str) -> None:
    with Device(silent) as device, open(silent, "wb", buffering=0) as writer:
        writer.write(b"x")
        with pytest.raises(OSError, match="VIDIOC_DQBUF") as caught:
            device.read(LONG_S)
    assert caught.value.errno == errno.ENOTTY
    assert caught.value.filename == silent


def test_what_was_opened_is_closed_once_and_wholly(silent: str) -> None:
    before = os.listdir("/proc/self/fd")
    device = Device(silent)
    assert len(os.listdir("/proc/self/fd")) > len(before)
    device.close()
    device.close()
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_a_device_that_is_not_there_is_a_missing_file() -> None:
    with pytest.raises(FileNotFoundError):
        Device("/dev/video999")
