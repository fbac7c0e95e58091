"""Runner: every frame is accounted for and every stop takes at most 2 s, whatever ends, fails or hangs, and when."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import FrameloomError, SinkError, SourceError, StageError
from pipeline.frame import Frame
from pipeline.mailbox import EndOfSource
from pipeline.runner import STOP_WITHIN_S, Runner
from pipeline.sinks.records import event_lines
from pipeline.sinks.sink import MissedEvents
from pipeline.stage import Stage
from tests.pipeline.fakes import (
    NO_TROUBLE,
    FakeAsyncStage,
    FakeSink,
    FakeSource,
    FakeStage,
    Trouble,
    make_frame,
    threads_left,
)

OOPS = RuntimeError("oops")


@pytest.fixture
def stuck() -> Iterator[threading.Event]:
    """What a hanging part waits for: the end of the test."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture(autouse=True)
def no_thread_left(stuck: threading.Event) -> Iterator[None]:
    before = threading.enumerate()
    yield
    stuck.set()
    assert threads_left(before) == []


def stop(runner: Runner) -> float:
    """Stop a run and return how long it took."""
    before = time.monotonic()
    runner.stop()
    assert runner.wait(10)
    return time.monotonic() - before


def until(condition: Any, within_s: float = 5.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)


def assert_accounted(runner: Runner) -> None:
    assert runner.ledger.balanced, runner.ledger.counts()
    for account in runner.ledger.accounts.values():
        assert min(account.captured, account.delivered, *account.dropped.values(), 0) == 0


def dropped(runner: Runner, source: str = "cam") -> dict[str, int]:
    return {reason: number for reason, number in runner.ledger.accounts[source].dropped.items() if number}


# ---------------------------------------------------------------------- normal ends


@pytest.mark.parametrize(
    "stages",
    [
        [],
        [FakeStage],
        [FakeAsyncStage],
        [FakeStage, FakeAsyncStage, FakeStage, FakeAsyncStage],
    ],
    ids=["no stages", "stage", "async stage", "four stages"],
)
def test_a_run_ends_with_its_sources_and_delivers_every_frame_of_a_file_in_order(stages: list[type[Any]]) -> None:
    sources = [FakeSource("a", 30), FakeSource("b", 7), FakeSource("c", 0)]
    made: list[Any] = [stage() for stage in stages]
    sink = FakeSink()
    summary = Runner(sources, made, [sink]).run()
    assert {name: counts["delivered"] for name, counts in summary["sources"].items()} == {"a": 30, "b": 7, "c": 0}
    assert sink.indices("a") == list(range(30))
    assert sink.indices("b") == list(range(7))
    assert sink.calls[0] == "open"
    assert sorted(sink.calls[1:4]) == ["end a", "end b", "end c"]
    assert sink.calls[4:] == ["close", "report"]
    assert sink.summary == summary
    for stage in made:
        assert sorted(stage.calls) == ["close", "end a", "end b", "end c", "open"]
        assert stage.calls[-1] == "close"
    assert all(source.calls == ["close"] for source in sources)


def test_max_frames_counts_per_source() -> None:
    summary = Runner([FakeSource("a", None), FakeSource("b", 3)], [], [], max_frames=5).run()
    assert [counts["captured"] for counts in summary["sources"].values()] == [5, 3]


def test_damaged_pictures_count_as_captured_and_dropped_as_corrupt() -> None:
    runner = Runner([FakeSource(frames=10, damaged={2, 3})], [FakeStage()], [])
    runner.run()
    assert dropped(runner) == {"corrupt": 2}
    assert_accounted(runner)


def test_a_run_without_frames_has_a_summary_without_numbers() -> None:
    summary = Runner([FakeSource(frames=0)], [FakeStage()], [FakeSink()]).run()
    assert summary["fps"] is None
    assert summary["latency_ms"] == {"p50": None, "p95": None, "p99": None}
    assert summary["sources"]["cam"]["captured"] == 0


