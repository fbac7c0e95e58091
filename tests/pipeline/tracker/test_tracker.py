"""What a tracker says about things that cross, hide, come and go."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from pipeline.frame import UNTRACKED, Detections
from pipeline.masks import Masks
from pipeline.postprocess.tracker import Tracker, TrackerOptions
from pipeline.postprocess.tracker.clock import GO_ON_S
from tests.pipeline.tracker.scenes import Where, detections, numbers_of, watch

AT_25 = [frame / 25 for frame in range(75)]


def going(x: float, y: float, vx: float, vy: float = 0.0, hidden: tuple[float, float] = (9e9, 9e9)) -> Where:
    """Return a thing of 40 x 80 that goes at a speed and is hidden for a while."""
    return lambda time_s: None if hidden[0] <= time_s < hidden[1] else (x + vx * time_s, y + vy * time_s, 40, 80)


def test_what_the_first_frame_shows_has_a_number_at_once_and_what_comes_later_when_it_is_confirmed() -> None:
    tracker = Tracker(TrackerOptions(confirm_frames=3))
    seen = watch(tracker, [going(100, 100, 10), lambda t: (500, 100, 40, 80) if t > 0.01 else None], AT_25[:5])
    assert seen == [[1, None], [1, None], [1, None], [1, 2], [1, 2]]


def test_one_frame_is_enough_where_that_is_asked_for() -> None:
    tracker = Tracker(TrackerOptions(confirm_frames=1))
    tracker.update(Detections.empty(), 0.0)
    assert watch(tracker, [going(100, 100, 0)], [0.1]) == [[1]]


def test_things_that_cross_keep_their_numbers() -> None:
    seen = watch(Tracker(), [going(100, 100, 120), going(460, 110, -120)], AT_25)
    assert numbers_of(seen, 0) == {1}
    assert numbers_of(seen, 1) == {2}


def test_a_thing_hidden_for_a_second_keeps_its_number() -> None:
    seen = watch(Tracker(), [going(100, 100, 120, hidden=(1, 2))], AT_25)
    assert numbers_of(seen, 0) == {1}
    assert seen[60] == [1]


def test_a_thing_that_comes_back_is_taken_to_have_gone_straight_there() -> None:
    tracker = Tracker()
    slower: Where = lambda t: None if 1 <= t < 2 else (100 + (100 * t if t < 1 else 100 + 60 * (t - 1)), 100, 80, 80)  # noqa: E731
    watch(tracker, [slower], [time_s for time_s in AT_25 if time_s <= 2])
    result = tracker.update(detections([slower(2.04) or ()]), 2.04)
    assert result.velocities is not None
    assert result.track_ids is not None
    assert result.track_ids.tolist() == [1]
    assert result.velocities[0] == pytest.approx([60, 0], abs=4)  # a filter that is not led there says 50


def test_a_thing_hidden_for_longer_than_the_gap_is_another_one() -> None:
    seen = watch(Tracker(TrackerOptions(max_gap_s=0.5)), [going(100, 100, 0, hidden=(1, 2))], AT_25)
    assert numbers_of(seen, 0) == {1, 2}


def test_weak_boxes_continue_a_track_but_begin_none() -> None:
    tracker = Tracker(TrackerOptions(high=0.5, low=0.1))
    tracker.update(detections([(100, 100, 40, 80)], [0.9]), 0.0)
    result = tracker.update(detections([(101, 100, 40, 80), (400, 100, 40, 80)], [0.2, 0.3]), 0.04)
    assert result.track_ids is not None
    assert result.track_ids.tolist() == [1]
    assert result.scores == pytest.approx([0.2])
    assert len(tracker.update(detections([(102, 100, 40, 80)], [0.05]), 0.08)) == 0


def test_a_sure_box_below_the_starting_score_is_shown_without_a_track() -> None:
    tracker = Tracker(TrackerOptions(high=0.3, start=0.6))
    for time_s in (0.0, 0.1, 0.2):
        result = tracker.update(detections([(100, 100, 40, 80)], [0.5]), time_s)
        assert result.track_ids is not None
        assert result.track_ids.tolist() == [UNTRACKED]


def test_scores_may_have_any_range() -> None:
    tracker = Tracker(TrackerOptions(high=2.0, low=-1.0))
    for time_s, score in ((0.0, 16.3), (0.1, -0.85), (0.2, 7.0)):
        result = tracker.update(detections([(100, 100, 40, 80)], [score]), time_s)
        assert result.track_ids is not None
        assert result.track_ids.tolist() == [1]


@pytest.mark.parametrize(("agnostic", "numbers"), [(False, [UNTRACKED]), (True, [1])])
def test_classes_are_kept_apart_unless_they_do_not_matter(agnostic: bool, numbers: list[int]) -> None:
    tracker = Tracker(TrackerOptions(class_agnostic=agnostic))
    tracker.update(detections([(100, 100, 40, 80)], class_ids=[2]), 0.0)
    result = tracker.update(detections([(100, 100, 40, 80)], class_ids=[7]), 0.04)
    assert result.track_ids is not None
    assert result.track_ids.tolist() == numbers
    assert result.class_ids.tolist() == [7]


def test_without_any_overlap_nothing_is_the_same_whatever_is_allowed() -> None:
    tracker = Tracker(TrackerOptions(min_iou=0))
    tracker.update(detections([(100, 100, 40, 80)]), 0.0)
    result = tracker.update(detections([(400, 100, 40, 80)]), 0.04)
    assert result.track_ids is not None
    assert result.track_ids.tolist() == [UNTRACKED]


def test_velocity_is_in_pixels_of_a_second_and_not_known_at_first() -> None:
    tracker, thing = Tracker(), going(100, 100, 90, -30)
    first = tracker.update(detections([thing(0) or ()]), 0.0)
    assert first.velocities is not None
    assert np.isnan(first.velocities).all()
    watch(tracker, [thing], [0.1, 0.13, 0.5, 0.51, 0.8])
    last = tracker.update(detections([thing(1.0) or ()]), 1.0)
    assert last.velocities is not None
    assert last.velocities[0] == pytest.approx([90, -30], abs=3)


def test_boxes_masks_and_keypoints_come_out_as_they_went_in() -> None:
    found = detections([(100, 100, 40, 80), (300, 100, 40, 80)], [0.4, 0.8])
    masks = np.zeros((2, 200, 400), bool)
    masks[0, 100, 300] = masks[1, 90:110, 90:110] = True
    points = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    whole = Detections(found.boxes, found.scores, found.class_ids, masks=Masks.of(masks), keypoints=points)
    result = Tracker(TrackerOptions(high=0.5)).update(whole, 0.0)
    assert result.masks is not None
    assert result.keypoints is not None
    assert result.boxes.tolist() == [whole.boxes[0].tolist()]
    assert result.masks.dense().sum() == 1
    assert result.keypoints.tolist() == points[:1].tolist()


def test_between_updates_things_go_on_for_a_moment() -> None:
    tracker, thing = Tracker(), going(200, 100, 100)
    watch(tracker, [thing], [frame / 10 for frame in range(20)])
    at = {time_s: tracker.predict(time_s, 640, 480) for time_s in (1.9, 1.95, 2.0, 3.0)}
    centres = {time_s: float(each.boxes[0, [0, 2]].mean()) for time_s, each in at.items()}
    assert centres[1.9] == pytest.approx(390)
    assert centres[1.95] == pytest.approx(395, abs=0.5)
    assert centres[2.0] == pytest.approx(400, abs=0.5)
    assert centres[3.0] == pytest.approx(490, abs=2)  # GO_ON_S
    ids = at[2.0].track_ids
    assert ids is not None
    assert ids.tolist() == [1]


def test_what_leaves_the_picture_between_updates_is_gone() -> None:
    tracker = Tracker()
    watch(tracker, [going(600, 100, 400)], [0.0, 0.1, 0.2])
    assert len(tracker.predict(0.2, 640, 480)) == 0


def test_between_updates_there_is_nothing_before_the_first() -> None:
    assert len(Tracker().predict(1.0, 640, 480)) == 0


def test_a_clock_that_jumps_back_ends_all_tracks_and_numbers_go_on() -> None:
    tracker, thing = Tracker(), going(100, 100, 0)
    seen = watch(tracker, [thing], [10.0, 10.1, 3.0, 3.1])
    assert seen == [[1], [1], [2], [2]]


def test_a_pause_longer_than_the_gap_ends_all_tracks() -> None:
    tracker, thing = Tracker(TrackerOptions(max_gap_s=2)), going(100, 100, 0)
    assert watch(tracker, [thing], [0.0, 0.1, 2.1, 4.2, 4.3]) == [[1], [1], [1], [None], [2]]


def test_ending_all_tracks_forgets_them_but_not_which_numbers_were_used() -> None:
    tracker, thing = Tracker(), going(100, 100, 0)
    watch(tracker, [thing], [0.0, 0.1])
    tracker.end_all()
    assert watch(tracker, [thing], [0.2]) == [[2]]


def test_a_time_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="number of seconds, not nan"):
        Tracker().update(Detections.empty(), float("nan"))


@pytest.mark.parametrize("frames_pass", [False, True])
def test_missing_frames_do_not_cost_the_number_of_a_fast_thing(frames_pass: bool) -> None:
    rng, tracker, seen = np.random.default_rng(3), Tracker(), []
    for time_s in AT_25:
        if time_s < 0.3 or rng.random() < 0.3:
            seen += watch(tracker, [going(100, 100, 250, 40), going(900, 220, -200)], [time_s])
        elif frames_pass:
            tracker.pass_by(time_s)
    assert numbers_of(seen, 0) == {1}
    assert numbers_of(seen, 1) == {2}


def passed(tracker: Tracker, times: Iterable[float]) -> None:
    """Let frames pass that nobody looks at."""
    for time_s in times:
        tracker.pass_by(time_s)


def frames(start_s: float, end_s: float) -> list[float]:
    """Return the times of 25 frames a second, without the first and the last."""
    return [start_s + frame / 25 for frame in range(1, round((end_s - start_s) * 25))]


def test_what_nobody_looked_for_keeps_its_number() -> None:
    tracker, thing = Tracker(TrackerOptions(max_gap_s=2)), going(100, 100, 0)
    watch(tracker, [thing], [0.0, 0.04])
    for look_s in (5.0, 10.0, 15.0):
        passed(tracker, frames(look_s - 4.96 if look_s == 5.0 else look_s - 5, look_s))
        assert watch(tracker, [thing], [look_s]) == [[1]]


@pytest.mark.parametrize("pause_s", [0.2, 1.0, 5.0, 3600.0])
def test_what_moved_is_looked_for_where_it_was_shown(pause_s: float) -> None:
    tracker, thing = Tracker(), going(100, 100, 200)
    watch(tracker, [thing], AT_25)
    last_s = AT_25[-1]
    passed(tracker, frames(last_s, last_s + min(pause_s, 10)))
    for time_s in range(round(last_s) + 10, round(last_s + pause_s)):
        tracker.pass_by(time_s)
    shown = tracker.predict(last_s + pause_s, 9999, 480)
    assert shown.boxes[0, 0] == pytest.approx(80 + 200 * (last_s + min(pause_s, GO_ON_S)), abs=2)
    there = float(shown.boxes[0, [0, 2]].mean())
    others = [there - 55, there + 65]  # which overlap with it, but less; it alone would be found anywhere near
    result = tracker.update(detections([(x, 100, 40, 80) for x in (there, *others)]), last_s + pause_s)
    assert result.track_ids is not None
    assert result.track_ids.tolist() == [1, UNTRACKED, UNTRACKED]
    assert result.velocities is not None
    assert result.velocities[0] == pytest.approx([200, 0], abs=5)


def test_a_gap_in_frames_ends_tracks_also_before_or_after_frames_that_pass() -> None:
    for times in ([2.5, 2.6], [0.1, 0.2, 2.9]):
        tracker, thing = Tracker(TrackerOptions(max_gap_s=2)), going(100, 100, 0)
        watch(tracker, [thing], [0.0, 0.04])
        passed(tracker, times)
        if times[0] > 2:
            assert len(tracker.predict(2.6, 640, 480)) == 0
            assert len(tracker.last) == 0
        assert watch(tracker, [thing], [times[-1] + (0.04 if times[0] > 2 else 2.04)]) == [[None]]


def test_what_was_looked_for_and_not_there_gets_older_by_the_time_that_was_looked_at() -> None:
    for looks, number in ((20, 1), (60, None)):  # at 25 frames a second: 0.8 s and 2.4 s
        tracker, thing = Tracker(TrackerOptions(max_gap_s=2)), going(100, 100, 0)
        watch(tracker, [thing], [0.0, 0.04])
        times = [0.04 + (look + 1) / 25 for look in range(looks)]
        for time_s in times:
            tracker.update(Detections.empty(), time_s)
        passed(tracker, frames(times[-1], times[-1] + 5))
        assert watch(tracker, [thing], [times[-1] + 5]) == [[number]]


def test_looking_at_every_third_frame_ends_what_is_gone_as_soon_as_looking_at_all() -> None:
    tracker = Tracker(TrackerOptions(max_gap_s=1))
    thing = going(100, 100, 0, hidden=(1, 2.2))
    seen = []
    for frame in range(75):
        if frame % 3:
            tracker.pass_by(frame / 25)
        else:
            seen += watch(tracker, [thing], [frame / 25])
    assert numbers_of(seen, 0) == {1, 2}


def test_looks_that_are_further_apart_than_the_gap_end_nothing_where_frames_pass() -> None:
    tracker, thing = Tracker(TrackerOptions(max_gap_s=0.3)), going(100, 100, 10)
    for look in range(5):
        assert watch(tracker, [thing], [look * 0.5]) == [[1]]
        passed(tracker, [look * 0.5 + 0.2, look * 0.5 + 0.4])


def test_a_clock_that_jumps_back_in_a_frame_that_passes_ends_all_tracks() -> None:
    tracker, thing = Tracker(), going(100, 100, 0)
    watch(tracker, [thing], [10.0, 10.1])
    tracker.pass_by(3.0)
    assert len(tracker.predict(3.0, 640, 480)) == 0
    assert watch(tracker, [thing], [3.1]) == [[2]]
    with pytest.raises(ValueError, match="number of seconds, not inf"):
        tracker.pass_by(float("inf"))
