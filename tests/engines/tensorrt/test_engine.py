"""TensorRTEngine keeps the contract of an engine: on fakes of both CUDA libraries, and on a GPU where there is one."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from engines.engine import Batch, Candidates, CutsFrames
from engines.errors import EngineError
from engines.spec import ModelSpec
from engines.trust.reference import PlainFile
from tests.engines.cuda.fake_driver import fake_gpu  # noqa: F401
from tests.engines.onnx_files import identity, spec_of
from tests.engines.tensorrt.machine import (
    FAKES,
    Machine,
    Real,
    as_planes,
    noise,
    on_fakes,
    same,
    without_letterbox,
)

NORMALISED: dict[str, Any] = {"colour": "rgb", "mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}
MACHINES = [
    *(pytest.param(each, id="-".join(each)) for each in FAKES),
    pytest.param(None, marks=pytest.mark.gpu, id="real"),
]


@pytest.fixture(params=MACHINES)
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    without_letterbox(monkeypatch)
    if request.param is not None:
        yield from on_fakes(request, *request.param)
        return
    real = Real()
    yield real
    real.close()


@pytest.fixture
def yolox(shared: Path) -> ModelSpec:
    return spec_of(shared / "models" / "detect" / "yolox_nano.onnx")


@pytest.fixture
def bus(shared: Path) -> Batch:
    image = cv2.imread(str(shared / "data" / "images" / "bus.jpg"))
    assert image is not None
    return np.asarray(cv2.resize(image, (416, 416)), np.uint8)[None]


@pytest.fixture
def pixels(tmp_path: Path) -> ModelSpec:
    """A model of open batch that returns what it is given."""
    return spec_of(identity(tmp_path, ("n", 3, 8, 6)))


# ---- answers


def test_says_what_the_unchanged_file_says_of_a_real_picture(machine: Machine, yolox: ModelSpec, bus: Batch) -> None:
    same(machine.open(yolox).infer(bus), PlainFile(yolox).infer(bus), machine.tolerance * 10)


def test_an_encoder_says_what_its_file_says_of_several_faces(machine: Machine, shared: Path, bus: Batch) -> None:
    spec = spec_of(shared / "models" / "face" / "MobileFaceNet.onnx", **NORMALISED, batch="any")
    cut = [cv2.resize(bus[0, y : y + 150, 50:200], (112, 112)) for y in (0, 80, 160, 240, 260)]
    faces = np.stack(cut).astype(np.uint8)
    engine = machine.open(spec, most=2)
    same(engine.infer(faces), PlainFile(spec).infer(faces), machine.tolerance)


@pytest.mark.parametrize("fields", [{"colour": "bgr"}, {"colour": "rgb"}, NORMALISED], ids=["bgr", "rgb", "normalised"])
def test_colour_order_mean_and_deviation_are_as_in_numpy(
    machine: Machine, fields: dict[str, Any], tmp_path: Path
) -> None:
    spec = spec_of(identity(tmp_path, ("n", 3, 8, 6)), **fields)
    batch = noise(3, 8, 6, 3)
    ordered = batch if spec.input.colour == "bgr" else batch[..., ::-1]
    expected = ((ordered.astype(float) - spec.input.mean) / spec.input.std).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(machine.open(spec, most=4).infer(batch)["y"], expected, rtol=1e-5, atol=1e-5)


def test_outputs_have_the_names_and_order_of_the_file(machine: Machine, shared: Path) -> None:
    spec = spec_of(shared / "models" / "face" / "yunet_s_320_320.onnx")
    batch = noise(1, 320, 320, 3)
    same(machine.open(spec).infer(batch), PlainFile(spec).infer(batch), machine.tolerance)


# ---- batches


@pytest.mark.parametrize("method", ["infer", "submit"])
@pytest.mark.parametrize("most", [1, 4])
def test_any_number_of_pictures_comes_back_in_order(
    machine: Machine, pixels: ModelSpec, most: int, method: str
) -> None:
    engine = machine.open(pixels, most=most)
    for count in (1, 2, 4, 9, 3, 1):
        batch = noise(count, 8, 6, 3, seed=count)
        outputs = engine.infer(batch) if method == "infer" else engine.submit(batch).result()
        np.testing.assert_array_equal(outputs["y"], as_planes(batch))


def test_a_batch_may_be_overwritten_at_once_also_where_it_is_run_in_parts(machine: Machine, pixels: ModelSpec) -> None:
    engine = machine.open(pixels, most=2)
    batch = noise(5, 8, 6, 3)
    expected = as_planes(batch)
    pending = engine.submit(batch)
    batch[:] = 0
    np.testing.assert_array_equal(pending.result()["y"], expected)


def test_outputs_belong_to_the_caller(machine: Machine, pixels: ModelSpec) -> None:
    engine = machine.open(pixels, requests=1)
    first = engine.infer(noise(1, 8, 6, 3, seed=1))["y"]
    kept = first.copy()
    engine.infer(noise(1, 8, 6, 3, seed=2))
    np.testing.assert_array_equal(first, kept)
    first[:] = 0


def test_a_picture_that_is_a_view_is_taken_as_it_looks(machine: Machine, pixels: ModelSpec) -> None:
    mirrored = noise(1, 8, 6, 3)[:, :, ::-1]
    np.testing.assert_array_equal(machine.open(pixels).infer(mirrored)["y"], as_planes(mirrored))


@pytest.mark.parametrize(
    "batch",
    [noise(8, 6, 3), noise(1, 6, 8, 3), noise(1, 3, 8, 6), noise(0, 8, 6, 3), noise(1, 8, 6, 3).astype(np.float32)],
    ids=lambda batch: f"{batch.dtype} {batch.shape}",
)
def test_a_wrong_batch_is_refused_with_both_shapes_and_nothing_is_lost(
    machine: Machine, pixels: ModelSpec, batch: Batch
) -> None:
    engine = machine.open(pixels, requests=1)
    for method in (engine.infer, engine.submit):
        with pytest.raises(ValueError, match=r"takes uint8 \(1, 8, 6, 3\), not"):
            method(batch)
    engine.submit(noise(1, 8, 6, 3)).result()


def test_it_says_what_it_is(machine: Machine, pixels: ModelSpec) -> None:
    engine = machine.open(pixels, most=4)
    info = engine.describe()
    assert (engine.batch, engine.requests, engine.input_size) == (4, 3, (8, 6))
    assert (info.backend, info.version) == (machine.flavour.backend, machine.flavour.version)
    assert (info.precision, info.requests, info.origin) == ("fp32", 3, "compiled")
    assert info.input_shape == (None, 8, 6, 3)
    assert info.device.endswith("(cuda:0)")
    assert str(info).endswith("(cuda:0) fp32, 3 requests in flight (compiled)")
    assert "fp32, 2 threads, 3 requests in flight" in str(replace(info, threads=2))
    assert machine.open(pixels).describe().input_shape == (1, 8, 6, 3)


# ---- candidates


def test_a_submit_gives_the_candidates_as_they_are_and_zeros_else(
    machine: Machine, yolox: ModelSpec, bus: Batch
) -> None:
    best = Candidates(classes=5, objectness=4, count=100)
    engine = machine.open(yolox, candidates=best)
    whole, sparse = engine.infer(bus), engine.submit(bus).result()
    assert list(sparse) == list(whole) == ["output"]
    ours, theirs = sparse["output"], whole["output"]
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    rank = theirs[0, :, 4] * theirs[0, :, 5:].max(axis=1)
    given = np.flatnonzero(ours[0].any(axis=1))
    assert len(given) == 100
    assert rank[given].min() >= np.sort(rank)[-100] - 1e-6
    np.testing.assert_allclose(ours[0, given], theirs[0, given], atol=1e-5)
    same(whole, PlainFile(yolox).infer(bus), machine.tolerance * 10)


def test_candidates_of_several_pictures_are_not_mixed_also_in_parts(machine: Machine, yolox: ModelSpec) -> None:
    engine = machine.open(yolox, most=2, candidates=Candidates(classes=5, objectness=4, count=3000))
    batch = noise(3, 416, 416, 3)
    whole, sparse = engine.infer(batch)["output"], engine.submit(batch).result()["output"]
    for ours, theirs in zip(sparse, whole, strict=True):
        given = ours.any(axis=1)
        assert given.sum() >= 2900
        np.testing.assert_allclose(ours[given], theirs[given], atol=1e-5)


def test_a_plan_with_candidates_gives_everything_where_they_are_not_asked_for(
    machine: Machine, yolox: ModelSpec, bus: Batch
) -> None:
    plan = machine.plan(yolox, 1, Candidates(classes=5, objectness=4, count=10))
    outputs = machine.open(yolox, plan=plan).submit(bus).result()
    same(outputs, PlainFile(yolox).infer(bus), machine.tolerance * 10)


# ---- several requests in flight


def test_results_may_be_asked_for_in_any_order(machine: Machine, pixels: ModelSpec) -> None:
    engine = machine.open(pixels, most=2, requests=3)
    machine.slow_down()
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        batches = [noise(1 + seed % 2, 8, 6, 3, seed=seed) for seed in range(3)]
        pending = [engine.submit(batch) for batch in batches]
        for number in order:
            np.testing.assert_array_equal(pending[number].result()["y"], as_planes(batches[number]))


def test_several_threads_submit_more_than_there_are_lanes(machine: Machine, pixels: ModelSpec) -> None:
    engine = machine.open(pixels, most=3, requests=2)
    machine.slow_down()
    wrong: list[int] = []

    def work(thread: int) -> None:
        for seed in range(thread * 100, thread * 100 + 30):
            batch = noise(1 + seed % 4, 8, 6, 3, seed=seed)
            if not np.array_equal(engine.submit(batch).result()["y"], as_planes(batch)):
                wrong.append(seed)

    run_threads([threading.Thread(target=work, args=(number,), daemon=True) for number in range(4)])
    assert wrong == []


def test_results_may_be_collected_on_another_thread(machine: Machine, pixels: ModelSpec) -> None:
    engine = machine.open(pixels, requests=3)
    flying: queue.SimpleQueue[Any] = queue.SimpleQueue()
    matched: list[bool] = []

    def collect() -> None:
        for seed in range(30):
            matched.append(np.array_equal(flying.get().result()["y"], as_planes(noise(1, 8, 6, 3, seed=seed))))

    def submit() -> None:
        for seed in range(30):
            flying.put(engine.submit(noise(1, 8, 6, 3, seed=seed)))

    run_threads([threading.Thread(target=each, daemon=True) for each in (collect, submit)])
    assert matched == [True] * 30


def test_a_request_whose_result_nobody_asks_for_leaves_the_others_alone(machine: Machine, pixels: ModelSpec) -> None:
    engine = machine.open(pixels, requests=2)
    engine.submit(noise(1, 8, 6, 3, seed=99))
    for seed in range(5):
        batch = noise(1, 8, 6, 3, seed=seed)
        np.testing.assert_array_equal(engine.submit(batch).result()["y"], as_planes(batch))


# ---- the end


def test_close_ends_every_submit_that_waits(machine: Machine, pixels: ModelSpec) -> None:
    engine = machine.open(pixels, requests=1)
    ended: list[str] = []
    waiting = threading.Barrier(3)

    def work() -> None:
        try:
            waiting.wait(10)
            while True:
                engine.submit(noise(1, 8, 6, 3))  # never collected
        except EngineError as error:
            ended.append(str(error))

    threads = [threading.Thread(target=work, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    waiting.wait(10)
    threads[0].join(0.1)
    engine.close()
    run_threads([], threads)
    assert ended == ["the engine is closed"] * 2


def test_what_was_in_flight_at_the_end_keeps_its_result(machine: Machine, pixels: ModelSpec) -> None:
    engine = machine.open(pixels, most=2, requests=2)
    machine.slow_down()
    batches = [noise(5, 8, 6, 3, seed=1), noise(1, 8, 6, 3, seed=2)]
    pending = [engine.submit(batch) for batch in batches]
    engine.close()
    for request, batch in zip(pending, batches, strict=True):
        np.testing.assert_array_equal(request.result()["y"], as_planes(batch))


def test_a_closed_engine_refuses_work_as_often_as_it_is_asked(machine: Machine, pixels: ModelSpec) -> None:
    engine = machine.open(pixels, requests=1)
    engine.close()
    for method in (engine.submit, engine.infer) * 3:
        with pytest.raises(EngineError, match="the engine is closed"):
            method(noise(1, 8, 6, 3))
    engine.close()


def test_close_may_be_called_from_several_other_threads(machine: Machine, pixels: ModelSpec) -> None:
    engine = machine.open(pixels)
    engine.submit(noise(1, 8, 6, 3))
    run_threads([threading.Thread(target=engine.close, daemon=True) for _ in range(3)])


def test_two_engines_share_a_gpu_and_end_one_after_the_other(machine: Machine, pixels: ModelSpec) -> None:
    first, second = machine.open(pixels), machine.open(pixels, most=2)
    batch = noise(2, 8, 6, 3)
    np.testing.assert_array_equal(first.infer(batch)["y"], as_planes(batch))
    first.close()
    np.testing.assert_array_equal(second.infer(batch)["y"], as_planes(batch))


def test_it_counts_as_an_engine_that_is_asked_whether_it_cuts_frames(
    machine: Machine, pixels: ModelSpec, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="engines.tensorrt"):
        engine = machine.open(pixels)
    assert isinstance(engine, CutsFrames)
    assert engine.cuts_frames is False
    assert [line for line in caplog.messages if "on the CPU" in line] == ["frames are cut on the CPU: not in this test"]
    with pytest.raises(EngineError, match="cannot cut frames"):
        engine.submit_frames([])


def run_threads(new: list[threading.Thread], started: list[threading.Thread] | None = None) -> None:
    """Start threads, and fail where one does not end."""
    for thread in new:
        thread.start()
    for thread in [*new, *(started or [])]:
        thread.join(timeout=30)
        assert not thread.is_alive(), "a thread hangs"
