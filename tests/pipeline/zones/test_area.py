"""Areas: who enters, stays, leaves; how many, how fast; and that what trembles on an edge does so once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.capture.source import SourceInfo
from pipeline.frame import Frame
from pipeline.postprocess.zones.stage import WatchZones
from tests.pipeline.zones.scenes import (
    HEIGHT,
    INFO,
    UNTRACKED,
    WIDTH,
    Thing,
    between,
    make_frame,
    names,
    nobody,
    run,
    square,
    stage,
    walk,
    zone,
)

INSIDE, OUTSIDE = (300.0, 300.0), (100.0, 300.0)


def test_who_walks_through_enters_and_leaves_once_with_the_time_in_between() -> None:
    events = run(stage(square()), walk(between((100, 300), (540, 300), 45)))  # 10 px a frame, edges at 200 and 440
    assert names(events) == ["zone.enter", "zone.leave"]
    enter, leave = events
    assert enter == {
        "pts": 1.3,  # 5 px past the edge at 1.1 s, then 0.2 s there
        "event": "zone.enter",
        "zone": "yard",
        "track": 1,
        "class": "person",
        "name": None,
        "box": [210.0, 200.0, 250.0, 300.0],
        "inside": {"person": 1},
    }
    assert leave["pts"] == 3.7
    assert leave["dwell_s"] == pytest.approx(3.5 - 1.1)
    assert leave["inside"] == {"person": 0}


@pytest.mark.parametrize("seed", range(5))
def test_who_trembles_on_an_edge_and_then_walks_on_enters_once(seed: int) -> None:
    noise = np.random.default_rng(seed).normal(0, 8, (300, 2))
    way = [*between((150, 300), (200, 300), 20), *[(200, 300)] * 260, *between((200, 300), (300, 300), 20)]
    points = [(x + dx, y + dy) for (x, y), (dx, dy) in zip(way, noise.tolist(), strict=True)]
    settings = square(margin=0.2, debounce_s=0.3)
    assert names(run(stage(settings), walk(points, fps=25))) == ["zone.enter"]
    plain = square(margin=0.0, debounce_s=0.0)
    assert len(run(stage(plain), walk(points, fps=25))) > 20  # it is these two that do it


def test_who_is_inside_from_the_first_has_entered_when_that_has_lasted() -> None:
    events = run(stage(square()), walk([INSIDE] * 5))
    assert [(event["event"], event["pts"]) for event in events] == [("zone.enter", 0.2)]


def test_a_visit_that_does_not_last_is_none() -> None:
    assert run(stage(square(debounce_s=0.5)), walk([OUTSIDE] * 3 + [INSIDE] * 5 + [OUTSIDE] * 20)) == []


def test_only_classes_that_count_and_objects_with_a_track_are_seen() -> None:
    def frames() -> list[Thing]:
        return [Thing(1, 300, 300, 0), Thing(2, 320, 300, 1), Thing(UNTRACKED, 310, 300, 1), Thing(3, 330, 300, 2)]

    events = run(stage(square(classes="car")), [make_frame(frames(), i / 10) for i in range(5)])
    assert [(event["track"], event["class"], event["inside"]) for event in events] == [(2, "car", {"car": 1})]
    events = run(stage(square()), [make_frame(frames(), i / 10) for i in range(5)])
    assert events[-1]["inside"] == {"person": 1, "car": 1, "dog": 1}


def test_a_name_is_said_where_it_is_known() -> None:
    assert run(stage(square()), walk([INSIDE] * 5, name="ann"))[0]["name"] == "ann"


def test_the_centre_can_be_what_counts() -> None:
    feet_below = walk([(300.0, 440.0)] * 5)  # the box is 340..440, the area ends at 400
    assert names(run(stage(square()), feet_below)) == []
    assert names(run(stage(square(anchor="centre")), walk([(300.0, 440.0)] * 5))) == ["zone.enter"]


def test_who_is_not_seen_any_more_leaves_when_the_tracker_has_given_up_with_the_time_until_it_was_seen() -> None:
    watching = stage(square())
    events = run(watching, walk([INSIDE] * 11) + nobody([1.5, 2.0, 2.9, 3.1, 3.2]))
    assert [(event["event"], event["pts"]) for event in events] == [("zone.enter", 0.2), ("zone.leave", 3.1)]
    assert events[1]["dwell_s"] == 1.0
    assert events[1]["box"] == [280.0, 200.0, 320.0, 300.0]


def test_who_is_hidden_for_a_while_has_not_left() -> None:
    events = run(stage(square()), walk([INSIDE] * 5) + nobody([1.0, 2.0]) + walk([INSIDE] * 5, start=2.3))
    assert names(events) == ["zone.enter"]


def test_a_gap_in_time_ends_a_stay_and_a_new_track_is_a_new_one() -> None:
    watching = stage(square())
    events = run(watching, walk([INSIDE] * 5) + walk([INSIDE] * 5, start=60, track=2))
    assert [(event["event"], event["track"], event["pts"]) for event in events] == [
        ("zone.enter", 1, 0.2),
        ("zone.leave", 1, 60),
        ("zone.enter", 2, 60.2),
    ]
    assert events[1]["dwell_s"] == 0.4


def test_a_clock_that_jumps_back_ends_a_stay() -> None:
    events = run(stage(square()), walk([INSIDE] * 5, start=100) + walk([INSIDE] * 5, start=3, track=2))
    assert [(event["event"], event["track"]) for event in events] == [
        ("zone.enter", 1),
        ("zone.leave", 1),
        ("zone.enter", 2),
    ]
    assert events[1]["dwell_s"] == 0.4


def test_the_end_of_a_source_forgets_it_and_no_other() -> None:
    other = SourceInfo("gate", "gate", width=WIDTH, height=HEIGHT)
    watching = WatchZones([square()], {}, [INFO, other])
    for i in range(5):
        for source in ("cam", "gate"):
            watching.process(make_frame([Thing(1, 300, 300)], i / 10, source=source))
    watching.end("cam")
    cam, gate = make_frame([], 0.5), make_frame([], 0.5, source="gate")
    watching.process(cam)
    watching.process(gate)
    assert cam.zones[0].entered == {}
    assert gate.zones[0].entered == {"person": 1}


# --- predicted positions ------------------------------------------------------------------------------------------


def test_a_predicted_position_neither_enters_nor_leaves_but_keeps_the_object() -> None:
    seen = [make_frame([Thing(1, *INSIDE)], i / 10) for i in range(4)]
    strays = [make_frame([Thing(1, *OUTSIDE)], 0.4 + i / 10, predicted=True) for i in range(60)]
    again = [make_frame([Thing(1, *INSIDE)], 6.4 + i / 10) for i in range(5)]
    assert names(run(stage(square()), seen + strays + again)) == ["zone.enter"]
    assert run(stage(square()), strays[:3] + [replace(frame, predicted=True) for frame in again]) == []


@pytest.mark.parametrize("every", [2, 3, 5])
def test_a_run_that_detects_now_and_then_has_the_events_of_one_that_always_does(every: int) -> None:
    def frames(every: int) -> list[Frame]:
        path = between((100, 300), (540, 300), 120)
        return [make_frame([Thing(1, *point)], i / 25, predicted=i % every != 0) for i, point in enumerate(path)]

    always, sometimes = (run(stage(square()), frames(n)) for n in (1, every))
    assert names(sometimes) == names(always) == ["zone.enter", "zone.leave"]
    for one, other in zip(always, sometimes, strict=True):
        assert other["pts"] == pytest.approx(one["pts"], abs=2 * every / 25)


# --- how long, how many, how fast ---------------------------------------------------------------------------------


def test_a_long_stay_is_reported_once_and_is_an_alarm_until_it_ends() -> None:
    watching = stage(square(dwell_s=1.0))
    frames = walk([INSIDE] * 30 + [OUTSIDE] * 10)
    events = run(watching, frames)
    assert [(event["event"], event["pts"]) for event in events] == [
        ("zone.enter", 0.2),
        ("zone.dwell", 1.0),
        ("zone.leave", 3.2),
    ]
    assert events[1]["dwell_s"] == 1.0
    assert {"zone", "track", "class", "name", "box", "inside"} < events[1].keys()
    alarms = [frame.pts for frame in frames if frame.zones[0].alarm]
    assert (alarms[0], alarms[-1]) == (1.0, 3.1)


def test_too_many_are_reported_once_and_are_an_alarm_for_as_long() -> None:
    watching = stage(square(max_objects=1, debounce_s=0.0))
    count = [1, 2, 2, 1, 2, 2, 3] + [1] * 15 + [2, 2]  # between 0.3 and 0.4 s it was not for long that few
    spots = [INSIDE, (320.0, 320.0), (350.0, 350.0)]
    frames = [
        make_frame([Thing(k + 1, *(spots[k] if k < inside else OUTSIDE)) for k in range(3)], i / 10)
        for i, inside in enumerate(count)
    ]
    events = [event for event in run(watching, frames) if event["event"] == "zone.occupancy"]
    assert [event["pts"] for event in events] == [0.1, 2.2]
    assert events[0] == {
        "pts": 0.1,
        "event": "zone.occupancy",
        "zone": "yard",
        "inside": {"person": 2},
        "limit": 1,
    }
    assert [frame.zones[0].alarm for frame in frames] == [inside > 1 for inside in count]


def test_none_at_all_can_be_too_many() -> None:
    events = run(stage(square(max_objects=0)), walk([INSIDE] * 5))
    assert names(events) == ["zone.enter", "zone.occupancy"]


def test_who_is_too_fast_inside_is_reported_once_until_it_was_slow_again() -> None:
    speeds = [50] * 5 + [120] * 5 + [95, 105] * 5 + [60] * 5 + [130] * 5  # 95 is not slow yet, 60 is
    frames = [make_frame([Thing(1, *INSIDE, speed=speed)], i / 10) for i, speed in enumerate(speeds)]
    events = [event for event in run(stage(square(max_speed=100)), frames) if event["event"] == "zone.speed"]
    assert [event["pts"] for event in events] == [0.7, 2.7]
    assert events[0] == {
        "pts": 0.7,
        "event": "zone.speed",
        "zone": "yard",
        "track": 1,
        "class": "person",
        "speed": 120.0,
        "unit": "px/s",
    }
    assert [frame.zones[0].alarm for frame in frames][5:12] == [False, False, True, True, True, True, True]
    outside = [make_frame([Thing(1, *OUTSIDE, speed=300)], i / 10) for i in range(9)]
    assert run(stage(square(max_speed=100)), outside) == []


# --- what a frame says --------------------------------------------------------------------------------------------


def test_a_frame_has_the_state_of_each_zone_and_keeps_it() -> None:
    watching = stage(square(), zone(name="door", polygon=((0.5, 0.5), (1.0, 0.5), (1.0, 1.0)), source="cam"))
    frames = walk([INSIDE] * 5 + [OUTSIDE] * 5)
    run(watching, frames)
    yard, door = frames[4].zones
    assert (yard.name, door.name, yard.is_line) == ("yard", "door", False)
    assert (yard.inside, yard.entered, yard.left) == ({"person": 1}, {"person": 1}, {})
    assert door.points.tolist() == [[320, 240], [640, 240], [640, 480]]
    assert frames[-1].zones[0].left == {"person": 1}
    assert frames[4].zones[0].left == {}


def test_another_size_of_pictures_scales_pixels_and_parts_alike() -> None:
    watching = stage(square(), zone(name="door", polygon=((0.5, 0.5), (1, 0.5), (1, 1))))
    small = make_frame([], 0.0, size=(320, 240))
    watching.process(small)
    assert small.zones[0].points.tolist() == [[100, 100], [220, 100], [220, 200], [100, 200]]
    assert small.zones[1].points.tolist() == [[160, 120], [320, 120], [320, 240]]


def test_a_change_of_size_ends_stays_once() -> None:
    watching = stage(square())
    events = run(watching, walk([INSIDE] * 5))
    smaller = [make_frame([Thing(2, 150, 150)], 0.5 + i / 10, size=(320, 240)) for i in range(5)]
    events += run(watching, smaller)
    assert [(event["event"], event["track"]) for event in events] == [
        ("zone.enter", 1),
        ("zone.leave", 1),
        ("zone.enter", 2),
    ]


def test_who_is_cut_off_by_the_edge_of_the_picture_is_inside_an_area_that_ends_there() -> None:
    floor = zone(polygon=((0, 0.6), (1, 0.6), (1, 1), (0, 1)))
    cut = [make_frame([Thing(1, 300, 530, tall=300)], i / 10, clip=True) for i in range(5)]
    assert cut[0].detections is not None
    assert cut[0].detections.boxes[0, 3] == HEIGHT
    assert names(run(stage(floor), cut)) == ["zone.enter"]


def test_a_large_object_gets_into_a_narrow_area() -> None:
    narrow = zone(polygon=((200, 200), (440, 200), (440, 216), (200, 216)), margin=0.2)
    frames = [make_frame([Thing(1, 300, 208, tall=190)], i / 10) for i in range(5)]
    assert names(run(stage(narrow), frames)) == ["zone.enter"]


def test_a_class_that_changes_inside_leaves_the_counts_right() -> None:
    frames = walk([INSIDE] * 5) + walk([INSIDE] * 3, start=0.5, class_id=1) + walk([OUTSIDE] * 5, start=0.8, class_id=1)
    events = run(stage(square()), frames)
    assert names(events) == ["zone.enter", "zone.leave"]
    assert frames[-1].zones[0].inside == {"person": 0}
    assert events[1]["class"] == "person"


def test_many_come_and_go_and_none_is_mixed_up() -> None:
    """A hundred tracks after one another, three at a time, in places that others had before."""
    watching = stage(square(), square(name="lane", classes="car"))
    events = []
    for i in range(400):
        alive = [k for k in range(100) if 4 * k <= i < 4 * k + 12]
        things = [Thing(k + 1, 100 + 40 * ((i - 4 * k) % 12), 300, class_id=k % 2) for k in alive]
        events += run(watching, [make_frame(things, i * 0.2)])
    events += run(watching, nobody([90.0]))
    for track in range(1, 99):
        kinds = [(event["zone"], event["event"]) for event in events if event["track"] == track]
        both = [("yard", "zone.enter"), ("lane", "zone.enter"), ("yard", "zone.leave"), ("lane", "zone.leave")]
        assert kinds == (both if track % 2 == 0 else both[::2])


def test_who_is_inside_and_called_something_else_for_a_while_leaves_as_what_came() -> None:
    way = [*[INSIDE] * 10, *between(INSIDE, OUTSIDE, 20), *[OUTSIDE] * 5]
    frames = [make_frame([Thing(1, *at, class_id=1 if i < 8 else 2)], i / 10) for i, at in enumerate(way)]
    events = run(stage(square(classes="car", dwell_s=0.9)), frames)
    assert [(event["event"], event["class"]) for event in events] == [
        ("zone.enter", "car"),
        ("zone.dwell", "car"),
        ("zone.leave", "car"),
    ]
    assert frames[-1].zones[0].inside == {"car": 0}
    assert run(stage(square(classes="car")), walk([INSIDE] * 10, class_id=2)) == []


def test_who_was_only_shown_between_looks_has_gone_when_nobody_finds_them() -> None:
    frames = walk([INSIDE] * 10)
    frames += [make_frame([Thing(1, *INSIDE)], 1 + i / 10, predicted=True) for i in range(100)]
    watching = stage(square())
    assert names(run(watching, frames)) == ["zone.enter"]
    events = run(watching, nobody(11 + i / 10 for i in range(40)))
    assert names(events) == ["zone.leave"]
    assert events[0]["dwell_s"] == pytest.approx(10.9)