def test_sources_begin_only_when_every_stage_and_sink_is_ready() -> None:
    class Slow(FakeStage):
        def open(self) -> None:
            time.sleep(0.2)
            super().open()

    source, stage = FakeSource(), Slow()
    Runner([source], [stage], [FakeSink()]).run()
    assert source.begun_at is not None
    assert stage.ready_at is not None
    assert source.begun_at >= stage.ready_at


def test_spans_tell_which_stage_worked_when() -> None:
    runner = Runner([FakeSource(frames=1)], [FakeStage("first"), FakeAsyncStage()], [])
    outlet = runner.outlet()
    runner.start()
    frame = outlet.get()
    assert isinstance(frame, Frame)
    assert [span.stage for span in frame.spans] == ["first", "model"]
    assert all(span.start <= span.end for span in frame.spans)
    runner.wait()
    assert list(runner.summary()["stages"]) == ["capture", "first", "model"]


def test_async_stage_keeps_requests_in_flight_and_the_order_of_each_source() -> None:
    stage, sink = FakeAsyncStage(requests=8, takes_s=0.005), FakeSink()
    Runner([FakeSource("a", 40), FakeSource("b", 40)], [stage], [sink]).run()
    assert stage.engine.most_in_flight >= 7
    assert sink.indices("a") == sink.indices("b") == list(range(40))


def test_async_stage_with_one_source_uses_every_request() -> None:
    stage = FakeAsyncStage(requests=8, takes_s=0.005)
    Runner([FakeSource(frames=60)], [stage], []).run()
    assert stage.engine.most_in_flight == 8


# ---------------------------------------------------------------------- live sources and overload


def test_a_live_source_before_a_slow_stage_stays_fresh_and_counts_what_it_drops() -> None:
    sink = FakeSink()
    runner = Runner([FakeSource(frames=100, live=True, every_s=0.004)], [FakeStage(takes_s=0.03)], [sink])
    runner.run()
    assert dropped(runner)["mailbox_full"] > 30
    assert max(sink.ages_s) < 0.03 * 4 + 0.1  # two that wait, one in work, itself; and a busy machine
    assert_accounted(runner)


def test_frames_of_live_sources_that_are_too_old_are_dropped_as_stale() -> None:
    runner = Runner(
        [FakeSource(frames=40, live=True, every_s=0.002)], [FakeStage(takes_s=0.03)], [FakeSink()], max_age_s=0.02
    )
    runner.run()
    assert dropped(runner)["stale"] > 0
    assert_accounted(runner)


def test_a_file_is_never_stale() -> None:
    runner = Runner([FakeSource(frames=10)], [FakeStage(takes_s=0.01)], [FakeSink()], max_age_s=0.001)
    runner.run()
    assert dropped(runner) == {}


def test_policies_are_per_source() -> None:
    sources = [FakeSource("file", 40), FakeSource("camera", 40, live=True), FakeSource("kept", 40, live=True)]
    sink = FakeSink()
    runner = Runner(sources, [FakeStage(takes_s=0.002)], [sink], policies={"kept": "every"})
    runner.run()
    assert sink.indices("file") == sink.indices("kept") == list(range(40))
    assert dropped(runner, "camera")["mailbox_full"] > 0
    assert_accounted(runner)


def test_a_slow_source_does_not_delay_a_fast_one() -> None:
    sink = FakeSink()
    slow = FakeSource("slow", None, every_s=0.5)
    runner = Runner([slow, FakeSource("fast", 50, every_s=0.002)], [FakeAsyncStage(), FakeStage()], [sink])
    runner.start()
    before = time.monotonic()
    until(lambda: "end fast" in sink.calls)
    assert time.monotonic() - before < 1.0
    stop(runner)
    assert max(age for age, (name, _) in zip(sink.ages_s, sink.seen, strict=True) if name == "fast") < 0.2


def test_a_slow_sink_drops_frames_of_live_sources_and_counts_them_apart() -> None:
    fast, slow = FakeSink("fast"), FakeSink("slow", takes_s=0.02)
    runner = Runner([FakeSource(frames=60, live=True, every_s=0.002)], [FakeStage()], [fast, slow])
    summary = runner.run()
    assert len(fast.seen) == 60
    assert summary["sink_drops"] == {"slow": 60 - len(slow.seen)}
    assert summary["sources"]["cam"]["delivered"] == 60


