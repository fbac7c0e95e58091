"""The gate: real models in fp16 pass it, and engines that are broken in the ways that happen do not."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from engines.engine import Batch, EngineInfo, EngineOptions, Outputs, Uncut, open_engine
from engines.errors import ModelError
from engines.spec import InputSpec, ModelSpec
from engines.tensorrt.network import network_of
from engines.tensorrt.recipe import Recipe
from engines.trust.gate import RUNS, examine, examine_frames
from engines.trust.parity import FP16, FP32, Bounds, Decisions, ParityReport
from engines.trust.pictures import FACES, FOLDER, cut_for
from engines.zoo import Zoo
from pipeline.infer.decisions import judge_of
from tests.engines.cuda.fake_driver import fake_gpu  # noqa: F401
from tests.engines.cuda.host_kernels import letterbox_kernels
from tests.engines.tensorrt.machine import Fakes, on_fakes

MODELS: dict[str, tuple[str, tuple[int, int] | None, str]] = {
    "yolox-nano": ("yolox-nano", None, "detect"),
    "centerface": ("centerface", (256, 320), "face-detect"),
    "yunet": ("yunet", (256, 320), "face-detect"),
    "mobilefacenet": ("mobilefacenet", None, "face-encode"),
    "dlib-resnet": ("dlib-resnet", None, "face-encode"),
    "minifasnet-v2": ("minifasnet-v2", None, "liveness"),
    "candy": ("style/tnet_candy.onnx", (96, 128), "style"),
}


class OnnxEngine:
    """A network for TensorRT, run by ONNX Runtime; what a test breaks, it breaks here."""

    def __init__(
        self,
        model: onnx.ModelProto,
        twist: Callable[[Batch, Outputs], Outputs] | None = None,
        precision: str = "fp16",
        requests: int = 1,
    ) -> None:
        import onnxruntime as ort

        quiet = ort.SessionOptions()
        quiet.log_severity_level = 3
        self._session = ort.InferenceSession(model.SerializeToString(), quiet, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0]
        self._names = [output.name for output in self._session.get_outputs()]
        self._twist = twist
        self.batches: list[int] = []
        self.requests, self.cuts_frames, self._precision = requests, False, precision
        height, width = self._input.shape[1:3]
        self.input_size: tuple[int, int] = (height, width)

    def infer(self, batch: Batch) -> Outputs:
        self.batches.append(len(batch))
        pieces = [batch] if not isinstance(self._input.shape[0], int) else np.split(batch, len(batch))
        each = [self._session.run(self._names, {self._input.name: np.ascontiguousarray(piece)}) for piece in pieces]
        outputs = {name: np.concatenate(values) for name, *values in zip(self._names, *each, strict=True)}
        return outputs if self._twist is None else self._twist(batch, outputs)

    def describe(self) -> EngineInfo:
        height, width = self.input_size
        batch = None if not isinstance(self._input.shape[0], int) else 1
        return EngineInfo("any", "made", "1", "here", self._precision, 1, self.requests, (batch, height, width, 3), "")


class Cuts(OnnxEngine):
    """One that cuts frames itself, by `cut`, whose submit is its infer."""

    def __init__(self, model: onnx.ModelProto, cut: Callable[[Uncut, tuple[int, int]], Batch]) -> None:
        super().__init__(model)
        self.cuts_frames, self._cut = True, cut

    def submit(self, batch: Batch) -> Any:
        outputs = self.infer(batch)
        return type("Pending", (), {"result": lambda _: outputs})()

    def submit_frames(self, frames: Sequence[Uncut]) -> Any:
        return self.submit(np.stack([self._cut(frame, self.input_size) for frame in frames]))


@pytest.fixture(scope="module")
def models(face_models: dict[str, str]) -> dict[str, tuple[ModelSpec, tuple[int, int] | None]]:
    """Looked for once: the folders that they are in are other processes', too."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("FRAMELOOM_MIRROR", face_models["FRAMELOOM_MIRROR"])
        return {name: found(name) for name in MODELS}


@pytest.fixture
def model(request: pytest.FixtureRequest, models: dict[str, Any]) -> Any:
    """A spec and the size of its input."""
    return models[request.param]


