"""Who came and who left is said once, in turn, and not too often."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pipeline.postprocess.attendance import Attendance, AttendanceOptions

Frames = list[tuple[float, set[str], set[int]]]
"""Time, who is seen, and the tracks of faces that are nobody."""
OPTIONS = AttendanceOptions(left_after_s=2, unknown_after_s=1, every_s=10)


def said(attendance: Attendance, frames: Frames) -> list[tuple[float, str]]:
    lines = []
    for time_s, names, unknown in frames:
        changes = attendance.update(names, sorted(unknown), time_s)
        lines += [(time_s, f"+{name}") for name in changes.appeared]
        lines += [(time_s, f"-{name}") for name, _ in changes.left]
        lines += [(time_s, f"?{track}") for track in changes.unknown]
    return lines


def test_a_person_appears_at_once_and_leaves_when_not_seen_for_so_long() -> None:
    frames: Frames = [(t / 10, {"ann"} if t < 20 else set(), set()) for t in range(60)]
    assert said(Attendance(OPTIONS), frames) == [(0.0, "+ann"), (4.0, "-ann")]


def test_how_long_a_person_was_seen_is_said() -> None:
    attendance = Attendance(OPTIONS)
    for t in range(5, 20):
        attendance.update({"ann"}, (), t / 10)
    assert attendance.update((), (), 9.0).left == [("ann", 1.4)]


def test_a_person_who_looks_away_for_a_moment_has_not_left() -> None:
    frames: Frames = [(t / 10, {"ann"} if t % 15 == 0 else set(), set()) for t in range(100)]
    assert said(Attendance(OPTIONS), frames) == [(0.0, "+ann")]


def test_coming_and_going_is_not_said_too_often_and_alternates() -> None:
    seen = [int(t / 30) % 2 == 0 for t in range(600)]  # 3 s here, 3 s away, for a minute
    frames: Frames = [(t / 10, {"ann"} if here else set(), set()) for t, here in enumerate(seen)]
    lines = said(Attendance(OPTIONS), frames)
    assert [text for _, text in lines] == ["+ann", "-ann"] * (len(lines) // 2)
    for kind in ("+ann", "-ann"):
        times = [time_s for time_s, text in lines if text == kind]
        assert all(later - earlier >= 10 for earlier, later in pairwise(times))
    assert len(lines) >= 6


def test_a_person_who_came_back_too_soon_is_reported_later_if_still_there() -> None:
    away = (1.0, 6.0)
    frames: Frames = [(t / 10, set() if away[0] < t / 10 < away[1] else {"ann"}, set()) for t in range(200)]
    assert said(Attendance(OPTIONS), frames) == [(0.0, "+ann"), (3.1, "-ann"), (10.0, "+ann")]


def test_an_unknown_face_is_reported_once_after_a_while() -> None:
    frames: Frames = [(t / 10, set(), {4}) for t in range(80)]
    assert said(Attendance(OPTIONS), frames) == [(1.0, "?4")]


def test_an_unknown_face_in_passing_is_not_reported() -> None:
    frames: Frames = [(t / 10, set(), {4} if t < 8 else set()) for t in range(80)]
    assert said(Attendance(OPTIONS), frames) == []


def test_a_stranger_whose_track_breaks_is_one_stranger() -> None:
    frames: Frames = [(t / 10, set(), {t // 20}) for t in range(80)]
    assert said(Attendance(OPTIONS), frames) == [(1.0, "?0")]


def test_two_strangers_at_a_time_are_two() -> None:
    frames: Frames = [(t / 10, set(), {1, 2} if t > 20 else {1}) for t in range(80)]
    assert said(Attendance(OPTIONS), frames) == [(1.0, "?1"), (3.1, "?2")]


def test_a_clock_that_jumps_back_begins_anew() -> None:
    attendance = Attendance(OPTIONS)
    assert attendance.update({"ann"}, (), 100.0).appeared == ["ann"]
    assert attendance.update({"ann"}, (), 101.0).appeared == []
    changes = attendance.update({"ann"}, (), 1.0)
    assert (changes.left, changes.appeared) == ([("ann", 1.0)], ["ann"])


def test_who_has_left_long_ago_is_forgotten() -> None:
    attendance = Attendance(OPTIONS)
    for visitor in range(1000):
        attendance.update({f"person {visitor}"}, (), 20.0 * visitor)
    assert len(attendance._visits) <= 3


@given(st.lists(st.tuples(st.floats(0.01, 5), st.booleans(), st.booleans()), max_size=200))
def test_events_of_one_person_always_alternate_and_keep_their_distance(steps: list[tuple[float, bool, bool]]) -> None:
    attendance, now, frames = Attendance(OPTIONS), 0.0, []
    for gap, ann, bob in steps:
        now += gap
        frames.append((now, {name for name, here in (("ann", ann), ("bob", bob)) if here}, set[int]()))
    lines = said(attendance, frames)
    for name in ("ann", "bob"):
        own = [(time_s, text[0]) for time_s, text in lines if text[1:] == name]
        assert [sign for _, sign in own] == (["+", "-"] * len(own))[: len(own)]
        for sign in "+-":
            times = [time_s for time_s, each in own if each == sign]
            assert all(later - earlier >= OPTIONS.every_s for earlier, later in pairwise(times))
