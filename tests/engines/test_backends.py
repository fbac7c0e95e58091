"""Both backends keep the engine's contract: the same answers, the same refusals, the same end."""

from __future__ import annotations

import contextlib
import logging
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import engines.cuda.driver
from engines.cuda.driver import Driver
from engines.engine import Batch, Engine, EngineOptions, open_engine
from engines.errors import BackendUnavailable, EngineBuildError, EngineError, ModelError, UnsupportedModel
from engines.spec import ModelSpec
from engines.trust.reference import PlainFile
from tests.engines.onnx_files import identity, save, spec_of, value
from tests.engines.own_files import foreign_operator

NORMALISED: dict[str, Any] = {"colour": "rgb", "mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}
Opener = Callable[..., Engine]


@pytest.fixture(params=["openvino", "onnxruntime"])
def opened(request: pytest.FixtureRequest) -> Iterator[Opener]:
    """Opens fp32 engines of one backend, closed after the test."""
    engines: list[Engine] = []

    def make(spec: ModelSpec, **options: Any) -> Engine:
        engines.append(open_engine(spec, EngineOptions(request.param, "fp32", **options)))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


@pytest.fixture
def yolox(shared: Path) -> ModelSpec:
    return spec_of(shared / "models" / "detect" / "yolox_nano.onnx")


@pytest.fixture
def bus(shared: Path) -> Batch:
    image = cv2.imread(str(shared / "data" / "images" / "bus.jpg"))
    assert image is not None
    return np.asarray(cv2.resize(image, (416, 416)), np.uint8)[None]


def noise(*shape: int, seed: int = 0) -> Batch:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def as_planes(batch: Batch) -> Any:
    return batch.transpose(0, 3, 1, 2).astype(np.float32)


# ---- answers


def test_says_what_the_unchanged_file_says_of_a_real_picture(opened: Opener, yolox: ModelSpec, bus: Batch) -> None:
    ours, theirs = opened(yolox).infer(bus), PlainFile(yolox).infer(bus)
    assert list(ours) == list(theirs) == ["output"]
    np.testing.assert_allclose(ours["output"], theirs["output"], atol=1e-3)


@pytest.mark.parametrize(
    "fields", [{"colour": "bgr"}, {"colour": "rgb"}, NORMALISED, {**NORMALISED, "colour": "bgr"}], ids=str
)
@pytest.mark.parametrize("count", [1, 3])
def test_colour_order_mean_and_deviation_are_as_in_numpy(
    opened: Opener, fields: dict[str, Any], count: int, tmp_path: Path
) -> None:
    spec = spec_of(identity(tmp_path, ("n", 3, 8, 6)), **fields)
    batch = noise(count, 8, 6, 3)
    ordered = batch if spec.input.colour == "bgr" else batch[..., ::-1]
    expected = ((ordered.astype(float) - spec.input.mean) / spec.input.std).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(opened(spec).infer(batch)["y"], expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(PlainFile(spec).infer(batch)["y"], expected, rtol=1e-5, atol=1e-5)


def test_outputs_have_the_names_and_order_of_the_file(opened: Opener, shared: Path) -> None:
    spec = spec_of(shared / "models" / "face" / "yunet_s_320_320.onnx")
    batch = noise(1, 320, 320, 3)
    ours, theirs = opened(spec).infer(batch), PlainFile(spec).infer(batch)
    assert list(ours) == list(theirs)
    for name, array in theirs.items():
        np.testing.assert_allclose(ours[name], array, atol=1e-3)


def test_another_input_size_is_compiled(opened: Opener, yolox: ModelSpec) -> None:
    engine = opened(yolox, input_size=(320, 416))
    assert engine.input_size == (320, 416)
    assert engine.describe().input_shape == (1, 320, 416, 3)
    assert engine.infer(noise(1, 320, 416, 3))["output"].shape == (1, 2730, 85)


def test_several_pictures_run_one_by_one_where_the_batch_is_fixed(opened: Opener, yolox: ModelSpec) -> None:
    engine = opened(yolox)
    batch = noise(3, 416, 416, 3)
    together = engine.infer(batch)["output"]
    assert together.shape == (3, 3549, 85)
    for i in range(3):
        np.testing.assert_allclose(together[i], engine.infer(batch[i : i + 1])["output"][0], atol=1e-4)


def test_an_open_batch_takes_any_number_also_at_once(opened: Opener, tmp_path: Path) -> None:
    engine = opened(spec_of(identity(tmp_path, ("n", 3, 8, 6))))
    assert engine.describe().input_shape == (None, 8, 6, 3)
    for count in (4, 1, 2):
        batch = noise(count, 8, 6, 3, seed=count)
        np.testing.assert_array_equal(engine.submit(batch).result()["y"], as_planes(batch))


@pytest.mark.parametrize("size", ["n", 1], ids=["open batch", "fixed batch"])
def test_a_submitted_batch_may_be_overwritten_at_once(opened: Opener, size: str | int, tmp_path: Path) -> None:
    engine = opened(spec_of(identity(tmp_path, (size, 3, 256, 256))))
    batch = noise(1, 256, 256, 3)
    expected = as_planes(batch)
    pending = engine.submit(batch)
    batch[:] = 0
    np.testing.assert_array_equal(pending.result()["y"], expected)


def test_outputs_belong_to_the_caller(opened: Opener, tmp_path: Path) -> None:
    engine = opened(spec_of(identity(tmp_path)), requests=1)
    first = engine.infer(noise(1, 8, 6, 3, seed=1))["y"]
    kept = first.copy()
    engine.infer(noise(1, 8, 6, 3, seed=2))
    np.testing.assert_array_equal(first, kept)
    first[:] = 0


def test_a_picture_that_is_a_view_is_taken_as_it_looks(opened: Opener, tmp_path: Path) -> None:
    engine = opened(spec_of(identity(tmp_path)))
    mirrored = noise(1, 8, 6, 3)[:, :, ::-1]
    np.testing.assert_array_equal(engine.infer(mirrored)["y"], as_planes(mirrored))


# ---- refusals


@pytest.mark.parametrize(
    "batch",
    [
        noise(8, 6, 3),
        noise(1, 6, 8, 3),
        noise(1, 8, 6, 4),
        noise(1, 3, 8, 6),
        noise(0, 8, 6, 3),
        noise(1, 8, 6, 3).astype(np.float32),
        noise(1, 8, 6, 3).astype(np.int8),
    ],
    ids=lambda batch: f"{batch.dtype} {batch.shape}",
)
def test_a_wrong_batch_is_refused_with_both_shapes_and_nothing_is_lost(
    opened: Opener, batch: Batch, tmp_path: Path
) -> None:
    engine = opened(spec_of(identity(tmp_path)), requests=1)
    for method in (engine.infer, engine.submit):
        with pytest.raises(ValueError, match=r"takes uint8 \(1, 8, 6, 3\), not"):
            method(batch)
    engine.submit(noise(1, 8, 6, 3)).result()


def test_submit_refuses_several_pictures_where_the_batch_is_fixed(opened: Opener, tmp_path: Path) -> None:
    engine = opened(spec_of(identity(tmp_path)), requests=1)
    for _ in range(2):
        with pytest.raises(ValueError, match="takes 1 picture at a time, not 2"):
            engine.submit(noise(2, 8, 6, 3))
    engine.submit(noise(1, 8, 6, 3)).result()


def test_a_file_that_is_no_model_is_refused(opened: Opener, tmp_path: Path) -> None:
    (tmp_path / "torn.onnx").write_bytes(b"\x08\x08torn")
    with pytest.raises(ModelError, match=r"torn\.onnx is not an ONNX model"):
        opened(spec_of(tmp_path / "torn.onnx"))


def test_a_model_that_takes_no_pictures_is_refused(opened: Opener, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"takes no N x 3 .* picture; inputs seen: x \[1, 512\]"):
        opened(spec_of(identity(tmp_path, (1, 512))))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (EngineOptions("openvino", "int8"), "no int8 engine for openvino yet.*engines quantize .* --backend openvino"),
        (EngineOptions("onnxruntime", "int8"), "no int8 engine for onnxruntime yet"),
        (EngineOptions("openvino", "fp16"), "not fp16"),
        (EngineOptions("onnxruntime", "bf16"), "fp32.*not bf16"),
        (EngineOptions("openvino", device="gpu"), "not on device 'gpu'"),
        (EngineOptions("onnxruntime", device="cuda:0"), "not on device 'cuda:0'"),
        (EngineOptions("auto", "int8"), "no backend can run this.*: openvino: .*int8.*onnxruntime: .*int8"),
        (EngineOptions("frobnicate"), "unknown backend 'frobnicate'"),  # type: ignore[arg-type]
    ],
    ids=lambda each: str(each.backend) if isinstance(each, EngineOptions) else "",
)
def test_what_is_not_here_is_refused_and_never_replaced(options: EngineOptions, words: str, tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailable, match=words) as raised:
        open_engine(spec_of(identity(tmp_path)), options)
    assert raised.value.request_was_wrong