all_models = pytest.mark.parametrize("model", MODELS, indirect=True)
some_models = pytest.mark.parametrize("model", ["yolox-nano", "yunet", "mobilefacenet", "candy"], indirect=True)
no_style = pytest.mark.parametrize("model", ["yolox-nano", "yunet", "mobilefacenet"], indirect=True)
"""Instance normalisation takes a wrong scale out again."""


def found(name: str) -> tuple[ModelSpec, tuple[int, int] | None]:
    place, size, task = MODELS[name]
    if "/" not in place:
        return Zoo.load().spec(place), size
    path = Path(os.environ["FRAMELOOM_MIRROR"].split(os.pathsep)[0]) / place
    return ModelSpec(name, path, task, InputSpec(fit="stretch")), size


def half(spec: ModelSpec, size: tuple[int, int] | None, **twist: Any) -> OnnxEngine:
    return OnnxEngine(network_of(spec, Recipe("fp16", size, batch=8)), **twist)


def gate(spec: ModelSpec, engine: Any) -> ParityReport:
    return examine(spec, engine, judge_of(spec))


@all_models
def test_models_in_fp16_pass(model: tuple[ModelSpec, Any]) -> None:
    spec, size = model
    engine = half(spec, size)
    report = gate(spec, engine)
    assert report.failures(FP16) == []
    once = [1, 1, 3, report.pictures - 5]
    assert once[-1] > 1
    assert engine.batches == once * RUNS
    if judge_of(spec) is not None:
        assert report.decisions is not None
        assert report.decisions.reference >= 10
    assert (report.encodings is not None) == (spec.task == "face-encode")


@all_models
def test_models_in_fp32_pass_the_bounds_of_fp32(model: tuple[ModelSpec, Any]) -> None:
    spec, size = model
    engine = OnnxEngine(network_of(spec, Recipe("fp32", size, batch=8)), precision="fp32")
    assert gate(spec, engine).failures(FP32) == []


@some_models
def test_swapped_colours_are_refused(model: tuple[ModelSpec, Any]) -> None:
    spec, size = model
    other: Any = "bgr" if spec.input.colour == "rgb" else "rgb"
    wrong = half(replace(spec, input=replace(spec.input, colour=other)), size)
    assert gate(spec, wrong).failures(FP16) != []


@no_style
def test_another_scale_of_the_pixels_is_refused(model: tuple[ModelSpec, Any]) -> None:
    spec, size = model
    red, green, blue = spec.input.std
    deviations = red * 2, green * 2, blue * 2
    wrong = half(replace(spec, input=replace(spec.input, std=deviations)), size)
    assert gate(spec, wrong).failures(FP16) != []


@some_models
def test_rows_of_a_batch_that_change_places_are_refused_and_told(model: tuple[ModelSpec, Any]) -> None:
    spec, size = model
    engine = half(spec, size, twist=lambda batch, outputs: {name: np.roll(x, 1, 0) for name, x in outputs.items()})
    report = gate(spec, engine)
    assert report.mixed == report.pictures - 2  # two were alone
    assert f"got another's outputs is {report.mixed}, allowed 0" in "; ".join(report.failures(FP16))


@some_models
def test_two_rows_of_the_largest_batch_that_change_places_are_refused(model: tuple[ModelSpec, Any]) -> None:
    spec, size = model

    def swap(batch: Batch, outputs: Outputs) -> Outputs:
        if len(batch) < 4:
            return outputs
        order = [1, 0, *range(2, len(batch))]
        return {name: values[order] for name, values in outputs.items()}

    report = gate(spec, half(spec, size, twist=swap))
    assert report.mixed == 2
    assert report.failures(FP16) != []


