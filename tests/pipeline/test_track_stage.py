"""The tracking stage: numbers for detections, and places in frames that were not detected in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.assemble_follow import tracks
from pipeline.capture.source import SourceInfo
from pipeline.config.result_settings import ZoneSettings
from pipeline.config.settings import Settings
from pipeline.errors import ConfigError
from pipeline.frame import UNTRACKED, Detections, Frame
from pipeline.picture import Picture
from pipeline.postprocess.between import Way
from pipeline.postprocess.track import Track
from pipeline.postprocess.tracker import TrackerOptions
from pipeline.postprocess.zones.stage import WatchZones

OPTIONS = TrackerOptions(high=0.5, low=0.1)
YARD = ZoneSettings(name="yard", polygon=((5, 5), (395, 5), (395, 395), (5, 395)), debounce_s=0)
PIXELS = Picture(bgr=np.zeros((400, 400, 3), np.uint8))


def frame(index: int, *objects: tuple[float, float], source: str = "cam", **more: Any) -> Frame:
    """Objects of 40 x 40 pixels at an x, each with a score."""
    made = Frame(source, index, index / 10, 0.0, PIXELS, **more)
    boxes = np.array([(x, 100, x + 40, 140) for x, _ in objects], np.float32).reshape(-1, 4)
    made.detections = Detections(boxes, np.array([score for _, score in objects]), np.zeros(len(objects), np.int32))
    made.labels = ("person",)
    return made


def numbers(stage: Track, frame: Frame) -> list[int]:
    stage.process(frame)
    assert frame.detections is not None
    assert frame.detections.track_ids is not None
    found: list[int] = frame.detections.track_ids.tolist()
    return found


def test_an_object_keeps_its_number_and_has_a_velocity() -> None:
    stage = Track(OPTIONS)
    seen = [numbers(stage, each := frame(index, (100 + 5 * index, 0.9))) for index in range(10)]
    assert seen[2:] == [seen[2]] * 8
    assert seen[2] != [UNTRACKED]
    assert each.detections is not None
    assert each.detections.velocities is not None
    assert abs(each.detections.velocities[0, 0] - 50) < 5  # pixels a second, at 10 frames a second


def test_weak_boxes_are_shown_where_they_continue_a_track_and_nowhere_else() -> None:
    stage = Track(OPTIONS)
    for index in range(5):
        stage.process(frame(index, (100, 0.9)))
    both = frame(5, (101, 0.2), (300, 0.2))
    assert len(numbers(stage, both)) == 1
    assert both.detections is not None
    assert both.detections.boxes[0, 0] == 101


def test_frames_that_were_not_detected_in_show_where_objects_should_be() -> None:
    stage = Track(OPTIONS)
    for index in range(8):
        known = numbers(stage, frame(index, (100 + 5 * index, 0.9)))
    between = frame(8, predicted=True)
    assert numbers(stage, between) == known
    assert between.detections is not None
    assert abs(between.detections.boxes[0, 0] - 140) < 3


def test_held_boxes_stay_where_they_were() -> None:
    stage = Track(OPTIONS, "hold")
    for index in range(8):
        stage.process(frame(index, (100 + 5 * index, 0.9)))
    between = frame(9, predicted=True)
    stage.process(between)
    assert between.detections is not None
    assert between.detections.boxes[0, 0] == 135


def test_frames_that_pass_before_anything_was_found_have_nothing() -> None:
    stage, first = Track(OPTIONS), frame(0, predicted=True)
    stage.process(first)
    assert first.detections is not None
    assert len(first.detections) == 0


def test_sources_have_numbers_of_their_own() -> None:
    stage = Track(OPTIONS)
    for index in range(4):
        both = [numbers(stage, frame(index, (100, 0.9), source=source)) for source in ("a", "b")]
    assert both == [[1], [1]]
    stage.end("a")
    again = [numbers(stage, frame(index, (100, 0.9), source="b")) for index in range(4, 6)]
    assert again == [[1], [1]]


def test_a_class_that_only_another_model_knows_begins_with_new_numbers() -> None:
    stage = Track(OPTIONS)
    for index in range(4):
        before = numbers(stage, frame(index, (100, 0.9)))
    for index in range(4, 8):
        other = frame(index, (100, 0.9))
        other.labels = ("cat",)
        after = numbers(stage, other)
    assert before == [1]
    assert after[0] > 1


def test_images_are_not_followed_and_show_only_sure_boxes() -> None:
    each = frame(0, (100, 0.9), (200, 0.3), file=Path("a.jpg"))
    Track(OPTIONS).process(each)
    assert each.detections is not None
    assert each.detections.track_ids is None
    assert len(each.detections) == 1


def test_without_detection_nothing_is_added() -> None:
    each = frame(0)
    each.detections = None
    Track(OPTIONS).process(each)
    assert each.detections is None


@pytest.mark.parametrize("between", ["predict", "hold"])
def test_in_a_pause_of_detection_nobody_gets_a_new_number_or_enters_a_zone_again(between: Way) -> None:
    stage = Track(OPTIONS, between)
    zones = WatchZones([YARD], {}, [SourceInfo("cam", "cam", width=400, height=400)], OPTIONS.max_gap_s)
    events, seen = [], set[int]()
    for index in range(200):  # nothing moves after 1 s: somebody looks every 5 s
        is_looked_at = index < 10 or index % 50 == 0
        each = frame(index, (100 + 3 * min(index, 10), 0.9), predicted=not is_looked_at)
        seen.update(numbers(stage, each))
        zones.process(each)
        events += [event["event"] for event in each.events]
    assert seen == {1}
    assert events == ["zone.enter"]


def test_a_gap_in_frames_ends_tracks_although_nobody_looks_at_the_next() -> None:
    stage = Track(OPTIONS)
    for index in range(4):
        stage.process(frame(index, (100, 0.9)))
    later = frame(40, predicted=True)
    stage.process(later)
    assert later.detections is not None
    assert len(later.detections) == 0
    assert numbers(stage, frame(41, (100, 0.9))) == [UNTRACKED]
    assert numbers(stage, frame(42, (100, 0.9))) == [2]


def settings(**values: Any) -> Settings:
    """Return settings of a run with a source whose ground is known."""
    ground = [[0, 0, 0, 0], [100, 0, 5, 0], [100, 100, 5, 5], [0, 100, 0, 5]]
    return Settings.model_validate({"sources": [{"url": "street.mp4", "ground": ground}], **values})


def test_speeds_on_the_ground_need_tracks() -> None:
    assert tracks(settings())
    with pytest.raises(ConfigError, match=r"sources: ground: needs tracks, which are off \(track\.enabled\)"):
        tracks(settings(track={"enabled": False}))
    with pytest.raises(ConfigError, match=r"sources: ground: needs detection, which is off"):
        tracks(settings(detect={"enabled": False}))


def test_another_model_s_classes_go_on_by_name_and_nobody_is_counted_again() -> None:
    stage = Track(OPTIONS)
    zones = WatchZones([YARD], {}, [SourceInfo("cam", "cam", width=400, height=400)], OPTIONS.max_gap_s)
    events = []
    for index in range(40):
        is_smaller = index >= 10
        each = frame(index, (100, 0.9), predicted=index % 3 > 0)
        each.labels = ("car", "person") if is_smaller else ("person", "car")
        assert each.detections is not None
        each.detections.class_ids[:] = 1 if is_smaller else 0
        assert numbers(stage, each) == [1]
        assert each.detections is not None
        assert [each.label(class_id) for class_id in each.detections.class_ids.tolist()] == ["person"]
        zones.process(each)
        events += [event["event"] for event in each.events]
    assert events == ["zone.enter"]
    assert each.zones[0].entered == {"person": 1}


@pytest.mark.parametrize(("agnostic", "after"), [(False, 2), (True, 1)])
def test_what_another_model_does_not_know_has_ended_unless_classes_do_not_matter(agnostic: bool, after: int) -> None:
    stage = Track(replace(OPTIONS, class_agnostic=agnostic))
    for index in range(4):
        assert numbers(stage, frame(index, (100, 0.9))) == [1]
    between = frame(4, predicted=True)
    between.labels = ("cat",)
    assert numbers(stage, between) == []
    for index in range(5, 8):
        other = frame(index, (100, 0.9))
        other.labels = ("cat",)
        found = numbers(stage, other)
    assert found == [after]


def test_a_person_that_is_missed_in_one_of_few_looks_stays_in_the_zone() -> None:
    stage = Track(OPTIONS)
    zones = WatchZones([YARD], {}, [SourceInfo("cam", "cam", width=400, height=400)], OPTIONS.max_gap_s)
    events, looks = [], 0
    for index in range(400):  # somebody looks every 5 s
        is_looked_at = index < 10 or index % 50 == 0
        looks += is_looked_at and index >= 10
        is_missed = is_looked_at and looks in {1, 4}
        each = frame(index, *([] if is_missed else [(100, 0.9)]), predicted=not is_looked_at)
        stage.process(each)
        zones.process(each)
        events += [(event["event"], event["track"]) for event in each.events]
    assert looks > 5
    assert events == [("zone.enter", 1)]


@pytest.mark.parametrize("interval_s", [2.5, 3.0, 10.0])
def test_frames_that_are_rarer_than_the_gap_still_make_tracks_and_visits(interval_s: float) -> None:
    stage, yard = Track(OPTIONS), YARD.model_copy(update={"debounce_s": 0.2})
    zones = WatchZones([yard], {}, [SourceInfo("cam", "cam", width=400, height=400)], OPTIONS.max_gap_s)
    events, seen = [], []
    for index in range(20):
        each = frame(index, *([(100, 0.9)] if index < 10 else []))
        each.pts = index * interval_s
        seen.append(numbers(stage, each))
        zones.process(each)
        events += [(event["event"], event.get("dwell_s")) for event in each.events]
    assert seen[3:10] == [[2]] * 7  # how rare frames are is known when there were two
    assert [name for name, _ in events] == ["zone.enter", "zone.leave"]
    assert events[1][1] == pytest.approx(7 * interval_s)


def test_images_and_tracks_show_what_scores_more_than_asked_for() -> None:
    score = 0.5  # exactly the confidence that is asked for
    image, film = frame(0, (100, 0.9), (200, score), file=Path("a.jpg")), frame(0, (100, 0.9), (200, score))
    for each in (image, film):
        Track(OPTIONS).process(each)
        assert each.detections is not None
        assert each.detections.scores.tolist() == pytest.approx([0.9])
