"""The grid: merged by media time, whatever the rates, lengths and sizes; bounded; never stuck."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.capture.source import SourceInfo
from pipeline.picture import Planes, bgr_to_planes
from pipeline.sinks.grid import PATIENCE, Grid
from tests.pipeline.videos import grey_picture

SIZE = (64, 48)


def info(name: str, fps: float | None = 25, size: tuple[int, int] | None = SIZE) -> SourceInfo:
    width, height = size or (None, None)
    return SourceInfo(name, name, fps=fps, width=width, height=height)


def grey(level: int, size: tuple[int, int] = SIZE) -> Planes:
    planes = bgr_to_planes(grey_picture(*size, 0))
    return Planes(np.concatenate([np.full_like(planes.y, level), np.full_like(planes.data[planes.height :], 128)]))


class Play:
    """Feeds a grid, and keeps each merged picture's time and the level of each tile."""

    def __init__(self, *sources: SourceInfo) -> None:
        self.grid = Grid(sources)
        self.seen: list[tuple[float, list[int]]] = []

    def _keep(self, pictures: object) -> None:
        for time_s, canvas in pictures:  # type: ignore[attr-defined]
            places = self.grid._places.values()
            self.seen.append((time_s, [int(canvas.y[top + 20, left + 30]) for top, left in places]))

    def add(self, source: str, time_s: float, level: int, size: tuple[int, int] = SIZE) -> None:
        self._keep(self.grid.add(source, time_s, grey(level, size)))

    def end(self, source: str) -> None:
        self._keep(self.grid.end(source))

    @property
    def waiting(self) -> int:
        return sum(map(len, self.grid._waiting.values()))


def test_pictures_of_one_moment_are_shown_together() -> None:
    play = Play(info("a"), info("b"))
    for index in range(10):
        play.add("b", index / 25, 100 + index)
        play.add("a", index / 25, 20 + index)
    play.end("a")
    play.end("b")
    assert play.seen == [(index / 25, [20 + index, 100 + index]) for index in range(10)]


def test_the_fastest_source_sets_the_rate_and_the_others_change_in_time() -> None:
    play = Play(info("slow", 5), info("fast", 50))
    slow: list[tuple[str, float, int]] = [("slow", index / 5, 20 + index) for index in range(10)]
    fast: list[tuple[str, float, int]] = [("fast", index / 50, 100 + index) for index in range(100)]
    later = {"slow": 0.0, "fast": 0.4}
    for source, time_s, level in sorted(slow + fast, key=lambda item: item[1] + later[item[0]]):
        play.add(source, time_s, level)
    play.end("slow")
    play.end("fast")
    assert [time_s for time_s, _ in play.seen] == [index / 50 for index in range(100)]
    for time_s, (slow_level, fast_level) in play.seen:
        assert fast_level == 100 + round(time_s * 50)
        assert slow_level == 20 + int(time_s * 5 + 1e-9)


def test_after_a_source_has_ended_the_other_goes_on_and_its_last_picture_stays() -> None:
    play = Play(info("short", 25), info("long", 10))
    for index in range(5):
        play.add("short", index / 25, 20 + index)
    play.end("short")
    for index in range(30):
        play.add("long", index / 10, 100 + index)
    play.end("long")
    assert [time_s for time_s, _ in play.seen] == sorted(time_s for time_s, _ in play.seen)
    assert play.seen[-1] == (2.9, [24, 129])
    assert play.waiting == 0


@pytest.mark.parametrize("dead_fps", [1.0, 100.0])
def test_a_source_that_never_sends_delays_but_does_not_stop_the_others(dead_fps: float) -> None:
    play = Play(info("dead", dead_fps), info("a"), info("b"))
    most = 0
    for index in range(300):
        play.add("a", index / 25, 20 + index % 100)
        play.add("b", index / 25, 120 + index % 100)
        most = max(most, play.waiting)
    assert len(play.seen) >= 250
    assert most <= PATIENCE + 1
    assert all(b - a == 100 for _, (_, a, b) in play.seen)
    for source in ("a", "b", "dead"):
        play.end(source)
    assert len(play.seen) == 300
    assert play.waiting == 0


def test_without_any_picture_there_is_nothing() -> None:
    play = Play(info("a"), info("b"))
    play.end("a")
    play.end("b")
    assert play.seen == []


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 9])
def test_tiles_do_not_overlap_and_stay_on_the_canvas(count: int) -> None:
    play = Play(*(info(f"s{number}") for number in range(count)))
    for number in range(count):
        play.add(f"s{number}", 0, 30 + 20 * number)
    for number in range(count):
        play.end(f"s{number}")
    assert play.seen == [(0, [30 + 20 * number for number in range(count)])]


@pytest.mark.parametrize("size", [(64, 48), (2, 2), (2000, 1000), (100, 400), (1920, 2), (6, 1080)])
def test_a_picture_of_any_size_fits_its_tile_and_keeps_its_shape(size: tuple[int, int]) -> None:
    grid = Grid([info("a", size=size), info("b", size=(640, 360))])
    list(grid.add("a", 0, grey(200, size)))
    list(grid.add("b", 0, grey(100, (640, 360))))
    _, canvas = next(iter([*grid.end("b"), *grid.end("a")]))
    ys, xs = np.nonzero(canvas.y == 200)
    assert len(ys)
    assert canvas.width <= 2 * 960
    assert canvas.height <= 540
    height, width = np.ptp(ys) + 1, np.ptp(xs) + 1
    if min(size) >= 48:
        assert width / height == pytest.approx(size[0] / size[1], rel=0.05)


def test_a_source_whose_size_is_unknown_or_changes_still_fits() -> None:
    play = Play(info("a", None, None), info("b", 25))
    for index, size in enumerate([(64, 48), (640, 480), (48, 64), (2, 2)]):
        play.add("a", index / 25, 50, size)
        play.add("b", index / 25, 60)
    play.end("a")
    play.end("b")
    assert len(play.seen) == 4


def test_tiles_in_other_colours_are_converted() -> None:
    data = grey(93).data
    grid = Grid([info("a")])
    _, canvas = next(iter(grid.add("a", 0, Planes(data, "bt709", full_range=True))))
    assert canvas.y[20, 30] == pytest.approx(16 + 93 * 219 / 255, abs=2)
    assert (canvas.matrix, canvas.full_range) == ("bt601", False)
