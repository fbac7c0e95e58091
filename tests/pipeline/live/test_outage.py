"""Outage: how long the pauses are, moment by moment and for any throw of the dice."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.capture.live.outage import Outage
from pipeline.capture.source import Reason

REASONS: tuple[Reason, ...] = ("dns", "refused", "timeout", "eof", "decode", "unsupported")


def steady(luck: float = 0.0) -> Outage:
    return Outage(lambda: luck)


def pauses(outage: Outage, count: int, began_at: float = 0.0, reason: Reason = "refused") -> list[float]:
    """The pauses of so many failures, each of which comes at once."""
    now, result = began_at, []
    for _ in range(count):
        result.append(outage.failed(reason, now))
        now += result[-1]
    return result


def test_the_pauses_of_an_outage() -> None:
    first = pauses(steady(), 64)
    assert first[:5] == [0.0, 0.1, 0.2, 0.4, 0.5]
    assert set(first[4:63]) == {0.5}  # up to the 30th second
    outage = steady()
    outage.failed("eof", 0.0)
    later = pauses(outage, 9, began_at=31.0)
    assert later == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6]
    assert pauses(outage, 3, began_at=100.0) == [30.0, 30.0, 30.0]


@pytest.mark.parametrize(("luck", "factor"), [(0.0, 1.0), (0.5, 0.9), (1.0, 0.8)])
def test_pauses_are_shortened_by_up_to_a_fifth(luck: float, factor: float) -> None:
    assert pauses(steady(luck), 6) == pytest.approx([factor * each for each in (0.0, 0.1, 0.2, 0.4, 0.5, 0.5)])


@pytest.mark.parametrize(("luck", "pause_s"), [(0.0, 30.0), (0.5, 33.0), (1.0, 36.0)])
def test_a_refused_password_waits_at_least_30_s_from_the_first_time_on(luck: float, pause_s: float) -> None:
    assert pauses(steady(luck), 4, reason="auth") == pytest.approx([pause_s] * 4)


def test_ten_pictures_end_an_outage_and_nine_do_not() -> None:
    outage = steady()
    pauses(outage, 10)
    for _ in range(9):
        outage.picture()
    assert outage.lasted_s(100.0) == 100.0
    outage.picture()
    assert outage.lasted_s(100.0) == 0.0
    assert pauses(outage, 3, began_at=200.0) == [0.0, 0.1, 0.2]


def test_nine_pictures_time_and_again_do_not_end_it_either() -> None:
    outage = steady()
    for number in range(20):
        outage.failed("eof", float(number))
        for _ in range(9):
            outage.picture()
    assert outage.lasted_s(20.0) == 20.0


def test_what_works_for_less_than_a_second_is_not_tried_again_at_once() -> None:
    outage, now = steady(), 0.0
    found = []
    for _ in range(4):
        found.append(outage.failed("eof", now))
        for _ in range(10):
            outage.picture()
        now += found[-1] + 0.1
    assert found == [0.0, 0.5, 0.5, 0.5]
    assert outage.failed("eof", now + 1.0) == 0.0


def test_an_outage_lasts_from_its_first_failure() -> None:
    outage = steady()
    assert outage.lasted_s(5.0) == 0.0
    outage.failed("eof", 10.0)
    outage.failed("refused", 12.0)
    assert outage.began_at == 10.0
    assert outage.lasted_s(15.0) == 5.0


@settings(deadline=None)
@given(
    events=st.lists(
        st.tuples(st.sampled_from([*REASONS, "auth"]), st.floats(0, 1), st.floats(0, 20), st.integers(0, 12)),
        max_size=60,
    )
)
def test_no_sequence_of_events_breaks_the_bounds(events: list[tuple[Reason, float, float, int]]) -> None:
    chance = 0.0
    outage, now = Outage(lambda: chance), 0.0
    for reason, luck, works_s, pictures in events:
        chance = luck
        is_first = outage.began_at is None
        pause_s = outage.failed(reason, now)
        if reason == "auth":
            assert 30.0 <= pause_s <= 36.0
        elif is_first or outage.lasted_s(now) < 30.0:
            assert 0.0 <= pause_s <= 0.5
        else:
            assert 0.08 <= pause_s <= 30.0
        now += pause_s + works_s
        for _ in range(pictures):
            outage.picture()
        assert (outage.began_at is None) == (pictures >= 10)
