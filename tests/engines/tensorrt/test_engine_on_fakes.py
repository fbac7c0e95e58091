"""TensorRTEngine where the GPU does what it should not: lost, full, slow; and what it does with contexts and graphs."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import engines.cuda.driver
import engines.tensorrt.graphs
from engines.cache.kept_kernels import KeptKernels
from engines.cuda.driver import Driver
from engines.cuda.layer import Choice
from engines.engine import Candidates, EngineOptions, Outputs
from engines.errors import BackendUnavailable, DeviceLost, EngineError, EngineStale
from engines.spec import ModelSpec
from engines.tensorrt.engine import TensorRTEngine
from engines.tensorrt.flavour import TensorRTBackend, find_flavour
from engines.tensorrt.lane import Lane
from engines.trust.reference import PlainFile
from tests.engines.cuda.fake_driver import FakeGpu, exhaust, fake_gpu, fake_gpus  # noqa: F401
from tests.engines.cuda.fake_gpu import CAPTURE_INVALIDATED, OUT_OF_MEMORY, CudaError
from tests.engines.onnx_files import identity, spec_of, value
from tests.engines.tensorrt import fake_trt
from tests.engines.tensorrt.fake_trt import EngineValidity, fake_plan
from tests.engines.tensorrt.machine import FAKES, Fakes, as_planes, noise, on_fakes, same, without_letterbox


@pytest.fixture(params=FAKES, ids="-".join)
def fakes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fakes]:
    without_letterbox(monkeypatch)
    yield from on_fakes(request, *request.param)


@pytest.fixture
def graphs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fakes]:
    """A machine that can record graphs."""
    without_letterbox(monkeypatch)
    yield from on_fakes(request, "cuda-python", "tensorrt")


@pytest.fixture
def rtx(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fakes]:
    """A machine that compiles kernels when it runs, and tells whether runs can be recorded."""
    without_letterbox(monkeypatch)
    yield from on_fakes(request, "cuda-python", "tensorrt-rtx")


@pytest.fixture
def pixels(tmp_path: Path) -> ModelSpec:
    return spec_of(identity(tmp_path, ("n", 3, 8, 6)))


def check(engine: Any, count: int, seed: int = 0) -> None:
    batch = noise(count, 8, 6, 3, seed=seed)
    np.testing.assert_array_equal(engine.submit(batch).result()["y"], as_planes(batch))


# ---- what is copied


def test_only_the_rows_of_the_batch_are_copied_back(
    fakes: Fakes, pixels: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = fakes.open(pixels, most=4, cuda_graph=False)
    sizes = downloads(fakes, monkeypatch)
    check(engine, 1)
    check(engine, 3)
    assert sizes == [3 * 8 * 6 * 4, 3 * 3 * 8 * 6 * 4]


def test_only_candidates_are_copied_back_by_submit(fakes: Fakes, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_of(shared / "models" / "detect" / "yolox_nano.onnx")
    engine = fakes.open(spec, candidates=Candidates(classes=5, objectness=4, count=50), cuda_graph=False)
    sizes = downloads(fakes, monkeypatch)
    engine.submit(noise(1, 416, 416, 3)).result()
    assert sizes == [50 * 85 * 4, 50 * 8]
    engine.infer(noise(1, 416, 416, 3))
    assert sizes[2:] == [3549 * 85 * 4]


def test_a_plan_without_candidates_gives_whole_outputs_also_to_who_asks_for_candidates(
    fakes: Fakes, pixels: ModelSpec
) -> None:
    wanted = Candidates(classes=5)  # which a picture has none of: the network is made without
    engine = fakes.open(pixels, candidates=wanted)
    check(engine, 1)


def downloads(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the size of each download."""
    sizes: list[int] = []
    download = fakes.gpu.download

    def noted(target: int, address: int, size: int, handle: int) -> None:
        sizes.append(size)
        download(target, address, size, handle)

    monkeypatch.setattr(fakes.gpu, "download", noted)
    return sizes