class EventInEachFrame(FakeStage):
    def process(self, frame: Frame) -> None:
        super().process(frame)
        frame.events.append({"event": "counted", "number": frame.index})


class EventKeeper(FakeSink):
    """Takes the events of its frames, and of those it does not get."""

    def __init__(self, name: str, takes_s: float = 0.0) -> None:
        super().__init__(name, takes_s)
        self.events: list[dict[str, Any]] = []

    def consume(self, frame: Frame) -> None:
        super().consume(frame)
        self.events += event_lines(frame)

    def missed(self, events: MissedEvents) -> None:
        self.events += events.lines


@pytest.mark.parametrize("slow", ["sink", "stage", "async stage"])
def test_no_event_is_lost_with_the_frames_that_are_dropped(slow: str) -> None:
    """Whoever counts people may miss a picture, and must not miss a person."""
    keepers = [EventKeeper("quick"), EventKeeper("slow", takes_s=0.02 if slow == "sink" else 0.0)]
    zones = EventInEachFrame("zones")
    stages: list[Stage] = [zones]
    if slow == "stage":
        stages.append(FakeStage("draw", takes_s=0.02))
    if slow == "async stage":
        stages.append(FakeAsyncStage(takes_s=0.02))
    runner = Runner([FakeSource(frames=60, live=True, every_s=0.002)], stages, keepers)
    summary = runner.run()
    assert len(zones.seen) - len(keepers[1].seen) > 10, summary
    for keeper in keepers:
        assert [event["number"] for event in keeper.events] == [index for _, index in zones.seen], "or not in order"
        assert all(event["frame"] == event["number"] for event in keeper.events)


# ---------------------------------------------------------------------- stop


def busy_runner(sinks: list[FakeSink] | None = None) -> Runner:
    """A run that never ends by itself, with full queues of every kind."""
    sources = [
        FakeSource("file", None),
        FakeSource("camera", None, live=True, every_s=0.001),
        FakeSource("slow", None, every_s=0.3),
    ]
    stages: list[Stage] = [FakeStage("first"), FakeAsyncStage(4, 0.001), FakeStage("last", 0.001)]
    return Runner(
        sources, stages, sinks if sinks is not None else [FakeSink(), FakeSink("slow", 0.003)], max_age_s=0.05
    )


@pytest.mark.parametrize("delay_s", [0.0, 0.0005, 0.002, 0.01, 0.05, 0.3])
def test_stop_at_any_moment_ends_the_run_and_accounts_for_every_frame(delay_s: float) -> None:
    sinks = [FakeSink(), FakeSink("slow", 0.003)]
    runner = busy_runner(sinks)
    runner.start()
    time.sleep(delay_s)
    assert stop(runner) < 1.0
    assert (runner.error, runner.abandoned) == (None, 0)
    assert_accounted(runner)
    for sink in sinks:
        assert sorted(sink.calls) == ["close", "end camera", "end file", "end slow", "open", "report"]
        assert sink.calls[-2:] == ["close", "report"]
        assert sink.indices("file") == list(range(len(sink.indices("file"))))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(delay_s=st.floats(0, 0.1), second_stop_after_s=st.none() | st.floats(0, 0.01))
def test_stop_at_a_random_moment_keeps_the_books_balanced(delay_s: float, second_stop_after_s: float | None) -> None:
    runner = busy_runner()
    runner.start()
    time.sleep(delay_s)
    if second_stop_after_s is not None:
        runner.stop()
        time.sleep(second_stop_after_s)
    assert stop(runner) < 1.5
    assert (runner.error, runner.abandoned) == (None, 0)
    assert_accounted(runner)


def test_stop_with_full_queues_drops_what_waits_and_writes_what_has_reached_a_sink() -> None:
    sink = FakeSink(takes_s=0.05)
    runner = Runner([FakeSource(frames=None)], [FakeStage("a"), FakeAsyncStage(), FakeStage("b")], [sink])
    runner.start()
    until(lambda: len(sink.seen) >= 2)
    assert stop(runner) < 1.0
    assert dropped(runner)["stopped"] > 0
    assert len(sink.seen) == runner.ledger.accounts["cam"].delivered
    assert_accounted(runner)


