"""Sources, stages, sinks and engines that stand for cameras, models and disks: slow, failing or hanging on demand."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.capture.source import Damaged, Source, SourceInfo
from pipeline.frame import Frame
from pipeline.picture import Picture
from pipeline.sinks.sink import Sink
from pipeline.stage import AsyncStage, Stage

PIXELS = np.zeros((4, 4, 3), np.uint8)


def make_frame(source: str = "cam", index: int = 0, captured_at: float | None = None) -> Frame:
    return Frame(
        source, index, index / 30, time.monotonic() if captured_at is None else captured_at, Picture(bgr=PIXELS)
    )


class Trouble:
    """What a part of a run does at a place: nothing, raise, or hang until the test is over."""

    def __init__(
        self, place: str = "", error: BaseException | None = None, hang: threading.Event | None = None
    ) -> None:
        self.place, self.error, self.hang = place, error, hang

    def at(self, place: str) -> None:
        if place != self.place:
            return
        if self.hang is not None:
            self.hang.wait(20)
        if self.error is not None:
            raise self.error


NO_TROUBLE = Trouble()


class FakeSource(Source):
    """Frames of 4 x 4 pixels: `frames` of them (None: without end), one every `every_s`."""

    def __init__(
        self,
        name: str = "cam",
        frames: int | None = 10,
        *,
        live: bool = False,
        every_s: float = 0.0,
        damaged: Collection[int] = (),
        trouble: Trouble = NO_TROUBLE,
    ) -> None:
        self.info = SourceInfo(name, "fake", live, 4, 4, 30.0, frames)
        self.calls: list[str] = []
        self.begun_at: float | None = None
        self._every_s, self._damaged, self._trouble = every_s, damaged, trouble
        self._halt = threading.Event()

    def open(self) -> None:
        self.calls.append("open")

    def frames(self) -> Iterator[Frame | Damaged]:
        self.begun_at = time.monotonic()
        numbers = itertools.count() if self.info.frames is None else range(self.info.frames)
        for index in numbers:
            if self._halt.wait(self._every_s) if self._every_s else self._halt.is_set():
                self._trouble.at("source.interrupted")
                return
            if index == 5:
                self._trouble.at("source.frames")
            if index in self._damaged:
                yield Damaged(self.info.name, time.monotonic())
            else:
                yield make_frame(self.info.name, index)

    def remark(self) -> str | None:
        return None

    def stop(self) -> None:
        self.calls.append("stop")
        self._halt.set()
        self._trouble.at("source.stop")

    def close(self) -> None:
        self.calls.append("close")
        self._trouble.at("source.close")


class FakeStage(Stage):
    """Takes `takes_s` for a frame and remembers the calls."""

    def __init__(self, name: str = "work", takes_s: float = 0.0, trouble: Trouble = NO_TROUBLE) -> None:
        self.name = name
        self.calls: list[str] = []
        self.seen: list[tuple[str, int]] = []
        self.ready_at: float | None = None
        self._takes_s, self._trouble = takes_s, trouble

    def open(self) -> None:
        self.calls.append("open")
        self._trouble.at("stage.open")
        self.ready_at = time.monotonic()

    def process(self, frame: Frame) -> None:
        self.seen.append((frame.source, frame.index))
        if frame.index == 5:
            self._trouble.at("stage.process")
        if self._takes_s:
            time.sleep(self._takes_s)

    def end(self, source: str) -> None:
        self.calls.append(f"end {source}")
        self._trouble.at("stage.end")

    def close(self) -> None:
        self.calls.append("close")
        self._trouble.at("stage.close")


class FakeEngine:
    """As engines work: `requests` at once, `submit` waits where there is no room, `close` must come last."""

    def __init__(self, requests: int, takes_s: float, trouble: Trouble) -> None:
        self.room = threading.Semaphore(requests)
        self.runners = ThreadPoolExecutor(requests)
        self.in_flight = self.most_in_flight = 0
        self.closed = False
        self._takes_s, self._trouble = takes_s, trouble
        self._lock = threading.Lock()

    def submit(self, index: int) -> Future[int]:
        self.room.acquire()
        assert not self.closed, "submitted to a closed engine"
        with self._lock:
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        return self.runners.submit(self._work, index)

    def _work(self, index: int) -> int:
        if index == 5:
            self._trouble.at("engine")
        time.sleep(self._takes_s * (1 + index % 3))  # later requests are often done first
        return index

    def result(self, future: Future[int]) -> int:
        try:
            return future.result()
        finally:
            with self._lock:
                self.in_flight -= 1
            self.room.release()

    def close(self) -> None:
        assert self.in_flight == 0, "closed under its work"
        self.closed = True
        self.runners.shutdown()


class FakeAsyncStage(AsyncStage["Future[int]"]):
    """Gives frames to a FakeEngine."""

    name = "model"

    def __init__(self, requests: int = 3, takes_s: float = 0.0, trouble: Trouble = NO_TROUBLE) -> None:
        self.calls: list[str] = []
        self._requests, self._takes_s, self._trouble = requests, takes_s, trouble

    def open(self) -> None:
        self.calls.append("open")
        self._trouble.at("stage.open")
        self.engine = FakeEngine(self._requests, self._takes_s, self._trouble)
        self.in_flight = self._requests

    def submit(self, frame: Frame) -> Future[int]:
        if frame.index == 5:
            self._trouble.at("submit")
        return self.engine.submit(frame.index)

    def collect(self, frame: Frame, ticket: Future[int]) -> None:
        assert self.engine.result(ticket) == frame.index
        if frame.index == 5:
            self._trouble.at("collect")

    def end(self, source: str) -> None:
        self.calls.append(f"end {source}")

    def close(self) -> None:
        self.calls.append("close")
        if hasattr(self, "engine"):
            self.engine.close()
        self._trouble.at("stage.close")


class FakeSink(Sink):
    """Remembers what it got; `takes_s` a frame."""

    def __init__(
        self, name: str = "out", takes_s: float = 0.0, trouble: Trouble = NO_TROUBLE, main_thread: bool = False
    ) -> None:
        self.name, self.main_thread = name, main_thread
        self.calls: list[str] = []
        self.seen: list[tuple[str, int]] = []
        self.ages_s: list[float] = []
        self.summary: dict[str, Any] | None = None
        self.threads: set[threading.Thread] = set()
        self.idled = 0
        self._takes_s, self._trouble = takes_s, trouble

    def open(self) -> None:
        self.calls.append("open")
        self._trouble.at("sink.open")

    def consume(self, frame: Frame) -> None:
        assert "close" not in self.calls
        assert f"end {frame.source}" not in self.calls, "a frame after its source's end"
        self.threads.add(threading.current_thread())
        self.seen.append((frame.source, frame.index))
        self.ages_s.append(time.monotonic() - frame.captured_at)
        if frame.index == 5:
            self._trouble.at("sink.consume")
        if self._takes_s:
            time.sleep(self._takes_s)

    def idle(self) -> None:
        self.idled += 1

    def end(self, source: str) -> None:
        self.calls.append(f"end {source}")
        self._trouble.at("sink.end")

    def close(self) -> None:
        self.calls.append("close")
        self._trouble.at("sink.close")

    def report(self, summary: dict[str, Any]) -> None:
        self.calls.append("report")
        self.summary = summary
        self._trouble.at("sink.report")

    @property
    def files(self) -> list[Path]:
        return []

    def indices(self, source: str = "cam") -> list[int]:
        return [index for name, index in self.seen if name == source]


def threads_left(before: Collection[threading.Thread], patience_s: float = 2.0) -> list[threading.Thread]:
    """The threads that are more than before, given a moment to end."""
    deadline = time.monotonic() + patience_s
    while (left := [t for t in threading.enumerate() if t not in before]) and time.monotonic() < deadline:
        left[0].join(0.05)
    return left
