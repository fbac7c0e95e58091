"""Holding back: nobody waits for another source's room, and what waits, waits where newer frames can replace it.

Three layers: the mailbox that leaves lanes alone, `InHand` that says which, and whole runs in which a file beside a
camera, or a model slower than the cameras, must not cost freshness, order, or a frame that is not accounted for.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.frame import Frame
from pipeline.in_hand import PASSING, InHand
from pipeline.mailbox import EndOfSource, Mailbox, Notice, Policy
from pipeline.runner import Runner
from pipeline.stage import AsyncStage, Stage
from pipeline.wiring import LANE
from tests.pipeline.fakes import FakeSink, FakeSource, FakeStage, threads_left

BUSY_S = 0.04
"""How much later than usual a busy machine may run a thread."""


@dataclass(frozen=True)
class Letter:
    source: str
    number: int
    captured_at: float = 0.0


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    before = threading.enumerate()
    yield
    assert threads_left(before) == []


def until(condition: Callable[[], bool], within_s: float = 5.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)


class Box(Mailbox[Letter]):
    """A mailbox whose reader holds back the sources named in `held`."""

    def __init__(self, policies: Mapping[str, Policy], capacity: int = 2) -> None:
        self.held: set[str] = set()
        self.drops: list[tuple[Letter, str]] = []
        super().__init__(policies, capacity, lambda letter, reason: self.drops.append((letter, reason)))
        self.hold_back(lambda source: source not in self.held)

    def now(self) -> Letter | Notice | None:
        """What can be taken without waiting."""
        return self.get(0.0)


# ---------------------------------------------------------------------- the mailbox


def test_a_lane_that_is_held_back_is_left_alone_and_the_others_are_not() -> None:
    box = Box({"file": "every", "camera": "latest"})
    box.held = {"file"}
    box.put(Letter("file", 0))
    box.put(Letter("camera", 1))
    assert box.now() == Letter("camera", 1)
    assert box.now() is None
    assert not box.over
    box.held = set()
    assert box.now() == Letter("file", 0)


def test_what_is_held_back_still_gives_way_to_newer_items() -> None:
    box = Box({"camera": "latest"})
    box.held = {"camera"}
    for number in range(5):
        box.put(Letter("camera", number))
    assert box.now() is None
    assert box.drops == [(Letter("camera", number), "mailbox_full") for number in range(3)]
    box.held = set()
    assert [box.now(), box.now()] == [Letter("camera", 3), Letter("camera", 4)]


def test_a_reader_that_waits_goes_on_when_it_is_woken_and_not_before() -> None:
    box = Box({"file": "every"})
    box.held = {"file"}
    got: list[object] = []
    reader = threading.Thread(target=lambda: got.append(box.get()))
    reader.start()
    box.put(Letter("file", 0))
    box.wake()
    reader.join(0.05)
    assert got == []
    box.held = set()
    reader.join(0.05)
    assert got == []  # nobody polls
    box.wake()
    reader.join(5)
    assert got == [Letter("file", 0)]


@pytest.mark.parametrize("how", ["timeout", "close"])
def test_a_reader_of_held_lanes_returns_at_its_timeout_and_at_close(how: str) -> None:
    box = Box({"file": "every"})
    box.held = {"file"}
    box.put(Letter("file", 0))
    if how == "timeout":
        before = time.monotonic()
        assert box.get(0.05) is None
        assert 0.04 < time.monotonic() - before < 1.0
        assert not box.over
        return
    reader = threading.Thread(target=box.get)
    reader.start()
    box.close()
    reader.join(5)
    assert not reader.is_alive()
    assert box.drops == [(Letter("file", 0), "stopped")]


def test_notices_pass_while_a_lane_is_held_back_but_never_overtake_its_items() -> None:
    box = Box({"a": "latest", "b": "latest"})
    box.held = {"a", "b"}
    box.put(Letter("a", 0))
    box.put(EndOfSource("a"))
    box.put(Notice("b"))
    box.put(EndOfSource("b"))
    assert [box.now(), box.now(), box.now()] == [Notice("b"), EndOfSource("b"), None]
    box.held = set()
    assert [box.now(), box.now()] == [Letter("a", 0), EndOfSource("a")]
    assert box.over


def test_notices_always_fit_are_never_dropped_and_keep_their_place() -> None:
    box = Box({"a": "latest"}, 2)
    for number in range(4):
        box.put(Notice("a"))
        box.put(Letter("a", number))
    assert [letter.number for letter, _ in box.drops] == [0, 1]
    taken = [box.now() for _ in range(6)]
    assert taken == [Notice("a"), Notice("a"), Notice("a"), Letter("a", 2), Notice("a"), Letter("a", 3)]


def test_a_notice_needs_no_room_in_a_lane_that_makes_its_writer_wait() -> None:
    box = Box({"file": "every"}, 1)
    box.put(Letter("file", 0))
    for _ in range(100):
        assert box.put(Notice("file"))
    assert box.room("file") == 0
    assert box.now() == Letter("file", 0)
    assert box.room("file") == 1


def test_room_is_what_can_be_put_without_waiting() -> None:
    box = Box({"file": "every", "camera": "latest"}, 3)
    assert (box.room("file"), box.room("camera")) == (3, 3)
    box.put(Letter("file", 0))
    box.put(Letter("camera", 0))
    assert (box.room("file"), box.room("camera")) == (2, 3)
    box.grow(2)
    assert box.room("file") == 4
    box.put(EndOfSource("file"))
    assert box.room("file") == 5  # nothing is accepted, so nothing waits
    box.close()
    assert box.room("camera") > 0


def test_whoever_waits_for_room_is_told_of_it() -> None:
    told: list[str] = []
    box = Box({"file": "every", "camera": "latest"}, 1)
    box.when_there_is_room(lambda: told.append("one"))
    box.when_there_is_room(lambda: told.append("two"))
    box.put(Letter("camera", 0))
    box.now()
    assert told == []  # a lane that never makes anybody wait has no news
    box.put(Letter("file", 0))
    assert told == []
    box.now()
    assert told == ["one", "two"]
    changes: list[Callable[[], object]] = [lambda: box.grow(1), box.end, box.close]
    for change in changes:
        told.clear()
        change()
        assert told[:2] == ["one", "two"]


def test_room_that_is_told_of_can_be_used_at_once_by_the_mailbox_before() -> None:
    """Two mailboxes in a row, as between stages: the first holds back what has no room in the second."""
    first, second = Box({"file": "every"}, 1), Mailbox[Letter]({"file": "every"}, 1)
    first.hold_back(lambda source: second.room(source) > 0)
    second.when_there_is_room(first.wake)
    seen: list[int] = []

    def carry() -> None:
        while (item := first.get()) is not None:
            second.put(item)

    def read() -> None:
        while isinstance(item := second.get(), Letter):
            seen.append(item.number)

    threads = [threading.Thread(target=carry), threading.Thread(target=read)]
    for thread in threads:
        thread.start()
    for number in range(2000):
        first.put(Letter("file", number))
    first.put(EndOfSource("file"))
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive(), "a wake was lost"
    assert seen == list(range(2000))


Step = tuple[str, str]


@settings(deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["put", "put", "notice", "get", "get", "hold", "let"]), st.sampled_from("abc"))
    ),
    capacity=st.integers(1, 3),
)
def test_any_sequence_of_orders_keeps_order_policy_and_turns(steps: list[Step], capacity: int) -> None:
    box = Box({"a": "every", "b": "latest", "c": "latest"}, capacity)
    lanes: dict[str, list[Letter | Notice]] = {"a": [], "b": [], "c": []}
    passed_over = dict.fromkeys(lanes, 0)
    dropped: list[tuple[Letter, str]] = []
    for number, (order, source) in enumerate(steps):
        lane = lanes[source]
        letters = [item for item in lane if isinstance(item, Letter)]
        if order == "put" and not (source == "a" and len(letters) == capacity):
            if len(letters) == capacity:
                lane.remove(letters[0])
                dropped.append((letters[0], "mailbox_full"))
            lane.append(Letter(source, number))
            assert box.put(Letter(source, number))
        elif order == "notice":
            lane.append(Notice(source))
            box.put(Notice(source))
        elif order == "hold":
            box.held.add(source)
        elif order == "let":
            box.held.discard(source)
        elif order == "get":
            ready = [each for each in lanes if lanes[each] and _may_go(lanes[each][0], box.held)]
            item = box.now()
            assert (item is None) == (not ready)
            if item is not None:
                assert item == lanes[item.source].pop(0)
                passed_over = {each: passed_over[each] + 1 if each in ready else 0 for each in lanes}
                passed_over[item.source] = 0
                assert max(passed_over.values()) < len(lanes)
    assert box.drops == dropped


def _may_go(head: Letter | Notice, held: set[str]) -> bool:
    return isinstance(head, Notice) or head.source not in held


# ---------------------------------------------------------------------- what an engine has in hand


def in_hand(policies: Mapping[str, Policy], in_flight: int = 1, bypass: bool = False, room: int = 100) -> InHand:
    hand = InHand(policies, lambda source: room)
    hand.in_flight, hand.bypass = in_flight, bypass
    return hand


@pytest.mark.parametrize("policy", ["every", "latest"])
@pytest.mark.parametrize("in_flight", [1, 3])
def test_no_more_frames_are_taken_than_can_be_worked_on(policy: Policy, in_flight: int) -> None:
    hand = in_hand({"a": policy, "b": policy}, in_flight)
    for number in range(in_flight):
        assert hand.fits("a")
        hand.begin("ab"[number % 2], True)
    assert not hand.fits("a")
    assert not hand.fits("b")
    hand.finish("a", True)
    assert hand.fits("a")
    assert hand.fits("b")


def test_a_file_has_no_more_in_hand_than_finds_room_and_that_is_no_affair_of_a_camera() -> None:
    hand = in_hand({"file": "every", "camera": "latest"}, in_flight=4, room=2)
    hand.begin("file", True)
    assert hand.fits("file")
    hand.begin("file", True)
    assert not hand.fits("file")
    assert hand.fits("camera")
    hand.finish("file", True)
    assert hand.fits("file")


def test_frames_that_pass_without_work_need_no_request_but_are_bounded() -> None:
    hand = in_hand({"camera": "latest"}, bypass=True)
    hand.begin("camera", True)
    for _ in range(PASSING - 1):
        assert hand.fits("camera")
        assert not hand.may_work("camera")
        hand.begin("camera", False)
    assert not hand.fits("camera")
    hand.finish("camera", True)
    assert hand.fits("camera")
    assert hand.may_work("camera")


def test_with_bypass_a_file_still_waits_for_its_turn_and_is_always_worked_on() -> None:
    hand = in_hand({"file": "every", "camera": "latest"}, bypass=True)
    hand.begin("camera", True)
    assert not hand.fits("file")
    hand.finish("camera", True)
    assert hand.fits("file")
    assert hand.may_work("file")


@pytest.mark.parametrize(("cameras", "in_flight", "share"), [(1, 4, 4), (2, 4, 2), (3, 4, 2), (4, 4, 1), (8, 4, 1)])
def test_with_bypass_no_camera_takes_more_than_its_share_of_the_requests(
    cameras: int, in_flight: int, share: int
) -> None:
    names = [f"camera{number}" for number in range(cameras)]
    hand = in_hand(dict.fromkeys(names, "latest"), in_flight, bypass=True)
    begun = 0
    while hand.may_work(names[0]):
        hand.begin(names[0], True)
        begun += 1
    assert begun == share
    assert all(hand.may_work(name) for name in names[1:])


# ---------------------------------------------------------------------- whole runs


class Model(AsyncStage["Future[None]"]):
    """An engine with so many requests, each of which takes `takes_s`; it remembers what it was given and when."""

    name = "model"

    def __init__(self, requests: int = 1, takes_s: float = 0.0, bypass: bool = False, wanted_every: int = 1) -> None:
        self.in_flight, self.bypass = requests, bypass
        self.ages_s: list[float] = []
        self.worked: list[tuple[str, int]] = []
        self.skipped: list[tuple[str, int]] = []
        self._takes_s, self._wanted_every = takes_s, wanted_every

    def open(self) -> None:
        self._pool = ThreadPoolExecutor(self.in_flight)

    def wants(self, frame: Frame) -> bool:
        return frame.index % self._wanted_every == 0

    def submit(self, frame: Frame) -> Future[None]:
        self.ages_s.append(time.monotonic() - frame.captured_at)
        self.worked.append((frame.source, frame.index))
        return self._pool.submit(time.sleep, self._takes_s)

    def collect(self, frame: Frame, ticket: Future[None]) -> None:
        ticket.result()

    def skip(self, frame: Frame) -> None:
        frame.predicted = True
        self.skipped.append((frame.source, frame.index))

    def close(self) -> None:
        self._pool.shutdown()


class Sink(FakeSink):
    """Takes `file_s` for a frame of the file, until it is told to hurry; remembers which frames were predicted."""

    def __init__(self, file_s: float = 0.0) -> None:
        super().__init__()
        self.predicted: list[tuple[str, int]] = []
        self.hurry = threading.Event()
        self._file_s = file_s

    def consume(self, frame: Frame) -> None:
        super().consume(frame)
        if frame.predicted:
            self.predicted.append((frame.source, frame.index))
        if frame.source == "file" and self._file_s:
            self.hurry.wait(self._file_s)


def run_until_ended(runner: Runner, camera: str = "camera") -> None:
    """Run until all frames of a camera are accounted for; then stop."""
    account = runner.ledger.accounts[camera]
    frames = next(source.info.frames for source in runner.sources if source.info.name == camera)
    runner.start()
    until(lambda: account.captured == frames and account.balanced, 30)
    for sink in runner.sinks:
        if isinstance(sink, Sink):
            sink.hurry.set()
    runner.stop()
    assert runner.wait(5)
    assert (runner.error, runner.abandoned) == (None, 0)
    assert runner.ledger.balanced, runner.ledger.counts()


def latency_s(runner: Runner, source: str = "camera") -> float:
    p95_ms = runner.ledger.accounts[source].latency.percentiles()["p95"]
    assert p95_ms is not None
    return p95_ms / 1e3


STAGES: dict[str, Callable[[], Stage]] = {
    "stage": lambda: FakeStage(takes_s=0.003),
    "one request": lambda: Model(1, 0.003),
    "three requests": lambda: Model(3, 0.003),
    "one request with bypass": lambda: Model(1, 0.003, bypass=True),
}


@pytest.mark.parametrize("kind", STAGES)
def test_a_file_whose_sink_is_slow_does_not_delay_a_camera(kind: str) -> None:
    sink_s, latencies_s = 0.4, []
    for with_file in (False, True):
        sources = [FakeSource("camera", 60, live=True, every_s=0.02)]
        sources += [FakeSource("file", None)] if with_file else []
        sink = Sink(file_s=sink_s)
        runner = Runner(sources, [STAGES[kind](), FakeStage("after")], [sink])
        run_until_ended(runner)
        latencies_s.append(latency_s(runner))
        if with_file:
            assert sink.indices("file") == list(range(len(sink.indices("file"))))
    alone_s, beside_s = latencies_s
    assert beside_s < alone_s + sink_s / 3


def test_a_file_beside_a_camera_gets_as_far_as_its_own_sink_allows() -> None:
    sink = Sink(file_s=0.02)
    runner = Runner(
        [FakeSource("camera", 60, live=True, every_s=0.01), FakeSource("file", None)], [Model(1, 0.001)], [sink]
    )
    run_until_ended(runner)
    assert len(sink.indices("file")) > 0.6 / 0.02 / 3


@pytest.mark.parametrize("slow", ["first", "model", "last", "sink"])
def test_a_file_alone_goes_on_whenever_there_is_room_again(slow: str) -> None:
    def takes_s(place: str) -> float:
        return 0.004 if place == slow else 0.0

    stages = [
        FakeStage("first", takes_s("first")),
        Model(2, takes_s("model")),
        FakeStage("between"),
        FakeStage("last", takes_s("last")),
    ]
    sink = Sink(file_s=takes_s("sink"))
    runner = Runner([FakeSource("file", 100)], stages, [sink])
    runner.start()
    ended = runner.wait(10)
    runner.stop()
    runner.wait(5)
    assert ended, f"only {len(sink.seen)} frames arrived"
    assert sink.indices("file") == list(range(100))


def test_with_bypass_a_camera_four_times_as_fast_as_the_model_is_delivered_whole_and_in_order() -> None:
    model, sink = Model(1, 0.1, bypass=True), Sink()
    runner = Runner([FakeSource("camera", 60, live=True, every_s=0.025)], [model], [sink])
    run_until_ended(runner)
    account = runner.ledger.accounts["camera"]
    assert account.captured == 60
    assert account.delivered >= 58  # a machine that stops for 50 ms fills a lane
    assert sink.indices("camera") == sorted(set(sink.indices("camera")))
    assert 9 <= len(model.worked) <= 20
    assert sink.predicted == model.skipped
    assert Counter(sink.seen) == Counter(model.worked) + Counter(model.skipped)


def test_without_bypass_the_same_camera_is_delivered_at_the_models_rate() -> None:
    model, sink = Model(1, 0.1), Sink()
    runner = Runner([FakeSource("camera", 40, live=True, every_s=0.025)], [model], [sink])
    run_until_ended(runner)
    account = runner.ledger.accounts["camera"]
    assert account.delivered == len(model.worked) <= 16
    assert account.dropped["mailbox_full"] == 40 - account.delivered
    assert model.skipped == []


def test_with_bypass_a_result_holds_up_those_behind_it_for_no_longer_than_its_own_work() -> None:
    takes_s = 0.15
    model = Model(1, takes_s, bypass=True)
    runner = Runner([FakeSource("camera", 50, live=True, every_s=0.02)], [model], [Sink()])
    run_until_ended(runner)
    assert latency_s(runner) < 2 * takes_s


@pytest.mark.parametrize("requests", [2, 4])
def test_with_bypass_a_60_fps_camera_leaves_a_5_fps_camera_its_requests(requests: int) -> None:
    model, sink = Model(requests, 0.12, bypass=True), Sink()
    sources = [FakeSource("fast", 90, live=True, every_s=1 / 60), FakeSource("slow", 8, live=True, every_s=0.2)]
    runner = Runner(sources, [model], [sink])
    run_until_ended(runner, "slow")
    worked = Counter(name for name, _ in model.worked)
    assert worked["slow"] >= 6
    assert worked["fast"] >= 6


@pytest.mark.parametrize("bypass", [False, True])
@pytest.mark.parametrize("requests", [1, 3])
def test_frames_that_a_stage_does_not_want_keep_their_place(bypass: bool, requests: int) -> None:
    model, sink = Model(requests, 0.004, bypass, wanted_every=3), Sink()
    sources = [FakeSource("camera", 60, live=True, every_s=0.01), FakeSource("file", 90)]
    Runner(sources, [model], [sink], policies={"camera": "latest"}).run()
    assert sink.indices("file") == list(range(90))
    assert sink.indices("camera") == sorted(set(sink.indices("camera")))
    assert [index for name, index in model.worked if name == "file"] == list(range(0, 90, 3))
    assert {index % 3 for name, index in model.worked} == {0}
    assert Counter(sink.predicted) == Counter(model.skipped)


@pytest.mark.parametrize("requests", [1, 2])
def test_frames_wait_where_newer_ones_replace_them_and_not_in_the_engine(requests: int) -> None:
    every_s, takes_s = 0.02, 0.2
    model, sink = Model(requests, takes_s), Sink()
    runner = Runner([FakeSource("camera", 75, live=True, every_s=every_s)], [model], [sink])
    run_until_ended(runner)
    ages_s = sorted(model.ages_s[:-LANE])  # behind the last frame nothing newer comes
    assert len(ages_s) >= 4
    assert ages_s[len(ages_s) // 2] <= LANE * every_s + BUSY_S / 2
    assert ages_s[-1] <= LANE * every_s + 2 * BUSY_S < takes_s


def test_a_stage_behind_the_model_does_not_make_frames_of_a_camera_wait_in_the_model() -> None:
    model, sink = Model(2, 0.005), Sink()
    runner = Runner(
        [FakeSource("camera", 60, live=True, every_s=0.01)], [model, FakeStage("slow", takes_s=0.04)], [sink]
    )
    run_until_ended(runner)
    assert max(sink.ages_s) < (LANE + 2) * 0.04 + 2 * BUSY_S


class Unfair:
    """Cameras and a model on a clock of their own: newest frames wait, as in a mailbox, and take what they may."""

    def __init__(self, hand: InHand, cameras: Mapping[str, tuple[float, float]], takes_s: float) -> None:
        self.worked: Counter[str] = Counter()
        self.longest_wait_s = 0.0
        self._hand, self._takes_s = hand, takes_s
        self._moments: list[tuple[float, str, bool]] = sorted(
            (phase_s + number / fps, name, False)
            for name, (fps, phase_s) in cameras.items()
            for number in range(int(60 * fps))
        )
        self._waiting: dict[str, float] = {}

    def run(self) -> Counter[str]:
        """Let a minute pass; return how many frames of each camera were worked on."""
        while self._moments:
            now, name, is_result = self._moments.pop(0)
            if is_result:
                self._hand.finish(name, True)
            else:
                self._waiting[name] = now
            while any(self._take(each, now) for each in list(self._waiting)):
                pass
        return self.worked

    def _take(self, name: str, now: float) -> bool:
        if not self._hand.fits(name):
            return False
        self.longest_wait_s = max(self.longest_wait_s, now - self._waiting.pop(name))
        works = self._hand.may_work(name)
        self._hand.begin(name, works)
        self.worked[name] += works
        if works:
            self._moments.append((now + self._takes_s, name, True))
            self._moments.sort()
        else:
            self._hand.finish(name, False)
        return True


@pytest.mark.parametrize("takes_s", [0.03, 0.05, 0.12])
@pytest.mark.parametrize("phase_s", [0.001, 0.003, 0.009])
def test_with_bypass_and_one_request_a_5_fps_camera_in_step_with_a_60_fps_one_has_its_turns(
    takes_s: float, phase_s: float
) -> None:
    hand = in_hand({"fast": "latest", "slow": "latest"}, bypass=True)
    world = Unfair(hand, {"fast": (60, 0.0), "slow": (5, phase_s)}, takes_s)
    assert world.run()["slow"] >= 100  # of 300
    assert world.longest_wait_s <= takes_s + 1e-9


def test_with_bypass_more_cameras_than_requests_all_have_their_turns() -> None:
    cameras = {"a": (60, 0.0), "b": (30, 0.001), "c": (5, 0.002), "d": (1, 0.003)}
    hand = in_hand(dict.fromkeys(cameras, "latest"), in_flight=2, bypass=True)
    worked = Unfair(hand, cameras, 0.12).run()
    assert min(worked.values()) >= 30  # every second of the slowest one's 60
    assert len(worked) == 4


@pytest.mark.xfail(strict=True, reason="a file always has a frame ready, and takes each request that becomes free")
def test_with_bypass_a_file_leaves_a_camera_its_turns() -> None:
    model, sink = Model(1, 0.02, bypass=True), Sink()
    sources = [FakeSource("camera", 40, live=True, every_s=0.03), FakeSource("file", None)]
    runner = Runner(sources, [model], [sink])
    run_until_ended(runner)
    worked = Counter(name for name, _ in model.worked)
    assert worked["camera"] >= 10
    assert worked["file"] >= 10
