from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.capture.live.times import AHEAD_S, BEHIND_S, SLACK_S, TICK_S, TRUSTED_S, LiveClock

STEP = 0.04
BOOT = 5_000.0
"""Monotonic seconds when the first picture arrives."""
NOON = 1.7e9
"""UTC seconds then."""


@dataclass(frozen=True)
class Came:
    """A picture: seconds of the stream, seconds of arrival since the first."""

    stream_s: float | None
    at_s: float
    reconnects: bool = False


def media_times(pictures: Sequence[Came], clock: LiveClock | None = None) -> list[float]:
    clock = clock or LiveClock()
    times = []
    for each in pictures:
        if each.reconnects:
            clock.connected()
        times.append(clock.of(each.stream_s, BOOT + each.at_s, NOON + each.at_s, None).pts)
    return times


def even(
    count: int, start_s: float = 0.0, at_s: float = 0.0, step_s: float = STEP, every_s: float = STEP
) -> list[Came]:
    """Pictures with even timestamps that arrive evenly."""
    return [Came(start_s + number * step_s, at_s + number * every_s) for number in range(count)]


def steps(times: Sequence[float]) -> list[float]:
    return [after - before for before, after in pairwise(times)]


# ------------------------------------------------------------------ media time


@pytest.mark.parametrize("start_s", [0.0, 3.7, 95_443.71, -20.0])
def test_media_time_begins_at_zero_wherever_the_stream_does(start_s: float) -> None:
    assert media_times(even(50, start_s)) == pytest.approx([number * STEP for number in range(50)])


def test_uneven_arrival_leaves_no_trace() -> None:
    rng = random.Random(1)
    pictures = [Came(each.stream_s, each.at_s + rng.uniform(0, 0.2)) for each in even(500)]
    pictures.sort(key=lambda each: each.at_s)
    pictures = [Came(number * STEP, each.at_s) for number, each in enumerate(pictures)]
    assert steps(media_times(pictures)) == pytest.approx([STEP] * 499)


def test_a_burst_after_a_stall_keeps_its_even_times() -> None:
    burst = [Came(2 + number * STEP, 7 + number * 0.001) for number in range(125)]
    pictures = even(50) + burst + even(50, start_s=7, at_s=7.2)
    assert steps(media_times(pictures)) == pytest.approx([STEP] * 224)


def test_a_slow_burst_keeps_its_even_times_too() -> None:
    burst = [Came(2 + number * STEP, 8 + number * STEP / 2) for number in range(300)]  # twice as fast as life
    assert steps(media_times(even(50) + burst)) == pytest.approx([STEP] * 349)


def test_a_clock_is_still_believed_after_a_server_sent_too_much_at_once() -> None:
    kept = [Came(number * STEP, number * 0.001) for number in range(150)]
    late = [Came(6 + number * STEP, 0.15 + number * STEP + number % 3 * 0.01) for number in range(2000)]
    assert steps(media_times(kept + late))[-500:] == pytest.approx([STEP] * 500)


def test_what_a_server_kept_for_new_clients_keeps_its_even_times() -> None:
    kept = [Came(number * STEP, number * 0.001) for number in range(40)]
    assert steps(media_times(kept)) == pytest.approx([STEP] * 39)


def test_pictures_without_timestamps_follow_arrival() -> None:
    pictures = [Came(None, at_s) for at_s in (0.0, 0.03, 0.09, 0.11)]
    assert media_times(pictures) == pytest.approx([0.0, 0.03, 0.09, 0.11])


def test_single_pictures_without_timestamps_stand_between_their_neighbours() -> None:
    pictures = [each if number % 5 else Came(None, each.at_s) for number, each in enumerate(even(50, start_s=9))]
    assert media_times(pictures) == pytest.approx([number * STEP for number in range(50)])


@pytest.mark.parametrize("to_s", [0.0, 5.0, 9.9, 14.5, 1000.0, -3.0, -(2**33) / 90_000])
def test_a_jump_of_the_timestamps_is_as_long_as_what_passed(to_s: float) -> None:
    pictures = even(50, start_s=10) + even(50, start_s=to_s, at_s=50 * STEP)
    assert media_times(pictures) == pytest.approx([number * STEP for number in range(100)])


