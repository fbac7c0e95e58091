"""The arithmetic of `frameloom bench gpu`: rates, percentiles, the plateau, the memory's limit, the tables."""

from __future__ import annotations

import ctypes
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import engines.cuda.driver
from engines.errors import DeviceLost, EngineError
from pipeline.picture import Picture
from tools.gpu.layer import BUS_WIDTH_BITS, MEMORY_CLOCK_KHZ, memory_limit
from tools.gpu.pipeline import FPS, InMemory
from tools.gpu.report import Part, Report
from tools.gpu.timing import Effort, Requests, milliseconds, per_second, percentiles, plateau


class Clock:
    """`time.perf_counter`, which stands still unless something takes its time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


class Device:
    """Takes work at once, and is done with it 10 ms later for each piece."""

    def __init__(self, clock: Clock, slow_rounds: tuple[int, ...] = ()) -> None:
        self.clock, self.slow_rounds = clock, slow_rounds
        self.rounds = self.waiting = self.steps = 0

    def step(self) -> int:
        self.clock.now += 0.001
        self.waiting += 1
        self.steps += 1
        return 4

    def finish(self) -> None:
        slower = 10 if self.rounds in self.slow_rounds else 1
        self.clock.now += (0.01 * slower - 0.001) * self.waiting
        self.waiting = 0
        self.rounds += 1


def test_a_rate_counts_the_time_until_the_last_is_done(clock: Clock) -> None:
    assert per_second(Device(clock), Effort(0, 20, 1)) == pytest.approx(4 / 0.01)


def test_the_warm_up_does_not_count_and_one_slow_round_does_not_matter(clock: Clock) -> None:
    device = Device(clock, slow_rounds=(0, 2))
    assert per_second(device, Effort(0, 20, 3)) == pytest.approx(400)
    assert (device.rounds, device.steps) == (4, 5 + 3 * 20)


def test_a_round_lasts_for_its_seconds_where_steps_are_fast(clock: Clock) -> None:
    device = Device(clock)
    per_second(device, Effort(1.0, 2, 1))
    assert device.steps == pytest.approx(1.25 / 0.001, abs=4)


def test_latencies_are_those_of_single_calls_without_the_warm_up(clock: Clock) -> None:
    durations = iter([9.0, 9.0, *(0.001 * number for number in range(1, 9))])

    def call() -> None:
        clock.now += next(durations)

    assert milliseconds(call, Effort(0, 8, 1)) == pytest.approx(range(1, 9))


def test_percentiles_lie_on_the_line_between_values() -> None:
    assert percentiles(list(range(101))) == (50, 95, 99)
    assert percentiles([3.0]) == (3.0, 3.0, 3.0)


@pytest.mark.parametrize(
    ("fps", "batch"),
    [
        ({1: 100.0, 2: 190.0, 4: 199.0, 8: 200.0}, 2),
        ({1: 100.0, 2: 189.9, 4: 199.0, 8: 200.0}, 4),
        ({1: 200.0, 2: 150.0}, 1),
        ({4: 10.0}, 4),
    ],
)
def test_the_plateau_is_the_smallest_batch_within_five_per_cent_of_the_best(fps: dict[int, float], batch: int) -> None:
    assert plateau(fps) == batch


def test_requests_are_kept_in_flight_and_their_results_taken_in_order() -> None:
    started: list[Pending] = []
    taken: list[int] = []

    class Pending:
        def __init__(self) -> None:
            self.number = len(started)
            started.append(self)

        def result(self) -> dict[str, Any]:
            taken.append(self.number)
            return {}

    requests = Requests(Pending, pictures=8, in_flight=3)
    assert [requests.step() for _ in range(5)] == [8] * 5
    assert taken == [0, 1]
    requests.finish()
    assert taken == [0, 1, 2, 3, 4]


class Libcuda:
    def __init__(self, values: dict[int, int]) -> None:
        self.values = values

    def cuDeviceGetAttribute(self, out: Any, attribute: int, device: int) -> int:  # noqa: N802
        assert isinstance(out._obj, ctypes.c_int)
        out._obj.value = self.values.get(attribute, 0)
        return 0 if attribute in self.values else 1


@pytest.mark.parametrize(
    ("library", "limit"),
    [
        (Libcuda({MEMORY_CLOCK_KHZ: 10_501_000, BUS_WIDTH_BITS: 384}), 1008.1),  # an RTX 4090
        (Libcuda({MEMORY_CLOCK_KHZ: 10_501_000}), None),
        (Libcuda({MEMORY_CLOCK_KHZ: 0, BUS_WIDTH_BITS: 0}), None),  # what some virtual GPUs say
        (object(), None),
    ],
)
def test_the_memorys_limit_is_clock_times_width_where_the_driver_tells(
    library: object, limit: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines.cuda.driver, "load", lambda: library)
    assert memory_limit(0) == (None if limit is None else pytest.approx(limit, abs=0.1))


def test_pictures_in_memory_come_again_and_again_and_never_with_a_conversion_of_before() -> None:
    pictures = [Picture(bgr=np.full((4, 6, 3), value, np.uint8)) for value in (1, 2)]
    source = InMemory(pictures, seconds=0, frames=5)
    frames = list(source.frames())
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [1, 2, 1, 2, 1]
    assert [frame.pts for frame in frames] == [number / FPS for number in range(5)]
    assert len({id(frame.picture) for frame in frames}) == 5
    assert (source.info.width, source.info.height, source.info.live) == (6, 4, False)


def test_pictures_in_memory_end_when_the_run_is_stopped() -> None:
    source = InMemory([Picture(bgr=np.zeros((4, 6, 3), np.uint8))], seconds=3600, frames=1)
    frames = source.frames()
    next(frames)
    source.stop()
    assert next(frames, None) is None


@dataclass(frozen=True)
class Row:
    name: str
    value: float | None
    words: str = ""


PART = Part("rows", "Some rows", (("name", "", lambda row: row.name), ("value", ".1f", lambda row: row.value)))


def failing(error: Exception) -> Iterator[Row]:
    yield Row("before", 1.25)
    raise error


def test_a_part_that_fails_keeps_its_rows_and_leaves_the_others_alone(tmp_path: Path) -> None:
    printed = StringIO()
    report = Report(Console(file=printed, width=80), tmp_path / "found.json")
    report.measure(PART, lambda: failing(EngineError("[full]")), lambda: [Row("after", None, "why")])
    found = json.loads((tmp_path / "found.json").read_text())
    assert [row["name"] for row in found["rows"]] == ["before", "after"]
    assert found["problems"] == [{"part": "rows", "words": "[full]"}]
    lines = [line.split() for line in printed.getvalue().splitlines()]
    assert lines == [
        ["Some", "rows"],
        ["name", "value"],
        ["before", "1.2"],
        ["after"],
        ["why"],
        [],
        ["rows:", "[full]"],
    ]


def test_a_lost_device_ends_everything_after_it_is_written(tmp_path: Path) -> None:
    report = Report(Console(file=StringIO()), tmp_path / "found.json")
    with pytest.raises(DeviceLost):
        report.measure(PART, lambda: failing(DeviceLost("gone")), lambda: [Row("never", 1.0)])
    found = json.loads((tmp_path / "found.json").read_text())
    assert [row["name"] for row in found["rows"]] == ["before"]
    assert found["problems"][0]["words"] == "gone"