@some_models
def test_shifted_weights_are_refused(model: tuple[ModelSpec, Any]) -> None:
    """As by a plan of another training of the same network: one layer's filters are off by one."""
    spec, size = model
    broken = network_of(spec, Recipe("fp32", size, batch=8))
    filters = [tensor for tensor in broken.graph.initializer if len(tensor.dims) == 4 and tensor.dims[0] > 1]
    middle = filters[len(filters) // 2]
    shifted = np.ascontiguousarray(np.roll(numpy_helper.to_array(middle), 1, axis=0))
    middle.CopyFrom(numpy_helper.from_array(shifted, middle.name))
    assert gate(spec, OnnxEngine(broken)).failures(FP16) != []


@some_models
def test_what_is_not_a_number_is_refused(model: tuple[ModelSpec, Any]) -> None:
    spec, size = model

    def overflow(batch: Batch, outputs: Outputs) -> Outputs:
        first = next(iter(outputs))
        values = outputs[first].copy()
        values.flat[0] = np.nan
        return {**outputs, first: values}

    assert gate(spec, half(spec, size, twist=overflow)).failures(FP16) != []


@pytest.mark.parametrize("model", ["yolox-nano"], indirect=True)
def test_boxes_are_read_from_what_a_run_sees(model: tuple[ModelSpec, Any]) -> None:
    """Whose `submit` loses the best rows, says the right things in `infer` and finds nothing in a run."""
    spec, _ = model
    engine = open_engine(spec, EngineOptions("onnxruntime", "fp32"))
    assert gate(spec, engine).failures(FP32) == []

    class Loses:
        input_size, requests, cuts_frames = engine.input_size, 1, False
        infer, describe = engine.infer, engine.describe

        def submit(self, batch: Batch) -> Any:
            values = engine.submit(batch).result()
            return type("Pending", (), {"result": lambda _: {key: each * 0 for key, each in values.items()}})()

    report = gate(spec, Loses())
    engine.close()
    assert all(drift.max_error < 1e-3 for drift in report.tensors.values())
    assert any("boxes without counterpart" in failure for failure in report.failures(FP16))


@pytest.mark.parametrize("requests", [1, 3])
@pytest.mark.parametrize("model", ["mobilefacenet"], indirect=True)
@pytest.mark.parametrize("size", [1, 3, -1], ids=["one", "few", "all others"])
def test_what_is_wrong_from_the_second_run_of_a_batch_on_is_refused(
    model: tuple[ModelSpec, Any], size: int, requests: int
) -> None:
    """As by a CUDA graph, which is recorded for each lane and each number of pictures when that has run once."""
    spec, own = model
    runs: dict[int, int] = {}

    def stale(batch: Batch, outputs: Outputs) -> Outputs:
        count = len(batch)
        runs[count] = runs.get(count, 0) + 1
        is_meant = count == size or (size < 0 and count > 3)
        ran = runs[count] - 1 if count > 1 else (runs[count] - 1) // 2
        return {name: each + 1.0 * (is_meant and ran >= requests) for name, each in outputs.items()}

    assert gate(spec, half(spec, own, twist=stale, requests=requests)).failures(FP16) != []


@pytest.mark.parametrize("model", ["yolox-nano", "mobilefacenet"], indirect=True)
def test_a_detector_that_finds_no_box_at_all_is_told(
    model: tuple[ModelSpec, Any], caplog: pytest.LogCaptureFixture
) -> None:
    spec, size = model
    nothing = Decisions(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int32))
    looks_for_boxes = spec.task == "detect"
    with caplog.at_level(logging.INFO):
        engine: Any = half(spec, size)
        report = examine(spec, engine, (lambda _: lambda outputs: nothing) if looks_for_boxes else None)
    assert report.no_box_found == looks_for_boxes
    assert report.as_dict()["no_box_found"] == looks_for_boxes
    assert ("no box was found: only values were compared" in caplog.text) == looks_for_boxes
    caplog.clear()
    assert not gate(spec, half(spec, size)).no_box_found
    assert "no box" not in caplog.text


# ---- frames that the engine cuts


def cut(
    frame: Uncut,
    size: tuple[int, int],
    resize: Callable[[Batch, tuple[int, int]], Any] = lambda plane, content: cv2.resize(plane, content[::-1]),
) -> Batch:
    """Cut as the kernels should."""
    planes = [resize(plane, frame.content) for plane in frame.planes]
    bgr = planes[0] if frame.to_bgr is None else cv2.transform(cv2.merge(planes), frame.to_bgr)
    laid = np.full((*size, 3), frame.pad, np.uint8)
    (top, left), (height, width) = frame.offset, frame.content
    laid[top : top + height, left : left + width] = bgr
    return laid


