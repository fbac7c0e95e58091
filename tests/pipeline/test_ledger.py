"""Ledger: captured = delivered + dropped, from any number of threads, also when a thread had to be abandoned."""

from __future__ import annotations

import threading
import time

from hypothesis import given
from hypothesis import strategies as st

from pipeline.ledger import REASONS, Ledger
from tests.pipeline.fakes import make_frame


def test_each_source_has_its_own_account() -> None:
    ledger = Ledger(["a", "b"])
    for source in ("a", "a", "a", "b"):
        ledger.captured(make_frame(source))
    ledger.delivered(make_frame("a"))
    ledger.dropped(make_frame("a"), "stale")
    ledger.dropped(make_frame("a"), "bored")
    assert not ledger.balanced
    ledger.delivered(make_frame("b"))
    counts = ledger.counts()
    assert counts["a"] == {
        "captured": 3,
        "delivered": 1,
        "dropped": {"stale": 1, "mailbox_full": 0, "stopped": 0, "corrupt": 0, "bored": 1},
    }
    assert counts["b"]["captured"] == counts["b"]["delivered"] == 1
    assert [account.balanced for account in ledger.accounts.values()] == [True, True]


def test_reasons_are_reported_also_when_they_are_zero() -> None:
    assert Ledger(["a"]).counts()["a"]["dropped"] == dict.fromkeys(REASONS, 0)


def test_nothing_delivered_has_neither_fps_nor_latency() -> None:
    ledger = Ledger(["a"])
    assert ledger.fps() is None
    ledger.captured(make_frame("a"))
    assert ledger.fps() is None
    assert ledger.latency().percentiles()["p50"] is None
    assert ledger.balanced is False


def test_fps_and_latency_count_from_capture() -> None:
    ledger = Ledger(["a", "b"])
    then = time.monotonic() - 2
    for source in ("a", "b"):
        for _ in range(10):
            ledger.captured(make_frame(source, captured_at=then))
            ledger.delivered(make_frame(source, captured_at=then))
    fps, p50 = ledger.fps(), ledger.latency().percentile_ms(50)
    assert fps is not None
    assert p50 is not None
    assert 9.5 < fps <= 10
    assert 1980 < p50 < 2500


def test_settling_counts_what_is_still_held_as_stopped_and_nothing_after_that() -> None:
    ledger = Ledger(["a", "b"])
    for _ in range(5):
        ledger.captured(make_frame("a"))
    ledger.delivered(make_frame("a"))
    ledger.dropped(make_frame("a"), "stopped")
    ledger.settle()
    late = make_frame("a")
    ledger.captured(late)
    ledger.delivered(late)
    ledger.dropped(late, "stopped")
    ledger.settle()
    assert ledger.balanced
    assert ledger.counts()["a"]["captured"] == 5
    assert ledger.counts()["a"]["dropped"]["stopped"] == 4


@given(st.lists(st.sampled_from(["delivered", "stale", "mailbox_full", "held"]), max_size=40))
def test_whatever_became_of_the_frames_a_settled_ledger_is_balanced(fates: list[str]) -> None:
    ledger = Ledger(["a"])
    for index, fate in enumerate(fates):
        frame = make_frame("a", index)
        ledger.captured(frame)
        if fate == "delivered":
            ledger.delivered(frame)
        elif fate != "held":
            ledger.dropped(frame, fate)
    assert ledger.balanced is ("held" not in fates)
    ledger.settle()
    assert ledger.balanced
    assert ledger.accounts["a"].dropped["stopped"] == fates.count("held")


def test_counting_from_many_threads_loses_none() -> None:
    ledger = Ledger(["a"])

    def count() -> None:
        for index in range(500):
            frame = make_frame("a", index)
            ledger.captured(frame)
            if index % 2:
                ledger.delivered(frame)
            else:
                ledger.dropped(frame, "stale")

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    account = ledger.accounts["a"]
    assert (account.captured, account.delivered, account.dropped["stale"]) == (4000, 2000, 2000)
    assert account.latency.count == 2000
