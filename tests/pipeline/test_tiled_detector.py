"""A frame in many requests: nobody waits for himself, nothing is lost, and what windows show is where it is."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, cast

import cv2
import numpy as np
import pytest

from engines.engine import Outputs
from engines.errors import EngineError
from pipeline.capture.source import Damaged
from pipeline.frame import Detections, Frame
from pipeline.infer.letterbox import Letterbox
from pipeline.infer.picture_detector import DetectorOptions, PictureDetector
from pipeline.infer.tiled_detector import Search, TiledDetector
from pipeline.infer.tiles import TileOptions, windows
from pipeline.masks import Masks
from pipeline.picture import Picture, Planes
from pipeline.runner import Runner
from pipeline.stage import AsyncStage
from tests.pipeline.fakes import FakeSink, FakeSource, threads_left

HEIGHT, WIDTH = 300, 400
SQUARES = [(20, 20, 60, 50), (180, 140, 230, 170), (350, 250, 390, 290)]


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    before = threading.enumerate()
    yield
    assert threads_left(before) == []


class Engine:
    """As engines work: `submit` waits where all requests are busy, and each must be collected once."""

    def __init__(self, requests: int, batch: int = 1, takes_s: float = 0.0, fails_at: int | None = None) -> None:
        self.requests, self.batch = requests, batch
        self.input_size = (416, 416)
        self.room = threading.Semaphore(requests)
        self.started: list[int] = []
        self.in_flight = self.most = 0
        self._takes_s, self._fails_at = takes_s, fails_at
        self._pool = ThreadPoolExecutor(requests)

    def submit(self, pictures: Sequence[Picture]) -> Request:
        if not self.room.acquire(timeout=5):
            raise AssertionError("waited for itself")
        number = len(self.started)
        self.started.append(len(pictures))
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        return Request(self, self._pool.submit(self._work, number, [picture.bgr.max(axis=2) for picture in pictures]))

    def _work(self, number: int, pictures: list[Any]) -> Outputs:
        time.sleep(self._takes_s)
        if number == self._fails_at:
            raise EngineError("this request fails")
        height, width = np.max([picture.shape for picture in pictures], axis=0)
        outputs = np.zeros((len(pictures), height, width), np.uint8)
        for output, picture in zip(outputs, pictures, strict=True):
            output[: picture.shape[0], : picture.shape[1]] = picture
        return {"pictures": outputs}

    def close(self) -> None:
        assert self.in_flight == 0
        self._pool.shutdown()


class Request:
    def __init__(self, engine: Engine, future: Future[Outputs]) -> None:
        self._engine, self._future = engine, future

    def result(self) -> Outputs:
        try:
            return self._future.result()
        finally:
            self._engine.in_flight -= 1
            self._engine.room.release()


class Squares:
    """Finds bright rectangles; says to be a PictureDetector."""

    labels = ("square",)

    def __init__(self, engine: Engine) -> None:
        self.engine, self.options, self.batch = engine, DetectorOptions(), engine.batch
        self.sizes: list[tuple[int, int]] = []

    def start(self, pictures: Sequence[Picture]) -> tuple[list[Letterbox], Request]:
        sizes = [(picture.height, picture.width) for picture in pictures]
        self.sizes += sizes
        return [Letterbox(size, size, size, (0, 0)) for size in sizes], self.engine.submit(pictures)

    def read(self, outputs: Outputs, plan: Letterbox) -> Detections:
        picture = outputs["pictures"][0, : plan.source[0], : plan.source[1]]
        count, labels, stats, _ = cv2.connectedComponentsWithStats((picture > 128).astype(np.uint8))
        boxes = [(x, y, x + w, y + h) for x, y, w, h, _ in stats[1:].tolist()]
        scores = [min(0.99, 0.5 + (box[2] - box[0]) * (box[3] - box[1]) / 1e5) for box in boxes]
        masks = np.stack([labels == number for number in range(1, count)]) if boxes else None
        points = np.array([[[x1, y1, 0.5]] for x1, y1, *_ in boxes], np.float32) if boxes else None
        corners, kinds = np.array(boxes, np.float32), np.zeros(len(boxes), np.int32)
        return Detections(corners, np.array(scores, np.float32), kinds, masks=cast(Masks, masks), keypoints=points)


def detector(engine: Engine) -> PictureDetector:
    return cast(PictureDetector, Squares(engine))


def scene(planes: bool = False) -> Picture:
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for x1, y1, x2, y2 in SQUARES:
        pixels[y1:y2, x1:x2] = 255
    if planes:
        return Picture(planes=Planes(np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2YUV_I420), np.uint8)))
    return Picture(bgr=pixels)


def found(detections: Detections) -> set[tuple[int, ...]]:
    return {tuple(map(round, box)) for box in detections.boxes.tolist()}


@pytest.mark.parametrize("planes", [False, True], ids=["bgr", "planes"])
@pytest.mark.parametrize("full_frame", [False, True])
@pytest.mark.parametrize("tiles", [None, (2, 2), (3, 4), 90], ids=str)
def test_objects_are_found_once_and_where_they_are(tiles: Any, full_frame: bool, planes: bool) -> None:
    engine = Engine(requests=2)
    full_frame = full_frame or tiles is None
    result = TiledDetector(detector(engine), TileOptions(tiles, 0.5, full_frame))(scene(planes))
    assert found(result) == set(SQUARES)
    assert result.masks is not None
    assert result.keypoints is not None
    for (x1, y1, x2, y2), mask, points in zip(
        result.boxes.round().astype(int).tolist(), result.masks.dense(), result.keypoints, strict=True
    ):
        assert mask.shape == (HEIGHT, WIDTH)
        assert mask[y1:y2, x1:x2].all()
        assert mask.sum() == (x2 - x1) * (y2 - y1)
        assert points.tolist() == [[x1, y1, 0.5]]
    engine.close()


def test_a_region_is_all_that_is_looked_at() -> None:
    engine = Engine(requests=1)
    result = TiledDetector(detector(engine), TileOptions((2, 2)))(scene(), (100, 100, 200, 100))
    assert found(result) == {SQUARES[1]}
    engine.close()


@pytest.mark.parametrize("requests", [1, 2, 3, 50])
@pytest.mark.parametrize("batch", [1, 4])
def test_no_more_requests_than_there_are_and_none_waits_for_its_own(requests: int, batch: int) -> None:
    engine = Engine(requests, batch)
    tiled = TiledDetector(detector(engine))
    places = windows((HEIGHT, WIDTH), (64, 64), TileOptions((3, 4)))
    searches = tiled.start([scene(), scene()], [places, places])
    assert engine.in_flight <= min(requests, -(-26 // batch))
    assert [found(search.detections()) for search in searches] == [set(SQUARES)] * 2
    assert engine.most <= requests
    assert sum(engine.started) == 2 * 13
    assert max(engine.started) == min(batch, 26)
    engine.close()


@pytest.mark.parametrize("fails_at", [0, 3, 12])
def test_after_a_failed_request_the_engine_has_room_for_all_again(fails_at: int) -> None:
    engine = Engine(requests=3, fails_at=fails_at)
    tiled = TiledDetector(detector(engine), TileOptions((3, 4)))
    with pytest.raises(EngineError, match="this request fails"):
        tiled(scene())
    assert engine.in_flight == 0
    assert found(tiled(scene())) == set(SQUARES)
    engine.close()


class Scenes(FakeSource):
    """Frames with squares."""

    def frames(self) -> Iterator[Frame | Damaged]:
        for item in super().frames():
            if isinstance(item, Frame):
                item.picture = scene()
            yield item


class Tiled(AsyncStage[Search]):
    """As `Detector` does with tiles."""

    name = "tiled"

    def __init__(self, engine: Engine, in_flight: int, *, bypass: bool = False) -> None:
        self.engine, self.in_flight, self.bypass = engine, in_flight, bypass
        self._tiled = TiledDetector(detector(engine))
        self._places = windows((HEIGHT, WIDTH), (64, 64), TileOptions((3, 4)))

    def submit(self, frame: Frame) -> Search:
        return self._tiled.start([frame.picture], [self._places])[0]

    def collect(self, frame: Frame, ticket: Search) -> None:
        frame.detections = ticket.detections()
        assert found(frame.detections) == set(SQUARES)

    def close(self) -> None:
        self.engine.close()


@pytest.mark.parametrize("requests", [1, 2, 3, 8])
@pytest.mark.parametrize("in_flight", [1, 2, 4])
def test_several_frames_of_several_sources_are_in_flight_and_all_arrive(requests: int, in_flight: int) -> None:
    sink = FakeSink()
    sources = [Scenes("file", 12), Scenes("other", 12)]
    runner = Runner(sources, [Tiled(Engine(requests, takes_s=0.0005), in_flight)], [sink])
    runner.run()
    assert runner.ledger.balanced
    assert sink.indices("file") == sink.indices("other") == list(range(12))


@pytest.mark.parametrize("bypass", [False, True])
def test_a_stop_in_the_middle_of_a_frame_leaves_nothing_behind(bypass: bool) -> None:
    sources = [Scenes("file", None), Scenes("cam", None, live=True, every_s=0.005)]
    runner = Runner(sources, [Tiled(Engine(3, takes_s=0.01), 2, bypass=bypass)], [FakeSink()])
    runner.start()
    time.sleep(0.4)
    before = time.monotonic()
    runner.stop()
    assert runner.wait(3)
    assert time.monotonic() - before < 1.0
    assert (runner.error, runner.abandoned) == (None, 0)
    assert runner.ledger.balanced


@pytest.mark.parametrize("fails_at", [5, 30, 31, 38])
def test_a_failing_request_ends_the_run_in_order(fails_at: int) -> None:
    runner = Runner([Scenes("file", 50)], [Tiled(Engine(3, takes_s=0.001, fails_at=fails_at), 2)], [FakeSink()])
    with pytest.raises(EngineError, match="this request fails"):
        runner.run()
    assert runner.ledger.balanced
    assert runner.abandoned == 0