def test_every_request_is_collected_before_the_engine_is_closed_also_when_stopping() -> None:
    stage = FakeAsyncStage(requests=6, takes_s=0.02)
    runner = Runner([FakeSource("a", None), FakeSource("b", None)], [stage], [FakeSink()])
    runner.start()
    until(lambda: hasattr(stage, "engine") and stage.engine.in_flight == 6)
    assert stop(runner) < 1.0
    assert stage.engine.closed
    assert runner.error is None  # FakeEngine says so where it is closed under its work
    assert_accounted(runner)


def test_stop_before_start_opens_nothing_and_ends_at_once() -> None:
    source, stage, sink = FakeSource(), FakeStage(), FakeSink()
    runner = Runner([source], [stage, FakeAsyncStage()], [sink])
    runner.stop()
    runner.start()
    assert runner.wait(1)
    assert (stage.calls, sink.calls) == ([], ["report"])
    assert source.calls == ["stop", "close"]
    assert runner.summary()["sources"]["cam"]["captured"] == 0


def test_stop_twice_and_after_the_end_does_nothing_more() -> None:
    sink = FakeSink()
    runner = Runner([FakeSource(frames=None)], [FakeStage()], [sink])
    runner.start()
    runner.stop()
    assert stop(runner) < 1.0
    assert stop(runner) < 0.1
    assert sink.calls.count("close") == 1
    assert (runner.error, runner.abandoned) == (None, 0)


def test_stop_may_be_called_by_a_stage_and_by_a_sink() -> None:
    class Stopping(FakeStage):
        def process(self, frame: Any) -> None:
            super().process(frame)
            runner.stop()

    class StoppingSink(FakeSink):
        def consume(self, frame: Any) -> None:
            super().consume(frame)
            runner.stop()

    runner = Runner([FakeSource(frames=None)], [Stopping()], [])
    runner.run()
    runner = Runner([FakeSource(frames=None)], [], [StoppingSink()])
    runner.run()
    assert_accounted(runner)


def test_wait_can_be_called_twice_and_from_several_threads() -> None:
    runner = Runner([FakeSource(frames=20)], [], [])
    runner.start()
    waiters = [threading.Thread(target=runner.wait) for _ in range(3)]
    for waiter in waiters:
        waiter.start()
    assert runner.wait()
    assert runner.wait()
    for waiter in waiters:
        waiter.join(2)


def test_wait_for_a_run_that_was_not_started_is_refused_and_with_a_timeout_says_no() -> None:
    runner = Runner([FakeSource(frames=None)], [], [])
    with pytest.raises(RuntimeError, match="call start"):
        runner.wait()
    runner.start()
    assert not runner.wait(0.05)
    stop(runner)


def test_what_a_source_says_after_it_was_told_to_stop_is_no_failure() -> None:
    source = FakeSource(frames=None, every_s=0.01, trouble=Trouble("source.interrupted", SourceError("read cut off")))
    runner = Runner([source], [], [])
    runner.start()
    until(lambda: runner.ledger.accounts["cam"].captured)
    stop(runner)
    assert runner.error is None


def test_a_stage_that_fails_while_the_run_stops_is_still_reported() -> None:
    runner = Runner([FakeSource(frames=None)], [FakeStage(trouble=Trouble("stage.close", OOPS))], [])
    runner.start()
    stop(runner)
    assert isinstance(runner.error, StageError)


# ---------------------------------------------------------------------- failures

PLACES = [
    "source.frames",
    "source.close",
    "stage.open",
    "stage.process",
    "stage.end",
    "stage.close",
    "async.open",
    "async.submit",
    "async.collect",
    "async.engine",
    "async.close",
    "sink.open",
    "sink.consume",
    "sink.end",
    "sink.close",
    "sink.report",
]

AT_THE_END = ("source.close", "stage.end", "stage.close", "async.close", "sink.end", "sink.close", "sink.report")


