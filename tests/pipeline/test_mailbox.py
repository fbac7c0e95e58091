"""Mailbox: what each policy keeps, who waits for whom, and that nothing is lost uncounted. Real threads throughout."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.mailbox import MOST_REMAINS, EndOfSource, Mailbox, Notice, Policy, Remains


@dataclass(frozen=True)
class Letter:
    source: str
    number: int
    captured_at: float = 0.0


class Counts:
    """A drop callback that remembers."""

    def __init__(self) -> None:
        self.drops: list[tuple[Letter, str]] = []
        self._lock = threading.Lock()

    def __call__(self, letter: Letter, reason: str) -> None:
        with self._lock:
            self.drops.append((letter, reason))

    def of(self, reason: str) -> list[int]:
        return [letter.number for letter, why in self.drops if why == reason]


def start(target: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    return thread


def ended(thread: threading.Thread, within_s: float = 5.0) -> bool:
    thread.join(within_s)
    return not thread.is_alive()


def blocks(thread: threading.Thread) -> bool:
    thread.join(0.05)
    return thread.is_alive()


def everything(box: Mailbox[Letter]) -> Iterator[Letter | Notice]:
    while (item := box.get()) is not None:
        yield item


def test_capacity_must_be_at_least_one() -> None:
    with pytest.raises(ValueError, match="at least 1, not 0"):
        Mailbox[Letter]({"a": "every"}, 0)


def test_every_makes_the_writer_wait_and_loses_nothing() -> None:
    counts = Counts()
    box = Mailbox[Letter]({"a": "every"}, 2, counts)
    written: list[int] = []

    def write() -> None:
        for number in range(50):
            assert box.put(Letter("a", number))
            written.append(number)
        box.put(EndOfSource("a"))

    writer = start(write)
    assert blocks(writer)
    assert written == [0, 1]
    numbers = [item.number for item in everything(box) if isinstance(item, Letter)]
    assert numbers == list(range(50))
    assert ended(writer)
    assert counts.drops == []


def test_full_latest_lane_drops_its_own_oldest_and_counts_it() -> None:
    counts = Counts()
    box = Mailbox[Letter]({"a": "latest", "b": "latest"}, 2, counts)
    for number in range(2):
        box.put(Letter("b", 100 + number))
    for number in range(5):
        assert box.put(Letter("a", number))
    assert counts.of("mailbox_full") == [0, 1, 2]
    box.close()
    assert sorted(counts.of("stopped")) == [3, 4, 100, 101]


def test_a_full_lane_blocks_no_writer_of_another_lane() -> None:
    box = Mailbox[Letter]({"file": "every", "camera": "latest", "other": "every"}, 1)
    box.put(Letter("file", 0))
    writer = start(lambda: box.put(Letter("file", 1)))
    assert blocks(writer)
    assert ended(start(lambda: [box.put(Letter("camera", n)) for n in range(100)]))
    assert ended(start(lambda: box.put(Letter("other", 0))))
    box.close()
    assert ended(writer)


def test_readers_take_lanes_in_turn_so_a_fast_source_cannot_starve_a_slow_one() -> None:
    box = Mailbox[Letter]({"fast": "latest", "slow": "latest"}, 8)
    for number in range(8):
        box.put(Letter("fast", number))
    box.put(Letter("slow", 0))
    first_two = {item.source for item in (box.get(), box.get()) if item is not None}
    assert first_two == {"fast", "slow"}


@pytest.mark.parametrize("policy", ["every", "latest"])
def test_while_a_60_fps_source_floods_every_frame_of_a_5_fps_source_arrives(policy: Policy) -> None:
    counts = Counts()
    box = Mailbox[Letter]({"fast": policy, "slow": "latest"}, 2, counts)
    over = threading.Event()

    def flood() -> None:
        number = 0
        while not over.is_set():
            box.put(Letter("fast", number))
            number += 1
            time.sleep(0.001)

    def trickle() -> None:
        for number in range(10):
            box.put(Letter("slow", number))
            time.sleep(0.02)
        over.set()
        box.close()

    start(flood), start(trickle)
    slow = []
    while (item := box.get()) is not None:
        if isinstance(item, Letter) and item.source == "slow":
            slow.append(item.number)
        time.sleep(0.005)  # slower than the fast source
    assert len(slow) >= 9  # the last may be cut off by close
    assert slow == list(range(len(slow)))


@pytest.mark.parametrize("policy", ["every", "latest"])
def test_end_of_source_always_fits_and_comes_last(policy: Policy) -> None:
    box = Mailbox[Letter]({"a": policy}, 1)
    box.put(Letter("a", 0))
    assert ended(start(lambda: box.put(EndOfSource("a"))))
    assert list(everything(box)) == [Letter("a", 0), EndOfSource("a")]
    assert box.over
    assert box.get() is None


@pytest.mark.parametrize("policy", ["every", "latest"])
def test_what_comes_after_the_end_is_refused_and_never_pushes_the_end_out(policy: Policy) -> None:
    counts = Counts()
    box = Mailbox[Letter]({"a": policy}, 1, counts)
    assert box.put(EndOfSource("a"))
    assert not box.put(Letter("a", 1))
    assert not box.put(Letter("a", 2))
    assert not box.put(EndOfSource("a"))
    assert list(everything(box)) == [EndOfSource("a")]
    assert counts.of("stopped") == [1, 2]


def test_an_end_put_by_another_releases_the_writer_that_waits_for_room() -> None:
    counts = Counts()
    box = Mailbox[Letter]({"a": "every", "b": "every"}, 1, counts)
    box.put(Letter("a", 0))
    accepted: list[bool] = []
    writer = start(lambda: accepted.append(box.put(Letter("a", 1))))
    assert blocks(writer)
    box.end()
    assert ended(writer)
    assert accepted == [False]
    assert counts.of("stopped") == [1]
    assert set(everything(box)) == {Letter("a", 0), EndOfSource("a"), EndOfSource("b")}


def test_close_wakes_all_who_wait_and_counts_what_is_inside_as_stopped() -> None:
    counts = Counts()
    box = Mailbox[Letter]({"a": "every", "b": "every"}, 1, counts)
    empty = Mailbox[Letter]({"a": "every"}, 1)
    box.put(Letter("a", 0))
    box.put(Letter("b", 1))
    writers = [start(lambda s=s, n=n: box.put(Letter(s, n))) for s, n in (("a", 2), ("b", 3), ("b", 4))]  # type: ignore[misc]
    readers = [start(lambda: empty.get()) for _ in range(3)]
    assert all(blocks(thread) for thread in (*writers, *readers))
    box.close()
    empty.close()
    assert all(ended(thread) for thread in (*writers, *readers))
    assert sorted(counts.of("stopped")) == [0, 1, 2, 3, 4]
    assert box.closed
    assert not box.put(Letter("a", 5))
    assert not box.put(EndOfSource("a"))
    assert box.get() is None
    box.close()
    assert sorted(counts.of("stopped")) == [0, 1, 2, 3, 4, 5]


def test_stale_items_are_dropped_in_latest_lanes_only() -> None:
    counts, now = Counts(), 10.0
    box = Mailbox[Letter]({"file": "every", "camera": "latest"}, 4, counts, max_age_s=1.0, clock=lambda: now)
    for number, captured_at in enumerate((8.9, 9.0, 9.5)):
        box.put(Letter("camera", number, captured_at))
    box.put(Letter("file", 7, 0.0))
    box.end()
    numbers = {item.number for item in everything(box) if isinstance(item, Letter)}
    assert numbers == {1, 2, 7}
    assert counts.drops == [(Letter("camera", 0, 8.9), "stale")]


def test_stale_items_are_counted_at_once_and_not_kept_until_a_fresh_one_comes() -> None:
    counts = Counts()
    box = Mailbox[Letter]({"a": "latest"}, 4, counts, max_age_s=1.0, clock=lambda: 10.0)
    reader = start(lambda: box.get())
    for number in range(3):
        box.put(Letter("a", number, 0.0))
    deadline = time.monotonic() + 5
    while len(counts.drops) < 3 and time.monotonic() < deadline:
        time.sleep(0.005)
    assert counts.of("stale") == [0, 1, 2]
    assert reader.is_alive()
    box.close()
    assert ended(reader)


def test_get_returns_none_after_its_timeout_and_is_not_over() -> None:
    box = Mailbox[Letter]({"a": "every"})
    before = time.monotonic()
    assert box.get(0.05) is None
    assert 0.04 < time.monotonic() - before < 1
    assert not box.over


def test_the_timeout_also_holds_while_nothing_but_stale_items_come() -> None:
    box = Mailbox[Letter]({"a": "latest"}, 2, max_age_s=1.0, clock=lambda: 10.0)
    over = threading.Event()

    def write() -> None:
        while not over.wait(0.005):
            box.put(Letter("a", 0, 0.0))

    writer = start(write)
    before = time.monotonic()
    assert box.get(0.1) is None
    assert time.monotonic() - before < 1
    over.set()
    assert ended(writer)


def test_a_larger_capacity_lets_a_waiting_writer_go_on() -> None:
    box = Mailbox[Letter]({"a": "every"}, 1)
    box.put(Letter("a", 0))
    writer = start(lambda: box.put(Letter("a", 1)))
    assert blocks(writer)
    box.grow(1)
    assert ended(writer)


def test_drop_counts_what_the_reader_could_not_finish() -> None:
    counts = Counts()
    Mailbox[Letter]({"a": "every"}, 1, counts).drop(Letter("a", 3), "stopped")
    assert counts.drops == [(Letter("a", 3), "stopped")]


def write_some(box: Mailbox[Letter], stale_every: int, source: str, number: int, pause_s: float) -> None:
    for index in range(number):
        stale = stale_every and index % stale_every == 0
        box.put(Letter(source, index, 0.0 if stale else 10.0))
        if pause_s:
            time.sleep(pause_s)
    box.put(EndOfSource(source))


@settings(max_examples=60, deadline=None)
@given(
    plan=st.lists(
        st.tuples(st.sampled_from(["every", "latest"]), st.integers(0, 30), st.sampled_from([0.0, 0.0, 0.0003])),
        min_size=1,
        max_size=4,
    ),
    capacity=st.integers(1, 4),
    reader_pause_s=st.sampled_from([0.0, 0.0002, 0.001]),
    close_after=st.one_of(st.none(), st.integers(0, 40)),
    stale_every=st.integers(0, 5),
)
def test_random_interleavings_keep_captured_equal_to_delivered_plus_dropped_and_the_order_per_source(
    plan: list[tuple[Policy, int, float]],
    capacity: int,
    reader_pause_s: float,
    close_after: int | None,
    stale_every: int,
) -> None:
    counts = Counts()
    policies = {f"s{number}": policy for number, (policy, _, _) in enumerate(plan)}
    box = Mailbox[Letter](policies, capacity, counts, max_age_s=1.0, clock=lambda: 10.0)

    arguments = [(f"s{i}", number, pause_s) for i, (_, number, pause_s) in enumerate(plan)]
    writers = [start(lambda a=a: write_some(box, stale_every, *a)) for a in arguments]  # type: ignore[misc]
    delivered: list[Letter | Notice] = []
    for item in everything(box):
        delivered.append(item)
        if reader_pause_s:
            time.sleep(reader_pause_s)
        if len(delivered) == close_after:
            box.close()
    assert all(ended(writer) for writer in writers)
    assert box.get() is None

    for source, number, _ in arguments:
        mine = [item for item in delivered if item.source == source]
        letters = [item.number for item in mine if isinstance(item, Letter)]
        dropped = Counter(reason for letter, reason in counts.drops if letter.source == source)
        assert len(letters) + dropped.total() == number
        assert letters == sorted(set(letters))
        if policies[source] == "every":
            assert dropped["mailbox_full"] == dropped["stale"] == 0
        if close_after is None:
            assert mine[-1] == EndOfSource(source)
            assert dropped["stopped"] == 0


@dataclass(frozen=True)
class Postscript(Remains):
    number: int


def remains_of(letter: Letter) -> Postscript | None:
    return Postscript(letter.source, letter.number) if letter.number % 2 else None


def test_what_remains_of_a_dropped_item_stays_in_its_place() -> None:
    counts = Counts()
    box = Mailbox[Letter]({"a": "latest"}, 2, counts, remains=remains_of)
    for number in range(6):
        box.put(Letter("a", number))
    box.end()
    assert list(everything(box)) == [
        Postscript("a", 1),
        Postscript("a", 3),
        Letter("a", 4),
        Letter("a", 5),
        EndOfSource("a"),
    ]
    assert counts.of("mailbox_full") == [0, 1, 2, 3]


def test_what_remains_of_a_stale_item_comes_in_its_place() -> None:
    counts = Counts()
    box = Mailbox[Letter]({"a": "latest"}, 4, counts, max_age_s=1.0, clock=lambda: 10.0, remains=remains_of)
    for number, captured_at in enumerate((0.0, 0.0, 9.5)):
        box.put(Letter("a", number, captured_at))
    assert box.get() == Postscript("a", 1)
    assert box.get() == Letter("a", 2, 9.5)
    assert counts.of("stale") == [0, 1]


def test_of_a_stale_item_that_would_join_others_the_remains_wait() -> None:
    box = Mailbox[Letter]({"a": "latest"}, 4, max_age_s=1.0, clock=lambda: 10.0, remains=remains_of)
    box.put(Letter("a", 1))
    box.put(Letter("a", 2, 9.5))
    assert box.get_waiting(lambda source: True) is None
    assert [box.get(), box.get()] == [Postscript("a", 1), Letter("a", 2, 9.5)]


def test_remains_behind_a_reader_that_hangs_are_bounded_and_counted() -> None:
    counts = Counts()
    box = Mailbox[Letter]({"a": "latest", "b": "latest"}, 2, counts, remains=remains_of)
    for number in range(1, 2 * MOST_REMAINS + 100, 2):
        box.put(Letter("a", number))
        box.put(Postscript("b", number))
    box.end()
    left = list(everything(box))
    of_b = [item.number for item in left if isinstance(item, Postscript) and item.source == "b"]
    assert of_b == list(range(101, 2 * MOST_REMAINS + 100, 2)), "the latest are kept"
    assert sum(isinstance(item, Postscript) for item in left) == 2 * MOST_REMAINS
    assert sum(isinstance(item, Postscript) for item, _ in counts.drops) == 50 + 48


def test_remains_that_are_still_there_when_it_closes_are_told() -> None:
    counts = Counts()
    box = Mailbox[Letter]({"a": "latest"}, 2, counts, remains=remains_of)
    for number in range(4):
        box.put(Letter("a", number))
    box.close()
    assert [(item, why) for item, why in counts.drops if why == "stopped"] == [
        (Postscript("a", 1), "stopped"),
        (Letter("a", 2), "stopped"),
        (Letter("a", 3), "stopped"),
    ]