def test_a_reason_that_backends_share_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines.cuda.driver, "_probe_once", lambda: Driver("no NVIDIA driver is installed"))
    with pytest.raises(BackendUnavailable, match=r"here: tensorrt, tensorrt-rtx: no NVIDIA .*; openvino: ") as raised:
        open_engine(spec_of(identity(tmp_path)), EngineOptions("auto", "fp16"))
    assert str(raised.value).count("no NVIDIA driver is installed") == 1


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_a_backend_that_is_not_installed_says_how_to_install_it(
    backend: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, backend, None)
    with pytest.raises(BackendUnavailable, match=f"pip install {backend}"):
        open_engine(spec_of(identity(tmp_path)), EngineOptions(backend))


def test_auto_takes_openvino_and_logs_once_why_others_were_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="engines.engine"):
        engine = open_engine(spec_of(identity(tmp_path)))
    assert engine.describe().backend == "openvino"
    engine.close()
    lines = [record.getMessage() for record in caplog.records if "skipped" in record.getMessage()]
    assert [line.split(" skipped: ")[0] for line in lines] == ["tensorrt", "tensorrt-rtx"]
    assert all(len(line.split(" skipped: ")[1]) > 10 for line in lines)


def test_for_int8_the_command_that_makes_it_comes_before_the_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines.cuda.driver, "_probe_once", lambda: Driver("no NVIDIA driver is installed"))
    with pytest.raises(BackendUnavailable) as raised:
        open_engine(spec_of(identity(tmp_path)), EngineOptions("auto", "int8"))
    assert str(raised.value).startswith("no backend can run this model here: openvino: ")
    assert str(raised.value).endswith("; tensorrt, tensorrt-rtx: no NVIDIA GPU can be used")
    assert "frameloom engines quantize" in str(raised.value)