def test_timestamps_that_wrap_around_go_on() -> None:
    wrap_s = 2**33 / 90_000
    pictures = [Came((wrap_s - 1 + number * STEP) % wrap_s, number * STEP) for number in range(100)]
    assert media_times(pictures) == pytest.approx([number * STEP for number in range(100)])


def test_timestamps_that_stand_still_go_on() -> None:
    assert media_times([Came(3.0, number * STEP) for number in range(50)]) == pytest.approx(
        [number * STEP for number in range(50)]
    )


def test_pictures_that_were_lost_leave_their_gap() -> None:
    pictures = even(10) + even(10, start_s=1.5, at_s=1.5)
    assert steps(media_times(pictures))[9] == pytest.approx(1.5 - 9 * STEP)


def anew(pictures: Sequence[Came]) -> list[Came]:
    """The same, over a new connection."""
    return [replace(pictures[0], reconnects=True), *pictures[1:]]


@pytest.mark.parametrize("start_s", [0.0, 3.5, 777.0])
def test_an_outage_is_a_gap_of_its_length(start_s: float) -> None:
    times = media_times(even(51) + anew(even(50, start_s, at_s=12)))
    assert times[50] == pytest.approx(2.0)
    assert times[51] == pytest.approx(12.0)
    assert steps(times[51:]) == pytest.approx([STEP] * 49)


def test_an_outage_in_the_middle_of_a_burst_does_not_leave_media_time_behind() -> None:
    burst = [Came(2 + number * STEP, 8.0) for number in range(20)]
    times = media_times([*even(50), *burst, *anew([Came(0.0, 20.0)])])
    assert times[-1] == pytest.approx(20.0)


@pytest.mark.parametrize("rate", [0.99, 0.999, 1.001, 1.01])
def test_a_clock_that_drifts_is_followed_without_a_jump(rate: float) -> None:
    pictures = even(25 * 600, step_s=STEP * rate)
    times = media_times(pictures)
    assert max(abs(time - each.at_s) for time, each in zip(times, pictures, strict=True)) < SLACK_S + 0.1
    assert max(steps(times)) < STEP * 1.07
    assert min(steps(times)) > STEP * 0.93


def test_a_camera_that_paused_its_clock_is_caught_up_with_once() -> None:
    pictures = even(50) + even(250, start_s=2.0, at_s=7.0)
    times = media_times(pictures)
    assert sorted(steps(times))[-2:] == pytest.approx([STEP, 5.0], abs=0.05)
    assert times[-1] == pytest.approx(pictures[-1].at_s, abs=SLACK_S)


@pytest.mark.parametrize("fps", [2, 10, 60])
def test_timestamps_that_were_made_up_are_soon_ignored(fps: int) -> None:
    pictures = even(100 * fps, every_s=1 / fps)  # they count 25 a second, as FFmpeg does for MJPEG over HTTP
    times = media_times(pictures)
    late = slice(30 * fps, None)
    assert steps(times[late]) == pytest.approx([1 / fps] * (70 * fps - 1), rel=0.06)
    assert times[-1] == pytest.approx(pictures[-1].at_s, abs=SLACK_S)


def test_a_clock_that_was_ignored_gets_another_chance_with_a_new_connection() -> None:
    made_up = even(100, every_s=0.2)
    uneven = [Came(number * STEP, 25 + number * STEP + number % 3 * 0.01) for number in range(100)]
    assert steps(media_times(made_up + anew(uneven)))[-99:] == pytest.approx([STEP] * 99)


def test_the_usual_step_is_learned() -> None:
    clock = LiveClock(step_s=0.1)
    assert clock.step_s == 0.1
    media_times(even(12, step_s=0.5, every_s=0.5), clock)
    assert clock.step_s == pytest.approx(0.5)
    media_times(anew([Came(100.0, 50.0)]), clock)
    assert clock.step_s == pytest.approx(0.5)  # an outage is no step


ANY_CAME = st.tuples(
    st.one_of(st.none(), st.floats(-0.1, 0.2), st.floats(-1e5, 1e5)),
    st.one_of(st.floats(0, 0.2), st.floats(0, 30)),
    st.booleans().flatmap(lambda often: st.booleans() if often else st.just(False)),
)