def test_memory_is_taken_once_and_told(fakes: Fakes, pixels: ModelSpec, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="engines.tensorrt"):
        engine = fakes.open(pixels, most=4, cuda_graph=False)
    used = fakes.gpu.used
    for count in (1, 4, 9, 2):
        check(engine, count)
    assert fakes.gpu.used == used
    (line,) = [line for line in caplog.messages if "lanes" in line]
    assert line.startswith("made: 3 lanes, each with 0.0 MiB on the GPU and 0.0 MiB of page-locked memory, by ")


# ---- kernels that TensorRT-RTX compiles when it runs


class Drawer(KeptKernels):
    """Kernels that are kept in memory."""

    def __init__(self, content: bytes = b"") -> None:
        self.content = content
        self.writes = 0

    def read(self) -> bytes:
        return self.content

    def write(self, content: bytes) -> None:
        self.content = content
        self.writes += 1


def opened(machine: Fakes, spec: ModelSpec, kernels: KeptKernels, most: int = 4) -> TensorRTEngine:
    plan, cuda = machine.plan(spec, most), machine.cuda()
    engine = TensorRTEngine(spec, plan, machine.flavour, cuda, EngineOptions(), "fp32", "cache", kernels)
    machine.opened.append(engine)
    return engine


def test_kernels_are_kept_for_the_next_process_at_once_and_at_the_end(rtx: Fakes, pixels: ModelSpec) -> None:
    drawer = Drawer()
    engine = opened(rtx, pixels, drawer)
    assert sorted(rtx.knobs.compiled) == json.loads(drawer.content) == [1, 4]
    check(engine, 3)
    engine.close()
    assert json.loads(drawer.content) == [1, 3, 4]
    rtx.knobs.compiled.clear()
    check(opened(rtx, pixels, drawer), 3)
    assert rtx.knobs.compiled == []


def test_kernels_that_it_does_not_take_or_give_only_cost_time(
    rtx: Fakes, pixels: ModelSpec, caplog: pytest.LogCaptureFixture
) -> None:
    rtx.knobs.refuse_kernels = True
    drawer = Drawer(b"[1, 4]")
    with caplog.at_level(logging.INFO, logger="engines.tensorrt"):
        engine = opened(rtx, pixels, drawer)
    check(engine, 1)
    assert sorted(rtx.knobs.compiled) == [1, 4]
    assert drawer.writes == 0
    said = [record for record in caplog.records if "kernels" in record.getMessage()]
    assert [record.levelname for record in said] == ["INFO", "INFO"]
    assert "are compiled again" in said[0].getMessage()
    assert "cannot be kept" in said[1].getMessage()


def test_a_lost_device_is_not_asked_for_its_kernels(rtx: Fakes, pixels: ModelSpec) -> None:
    drawer = Drawer()
    engine = opened(rtx, pixels, drawer)
    pending = engine.submit(noise(3, 8, 6, 3))
    rtx.gpu.lose()
    with pytest.raises(DeviceLost):
        pending.result()
    engine.close()
    assert drawer.writes == 1