def rounded_otherwise(frame: Uncut, size: tuple[int, int]) -> Batch:
    noise = np.random.default_rng(1).integers(-1, 2, (*size, 3))
    return np.asarray((cut(frame, size) + noise).clip(0, 255), np.uint8)


def beside(plane: Batch, content: tuple[int, int]) -> Any:
    """Resize with pixels that are sampled at their corner, not their centre."""
    rows, columns = (np.arange(n) * (side / n) for side, n in zip(plane.shape, content, strict=False))
    places = np.meshgrid(columns.astype(np.float32), rows.astype(np.float32))
    return cv2.remap(plane, places[0], places[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def swapped(frame: Uncut, size: tuple[int, int]) -> Batch:
    if frame.to_bgr is None:
        return cut(frame, size)[..., ::-1]
    return cut(replace(frame, planes=(frame.planes[0], frame.planes[2], frame.planes[1])), size)


WRONG: dict[str, Callable[[Uncut, tuple[int, int]], Batch]] = {
    "half a pixel beside": lambda frame, size: cut(frame, size, beside),
    "the nearest pixel": lambda frame, size: cut(
        frame, size, lambda plane, content: cv2.resize(plane, content[::-1], interpolation=cv2.INTER_NEAREST)
    ),
    "colours or chroma swapped": swapped,
    "a pixel to the right": lambda frame, size: np.roll(cut(frame, size), 1, 1),
}
finders = pytest.mark.parametrize("model", ["yolox-nano", "centerface", "yunet"], indirect=True)


def of_frames(spec: ModelSpec, size: tuple[int, int] | None, how: Any) -> dict[str, tuple[ParityReport, Bounds]]:
    """Return what is found, and what is allowed, by layout."""
    engine: Any = cuts(spec, size, how)
    judge = judge_of(spec)
    return examine_frames(spec, engine, judge(engine.input_size) if judge else None)


def cuts(spec: ModelSpec, size: tuple[int, int] | None, how: Callable[[Uncut, tuple[int, int]], Batch]) -> Cuts:
    return Cuts(network_of(spec, Recipe("fp16", size, batch=8)), how)


@finders
@pytest.mark.parametrize("how", [cut, rounded_otherwise])
def test_frames_that_are_cut_as_by_the_cpu_pass_also_where_each_value_is_rounded_otherwise(
    model: tuple[ModelSpec, Any], how: Any
) -> None:
    spec, size = model
    reports = of_frames(spec, size, how)
    assert set(reports) == {"BGR", "I420"}
    for found, allowed in reports.values():
        assert found.failures(allowed) == []
        assert found.pictures == 11
        assert (found.strain(FP32) > 0) == (how is rounded_otherwise)


@pytest.mark.parametrize("model", ["yolox-nano", "yunet"], indirect=True)
@pytest.mark.parametrize("wrong", WRONG)
def test_frames_that_are_cut_wrongly_are_refused(model: tuple[ModelSpec, Any], wrong: str) -> None:
    spec, size = model
    for found, allowed in of_frames(spec, size, WRONG[wrong]).values():
        assert found.failures(allowed) != []


@pytest.mark.parametrize("model", ["yunet"], indirect=True)
def test_an_engine_that_cuts_frames_wrongly_is_refused_and_the_layout_is_said(model: tuple[ModelSpec, Any]) -> None:
    spec, size = model
    for layout, planes in (("BGR", 1), ("I420", 3)):
        report = gate(
            spec, cuts(spec, size, lambda *each, n=planes: (swapped if len(each[0].planes) == n else cut)(*each))
        )
        assert set(report.frames) == set(report.as_dict()["frames"]) == {"BGR", "I420"}
        failures = report.failures(FP16)
        assert failures != []
        assert all(f", for {layout} frames that the GPU cuts, is " in failure for failure in failures)


@pytest.mark.parametrize("model", ["yolox-nano"], indirect=True)
def test_another_padding_and_a_frame_that_is_missing_are_refused(model: tuple[ModelSpec, Any]) -> None:
    spec, size = model
    black = np.zeros((416, 416, 3), np.uint8)
    seen: list[Uncut] = []

    def loses_the_last(frame: Uncut, size: tuple[int, int]) -> Batch:
        seen.append(frame)
        return black if len(seen) % 11 == 0 else cut(frame, size)

    wrong: list[Any] = [loses_the_last, lambda frame, size: cut(replace(frame, pad=0), size)]
    for how in wrong:
        for found, allowed in of_frames(spec, size, how).values():
            assert found.failures(allowed) != []


@pytest.mark.parametrize("model", ["mobilefacenet", "minifasnet-v2"], indirect=True)
def test_models_of_cut_out_faces_are_given_no_frames(model: tuple[ModelSpec, Any]) -> None:
    spec, size = model
    assert of_frames(spec, size, cut) == {}


@pytest.fixture
def fakes(request: pytest.FixtureRequest) -> Iterator[Fakes]:
    for each in on_fakes(request, "cuda-python", "tensorrt"):
        each.gpu.kernels.update(letterbox_kernels())
        yield each


@pytest.mark.parametrize("model", ["yunet"], indirect=True)
def test_the_projects_own_kernels_pass_and_graphs_of_all_batches_are_compared(
    fakes: Fakes, model: tuple[ModelSpec, Any]
) -> None:
    spec, _ = model
    engine = fakes.open(spec, most=8, requests=3)
    report = gate(spec, engine)
    assert report.failures(FP32) == []
    assert set(report.frames) == {"BGR", "I420"}
    recorded = [count for _, count, recorded in fakes.knobs.runs if recorded]
    assert {1, 3, 8} <= set(recorded)


# ---- the pictures


def test_the_pictures_are_small_real_and_come_with_the_package() -> None:
    files = sorted(FOLDER.glob("*.jpg"))
    assert 8 <= len(files) <= 12
    assert sum(file.stat().st_size for file in files) <= 250_000
    for file in files:
        image = cv2.imread(str(file))
        assert image is not None
        assert image.std() > 20
    assert set(FACES) <= {file.name for file in files}
    assert "BSD" in (FOLDER / "README.md").read_text()


@pytest.mark.parametrize("fit", ["letterbox-topleft", "letterbox-centre", "stretch"])
@pytest.mark.parametrize("size", [(64, 96), (96, 64)], ids=str)
def test_they_are_laid_into_the_input_as_a_run_does(fit: Any, size: tuple[int, int]) -> None:
    from pipeline.infer.letterbox import Letterbox
    from pipeline.picture import Picture

    spec = ModelSpec("any", Path("any.onnx"), "segment", InputSpec(fit=fit, pad=7))
    cut = cut_for(spec, size)
    street = np.asarray(cv2.imread(str(sorted(FOLDER.glob("face-*.jpg"))[0])), np.uint8)
    plan = Letterbox.plan(street.shape[:2], size, fit)
    expected = plan.blank(7)
    plan.cut(Picture(bgr=street), expected)
    np.testing.assert_array_equal(cut[0], expected)


@pytest.mark.parametrize("task", ["detect", "face-detect", "segment", "style", "face-encode", "liveness"])
def test_no_two_pictures_that_a_model_is_shown_are_alike(task: str) -> None:
    crop = {"face-encode": 1.2, "liveness": 2.7}.get(task)
    cut = cut_for(ModelSpec("any", Path("any.onnx"), task, InputSpec(crop=crop)), (112, 112)).astype(int)
    assert cut.shape[0] >= 7
    for i in range(len(cut)):
        for j in range(i):
            assert np.abs(cut[i] - cut[j]).mean() > 5


def test_a_damaged_picture_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*FACES, "street-999.jpg"):
        (tmp_path / name).write_bytes(b"no picture")
    monkeypatch.setattr("engines.trust.pictures.FOLDER", tmp_path)
    with pytest.raises(ModelError, match="is damaged: install Frameloom again"):
        cut_for(ModelSpec("any", Path("any.onnx"), "detect"), (64, 64))