def troubled(
    place: str,
    frames: int | None,
    error: BaseException | None,
    hang: threading.Event | None = None,
    every_s: float = 0.0,
) -> tuple[Runner, FakeSink, FakeAsyncStage]:
    """A run of everything, with trouble in one place, and a second sink that is well."""
    kind, _, what = place.partition(".")
    inside = {"open": "stage.open", "close": "stage.close"}.get(what, what)
    trouble = Trouble(inside if kind == "async" else place, error, hang)

    def mine(own: str) -> Trouble:
        return trouble if kind == own else NO_TROUBLE

    sources = [FakeSource("cam", frames, every_s=every_s, trouble=mine("source"))]
    sources.append(FakeSource("live", frames, live=True, every_s=every_s or 0.002))
    model = FakeAsyncStage(3, 0.001, mine("async"))
    stages: list[Stage] = [FakeStage("work", trouble=mine("stage")), model, FakeStage("after")]
    well = FakeSink("well")
    return Runner(sources, stages, [FakeSink("out", 0.0, mine("sink")), well]), well, model


@pytest.mark.parametrize(
    ("place", "frames"),
    [(place, 12) for place in PLACES] + [(place, None) for place in PLACES if place not in AT_THE_END],
)
def test_a_failure_anywhere_ends_the_run_in_order(place: str, frames: int | None) -> None:
    runner, well, model = troubled(place, frames, OOPS)
    before = time.monotonic()
    runner.start()
    assert runner.wait(5)
    assert time.monotonic() - before < STOP_WITHIN_S
    name = {"source": "capture.cam", "stage": "work", "async": "model", "sink": "out"}[place.split(".")[0]]
    assert isinstance(runner.error, StageError)
    assert str(runner.error) == f"{name} failed: RuntimeError: oops"
    assert runner.error.__cause__ is OOPS
    assert runner.abandoned == 0
    assert_accounted(runner)
    assert well.calls[-2:] == ["close", "report"]
    assert well.calls.count("close") == 1
    assert model.calls.count("close") == 1
    assert not hasattr(model, "engine") or model.engine.closed
    for source in runner.sources:
        assert source.calls[-1] == "close"  # type: ignore[attr-defined]
    with pytest.raises(StageError, match="oops"):
        raise runner.error


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), MemoryError("no room")])
def test_whatever_is_raised_in_a_stage_is_its_failure(error: BaseException) -> None:
    runner = Runner([FakeSource()], [FakeStage(trouble=Trouble("stage.process", error))], [FakeSink()])
    with pytest.raises(StageError, match="work failed") as caught:
        runner.run()
    assert caught.value.__cause__ is error


def test_an_error_of_our_own_is_kept_as_it_is() -> None:
    error = SinkError("disk full")
    with pytest.raises(SinkError) as caught:
        Runner([FakeSource()], [], [FakeSink(trouble=Trouble("sink.consume", error))]).run()
    assert caught.value is error


def test_a_source_that_fails_while_it_runs_is_no_wrong_request() -> None:
    with pytest.raises(SourceError) as caught:
        Runner([FakeSource(trouble=Trouble("source.frames", SourceError("gone")))], [], []).run()
    assert not caught.value.request_was_wrong
    assert SourceError("missing").request_was_wrong


def test_the_first_error_wins() -> None:
    stages = [FakeStage("first", trouble=Trouble("stage.process", ValueError("one")))]
    sink = FakeSink(trouble=Trouble("sink.close", ValueError("two")))
    with pytest.raises(StageError, match="first failed: ValueError: one"):
        Runner([FakeSource(frames=None)], stages, [sink]).run()


def test_a_sink_that_fails_does_not_block_delivery_to_the_others() -> None:
    broken, well = FakeSink("broken", trouble=Trouble("sink.consume", OOPS)), FakeSink("well", takes_s=0.01)
    runner = Runner([FakeSource(frames=None)], [], [broken, well])
    before = time.monotonic()
    with pytest.raises(StageError):
        runner.run()
    assert time.monotonic() - before < 1.0
    assert len(well.seen) == runner.ledger.accounts["cam"].delivered
    assert runner.abandoned == 0


