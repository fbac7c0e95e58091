"""Whole runs on a GPU: what they find, how they batch, and how they end when the GPU is lost.

The GPU and TensorRT are fakes: a plan is the network itself, ONNX Runtime executes it, and the letterbox kernel runs
on the host. All of the project's own code is in between.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.errors import DeviceLost, EngineBuildError
from engines.tensorrt import workshop
from engines.tensorrt.lane import Lane
from pipeline.assemble import assemble
from pipeline.config.load import Override, load_settings
from pipeline.frame import Frame
from pipeline.runner import Runner
from pipeline.stage import Stage
from tests.engines.cuda.fake_driver import fake_gpu  # noqa: F401
from tests.engines.cuda.fake_gpu import FakeGpu
from tests.engines.cuda.host_kernels import letterbox_kernels
from tests.engines.tensorrt.fake_trt import fake_trt
from tests.engines.tensorrt.machine import build_fake_plan, installation
from tests.pipeline.fakes import threads_left
from tests.pipeline.videos import look_into


@pytest.fixture(autouse=True)
def machine(
    fake_gpu: FakeGpu,  # noqa: F811
    face_models: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installation(monkeypatch, face_models, tmp_path / "cache")
    fake_gpu.kernels.update(letterbox_kernels())
    monkeypatch.setitem(sys.modules, "tensorrt", fake_trt(fake_gpu))


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    before = threading.enumerate()
    yield
    others = ("ThreadPoolExecutor", "fake stream")  # OpenVINO's telemetry, and streams of a GPU that is lost
    assert [thread.name for thread in threads_left(before) if not thread.name.startswith(others)] == []


class Watch(Stage):
    """Keeps what passes."""

    name = "watch"

    def __init__(self) -> None:
        self.frames: list[Frame] = []

    def process(self, frame: Frame) -> None:
        self.frames.append(frame)


def prepared(*sources: Path, backend: str = "tensorrt", frames: int = 12, **values: Any) -> tuple[Runner, Watch]:
    keys = {"sources": [str(source) for source in sources], "max_frames": frames, "engine.backend": backend}
    keys |= {
        "engine.precision": "fp32",
        "engine.batch": 4,
        **{key.replace("__", "."): each for key, each in values.items()},
    }
    watch = Watch()
    runner = assemble(
        load_settings(None, [Override(key, value, "test") for key, value in keys.items()]).settings, [watch]
    )
    return runner, watch


def found(watch: Watch) -> dict[tuple[str, int], Any]:
    return {(frame.source, frame.index): frame.detections for frame in watch.frames}


@pytest.fixture
def bikes(shared: Path) -> Path:
    return shared / "data" / "videos" / "bikes.mp4"


@pytest.fixture
def carphone(shared: Path) -> Path:
    return shared / "data" / "videos" / "carphone.mp4"


def test_a_gpu_finds_what_a_cpu_finds_in_files_of_two_sizes(bikes: Path, carphone: Path) -> None:
    runner, on_gpu = prepared(bikes, carphone)
    runner.run()
    (line,) = runner.descriptions()
    assert "on tensorrt" in line
    assert "threads" not in line
    assert runner.ledger.balanced
    runner, on_cpu = prepared(bikes, carphone, backend="onnxruntime")
    runner.run()
    ours, theirs = found(on_gpu), found(on_cpu)
    assert sorted(ours) == sorted(theirs)
    assert sum(map(len, theirs.values())) > 20
    for place, expected in theirs.items():
        for some, others in ((ours[place], expected), (expected, ours[place])):
            for box, score, class_id in zip(some.boxes, some.scores, some.class_ids, strict=True):
                same = others.class_ids == class_id
                near = same & (np.abs(others.boxes - box).max(axis=1) < 4) & (np.abs(others.scores - score) < 0.04)
                assert near.any() or score < 0.35, (place, box, score)  # a letterbox of 1/255 more moves what is unsure


def test_frames_that_wait_are_batched_and_leave_in_order(bikes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    start = Lane.start

    def noted(lane: Lane, part: Any, names: tuple[str, ...]) -> None:
        sizes.append(len(part))
        start(lane, part, names)

    monkeypatch.setattr(Lane, "start", noted)
    runner, watch = prepared(bikes, frames=40)
    runner.run()
    assert [frame.index for frame in watch.frames] == list(range(40))
    assert max(sizes[-20:]) == 4, sizes


def test_faces_are_found_and_encoded_on_the_gpu(carphone: Path) -> None:
    runner, watch = prepared(carphone, faces__enabled=True, detect__enabled=False)
    runner.run()
    lines = [line for line in runner.descriptions() if "fp32" in line]
    assert lines
    assert all("on tensorrt" in line for line in lines)
    assert sum(len(frame.faces) for frame in watch.frames if frame.faces is not None) >= 10


def test_a_lost_gpu_ends_the_run_in_order(bikes: Path, fake_gpu: FakeGpu, tmp_path: Path) -> None:  # noqa: F811
    recording = tmp_path / "out.mp4"
    runner, watch = prepared(bikes, frames=200, sinks__record__path=str(recording))
    runner.start()
    deadline = time.monotonic() + 20
    while len(watch.frames) < 5:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    fake_gpu.lose()
    lost_at = time.monotonic()
    assert runner.wait(5)
    assert time.monotonic() - lost_at < 2
    assert isinstance(runner.error, DeviceLost), runner.error
    assert "start again" in str(runner.error)
    assert runner.ledger.balanced, runner.ledger.counts()
    assert runner.abandoned == 0
    assert len(look_into(recording).times) >= 5


def test_what_cannot_be_built_for_the_gpu_runs_on_the_cpu_and_that_is_said(
    bikes: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> bytes:
        raise EngineBuildError("tensorrt cannot build the network: no runners")

    monkeypatch.setattr(workshop, "build_plan", refuse)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with caplog.at_level(logging.WARNING):
        runner, watch = prepared(bikes, backend="auto", frames=5)
        runner.run()
    (line,) = runner.descriptions()
    assert "on openvino" in line
    assert len(watch.frames) == 5
    assert any("no runners" in record.getMessage() for record in caplog.records)
    runner, _ = prepared(bikes, backend="tensorrt", frames=5)
    with pytest.raises(EngineBuildError, match="no runners"):
        runner.run()


def test_a_stop_while_an_engine_is_being_built_takes_no_more_than_two_seconds(
    bikes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    building, over = threading.Event(), threading.Event()

    def build_for_ever(*arguments: Any) -> bytes:
        building.set()
        over.wait(20)
        return build_fake_plan(*arguments)

    monkeypatch.setattr(workshop, "build_plan", build_for_ever)
    runner, _ = prepared(bikes)
    runner.start()
    assert building.wait(20)
    asked = time.monotonic()
    runner.stop()
    assert runner.wait(5)
    assert time.monotonic() - asked < 2
    assert runner.abandoned == 2, "both threads of the stage"
    over.set()
    for thread in threading.enumerate():
        if thread.name.startswith("detect"):
            thread.join(20)
