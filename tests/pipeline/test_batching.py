"""Frames of several sources in one request: those that wait go together, none is waited for, lost or mixed up."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest

from engines.engine import Batch, EngineInfo, Outputs, Uncut
from engines.errors import EngineError
from pipeline.frame import Frame
from pipeline.in_hand import InHand
from pipeline.infer.letterbox import Letterboxes
from pipeline.infer.requests import Request
from pipeline.picture import Picture, bgr_to_planes
from pipeline.runner import Runner
from pipeline.stage import AsyncStage
from tests.pipeline.fakes import FakeSink, FakeSource, threads_left

CAMERAS = ("a", "b", "c", "d")


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    before = threading.enumerate()
    yield
    assert threads_left(before) == []


class Model(AsyncStage["Future[None]"]):
    """An engine with one request at a time, which takes `takes_s` however many frames it holds."""

    name = "model"

    def __init__(self, batch: int, takes_s: float = 0.01, *, bypass: bool = False, every: int = 1) -> None:
        self.batch, self.bypass = batch, bypass
        self.groups: list[list[tuple[str, int]]] = []
        self.skipped: list[tuple[str, int]] = []
        self.fails_at: int | None = None
        self._takes_s, self._every = takes_s, every
        self._pool = ThreadPoolExecutor(1)
        self._running = 0
        self.most_running = 0

    def wants(self, frame: Frame) -> bool:
        return frame.index % self._every == 0

    def submit(self, frame: Frame) -> Future[None]:
        return self.submit_together([frame])[0]

    def submit_together(self, frames: Sequence[Frame]) -> list[Future[None]]:
        if self.fails_at is not None and len(self.groups) >= self.fails_at and len(frames) > 1:
            raise EngineError("the engine fails on purpose")
        self.groups.append([(frame.source, frame.index) for frame in frames])
        self._running += 1
        self.most_running = max(self.most_running, self._running)
        return [self._pool.submit(self._work)] * len(frames)

    def _work(self) -> None:
        time.sleep(self._takes_s)
        self._running -= 1

    def collect(self, frame: Frame, ticket: Future[None]) -> None:
        ticket.result()

    def skip(self, frame: Frame) -> None:
        self.skipped.append((frame.source, frame.index))

    def close(self) -> None:
        self._pool.shutdown()


def run(model: Model, sources: Sequence[FakeSource]) -> FakeSink:
    sink = FakeSink()
    runner = Runner(sources, [model], [sink])
    runner.run()
    assert runner.ledger.balanced, runner.ledger.counts()
    assert runner.abandoned == 0
    return sink


def cameras(frames: int = 30, every_s: float = 0.004) -> list[FakeSource]:
    return [FakeSource(name, frames, live=True, every_s=every_s) for name in CAMERAS]


def test_frames_of_several_cameras_that_wait_are_one_request() -> None:
    model = Model(batch=8)
    run(model, cameras())
    together = [group for group in model.groups if len({source for source, _ in group}) == len(CAMERAS)]
    assert len(together) > len(model.groups) / 2
    assert max(map(len, model.groups)) <= 8
    assert model.most_running == 1


def test_a_lone_frame_is_not_kept_waiting_for_others() -> None:
    model, sink = Model(batch=8, takes_s=0.0), FakeSink()
    runner = Runner([FakeSource("cam", 20, live=True, every_s=0.02)], [model], [sink])
    runner.run()
    assert [len(group) for group in model.groups] == [1] * 20
    p95_ms = runner.ledger.accounts["cam"].latency.percentiles()["p95"]
    assert p95_ms is not None
    assert p95_ms < 20


def test_a_file_fills_requests_and_arrives_whole_and_in_order() -> None:
    model = Model(batch=4, takes_s=0.005)
    sink = run(model, [FakeSource("file", 100)])
    assert sink.indices("file") == list(range(100))
    assert [index for group in model.groups for _, index in group] == list(range(100))
    assert sum(len(group) == 4 for group in model.groups) > 15


def test_frames_of_a_file_do_not_join_those_of_a_camera() -> None:
    model = Model(batch=8, takes_s=0.005)
    runner = Runner([*cameras(frames=40), FakeSource("file", 200)], [model], [FakeSink()])
    runner.run()
    assert runner.ledger.balanced, runner.ledger.counts()
    begun_live = [group for group in model.groups if group[0][0] in CAMERAS]
    assert begun_live
    assert all(source in CAMERAS for group in begun_live for source, _ in group)
    assert any(len(group) > 2 for group in model.groups if group[0][0] == "file")


def test_room_for_each_source_fills_all_requests_together() -> None:
    def room(sources: int, in_flight: int, batch: int) -> int:
        hand = InHand({str(number): "every" for number in range(sources)}, lambda source: 100)
        hand.in_flight = in_flight
        return hand.room_for_each(batch)

    assert [room(1, 3, 1), room(5, 3, 1), room(1, 3, 8), room(2, 3, 8), room(16, 3, 8)] == [3, 3, 24, 12, 8]


def test_frames_that_are_not_wanted_pass_in_their_place_and_do_not_fill_a_request() -> None:
    model = Model(batch=4, takes_s=0.005, every=3)
    sink = run(model, [FakeSource("file", 90), FakeSource("other", 90)])
    for name in ("file", "other"):
        assert sink.indices(name) == list(range(90))
    assert sorted(index for group in model.groups for _, index in group) == sorted([*range(0, 90, 3)] * 2)
    assert len(model.skipped) == 120
    assert max(map(len, model.groups)) > 2


def test_with_bypass_every_frame_has_a_request_of_its_own() -> None:
    model = Model(batch=8, takes_s=0.002, bypass=True)
    run(model, cameras())
    assert {len(group) for group in model.groups} == {1}


def test_where_the_engine_refuses_a_group_the_run_fails_and_all_its_frames_are_accounted_for() -> None:
    model = Model(batch=8)
    model.fails_at = 3
    runner = Runner(cameras(frames=200), [model], [FakeSink()])
    with pytest.raises(EngineError, match="on purpose"):
        runner.run()
    assert runner.ledger.balanced, runner.ledger.counts()
    assert runner.abandoned == 0


def test_a_stop_in_the_middle_of_groups_leaves_no_frame_unaccounted() -> None:
    model = Model(batch=8, takes_s=0.02)
    runner = Runner(cameras(frames=1000), [model], [FakeSink()])
    runner.start()
    time.sleep(0.3)
    runner.stop()
    assert runner.wait(2)
    assert runner.ledger.balanced, runner.ledger.counts()


# ---------------------------------------------------------------------- pictures of one request


class Engine:
    """Remembers what it is given; its one output is the mean of each picture."""

    requests = 1
    cuts_frames = False

    def __init__(self, batch: int = 8) -> None:
        self.input_size, self.batch = (64, 96), batch
        self.given: list[Batch] = []
        self.frames: list[Sequence[Uncut]] = []

    def infer(self, batch: Batch) -> Outputs:
        return {"y": batch.mean(axis=(1, 2, 3), keepdims=True)}

    def submit(self, batch: Batch) -> Future[Outputs]:
        self.given.append(batch.copy())
        return _done(self.infer(batch))

    def submit_frames(self, frames: Sequence[Uncut]) -> Future[Outputs]:
        self.frames.append(frames)
        return _done({})

    def describe(self) -> EngineInfo:
        raise NotImplementedError

    def close(self) -> None: ...


def _done(outputs: Outputs) -> Future[Outputs]:
    future: Future[Outputs] = Future()
    future.set_result(outputs)
    return future


def pictures() -> list[Picture]:
    random = np.random.default_rng(0)
    shapes = [(120, 80), (50, 200), (120, 80)]
    bgr = [random.integers(0, 256, (*shape, 3), np.uint8) for shape in shapes]
    return [Picture(bgr=bgr[0]), Picture(planes=bgr_to_planes(bgr[1])), Picture(bgr=bgr[2])]


def test_pictures_of_one_request_are_cut_as_each_alone_would_be() -> None:
    engine, boxes = Engine(), Letterboxes((64, 96), "letterbox-centre", 114)
    plans, _ = boxes.start(engine, pictures())
    for given, plan, picture in zip(engine.given[0], plans, pictures(), strict=True):
        alone_plan, alone = boxes.cut(picture)
        assert plan == alone_plan
        np.testing.assert_array_equal(given, alone)


def test_an_engine_that_cuts_frames_gets_them_whole_with_what_it_needs() -> None:
    engine, boxes = Engine(), Letterboxes((64, 96), "letterbox-centre", 114)
    engine.cuts_frames = True
    plans, _ = boxes.start(engine, pictures())
    assert not engine.given
    for uncut, plan, picture in zip(engine.frames[0], plans, pictures(), strict=True):
        assert (uncut.content, uncut.offset, uncut.pad) == (plan.content, plan.offset, 114)
        if picture.planes is None:
            np.testing.assert_array_equal(uncut.planes[0], picture.bgr)
            assert uncut.to_bgr is None
        else:
            assert [plane.shape for plane in uncut.planes] == [(50, 200), (25, 100), (25, 100)]
            assert uncut.to_bgr is not None
            assert uncut.to_bgr.shape == (3, 4)


def test_each_frame_of_a_request_gets_its_own_rows_and_all_get_its_error() -> None:
    request = Request(_done({"y": np.arange(6).reshape(3, 2)}), 3)
    assert [request.outputs_of(place)["y"].tolist() for place in range(3)] == [[[0, 1]], [[2, 3]], [[4, 5]]]
    failed: Future[Outputs] = Future()
    failed.set_exception(EngineError("lost"))
    request = Request(failed, 2)
    for place in range(2):
        with pytest.raises(EngineError, match="lost"):
            request.outputs_of(place)