def narrow_index(folder: Path) -> ModelSpec:
    """A valid model that OpenVINO refuses: GatherElements by an index that is narrower than its data."""
    pixels, picked = value("x", (1, 3, 8, 6)), value("y", (1, 1, 2, 3))
    rows = numpy_helper.from_array(np.array([[[[0, 1, 2], [7, 6, 5]]]]), "rows")
    node = helper.make_node("GatherElements", ["x", "rows"], ["y"], axis=2)
    return spec_of(save(folder, [node], [pixels], [picked], [rows]))


def test_auto_goes_on_to_onnxruntime_where_openvino_refuses_a_model(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spec, batch = narrow_index(tmp_path), noise(1, 8, 6, 3)
    engine = open_engine(spec)
    assert engine.describe().backend == "onnxruntime"
    np.testing.assert_array_equal(engine.infer(batch)["y"], PlainFile(spec).infer(batch)["y"])
    engine.close()
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.startswith("openvino skipped, though it is here: openvino refused ")
    assert "try --backend" not in warning


def test_openvino_that_was_asked_for_names_the_backend_to_try(tmp_path: Path) -> None:
    with pytest.raises(EngineBuildError, match=r"not consistent.*; try --backend onnxruntime$"):
        open_engine(narrow_index(tmp_path), EngineOptions("openvino"))


def test_what_is_wrong_with_the_file_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spec = spec_of(foreign_operator(tmp_path / "foreign.onnx"))
    with pytest.raises(UnsupportedModel, match=r"^openvino cannot run .*EfficientNMS_TRT"):
        open_engine(spec)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_auto_goes_on_to_onnxruntime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    engine = open_engine(spec_of(identity(tmp_path)))
    assert engine.describe().backend == "onnxruntime"
    engine.close()


def test_the_spec_decides_auto_precision_and_a_request_wins(tmp_path: Path) -> None:
    encoder = replace(spec_of(identity(tmp_path)), precision="fp32")
    engine = open_engine(encoder, EngineOptions("openvino"))
    assert engine.describe().precision == "fp32"
    engine.close()
    engine = open_engine(encoder, EngineOptions("openvino", "bf16"))
    assert engine.describe().precision == "bf16"
    engine.close()


# ---- several requests in flight


def test_two_threads_submit_more_than_there_are_requests(opened: Opener, tmp_path: Path) -> None:
    engine = opened(spec_of(identity(tmp_path, (1, 3, 64, 64))), requests=2)
    wrong: list[int] = []

    def work(thread: int) -> None:
        for seed in range(thread * 100, thread * 100 + 40):
            batch = noise(1, 64, 64, 3, seed=seed)
            if not np.array_equal(engine.submit(batch).result()["y"], as_planes(batch)):
                wrong.append(seed)

    run_threads([threading.Thread(target=work, args=(number,), daemon=True) for number in range(2)])
    assert wrong == []


def test_results_may_be_collected_on_another_thread_in_order(opened: Opener, tmp_path: Path) -> None:
    engine = opened(spec_of(identity(tmp_path, (1, 3, 64, 64))), requests=3)
    flying: queue.SimpleQueue[Any] = queue.SimpleQueue()
    matched: list[bool] = []

    def collect() -> None:
        for seed in range(30):
            matched.append(np.array_equal(flying.get().result()["y"], as_planes(noise(1, 64, 64, 3, seed=seed))))

    def submit() -> None:
        for seed in range(30):
            flying.put(engine.submit(noise(1, 64, 64, 3, seed=seed)))

    run_threads([threading.Thread(target=each, daemon=True) for each in (collect, submit)])
    assert matched == [True] * 30


def test_close_ends_every_submit_that_waits(opened: Opener, tmp_path: Path) -> None:
    engine = opened(spec_of(identity(tmp_path)), requests=1)
    ended: list[BaseException] = []

    def work() -> None:
        try:
            while True:
                engine.submit(noise(1, 8, 6, 3))  # never collected
        except (EngineError, CancelledError) as error:
            ended.append(error)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    engine.close()
    run_threads([], threads)
    assert [str(error) for error in ended] == ["the engine is closed"] * 2


def test_a_closed_engine_refuses_work_as_often_as_it_is_asked(opened: Opener, tmp_path: Path) -> None:
    engine = opened(spec_of(identity(tmp_path)), requests=2)
    pending = engine.submit(noise(1, 8, 6, 3))
    engine.close()
    with contextlib.suppress(CancelledError):  # ONNX Runtime's, where it had not begun
        pending.result()
    for method in (engine.submit, engine.infer) * 3:
        with pytest.raises(EngineError, match="closed"):
            method(noise(1, 8, 6, 3))
    engine.close()


def run_threads(new: list[threading.Thread], started: list[threading.Thread] | None = None) -> None:
    """Start threads, and fail where one does not end."""
    for thread in new:
        thread.start()
    for thread in [*new, *(started or [])]:
        thread.join(timeout=20)
        assert not thread.is_alive(), "a thread hangs"


def test_a_model_that_fails_while_running_says_so_as_an_engine_error(opened: Opener, tmp_path: Path) -> None:
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [7, -1])
    node = helper.make_node("Reshape", ["x", "shape"], ["y"])
    path = save(tmp_path, [node], [value("x", ("n", 3, 8, 6))], [value("y", (7, None))], [shape])
    engine = opened(spec_of(path), requests=1)
    for _ in range(2):
        with pytest.raises(EngineError, match="failed"):
            engine.infer(noise(1, 8, 6, 3))


def test_an_interrupt_after_engines_came_and_went_reaches_python(shared: Path, tmp_path: Path) -> None:
    """Two OpenVINO cores, the older gone first, left a signal stack that was no longer there: a crash at the signal."""
    script = f"""
import gc, os, signal
from pathlib import Path
from engines.engine import EngineOptions, open_engine
from engines.spec import ModelSpec

spec = ModelSpec("yolox", Path({str(shared / "models/detect/yolox_nano.onnx")!r}), "detect")
older = open_engine(spec, EngineOptions("openvino", "fp32"))
newer = open_engine(spec, EngineOptions("openvino", "fp32"))
older.close()
del older
gc.collect()
newer.close()
del newer
gc.collect()
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("interrupted\n", 0)
