"""Lines: every real crossing counts once and the right way, and nothing else does."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.result_settings import ZoneSettings
from tests.pipeline.zones.scenes import Thing, between, make_frame, names, nobody, run, square, stage, walk, zone


def fence(**more: object) -> ZoneSettings:
    """Across the middle at y = 240 from x = 160 to 480; looking right along it, what is below is to the right."""
    return zone(**({"name": "fence", "line": ((160, 240), (480, 240))} | more))


ABOVE, BELOW = (300.0, 160.0), (300.0, 320.0)


@pytest.mark.parametrize(("way", "direction"), [((ABOVE, BELOW), "in"), ((BELOW, ABOVE), "out")])
def test_who_walks_across_is_counted_once_and_by_the_direction(
    way: tuple[tuple[float, float], tuple[float, float]], direction: str
) -> None:
    frames = walk(between(*way, 41))
    events = run(stage(fence()), frames)
    counts = {"entered": {"person": 1}, "left": {}} if direction == "in" else {"entered": {}, "left": {"person": 1}}
    assert events == [
        {
            "pts": 2.4,  # 8 px beyond at 2.2 s
            "event": "line.cross",
            "zone": "fence",
            "direction": direction,
            "track": 1,
            "class": "person",
            "name": None,
            "box": [280.0, events[0]["box"][1], 320.0, events[0]["box"][3]],
            **counts,
        }
    ]
    state = frames[-1].zones[0]
    assert (state.is_line, dict(state.inside), {"entered": state.entered, "left": state.left}) == (True, {}, counts)


def test_a_reversed_line_swaps_the_directions() -> None:
    events = run(stage(fence(line=((480, 240), (160, 240)))), walk(between(ABOVE, BELOW, 41)))
    assert [event["direction"] for event in events] == ["out"]


@pytest.mark.parametrize("seed", range(5))
def test_who_stands_on_a_line_trembling_and_then_walks_on_is_counted_once(seed: int) -> None:
    noise = np.random.default_rng(seed).normal(0, 6, (300, 2))
    way = [*between(ABOVE, (300, 240), 25), *[(300.0, 240.0)] * 250, *between((300, 240), BELOW, 25)]
    points = [(x + dx, y + dy) for (x, y), (dx, dy) in zip(way, noise.tolist(), strict=True)]
    counted = fence(margin=0.15, debounce_s=0.3)
    events = run(stage(counted), walk(points, fps=25))
    assert [(event["event"], event["direction"]) for event in events] == [("line.cross", "in")]
    assert len(run(stage(fence(margin=0, debounce_s=0)), walk(points, fps=25))) > 10
    stays = points[:275] + between((300, 240), ABOVE, 25)
    assert run(stage(counted), walk(stays, fps=25)) == []


@pytest.mark.parametrize("frames", [2, 3, 4])
def test_who_jumps_over_the_line_between_two_frames_is_counted(frames: int) -> None:
    way = [*between((300, 20), (300, 460), frames), *[(300, 460)] * 3]
    assert [event["direction"] for event in run(stage(fence()), walk(way))] == ["in"]


def test_who_is_not_seen_while_crossing_is_counted() -> None:
    frames = walk([ABOVE] * 5) + nobody([0.5, 1.0, 1.5]) + walk([BELOW] * 5, start=2.0)
    assert [event["direction"] for event in run(stage(fence()), frames)] == ["in"]


@pytest.mark.parametrize("x", [100.0, 159.0, 481.0, 600.0])
def test_who_passes_beside_the_ends_is_not_counted(x: float) -> None:
    assert run(stage(fence()), walk(between((x, 160), (x, 320), 20))) == []
    assert run(stage(fence()), walk([(x, 20), (x, 460), (x, 460), (x, 460)])) == []


def test_who_goes_round_the_end_and_comes_back_through_is_counted_once() -> None:
    around = [ABOVE, (600, 160), (600, 320), BELOW]
    way = [point for a, b in pairwise(around) for point in between(a, b, 20)]
    through = between(BELOW, ABOVE, 20)
    assert run(stage(fence()), walk(way)) == []
    events = run(stage(fence()), walk(way + through + [ABOVE] * 3))
    assert [event["direction"] for event in events] == ["out"]


def test_who_comes_over_and_goes_back_is_counted_both_ways() -> None:
    there = between(ABOVE, BELOW, 20)
    events = run(stage(fence()), walk(there + there[::-1] + there))
    assert [event["direction"] for event in events] == ["in", "out", "in"]


def test_who_comes_over_and_does_not_stay_is_not_counted() -> None:
    way = [*between(ABOVE, (300, 230), 10), (300, 250), (300, 250), *between((300, 230), ABOVE, 10)]
    assert run(stage(fence(debounce_s=0.5)), walk(way)) == []


def test_who_crosses_and_is_gone_before_that_has_lasted_is_counted_when_the_track_has_ended() -> None:
    frames = walk([*between(ABOVE, (300, 230), 10), (300, 330)]) + nobody([1.5, 2.5, 3.5])
    events = run(stage(fence()), frames)
    assert [(event["event"], event["direction"], event["pts"]) for event in events] == [("line.cross", "in", 3.5)]
    assert events[0]["box"] == [280.0, 230.0, 320.0, 330.0]


def test_who_is_never_seen_on_one_of_the_sides_is_not_counted() -> None:
    assert run(stage(fence()), walk(between((300, 238), BELOW, 20))) == []


def test_a_line_near_the_edge_of_the_picture_counts_large_objects_too() -> None:
    exit_line = fence(line=((0, 472), (640, 472)), margin=0.2)
    way = [make_frame([Thing(1, 300, y, tall=200)], i / 10, clip=True) for i, y in enumerate(range(380, 560, 9))]
    assert [event["direction"] for event in run(stage(exit_line), way)] == ["in"]


def test_classes_names_and_predicted_positions_are_as_for_areas() -> None:
    way = between(ABOVE, BELOW, 41)
    assert run(stage(fence(classes="car")), walk(way)) == []
    assert run(stage(fence(classes="car")), walk(way, class_id=1, name="kitt"))[0]["name"] == "kitt"
    guessed = [make_frame([Thing(1, *point)], i / 10, predicted=i > 10) for i, point in enumerate(way)]
    assert run(stage(fence()), guessed) == []
    now_and_then = [make_frame([Thing(1, *point)], i / 10, predicted=i % 4 > 0) for i, point in enumerate(way)]
    assert names(run(stage(fence()), now_and_then)) == ["line.cross"]


def test_a_prediction_that_overshoots_the_line_is_not_a_crossing_there_and_back() -> None:
    stops = [*between(ABOVE, (300, 230), 5), *[(300.0, 230.0)] * 40]
    frames = [
        make_frame([Thing(1, x, y + (40 if i % 5 else 0))], i / 10, predicted=i % 5 > 0)
        for i, (x, y) in enumerate(stops)
    ]
    assert run(stage(fence()), frames) == []


def test_who_crosses_too_fast_is_reported_and_is_an_alarm_for_a_moment() -> None:
    slow, fast = (
        [make_frame([Thing(1, *at, speed=speed)], i / 10) for i, at in enumerate(between(ABOVE, BELOW, 41))]
        for speed in (80, 120)
    )
    assert names(run(stage(fence(max_speed=100)), slow)) == ["line.cross"]
    events = run(stage(fence(max_speed=100)), fast)
    assert names(events) == ["line.cross", "zone.speed"]
    assert (events[1]["speed"], events[1]["unit"]) == (120.0, "px/s")
    assert [frame.pts for frame in fast if frame.zones[0].alarm] == pytest.approx([2.4 + i / 10 for i in range(10)])


SPOT = st.sampled_from([(x, y) for x in (60, 300, 580) for y in (120, 360)])


@settings(max_examples=60, deadline=None)
@given(st.lists(SPOT, min_size=2, max_size=8), st.integers(1, 12))
def test_any_walk_counts_its_crossings_and_no_more(spots: list[tuple[int, int]], steps: int) -> None:
    """Between spots at three places above and below: over the line, or past its ends, in few or many steps."""
    way, expected = [spots[0]] * 4, []
    for (x, y), (to_x, to_y) in pairwise(spots):
        way += [(round(p[0]), round(p[1])) for p in between((x, y), (to_x, to_y), steps + 1)[1:]]
        way += [(to_x, to_y)] * 3
        if y != to_y and 160 <= (x + to_x) / 2 <= 480:
            expected.append("in" if to_y > y else "out")
    events = run(stage(fence()), walk([(float(x), float(y)) for x, y in way]))
    assert [event["direction"] for event in events] == expected


def test_a_line_and_an_area_watch_the_same_objects_apart() -> None:
    events = run(stage(fence(), square()), walk(between((300, 160), (300, 460), 61)))
    assert [(event["event"], event["zone"]) for event in events] == [
        ("zone.enter", "yard"),
        ("line.cross", "fence"),
        ("zone.leave", "yard"),
    ]


def test_who_is_called_something_else_on_the_way_is_counted_as_what_came() -> None:
    way = between(ABOVE, BELOW, 41)
    frames = [make_frame([Thing(1, *at, class_id=1 if i < 8 else 2)], i / 10) for i, at in enumerate(way)]
    events = run(stage(fence(classes="car")), frames)
    assert [(event["class"], event["entered"]) for event in events] == [("car", {"car": 1})]
