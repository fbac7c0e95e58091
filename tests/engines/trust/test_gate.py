"""The gate: real models in fp16 pass it, and engines that are broken in the ways that happen do not."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from engines.engine import Batch, EngineOptions, Outputs, open_engine
from engines.errors import ModelError
from engines.spec import InputSpec, ModelSpec
from engines.tensorrt.network import network_of
from engines.tensorrt.recipe import Recipe
from engines.trust.gate import examine
from engines.trust.parity import FP16, FP32, ParityReport
from engines.trust.pictures import FACES, FOLDER, cut_for
from engines.zoo import Zoo
from pipeline.infer.decisions import judge_of

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

    def __init__(self, model: onnx.ModelProto, twist: Callable[[Batch, Outputs], Outputs] | None = None) -> None:
        import onnxruntime as ort

        quiet = ort.SessionOptions()
        quiet.log_severity_level = 3
        self._session = ort.InferenceSession(model.SerializeToString(), quiet, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0]
        self._names = [output.name for output in self._session.get_outputs()]
        self._twist = twist
        self.batches: list[int] = []
        height, width = self._input.shape[1:3]
        self.input_size: tuple[int, int] = (height, width)

    def infer(self, batch: Batch) -> Outputs:
        self.batches.append(len(batch))
        pieces = [batch] if not isinstance(self._input.shape[0], int) else np.split(batch, len(batch))
        each = [self._session.run(self._names, {self._input.name: np.ascontiguousarray(piece)}) for piece in pieces]
        outputs = {name: np.concatenate(values) for name, *values in zip(self._names, *each, strict=True)}
        return outputs if self._twist is None else self._twist(batch, outputs)


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
    assert engine.batches[:3] == [1, 1, 3]
    assert engine.batches[3] > 1
    assert report.pictures == sum(engine.batches) >= 7
    if judge_of(spec) is not None:
        assert report.decisions is not None
        assert report.decisions.reference >= 10
    assert (report.encodings is not None) == (spec.task == "face-encode")


@all_models
def test_models_in_fp32_pass_the_bounds_of_fp32(model: tuple[ModelSpec, Any]) -> None:
    spec, size = model
    engine = OnnxEngine(network_of(spec, Recipe("fp32", size, batch=8)))
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
        input_size = engine.input_size
        infer, describe = engine.infer, engine.describe

        def submit(self, batch: Batch) -> Any:
            values = engine.submit(batch).result()
            return type("Pending", (), {"result": lambda _: {key: each * 0 for key, each in values.items()}})()

    report = gate(spec, Loses())
    engine.close()
    assert all(drift.max_error < 1e-3 for drift in report.tensors.values())
    assert any("boxes without counterpart" in failure for failure in report.failures(FP16))


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