def test_kernels_that_cannot_be_kept_do_not_stop_an_engine_from_being_closed(
    rtx: Fakes, pixels: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawer = Drawer()
    engine = opened(rtx, pixels, drawer)

    def fail(content: bytes) -> None:
        raise MemoryError("no room for a copy")

    monkeypatch.setattr(drawer, "write", fail)
    with pytest.raises(MemoryError, match="no room for a copy"):
        engine.close()
    engine.close()
    assert_nothing_is_left(rtx)


def test_plain_tensorrt_has_no_kernels_to_keep(graphs: Fakes, pixels: ModelSpec) -> None:
    drawer = Drawer()
    check(opened(graphs, pixels, drawer), 2)
    assert drawer.writes == 0


# ---- who else uses CUDA on the same thread


@pytest.mark.parametrize("others", [0, 1], ids=["nothing current", "another GPU current"])
@pytest.mark.parametrize(("choice", "backend"), FAKES, ids="-".join)
def test_every_call_leaves_the_context_of_the_thread_as_it_was(
    fake_gpus: list[FakeGpu],  # noqa: F811
    choice: Choice,
    backend: TensorRTBackend,
    others: int,
    pixels: ModelSpec,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without_letterbox(monkeypatch)
    ours, theirs = fake_gpus
    fakes = Fakes(ours, choice, backend)
    torch = theirs.context if others else 0
    theirs.set_current(torch)

    def unchanged() -> bool:
        return (ours.current_context(), theirs.current_context()) == (0, torch)

    fakes.knobs.refuse = "Version tag does not match"
    with pytest.raises(EngineStale):
        fakes.open(pixels)
    assert unchanged()
    fakes.knobs.refuse = ""
    engine = fakes.open(pixels, most=2)
    assert unchanged()
    pending = engine.submit(noise(3, 8, 6, 3))
    assert unchanged()
    pending.result()
    assert unchanged()
    fakes.knobs.fail_run = "a test"
    for _ in range(2):
        with pytest.raises(EngineError, match="a test"):
            engine.infer(noise(1, 8, 6, 3))
        assert unchanged()
    engine.close()
    assert unchanged()
    assert fakes.knobs.wrong == []
    theirs.set_current(0)


# ---- waiting


def test_submit_waits_only_when_every_lane_is_taken(fakes: Fakes, pixels: ModelSpec) -> None:
    engine = fakes.open(pixels, requests=2)
    third: list[Any] = []
    waits = threading.Thread(target=lambda: third.append(engine.submit(noise(1, 8, 6, 3, seed=3))), daemon=True)
    with fakes.gpu.paused():
        first, second = (engine.submit(noise(1, 8, 6, 3, seed=seed)) for seed in (1, 2))
        waits.start()
        waits.join(0.1)
        assert waits.is_alive()
    np.testing.assert_array_equal(second.result()["y"], as_planes(noise(1, 8, 6, 3, seed=2)))
    ended(waits)
    np.testing.assert_array_equal(third[0].result()["y"], as_planes(noise(1, 8, 6, 3, seed=3)))
    np.testing.assert_array_equal(first.result()["y"], as_planes(noise(1, 8, 6, 3, seed=1)))


def test_close_waits_for_what_is_in_flight(fakes: Fakes, pixels: ModelSpec) -> None:
    engine = fakes.open(pixels, requests=2)
    with fakes.gpu.paused():
        pending = engine.submit(noise(1, 8, 6, 3))
        closing = threading.Thread(target=engine.close, daemon=True)
        closing.start()
        closing.join(0.1)
        assert closing.is_alive()
    ended(closing)
    np.testing.assert_array_equal(pending.result()["y"], as_planes(noise(1, 8, 6, 3)))


def test_a_result_whose_waiting_was_interrupted_is_never_empty(
    fakes: Fakes, pixels: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = fakes.open(pixels, requests=1)
    pending = engine.submit(noise(1, 8, 6, 3))

    def interrupted(lane: Lane) -> Outputs:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Lane, "collect", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pending.result()
    for _ in range(2):
        with pytest.raises(EngineError, match="was interrupted"):
            pending.result()
    check(engine, 1)


def ended(*threads: threading.Thread) -> None:
    for thread in threads:
        thread.join(15)
        assert not thread.is_alive(), "a thread hangs"


@pytest.mark.parametrize("goes_on", [True, False])
def test_an_interrupt_while_waiting_leaves_an_engine_that_works_and_can_be_closed(
    fakes: Fakes, pixels: ModelSpec, goes_on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = fakes.open(pixels, requests=1)
    fakes.gpu.delay_s = 0.05

    def interrupt(handle: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fakes.gpu, "synchronise", interrupt)
        pending = engine.submit(noise(1, 8, 6, 3, seed=1))
        with pytest.raises(KeyboardInterrupt):
            pending.result()
    if goes_on:
        check(engine, 1, seed=2)
    engine.close()


# ---- graphs


def test_work_is_recorded_once_and_then_only_launched(graphs: Fakes, pixels: ModelSpec) -> None:
    engine = graphs.open(pixels, requests=1)
    for seed in range(5):
        check(engine, 1, seed)
    assert [recorded for _, _, recorded in graphs.knobs.runs] == [False, True]


def test_each_number_of_pictures_and_each_kind_of_copy_has_a_graph(graphs: Fakes, shared: Path) -> None:
    spec = spec_of(shared / "models" / "detect" / "yolox_nano.onnx")
    engine = graphs.open(spec, most=2, candidates=Candidates(classes=5, objectness=4, count=20), requests=1)
    warm = len(graphs.knobs.runs)
    plain = PlainFile(spec)
    for seed in range(2):
        for count in (1, 2):
            batch = noise(count, 416, 416, 3, seed=seed)
            same(engine.infer(batch), plain.infer(batch), 1e-3)
            assert engine.submit(batch).result()["output"].any(axis=2).sum() == 20 * count
    assert [(count, recorded) for _, count, recorded in graphs.knobs.runs[warm:]] == [(1, True)] * 2 + [(2, True)] * 2


def test_the_context_that_was_not_used_for_longest_is_used_for_a_new_number(
    graphs: Fakes, pixels: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines.tensorrt.graphs, "KEPT", 2)
    engine = graphs.open(pixels, most=4, requests=1)
    for seed, count in enumerate([1, 4, 1, 2, 2, 1, 4, 4, 3, 1, 2, 4, 3, 4]):
        check(engine, count, seed)
    by_count = {count: {context for context, other, _ in graphs.knobs.runs if other == count} for count in (1, 2, 3, 4)}
    assert len(set.union(*by_count.values())) == 2
    fresh = [count for _, count, recorded in graphs.knobs.runs if not recorded]
    assert fresh == [1, 4, 2, 4, 3, 1, 2, 4, 3], "1 stayed when 2 came, for 4 had not been used for longer"


@pytest.mark.parametrize("where", ["the run", "the end of recording"])
def test_where_nothing_can_be_recorded_it_is_said_once_and_every_request_runs(
    graphs: Fakes,
    pixels: ModelSpec,
    where: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = graphs.open(pixels, most=2)
    if where == "the run":
        graphs.knobs.fail_capture = "operation not permitted when stream is capturing"
    else:
        end = graphs.gpu.end_capture

        def spoiled(handle: int) -> None:
            end(handle)
            raise CudaError(CAPTURE_INVALIDATED, "a test")

        monkeypatch.setattr(graphs.gpu, "end_capture", spoiled)
    for seed in range(6):
        check(engine, 1 + seed % 2, seed)
    reason = "not permitted when stream is capturing" if where == "the run" else "CAPTURE_INVALIDATED"
    (line,) = [line for line in caplog.messages if "CUDA graphs are off" in line]
    assert reason in line


def test_a_plan_that_says_that_it_cannot_be_recorded_is_not_and_that_is_said_once(
    rtx: Fakes, pixels: ModelSpec, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = rtx.open(pixels, most=2)
    rtx.knobs.capturable = False
    begun: list[int] = []
    monkeypatch.setattr(rtx.gpu, "begin_capture", begun.append)
    for seed in range(6):
        check(engine, 1 + seed % 2, seed)
    assert begun == []
    (line,) = [line for line in caplog.messages if "CUDA graphs are off" in line]
    assert "TensorRT cannot record runs of made" in line


@pytest.mark.parametrize("wanted", [True, False])
def test_graphs_are_used_where_they_are_wanted_and_can_be_had(fakes: Fakes, pixels: ModelSpec, wanted: bool) -> None:
    engine = fakes.open(pixels, most=2, cuda_graph=wanted)
    for seed in range(4):
        check(engine, 1 + seed % 2, seed)
    assert any(recorded for _, _, recorded in fakes.knobs.runs) is (wanted and fakes.has_graphs)


def test_no_memory_for_further_contexts_is_no_reason_to_stop(
    graphs: Fakes, pixels: ModelSpec, caplog: pytest.LogCaptureFixture
) -> None:
    engine = graphs.open(pixels, most=4, requests=1)
    graphs.knobs.contexts_left = 0
    for seed, count in enumerate([1, 4, 2, 3, 3, 2, 1]):
        check(engine, count, seed)
    (line,) = [line for line in caplog.messages if "CUDA graphs are off" in line]
    assert "OutOfMemory" in line


# ---- a lost device


CALLS = ["upload", "download", "synchronise", "launch_graph", "begin_capture", "end_capture", "enqueue"]


@pytest.mark.parametrize("call", CALLS)
def test_a_device_that_is_lost_ends_this_request_and_all_later_ones(
    graphs: Fakes, pixels: ModelSpec, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = graphs.open(pixels, requests=2)
    if call in ("enqueue", "upload", "download"):
        engine._lanes._idle[0]._contexts._recording.on = False
    lose_at(graphs, call, monkeypatch)
    for _ in range(4):
        with pytest.raises(DeviceLost, match="lost"):
            engine.submit(noise(1, 8, 6, 3)).result()
    engine.close()
    with pytest.raises(EngineError):
        engine.infer(noise(1, 8, 6, 3))


@pytest.mark.parametrize("found_by", ["submit", "result"])
def test_an_engine_whose_device_was_lost_is_not_used_again_even_if_a_call_works(
    fakes: Fakes, pixels: ModelSpec, found_by: str
) -> None:
    engine = fakes.open(pixels, requests=2)
    pending = engine.submit(noise(1, 8, 6, 3))
    fakes.gpu.lose()
    with pytest.raises(DeviceLost, match="CUDA_ERROR_ILLEGAL_ADDRESS"):
        engine.submit(noise(1, 8, 6, 3)) if found_by == "submit" else pending.result()
    fakes.gpu.lost = 0
    with pytest.raises(DeviceLost, match="CUDA_ERROR_ILLEGAL_ADDRESS"):
        engine.submit(noise(1, 8, 6, 3))
    fakes.gpu.lose()


def lose_at(fakes: Fakes, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lose the device at the next such call."""
    original = getattr(fakes.gpu, call)

    def lost(*arguments: Any) -> Any:
        fakes.gpu.lose()
        return original(*arguments)

    monkeypatch.setattr(fakes.gpu, call, lost)


def test_a_run_that_is_not_started_for_the_device_is_lost_says_that_it_is_lost(
    fakes: Fakes, pixels: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = fakes.open(pixels, requests=1, cuda_graph=False)
    upload = fakes.gpu.upload

    def upload_and_lose(*arguments: Any) -> None:
        upload(*arguments)
        fakes.gpu.lose()

    monkeypatch.setattr(fakes.gpu, "upload", upload_and_lose)
    with pytest.raises(DeviceLost):
        engine.submit(noise(1, 8, 6, 3))


def test_who_waits_for_a_lane_is_told_that_the_device_is_lost(fakes: Fakes, pixels: ModelSpec) -> None:
    engine = fakes.open(pixels, requests=1)
    told: list[BaseException] = []

    def wait() -> None:
        try:
            engine.submit(noise(1, 8, 6, 3))
        except DeviceLost as error:
            told.append(error)

    threads = [threading.Thread(target=wait, daemon=True) for _ in range(3)]
    with fakes.gpu.paused():
        pending = engine.submit(noise(1, 8, 6, 3))
        for thread in threads:
            thread.start()
        threads[0].join(0.1)
        fakes.gpu.lose()
    with pytest.raises(DeviceLost):
        pending.result()
    ended(*threads)
    assert len(told) == 3
    engine.close()


def test_close_alone_finds_a_lost_device_and_neither_hangs_nor_fails(fakes: Fakes, pixels: ModelSpec) -> None:
    engine = fakes.open(pixels, requests=2)
    pending = engine.submit(noise(3, 8, 6, 3))
    fakes.gpu.lose()
    engine.close()
    engine.close()
    with pytest.raises(DeviceLost):
        pending.result()


def test_a_run_that_fails_says_why_and_the_next_one_works(fakes: Fakes, pixels: ModelSpec) -> None:
    engine = fakes.open(pixels, requests=1, cuda_graph=False)
    for reason in ("out of luck", "still out of luck"):
        fakes.knobs.fail_run = reason
        with pytest.raises(EngineError, match=f"failed to run made: enqueueV3: Error Code 1: {reason}$") as raised:
            engine.submit(noise(1, 8, 6, 3))
        assert not isinstance(raised.value, DeviceLost)
    fakes.knobs.fail_run = ""
    check(engine, 1)


def test_a_part_that_fails_fails_its_request_and_not_the_next(fakes: Fakes, pixels: ModelSpec) -> None:
    engine = fakes.open(pixels, requests=1, cuda_graph=False)
    pending = engine.submit(noise(3, 8, 6, 3))
    fakes.knobs.fail_run = "out of luck"
    with pytest.raises(EngineError, match="out of luck"):
        pending.result()
    fakes.knobs.fail_run = ""
    check(engine, 3)


# ---- loading


def test_a_plan_that_is_refused_is_stale_in_tensorrts_words(fakes: Fakes, pixels: ModelSpec) -> None:
    fakes.knobs.refuse = "Version tag does not match. Note: Current Version: 243, Serialized Engine Version: 239"
    backend = fakes.flavour.backend
    with pytest.raises(EngineStale, match=rf"plan of made is not accepted by {backend} .* build it again: .*239"):
        fakes.open(pixels)
    assert_nothing_is_left(fakes)


@pytest.mark.parametrize(
    "words",
    [
        "Error Code 2: OutOfMemory (Requested size was 8589934592 bytes.)",
        "Error Code 1: Cuda Runtime (In allocate at x.cpp:7 (cudaError 2: out of memory))",
        "Requested amount of GPU memory (8589934592 bytes) could not be allocated.",
        "[engine.cpp] CUDA error 719 initializing the engine",
    ],
)
def test_a_plan_that_cannot_be_loaded_for_the_gpus_sake_is_not_stale(
    fakes: Fakes, pixels: ModelSpec, words: str
) -> None:
    """It would be built again, which takes minutes, and would end in the same."""
    fakes.knobs.refuse = words
    with pytest.raises(EngineError, match="cannot be loaded now, not enough GPU memory") as failure:
        fakes.open(pixels)
    assert not isinstance(failure.value, EngineStale)
    assert words in str(failure.value)
    assert_nothing_is_left(fakes)


def test_a_plan_that_cannot_be_judged_for_the_gpus_sake_is_not_stale(rtx: Fakes, pixels: ModelSpec) -> None:
    rtx.knobs.validity, rtx.knobs.invalid_for = EngineValidity.INVALID, "Cuda Runtime (cudaError 2: out of memory)"
    with pytest.raises(EngineError, match="cannot be loaded now") as failure:
        rtx.open(pixels)
    assert not isinstance(failure.value, EngineStale)
    assert_nothing_is_left(rtx)


def test_a_damaged_plan_is_stale(fakes: Fakes, pixels: ModelSpec) -> None:
    with pytest.raises(EngineStale, match="Magic tag"):
        fakes.open(pixels, plan=b"rubbish")
    assert_nothing_is_left(fakes)


@pytest.mark.parametrize(
    ("diagnostics", "words"), [(0, "not valid on this GPU, build"), (3, "VERSION_MISMATCH, UNSUPPORTED_CC")]
)
def test_a_plan_that_is_not_valid_here_is_stale_before_it_is_loaded(
    fakes: Fakes, pixels: ModelSpec, diagnostics: int, words: str
) -> None:
    if fakes.flavour.backend != "tensorrt-rtx":
        fakes.knobs.validity = EngineValidity.INVALID  # is not asked for
        fakes.open(pixels)
        return
    fakes.knobs.validity, fakes.knobs.diagnostics = EngineValidity.INVALID, diagnostics
    with pytest.raises(EngineStale, match=words):
        fakes.open(pixels)
    assert_nothing_is_left(fakes)


def test_a_plan_that_would_be_faster_if_built_here_is_used_and_that_is_said(
    request: pytest.FixtureRequest,
    pixels: ModelSpec,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without_letterbox(monkeypatch)
    for fakes in on_fakes(request, "cuda-python", "tensorrt-rtx"):
        fakes.knobs.validity = EngineValidity.SUBOPTIMAL
        with caplog.at_level(logging.INFO, logger="engines.tensorrt"):
            check(fakes.open(pixels), 1)
    assert "the plan of made would be faster if it were built for this GPU" in caplog.messages


FLOAT, UINT8, BF16 = TensorProto.FLOAT, TensorProto.UINT8, TensorProto.BFLOAT16
PICTURES = ("pictures", (1, 8, 6, 3), UINT8)


@pytest.mark.parametrize(
    ("inputs", "output", "words"),
    [
        ([("x", (1, 8, 6, 3), FLOAT)], ("Identity", FLOAT), r"takes float32 \(1, 8, 6, 3\), not uint8 pictures"),
        ([("x", (1, 3, 8, 6), UINT8)], ("Identity", UINT8), r"takes uint8 \(1, 3, 8, 6\), not uint8 pictures"),
        ([PICTURES, ("more", (1, 8, 6, 3), UINT8)], ("Max", UINT8), r"takes \['pictures', 'more'\], not pictures"),
        ([PICTURES], ("Cast", BF16), "BF16 values in 'y'"),
    ],
    ids=["floats", "planes", "two inputs", "bf16"],
)
def test_a_plan_that_this_project_would_not_build_is_stale(
    fakes: Fakes, pixels: ModelSpec, inputs: list[Any], output: tuple[str, int], words: str
) -> None:
    operator, kind = output
    more: dict[str, Any] = {"to": kind} if operator == "Cast" else {}
    node = helper.make_node(operator, [name for name, _, _ in inputs], ["y"], **more)
    graph = helper.make_graph([node], "made", [value(*each) for each in inputs], [value("y", inputs[0][1], kind)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    with pytest.raises(EngineStale, match=words):
        fakes.open(pixels, plan=fake_plan(model))
    assert_nothing_is_left(fakes)


def test_outputs_are_in_the_files_order_whatever_the_plans(fakes: Fakes, shared: Path) -> None:
    spec = spec_of(shared / "models" / "face" / "yunet_s_320_320.onnx")
    header, _, model = fakes.plan(spec).partition(b"\n")[2].partition(b"\n")
    network = onnx.load_from_string(model)
    names = [output.name for output in network.graph.output]
    assert header
    plan = fake_plan(network, order=[*reversed(names), "pictures"])
    batch = noise(1, 320, 320, 3)
    same(fakes.open(spec, plan=plan).infer(batch), PlainFile(spec).infer(batch), fakes.tolerance)


def test_a_plan_that_cannot_run_is_found_when_it_is_opened(fakes: Fakes, pixels: ModelSpec) -> None:
    fakes.knobs.fail_run = "no kernel image is available"
    with pytest.raises(EngineError, match="no kernel image"):
        fakes.open(pixels)
    assert_nothing_is_left(fakes)


def test_a_gpu_without_room_is_told_and_nothing_is_kept(fakes: Fakes, pixels: ModelSpec) -> None:
    fakes.open(pixels, most=8).close()
    for free in range(0, fakes.gpu.most_used, 1500):
        exhaust(fakes.gpu, free)
        with pytest.raises(EngineError, match=r"has no room for .* MiB"):
            fakes.open(pixels, most=8)
        assert_nothing_is_left(fakes)


def test_no_page_locked_memory_is_told_and_nothing_is_kept(
    fakes: Fakes, pixels: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, allocate = fakes.plan(pixels), fakes.gpu.allocate_pinned
    for enough in range(5):
        left = [enough]

        def allocate_some(size: int, left: list[int] = left) -> int:
            if not left[0]:
                raise CudaError(OUT_OF_MEMORY, "a test")
            left[0] -= 1
            return allocate(size)

        monkeypatch.setattr(fakes.gpu, "allocate_pinned", allocate_some)
        with pytest.raises(EngineError, match="page-locking"):
            fakes.open(pixels, plan=plan)
        assert_nothing_is_left(fakes)


@pytest.mark.parametrize("left", [0, 1, 2])
def test_no_memory_for_the_first_contexts_is_told_and_nothing_is_kept(
    fakes: Fakes, pixels: ModelSpec, left: int
) -> None:
    fakes.knobs.contexts_left = left
    with pytest.raises(EngineError, match=r"made no execution context for made: .*OutOfMemory"):
        fakes.open(pixels)
    assert_nothing_is_left(fakes)


@pytest.mark.parametrize("call", ["create_stream", "allocate", "allocate_pinned", "upload", "synchronise"])
def test_a_device_that_is_lost_while_it_is_opened_is_told(
    fakes: Fakes, pixels: ModelSpec, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_at(fakes, call, monkeypatch)
    with pytest.raises(DeviceLost):
        fakes.open(pixels)


def test_without_a_driver_tensorrt_is_not_touched(
    fakes: Fakes, pixels: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, cuda = fakes.plan(pixels), fakes.cuda()
    monkeypatch.setattr(fakes, "cuda", lambda: cuda)
    monkeypatch.setattr(engines.cuda.driver, "_probe_once", lambda: Driver("no NVIDIA driver is installed"))
    monkeypatch.setattr(fakes.flavour.trt, "Runtime", None)
    with pytest.raises(BackendUnavailable, match="no NVIDIA driver"):
        fakes.open(pixels, plan=plan)
    assert_nothing_is_left(fakes)


@pytest.mark.parametrize(
    ("fake", "real"),
    [
        (fake_trt.RtxRuntime, "Runtime"),
        (fake_trt.RtxEngine, "ICudaEngine"),
        (fake_trt.RtxContext, "IExecutionContext"),
        (fake_trt.RuntimeConfig, "IRuntimeConfig"),
        (fake_trt.RuntimeCache, "IRuntimeCache"),
        (fake_trt.DataType, "DataType"),
        (fake_trt.TensorIOMode, "TensorIOMode"),
        (fake_trt.ExecutionContextAllocationStrategy, "ExecutionContextAllocationStrategy"),
        (fake_trt.KernelSpecialization, "DynamicShapesKernelSpecializationStrategy"),
        (fake_trt.EngineValidity, "EngineValidity"),
        (fake_trt.EngineInvalidityDiagnostics, "EngineInvalidityDiagnostics"),
    ],
)
def test_what_the_fake_can_do_the_real_one_has(fake: type, real: str) -> None:
    module = find_flavour("tensorrt-rtx").trt
    used = {name for each in fake.__mro__[:-1] for name in vars(each) if not name.startswith("_")}
    used -= {"kind", "strategy", "cache", "name", "value"}
    assert used
    assert {name for name in used if not hasattr(getattr(module, real), name)} == set()


def assert_nothing_is_left(fakes: Fakes) -> None:
    assert fakes.gpu.problems() == []
    assert fakes.knobs.live == {"runtime": 0, "engine": 0, "context": 0}
    assert fakes.knobs.wrong == []
