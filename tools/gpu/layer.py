"""The CUDA layer and the letterbox alone, against what the card's memory can do; no TensorRT is needed."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from engines.cuda import driver
from engines.cuda.letterbox import GpuLetterbox, OnDevice
from pipeline.infer.letterbox import Letterbox
from pipeline.picture import Picture, Planes

if TYPE_CHECKING:
    from engines.cuda.layer import Cuda, Stream
    from tools.gpu.timing import Effort

COPIED = 64 << 20
FILLED = 1 << 30
"""Bytes; far more than the second-level cache holds."""
FULL_HD, TARGET = (1080, 1920), (640, 640)
KERNELS = 100
"""Runs of the letterbox between two events: one takes microseconds."""
MEMORY_CLOCK_KHZ, BUS_WIDTH_BITS = 36, 37
"""CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE and _GLOBAL_MEMORY_BUS_WIDTH."""


@dataclass(frozen=True)
class Moved:
    """Bytes that were moved, and how fast; timed by the GPU's own events."""

    what: str
    bytes: int
    us: float
    gb_per_s: float
    """1e9 bytes per second."""
    of_limit: float | None = None
    """As a part of what the card's memory can do; None where that is not known, or does not bound it."""


def memory_limit(index: int) -> float | None:
    """Return the GB/s of a card's memory: its clock, twice per tick, times the width of its bus; None: not told."""
    try:
        ask = driver.load().cuDeviceGetAttribute
    except (OSError, AttributeError):
        return None
    clock, width = ctypes.c_int(), ctypes.c_int()
    codes = [
        ask(ctypes.byref(number), attribute, index)
        for number, attribute in ((clock, MEMORY_CLOCK_KHZ), (width, BUS_WIDTH_BITS))
    ]
    return None if any(codes) else 2e3 * clock.value * width.value / 8 / 1e9 or None


def measure_layer(cuda: Cuda, effort: Effort, copied: int = COPIED, filled: int = FILLED) -> Iterator[Moved]:
    """Yield copies to and from page-locked memory, filling, and the letterbox; the context must be current.

    Raises:
        EngineBuildError: the letterbox cannot be compiled here; what comes before has been yielded.
    """
    limit = memory_limit(cuda.gpu.index)
    with ExitStack() as opened:
        stream = cuda.create_stream()
        opened.callback(cuda.destroy_stream, stream)
        opened.callback(cuda.synchronise, stream)
        yield from _copies(cuda, stream, effort, copied)
        yield _filled(cuda, stream, effort, filled, limit)
        yield from _letterboxes(cuda, stream, effort, limit)


def _copies(cuda: Cuda, stream: Stream, effort: Effort, size: int) -> Iterator[Moved]:
    with ExitStack() as opened:
        device = cuda.allocate(size)
        opened.callback(cuda.release, device)
        host = cuda.allocate_pinned(size)
        opened.callback(cuda.release_pinned, host)
        host.fill(1)
        upload = _milliseconds(cuda, stream, effort, 1, lambda: cuda.upload(device, host, stream))
        yield _moved("upload from page-locked memory", size, upload)
        download = _milliseconds(cuda, stream, effort, 1, lambda: cuda.download(host, device, stream))
        yield _moved("download to page-locked memory", size, download)


def _filled(cuda: Cuda, stream: Stream, effort: Effort, size: int, limit: float | None) -> Moved:
    size = min(size, cuda.memory()[0] // 4)
    device = cuda.allocate(size)
    try:
        fill = _milliseconds(cuda, stream, effort, 1, lambda: cuda.fill(device, 1, size, stream))
    finally:
        cuda.release(device)
    return _moved("fill the GPU's memory", size, fill, limit)


def _letterboxes(cuda: Cuda, stream: Stream, effort: Effort, limit: float | None) -> Iterator[Moved]:
    letterbox = GpuLetterbox(cuda)
    height, width = FULL_HD
    noise = np.random.default_rng(0).integers(0, 256, (height * 3, width), np.uint8)
    pictures = {
        "BGR": Picture(bgr=noise.reshape(height, width, 3)),
        "YUV 4:2:0": Picture(planes=Planes(noise[: height * 3 // 2].copy(), "bt709")),
    }
    for kind, picture in pictures.items():
        what = f"letterbox {width} x {height} {kind} -> {TARGET[1]} x {TARGET[0]} (the frame's bytes)"
        yield _cut(cuda, letterbox, stream, effort, picture, what, limit)


def _cut(
    cuda: Cuda,
    letterbox: GpuLetterbox,
    stream: Stream,
    effort: Effort,
    picture: Picture,
    what: str,
    limit: float | None,
) -> Moved:
    frame = Letterbox.plan((picture.height, picture.width), TARGET, "letterbox-centre").uncut(picture, 114)
    with ExitStack() as opened:
        addresses = []
        for plane in frame.planes:
            addresses.append(cuda.allocate(plane.nbytes))
            opened.callback(cuda.release, addresses[-1])
            cuda.upload(addresses[-1], np.ascontiguousarray(plane), stream)
        target = cuda.allocate(TARGET[0] * TARGET[1] * 3)
        opened.callback(cuda.release, target)
        opened.callback(cuda.synchronise, stream)
        pitches = tuple(plane[0].size for plane in frame.planes)
        place = OnDevice(tuple(addresses), pitches, (picture.height, picture.width))
        size = sum(plane.nbytes for plane in frame.planes)
        kernels = min(KERNELS, effort.steps)
        cut = _milliseconds(cuda, stream, effort, kernels, lambda: letterbox.cut(place, frame, target, TARGET, stream))
        return _moved(what, size, cut, limit)


def _milliseconds(cuda: Cuda, stream: Stream, effort: Effort, together: int, start: Callable[[], None]) -> float:
    """Return what one takes: the median of the rounds, each of as many as fit into its seconds, after a warm-up."""
    first, last = cuda.create_event(), cuda.create_event()

    def timed() -> float:
        cuda.record(first, stream)
        for _ in range(together):
            start()
        cuda.record(last, stream)
        cuda.synchronise(stream)
        return cuda.elapsed_ms(first, last) / together

    timed()
    once = max(timed() * together, 1e-3)
    times = min(effort.steps, max(1, round(effort.seconds * 1e3 / once)))
    return median(median(timed() for _ in range(times)) for _ in range(effort.rounds))


def _moved(what: str, size: int, ms: float, limit: float | None = None) -> Moved:
    speed = size / max(ms, 1e-9) / 1e6
    return Moved(what, size, ms * 1e3, speed, speed / limit if limit else None)