def test_a_failing_model_frees_a_submit_that_waits_for_room() -> None:
    stage = FakeAsyncStage(requests=1, takes_s=0.01, trouble=Trouble("collect", OOPS))
    runner = Runner([FakeSource(frames=None)], [stage], [])
    with pytest.raises(StageError, match="model failed"):
        runner.run()
    assert runner.abandoned == 0
    assert stage.engine.closed


def test_a_stage_that_renames_a_frames_source_fails_and_says_so() -> None:
    class Renaming(FakeStage):
        def process(self, frame: Any) -> None:
            frame.source = "nobody"

    with pytest.raises(StageError, match="nobody"):
        Runner([FakeSource()], [Renaming(), FakeStage("next")], []).run()


# ---------------------------------------------------------------------- what hangs

HANGS = [
    ("source.frames", 1),
    ("source.stop", 1),
    ("source.close", 1),
    ("stage.open", 1),
    ("stage.process", 1),
    ("stage.close", 1),
    ("async.open", 2),
    ("async.submit", 2),
    ("async.engine", 1),
    ("async.close", 1),
    ("sink.open", 1),
    ("sink.consume", 1),
    ("sink.end", 1),
    ("sink.close", 1),
    ("sink.report", 1),
]


@pytest.fixture(scope="module")
def hung() -> dict[str, tuple[float, Runner, FakeSink]]:
    """How long the stop of a run took that hangs in that place, and what was left; all at once, to save time."""
    event, before = threading.Event(), threading.enumerate()
    runs = {place: troubled(place, None, None, event, every_s=0.005) for place, _ in HANGS}
    for runner, _, _ in runs.values():
        runner.start()
    time.sleep(0.4)
    with ThreadPoolExecutor(len(runs)) as pool:
        took = dict(zip(runs, pool.map(stop, [runner for runner, _, _ in runs.values()]), strict=True))
    event.set()
    assert threads_left(before) == []
    return {place: (took[place], runner, well) for place, (runner, well, _) in runs.items()}


@pytest.mark.parametrize(("place", "abandoned"), HANGS)
def test_stop_takes_at_most_2_s_whatever_hangs_and_counts_what_it_abandons(
    hung: dict[str, tuple[float, Runner, FakeSink]], place: str, abandoned: int
) -> None:
    took, runner, well = hung[place]
    assert took < STOP_WITHIN_S
    assert runner.abandoned == abandoned
    assert runner.error is None
    assert_accounted(runner)
    assert "close" in well.calls
    if place != "sink.report":
        assert well.calls[-1] == "report"
        assert well.summary is not None
    assert any("close" in source.calls for source in runner.sources)  # type: ignore[attr-defined]


def test_what_hangs_after_a_failure_is_abandoned_too(stuck: threading.Event) -> None:
    stages = [FakeStage("hanging", trouble=Trouble("stage.close", hang=stuck))]
    sink = FakeSink(trouble=Trouble("sink.consume", OOPS))
    runner = Runner([FakeSource(frames=None)], stages, [sink])
    before = time.monotonic()
    runner.start()
    assert runner.wait(5)
    assert time.monotonic() - before < STOP_WITHIN_S + 0.5
    assert runner.abandoned == 1
    assert isinstance(runner.error, StageError)


def test_a_report_that_hangs_does_not_outlive_a_stop(stuck: threading.Event) -> None:
    runner = Runner([FakeSource(frames=3)], [], [FakeSink(trouble=Trouble("sink.report", hang=stuck))])
    runner.start()
    assert not runner.wait(0.3)  # nobody asked to stop: it may take its time
    assert stop(runner) < STOP_WITHIN_S
    assert runner.abandoned == 1


def test_an_abandoned_thread_that_comes_back_changes_nothing(stuck: threading.Event) -> None:
    trouble = Trouble("stage.process", ValueError("late"), stuck)
    stage = FakeStage(trouble=trouble)
    runner = Runner([FakeSource(frames=None)], [stage], [FakeSink()])
    runner.start()
    until(lambda: ("cam", 5) in stage.seen)
    stop(runner)
    before = runner.summary()
    stuck.set()
    time.sleep(0.1)
    assert runner.summary()["sources"] == before["sources"]
    assert (runner.error, runner.abandoned) == (None, 1)


