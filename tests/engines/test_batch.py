"""Another number of pictures at once gives the same answers, or the model is refused."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.batch import set_batch
from engines.engine import Batch, EngineOptions, open_engine
from engines.errors import ModelError
from engines.graph import dimensions, load, picture_input
from engines.prepare import prepare
from engines.spec import ModelSpec
from engines.trust.reference import PlainFile
from engines.zoo import Zoo
from tests.engines.onnx_files import identity, save, spec_of, value

FACE = (8, 6)
FLOAT = TensorProto.FLOAT
BACKENDS = pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])


@pytest.fixture
def zoo(shared: Path, monkeypatch: pytest.MonkeyPatch) -> Zoo:
    monkeypatch.setenv("FRAMELOOM_MIRROR", str(shared / "models"))
    return Zoo.load()


def pictures(shared: Path, size: tuple[int, int], count: int) -> Batch:
    """Real faces."""
    paths = sorted((shared / "data" / "faces" / "lfw").rglob("*.jpg"))[: count * 100 : 100]
    return np.stack([np.asarray(cv2.resize(_read(path), size[::-1]), np.uint8) for path in paths])


def _read(path: Path) -> Any:
    picture = cv2.imread(str(path))
    assert picture is not None
    return picture


# ---- the zoo's models


@BACKENDS
def test_a_face_encoder_made_for_one_face_takes_several(backend: Any, zoo: Zoo, shared: Path) -> None:
    spec = zoo.spec("mobilefacenet")
    faces = pictures(shared, (112, 112), 5)
    engine = open_engine(spec, EngineOptions(backend, "fp32"))
    try:
        assert engine.describe().input_shape == (None, 112, 112, 3)
        together = engine.infer(faces)["output0"]
        alone = np.concatenate([engine.infer(face[None])["output0"] for face in faces])
    finally:
        engine.close()
    assert together.shape == (5, 128)
    largest = np.abs(alone).max()
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5 * largest)
    np.testing.assert_allclose(together, PlainFile(spec).infer(faces)["output0"], rtol=0, atol=1e-5 * largest)


@BACKENDS
def test_centerface_takes_one_picture_of_any_size(backend: Any, zoo: Zoo, shared: Path) -> None:
    spec = zoo.spec("centerface")
    faces = pictures(shared, (192, 256), 2)
    engine = open_engine(spec, EngineOptions(backend, "fp32", input_size=(192, 256)))
    try:
        assert engine.describe().input_shape == (1, 192, 256, 3)
        ours = engine.infer(faces)
    finally:
        engine.close()
    theirs = PlainFile(spec).infer(faces)
    assert {name: array.shape for name, array in ours.items()} == {
        "537": (2, 1, 48, 64),
        "538": (2, 2, 48, 64),
        "539": (2, 2, 48, 64),
        "540": (2, 10, 48, 64),
    }
    assert theirs["537"].max() > 0.5  # it does find faces
    for name, array in theirs.items():
        np.testing.assert_allclose(ours[name], array, rtol=0, atol=1e-4)


def test_the_reference_of_centerface_is_the_file_as_it_declares_itself(zoo: Zoo, shared: Path) -> None:
    spec = zoo.spec("centerface")
    faces = pictures(shared, (32, 32), 10)
    session = ort.InferenceSession(str(spec.path), providers=["CPUExecutionProvider"])
    planes = np.ascontiguousarray(faces[..., ::-1].transpose(0, 3, 1, 2), np.float32)
    expected = session.run(None, {"input.1": planes})
    for ours, theirs in zip(PlainFile(spec).infer(faces).values(), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


# ---- graphs that keep pictures apart, and graphs that do not


def node(operator: str, *inputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, list(inputs), ["y"], **attributes)


CONSTANTS: dict[str, npt.NDArray[Any]] = {
    "first": np.arange(144, dtype=np.float32).reshape(144, 1),
    "per_picture": np.arange(3, dtype=np.float32).reshape(1, 3, 1, 1),
    "per_channel": np.arange(3, dtype=np.float32).reshape(3, 1, 1),
    "per_batch": np.arange(2, dtype=np.float32).reshape(2, 1, 1, 1),
    "five_axes": np.ones((1, 1, 1, 1, 1), np.float32),
    "one_row": np.array([1, -1], np.int64),
    "copied_row": np.array([0, -1], np.int64),
    "found_row": np.array([-1, 144], np.int64),
    "last_two": np.array([2, 3], np.int64),
    "all_axes": np.array([0, 1, 2, 3], np.int64),
    "flat": np.array([-1], np.int64),
    "pairs": np.array([-1, 2], np.int64),
    "two_axes": np.array([1, 3, -1], np.int64),
    "other_first": np.array([3, 48], np.int64),
    "zero": np.array([0], np.int64),
    "one": np.array([1], np.int64),
    "two": np.array([2], np.int64),
    "half": np.array([72, 72], np.int64),
    "no_roi": np.array([], np.float32),
    "twice": np.array([1, 1, 2, 2], np.float32),
    "more_pictures": np.array([2, 1, 1, 1], np.float32),
    "size": np.array([1, 3, 16, 12], np.int64),
    "around": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64),
    "one_more": np.array([1, 0, 0, 0, 0, 0, 0, 0], np.int64),
    "one_after": np.array([0, 0, 0, 0, 1, 0, 0, 0], np.int64),
    "gain": np.ones(3, np.float32),
    "box": np.array([0, 0, 0, 0, 1, 1, 1, 1], np.float32),
}


def made(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    """A model for one picture, with the shapes of all its tensors."""
    tensors = [numpy_helper.from_array(array, name) for name, array in CONSTANTS.items()]
    output = helper.make_tensor_value_info("y", TensorProto.INT64 if nodes[-1].op_type == "Shape" else FLOAT, None)
    graph = helper.make_graph(nodes, "made-for-a-test", [value("x", (1, 3, *FACE))], [output], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model, strict_mode=True)


@pytest.mark.parametrize(
    "last",
    [
        node("Relu", "x"),
        node("Add", "x", "per_picture"),
        node("Mul", "x", "per_channel"),
        node("Add", "x", "x"),
        node("GlobalAveragePool", "x"),
        node("Concat", "x", "x", axis=1),
        node("Concat", "x", "x", axis=-1),
        node("Flatten", "x"),
        node("Reshape", "x", "one_row"),
        node("Reshape", "x", "copied_row"),
        node("Reshape", "x", "found_row"),
        node("Reshape", "x", "two_axes"),
        node("Gemm", "row", "first"),
        node("MatMul", "row", "first"),
        node("Transpose", "x", perm=[0, 2, 3, 1]),
        node("ReduceL2", "row", axes=[1]),
        node("ReduceMean", "x", axes=[-1, 2], keepdims=0),
        node("ReduceSum", "x", "last_two"),
        node("Slice", "x", "one", "two", "one"),
        node("Slice", "x", "zero", "two", "two", "two"),
        helper.make_node("Split", ["row", "half"], ["y", "z"], axis=1),
        node("Softmax", "x"),
        node("Softmax", "x", axis=1),
        node("Pad", "x", "around"),
        node("Pad", "x", "around", mode="reflect"),
        node("InstanceNormalization", "x", "gain", "gain"),
        node("Resize", "x", "no_roi", "twice"),
        node("Resize", "x", "", "twice", mode="linear"),
    ],
    ids=lambda last: f"{last.op_type} {' '.join(last.input)}",
)
def test_pictures_stay_apart(last: onnx.NodeProto) -> None:
    model = made(helper.make_node("Flatten", ["x"], ["row"]), last)
    batch = np.random.default_rng(0).normal(size=(4, 3, *FACE)).astype(np.float32)
    expected = np.concatenate([_run(model, picture[None]) for picture in batch])
    set_batch(model, "any")
    onnx.checker.check_model(model)
    assert dimensions(picture_input(model)) == [None, 3, *FACE]
    np.testing.assert_allclose(_run(model, batch), expected, rtol=1e-6)
    np.testing.assert_allclose(_run(model, batch[:1]), expected[:1], rtol=1e-6)


def _run(model: onnx.ModelProto, batch: Any) -> Any:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": batch})[0]


@pytest.mark.parametrize(
    "last",
    [
        node("Concat", "x", "x", axis=0),
        node("Concat", "x", "x", axis=-4),
        node("Concat", "row", "first_row", axis=1),
        node("Add", "x", "five_axes"),
        node("Add", "x", "per_batch"),
        node("Add", "x", "six"),
        node("Flatten", "x", axis=2),
        node("Flatten", "x", axis=0),
        node("Reshape", "x", "flat"),
        node("Reshape", "x", "pairs"),
        node("Reshape", "x", "other_first"),
        node("Gemm", "row", "row", transA=1),
        node("MatMul", "first", "row"),
        node("Transpose", "x", perm=[1, 0, 2, 3]),
        node("Transpose", "x"),
        node("ReduceMean", "x", axes=[0]),
        node("ReduceMean", "x", axes=[1, -4]),
        node("ReduceMean", "x"),
        node("ReduceSum", "x"),
        node("ReduceSum", "x", "all_axes"),
        node("Softmax", "x", axis=0),
        node("Shape", "x"),
        node("Slice", "x", "zero", "one", "zero"),
        node("Slice", "x", "zero", "one"),
        helper.make_node("Split", ["row", "one"], ["y"], axis=0),
        helper.make_node("Split", ["row", "one"], ["y"]),
        node("Pad", "x", "one_more"),
        node("Pad", "x", "one_after"),
        node("Resize", "x", "", "more_pictures"),
        node("Resize", "x", "", "", "size"),
        node("Resize", "x", "box", "twice", coordinate_transformation_mode="tf_crop_and_resize"),
    ],
    ids=lambda last: f"{last.op_type} {' '.join(last.input)}",
)
def test_pictures_that_may_mix_are_refused_with_the_node(last: onnx.NodeProto) -> None:
    first = [
        helper.make_node("Flatten", ["x"], ["row"]),
        helper.make_node("Transpose", ["first"], ["first_row"], perm=[1, 0]),
        helper.make_node("GlobalAveragePool", ["x"], ["means"]),
        helper.make_node("Concat", ["means", "means"], ["six_maps"], axis=1),
        helper.make_node("Flatten", ["six_maps"], ["six"]),
    ]
    with pytest.raises(ModelError, match=f"only takes 1 pictures at once: its {last.op_type} "):
        set_batch(made(*first, last), "any")


@pytest.mark.parametrize("name", ["yolox-nano", "yunet", "mobilefacenet", "centerface"])
def test_detectors_and_encoders_take_any_number_of_pictures(name: str, zoo: Zoo, shared: Path) -> None:
    one = prepare(zoo.spec(name), (128, 160) if name == "centerface" else None)
    size = (dimensions(picture_input(one))[2] or 0, dimensions(picture_input(one))[3] or 0)
    any_number = onnx.ModelProto.FromString(one.SerializeToString())
    set_batch(one, 1)
    set_batch(any_number, "any")
    onnx.checker.check_model(any_number)
    batch = np.ascontiguousarray(pictures(shared, size, 3).transpose(0, 3, 1, 2), np.float32)
    together = _run_all(any_number, batch)
    for i in range(3):
        for ours, alone in zip(together, _run_all(one, batch[i : i + 1]), strict=True):
            np.testing.assert_allclose(ours[i], alone[0], rtol=0, atol=1e-4 * np.abs(alone).max())


def _run_all(model: onnx.ModelProto, batch: Any) -> list[Any]:
    settings = ort.SessionOptions()
    settings.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    outputs: list[Any] = session.run(None, {session.get_inputs()[0].name: batch})
    return outputs


def test_no_constant_is_left_that_nothing_reads() -> None:
    model = made(node("Reshape", "x", "one_row"))
    set_batch(model, "any")
    assert "one_row" not in {tensor.name for tensor in model.graph.initializer}


def test_a_branch_is_refused_for_it_may_read_anything(tmp_path: Path) -> None:
    branch = helper.make_graph([helper.make_node("Neg", ["x"], ["n"])], "b", [], [value("n", (1, 3, *FACE))])
    tensor = helper.make_tensor("yes", TensorProto.BOOL, [], [True])
    choice = helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch)
    path = save(tmp_path, [choice], [value("x", (1, 3, *FACE))], [value("y", (1, 3, *FACE))], [tensor])
    with pytest.raises(ModelError, match="its If "):
        set_batch(load(path), "any")


@pytest.mark.parametrize(("declared", "wanted"), [(10, 1), (10, 4), (1, 4), ("n", 4)])
def test_a_number_is_declared_exactly(declared: int | str, wanted: int, tmp_path: Path) -> None:
    model = load(identity(tmp_path, (declared, 3, *FACE)))
    set_batch(model, wanted)
    onnx.checker.check_model(model, full_check=True)
    assert dimensions(model.graph.input[0]) == dimensions(model.graph.output[0]) == [wanted, 3, *FACE]


# ---- several pictures, where the file takes one


@pytest.fixture
def one(tmp_path: Path) -> ModelSpec:
    return spec_of(identity(tmp_path, (1, 3, *FACE)))


@BACKENDS
def test_pictures_side_by_side_need_only_one_free_request(backend: Any, one: ModelSpec) -> None:
    engine = open_engine(one, EngineOptions(backend, "fp32", requests=2))
    try:
        batch = np.random.default_rng(0).integers(0, 256, (7, *FACE, 3), np.uint8)
        held = engine.submit(batch[:1])
        np.testing.assert_array_equal(engine.infer(batch)["y"], batch.transpose(0, 3, 1, 2))
        held.result()
    finally:
        engine.close()


@BACKENDS
def test_callers_with_several_pictures_do_not_wait_for_each_other_forever(backend: Any, one: ModelSpec) -> None:
    engine = open_engine(one, EngineOptions(backend, "fp32", requests=3))
    wrong: list[int] = []

    def call(seed: int) -> None:
        batch = np.random.default_rng(seed).integers(0, 256, (5, *FACE, 3), np.uint8)
        wrong.extend(
            seed for _ in range(50) if not np.array_equal(engine.infer(batch)["y"], batch.transpose(0, 3, 1, 2))
        )

    callers = [threading.Thread(target=call, args=(seed,), daemon=True) for seed in range(4)]
    try:
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(30)
        assert not any(caller.is_alive() for caller in callers)
        assert wrong == []
    finally:
        engine.close()
