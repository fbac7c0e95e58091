"""Whole frames given to TensorRTEngine: cut on the GPU as the pipeline's own letterbox cuts them on the CPU."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engines.engine import Batch, Uncut
from engines.errors import EngineError
from engines.spec import ModelSpec
from engines.tensorrt.engine import TensorRTEngine
from pipeline.infer.letterbox import Letterbox
from pipeline.picture import Picture, Planes
from tests.engines.cuda.fake_driver import exhaust, fake_gpu  # noqa: F401
from tests.engines.cuda.host_kernels import letterbox_kernels, needs_nvcc
from tests.engines.onnx_files import identity, spec_of
from tests.engines.tensorrt.machine import FAKES, Fakes, Machine, Real, noise, on_fakes

SIZE = (48, 64)
"""Height and width of the model's input."""
MACHINES = [pytest.param(each, id="-".join(each)) for each in FAKES[:2]]
MACHINES.append(pytest.param(None, marks=pytest.mark.gpu, id="real"))


@pytest.fixture(params=MACHINES)
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    if request.param is None:
        real = Real()
        yield real
        real.close()
        return
    needs_nvcc(request.param[0])
    for fakes in on_fakes(request, *request.param):
        fakes.gpu.kernels.update(letterbox_kernels())
        yield fakes


@pytest.fixture
def spec(tmp_path: Path) -> ModelSpec:
    """Returns the pixels that it is given."""
    return spec_of(identity(tmp_path, ("n", 3, *SIZE)))


def bgr(height: int, width: int, seed: int = 0) -> Picture:
    return Picture(bgr=noise(height, width, 3, seed=seed))