# ---------------------------------------------------------------------- the main thread


def test_a_sink_for_the_main_thread_runs_inside_wait_and_is_kept_alive() -> None:
    sink = FakeSink("window", main_thread=True)
    runner = Runner([FakeSource(frames=6, every_s=0.05)], [], [sink, FakeSink()])
    runner.run()
    assert sink.threads == {threading.current_thread()}
    assert len(sink.seen) == 6
    assert sink.idled > 3
    runner.wait()
    assert sink.calls == ["open", "end cam", "close", "report"]


def test_a_failing_main_thread_sink_ends_the_run() -> None:
    sink = FakeSink("window", main_thread=True, trouble=Trouble("sink.consume", OOPS))
    with pytest.raises(StageError, match="window failed"):
        Runner([FakeSource(frames=None)], [FakeStage()], [sink]).run()
    assert sink.calls[-2:] == ["close", "report"]


def test_a_stop_from_the_window_ends_the_run() -> None:
    class Quitting(FakeSink):
        def idle(self) -> None:
            runner.stop()

    sink = Quitting("window", main_thread=True)
    runner = Runner([FakeSource(frames=None, every_s=0.1)], [FakeStage()], [sink])
    before = time.monotonic()
    runner.run()
    assert time.monotonic() - before < 1.0
    assert runner.abandoned == 0


def test_keyboard_interrupt_in_the_window_stops_the_run_and_reaches_the_caller() -> None:
    sink = FakeSink("window", main_thread=True, trouble=Trouble("sink.consume", KeyboardInterrupt()))
    other = FakeSink()
    runner = Runner([FakeSource(frames=None)], [FakeStage()], [sink, other])
    with pytest.raises(KeyboardInterrupt):
        runner.run()
    assert runner.wait(0.1)
    assert other.calls[-2:] == ["close", "report"]
    assert "close" in sink.calls


# ---------------------------------------------------------------------- leaks


def test_twenty_runs_leave_no_thread_and_no_file_descriptor(tmp_path: Path) -> None:
    class Files(FakeSink):
        def open(self) -> None:
            self.file = (tmp_path / "out").open("wb")

        def close(self) -> None:
            self.file.close()

    process = psutil.Process()
    before, threads = process.num_fds(), threading.active_count()
    for number in range(20):
        runner = Runner([FakeSource(frames=None), FakeSource("b", 5)], [FakeStage(), FakeAsyncStage()], [Files()])
        runner.start()
        time.sleep(0.002 * number)
        stop(runner)
    assert threads_left(threading.enumerate()[:threads]) == []
    assert process.num_fds() == before
    assert os.path.exists(tmp_path / "out")


def test_an_outlet_gets_every_delivered_frame_and_the_end() -> None:
    runner = Runner([FakeSource(frames=20)], [FakeStage()], [])
    outlet = runner.outlet()
    runner.start()
    items = []
    while (item := outlet.get()) is not None:
        items.append(item)
    runner.wait()
    assert [item.index for item in items if isinstance(item, Frame)] == list(range(20))
    assert items[-1] == EndOfSource("cam")


def test_an_outlet_that_nobody_reads_does_not_delay_a_stop() -> None:
    runner = Runner([FakeSource(frames=None)], [FakeStage()], [FakeSink()])
    runner.outlet()
    runner.start()
    until(lambda: runner.ledger.accounts["cam"].delivered >= 2)
    assert stop(runner) < 0.5
    assert runner.abandoned == 0
    assert_accounted(runner)


def test_a_supervisor_that_fails_does_not_leave_anybody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = Runner([FakeSource(frames=3)], [], [])
    monkeypatch.setattr(runner, "_conclude", lambda: 1 / 0)
    with pytest.raises(FrameloomError, match="supervisor failed: ZeroDivisionError"):
        runner.run()


def test_frames_made_for_tests_are_frames() -> None:
    assert make_frame().image.shape == (4, 4, 3)