def pictures_of(changes: Sequence[tuple[float | None, float, bool]]) -> list[Came]:
    """Pictures from the steps of the stream, the steps of arrival, and where it connects anew."""
    stream_s = at_s = 0.0
    pictures = []
    for stream_step, passed, reconnects in changes:
        at_s += passed
        stream_s += stream_step or 0.0
        pictures.append(Came(None if stream_step is None else stream_s, at_s, reconnects))
    return pictures


@settings(deadline=None)
@given(st.lists(ANY_CAME, min_size=1, max_size=120))
def test_media_time_always_rises_and_stays_near_arrival(changes: list[tuple[float | None, float, bool]]) -> None:
    pictures = pictures_of(changes)
    times = media_times(pictures)
    assert all(step >= TICK_S / 2 for step in steps(times))
    for number, (time, picture) in enumerate(zip(times, pictures, strict=True)):
        ahead_s = time - (picture.at_s - pictures[0].at_s)
        assert ahead_s >= -BEHIND_S - 1e-6
        assert ahead_s <= AHEAD_S + number * TICK_S + 1e-6


@settings(deadline=None)
@given(st.lists(ANY_CAME, max_size=60), st.floats(-1e5, 1e5))
def test_after_any_disorder_a_sane_camera_is_soon_on_time(
    changes: list[tuple[float | None, float, bool]], start_s: float
) -> None:
    before = pictures_of([(0.0, 0.0, False), *changes])
    calm = even(1500, start_s, at_s=before[-1].at_s + STEP)  # a minute
    times = media_times(before + calm)
    assert abs(times[-1] - calm[-1].at_s) <= SLACK_S
    assert steps(times)[-25:] == pytest.approx([STEP] * 25, rel=0.06)


# ------------------------------------------------------------------ wall time


def wall_times(walls: Sequence[tuple[float, float | None]]) -> list[float]:
    """Of pairs of arrival and the camera's own, both in seconds after noon."""
    clock = LiveClock()
    return [
        clock.of(None, BOOT + arrived, NOON + arrived, None if sent is None else NOON + sent).wall_time - NOON
        for arrived, sent in walls
    ]


@pytest.mark.parametrize(
    ("walls", "expected"),
    [
        pytest.param([(0.0, None), (1.0, None)], [0.0, 1.0], id="arrival where the camera says nothing"),
        pytest.param([(0.0, -0.2), (1.0, 0.8)], [-0.2, 0.8], id="the camera's clock"),
        pytest.param([(0.0, None), (0.1, 0.05), (0.2, 0.15)], [0.0, 0.05, 0.15], id="its first report comes late"),
        pytest.param([(0.0, None), (0.1, -0.1), (0.4, 0.2)], [0.0, 0.0, 0.2], id="it never goes back"),
        pytest.param([(0.0, -300.0), (1.0, -299.0)], [0.0, 1.0], id="minutes behind: never set"),
        pytest.param([(0.0, 300.0), (1.0, 301.0)], [0.0, 1.0], id="minutes ahead: never set"),
        pytest.param([(0.0, -NOON), (1.0, 1.0 - NOON)], [0.0, 1.0], id="1970"),
        pytest.param([(8.0, 3.0), (8.01, 3.04), (8.02, 3.08)], [3.0, 3.04, 3.08], id="a burst after a stall"),
        pytest.param([(0.0, -0.2), (5.0, None), (6.0, 5.8)], [-0.2, 5.0, 5.8], id="a new connection"),
    ],
)
def test_wall_time_is_the_cameras_where_it_can_be(
    walls: list[tuple[float, float | None]], expected: list[float]
) -> None:
    assert wall_times(walls) == pytest.approx(expected, abs=1e-6)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-1e4, 1e4), st.one_of(st.none(), st.floats(-1e4, 1e4))), max_size=50))
def test_wall_time_never_goes_back(walls: list[tuple[float, float | None]]) -> None:
    times = wall_times(walls)
    assert times == sorted(times)
    latest = float("-inf")
    for time, (arrived, _) in zip(times, walls, strict=True):
        latest = max(latest, arrived)
        assert time <= latest + TRUSTED_S + 1e-5