def yuv(height: int, width: int, seed: int = 0) -> Picture:
    return Picture(planes=Planes(noise(height * 3 // 2, width, seed=seed), "bt709"))


def uncut(picture: Picture, fit: str = "letterbox-centre") -> Uncut:
    return plan_of(picture, fit).uncut(picture, 114)


def plan_of(picture: Picture, fit: str = "letterbox-centre") -> Letterbox:
    return Letterbox.plan((picture.height, picture.width), SIZE, fit)  # type: ignore[arg-type]


def cut_on_cpu(picture: Picture, fit: str = "letterbox-centre") -> Batch:
    plan = plan_of(picture, fit)
    out = plan.blank(114)
    plan.cut(picture, out)
    return out


def check(engine: TensorRTEngine, pictures: list[Picture], fit: str = "letterbox-centre") -> None:
    """Hold what the engine cuts against what the CPU cuts, within 1/255."""
    ours = engine.submit_frames([uncut(picture, fit) for picture in pictures]).result()["y"]
    theirs = np.stack([cut_on_cpu(picture, fit) for picture in pictures]).transpose(0, 3, 1, 2).astype(np.float32)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= 1


def test_frames_are_cut_as_on_the_cpu_whatever_their_size_and_kind(machine: Machine, spec: ModelSpec) -> None:
    engine = machine.open(spec, most=2, requests=2)
    assert engine.cuts_frames
    for fit in ("letterbox-centre", "letterbox-topleft", "stretch"):
        for seed, (height, width) in enumerate([(96, 128), (20, 30), (334, 100), (62, 250), (334, 102)]):
            check(engine, [yuv(height, width, seed)], fit)
            check(engine, [bgr(height + 1, width - 3, seed)], fit)


def test_frames_of_several_kinds_go_into_one_request_also_in_parts(machine: Machine, spec: ModelSpec) -> None:
    engine = machine.open(spec, most=2, requests=1)
    check(engine, [yuv(96, 128, 1), bgr(51, 33, 2)])
    check(engine, [bgr(96, 128, 1), yuv(96, 128, 2), yuv(20, 30, 3), bgr(301, 7, 4), bgr(12, 18, 5)])


def test_frames_may_be_overwritten_at_once_and_their_rows_may_be_padded(machine: Machine, spec: ModelSpec) -> None:
    engine = machine.open(spec, most=2, requests=1)
    machine.slow_down()
    whole = noise(3, 80, 100, 3)
    frames, expected = [], []
    for image in whole:
        view = image[:70, 5:95]
        expected.append(cut_on_cpu(Picture(bgr=view.copy())).transpose(2, 0, 1).astype(np.float32))
        frames.append(plan_of(Picture(bgr=view)).uncut(Picture(bgr=view), 114))
    pending = engine.submit_frames(frames)
    whole[:] = 0
    assert np.abs(pending.result()["y"] - np.stack(expected)).max() <= 1


def test_pictures_and_frames_alternate_in_flight(machine: Machine, spec: ModelSpec) -> None:
    engine = machine.open(spec, most=2, requests=3)
    machine.slow_down()
    for seed in range(4):
        picture, batch = yuv(96, 128, seed), noise(2, *SIZE, 3, seed=seed)
        flying = [engine.submit_frames([uncut(picture)]), engine.submit(batch), engine.submit_frames([uncut(picture)])]
        np.testing.assert_array_equal(flying[1].result()["y"], batch.transpose(0, 3, 1, 2))
        for pending in (flying[2], flying[0]):
            expected = cut_on_cpu(picture).transpose(2, 0, 1).astype(np.float32)
            assert np.abs(pending.result()["y"][0] - expected).max() <= 1


def test_a_wrong_frame_is_refused_and_nothing_is_lost(machine: Machine, spec: ModelSpec) -> None:
    engine = machine.open(spec, requests=1)
    y, half, image = noise(20, 30), noise(10, 15), noise(20, 30, 3)
    matrix = np.zeros((3, 4), np.float32)
    wrong = [
        (Uncut((image, image), SIZE, (0, 0), 114), r"uint8 \(20, 30, 3\), uint8 \(20, 30, 3\)"),
        (Uncut((image.astype(np.float32),), SIZE, (0, 0), 114), "float32"),
        (Uncut((y, half, half), SIZE, (0, 0), 114), "with a matrix"),
        (Uncut((y, half, y), SIZE, (0, 0), 114, matrix), r"uint8 \(20, 30\), uint8 \(10, 15\), uint8 \(20, 30\)"),
        (Uncut((image,), SIZE, (0, 0), 114, matrix), "with a matrix"),
        (Uncut((image[:0],), SIZE, (0, 0), 114), r"\(0, 30, 3\)"),
        (Uncut((image,), SIZE, (1, 0), 114), r"\(48, 64\) at \(1, 0\) does not fit an input of \(48, 64\)"),
        (Uncut((image,), (0, 64), (0, 0), 114), "does not fit"),
        (Uncut((image,), SIZE, (0, -1), 114), "does not fit"),
    ]
    for frame, words in wrong:
        with pytest.raises(ValueError, match=words):
            engine.submit_frames([uncut(bgr(20, 30)), frame])
    with pytest.raises(ValueError, match="at least one"):
        engine.submit_frames([])
    check(engine, [yuv(20, 30)])


@pytest.fixture
def fakes(request: pytest.FixtureRequest) -> Iterator[Fakes]:
    for each in on_fakes(request, "cuda-python", "tensorrt"):
        each.gpu.kernels.update(letterbox_kernels())
        yield each


def test_what_follows_the_letterbox_is_a_graph(fakes: Fakes, spec: ModelSpec) -> None:
    engine = fakes.open(spec, requests=1)
    for seed in range(4):
        check(engine, [bgr(50 + seed * 10, 60, seed)])
    assert [recorded for _, _, recorded in fakes.knobs.runs] == [False, True]
    assert [name for name, _, _ in fakes.gpu.launched] == ["letterbox_bgr"] * 4


def test_memory_for_frames_grows_with_the_largest_and_is_not_taken_again(fakes: Fakes, spec: ModelSpec) -> None:
    engine = fakes.open(spec, requests=1)
    used = []
    for height in (20, 60, 40, 60, 20):
        check(engine, [bgr(height, 30)])
        used.append(fakes.gpu.used)
    assert used[0] < used[1] == used[2] == used[3] == used[4]


def test_a_frame_that_there_is_no_room_for_fails_and_the_next_one_fits(fakes: Fakes, spec: ModelSpec) -> None:
    engine = fakes.open(spec, requests=1)
    check(engine, [bgr(20, 30)])
    exhaust(fakes.gpu, 4000)
    with pytest.raises(EngineError, match="no room"):
        engine.submit_frames([uncut(bgr(300, 300))])
    check(engine, [bgr(20, 30)])


def test_memory_for_frames_that_are_in_flight_after_an_interrupt_is_not_given_back(
    fakes: Fakes, spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = fakes.open(spec, requests=1)
    fakes.gpu.delay_s = 0.05

    def interrupt(handle: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fakes.gpu, "synchronise", interrupt)
        pending = engine.submit_frames([uncut(bgr(20, 30))])
        with pytest.raises(KeyboardInterrupt):
            pending.result()
    check(engine, [bgr(60, 30)])


def test_a_gpu_for_which_no_kernel_compiles_is_given_pictures(
    request: pytest.FixtureRequest,
    spec: ModelSpec,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("engines.cuda.letterbox.kernel_source", lambda name: "no C++ at all")
    with caplog.at_level(logging.INFO, logger="engines.tensorrt"):
        for fakes in on_fakes(request, "cuda-python", "tensorrt"):
            engine = fakes.open(spec)
            assert not engine.cuts_frames
            engine.infer(noise(1, *SIZE, 3))
    (line,) = [line for line in caplog.messages if "cut on the CPU" in line]
    assert len(line) > 60, "the compiler's own words belong into it"
