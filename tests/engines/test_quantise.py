"""int8: what TensorRT takes, calibrated on the pictures that were given, and near the file's own answers."""

from __future__ import annotations

import itertools
import os
import tempfile
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
from engines.engine import Batch
from engines.errors import EngineBuildError
from engines.int8.pictures import FEWEST_PICTURES
from engines.int8.simplified import SCRATCH
from engines.prepare import prepare
from engines.quantise import to_int8
from engines.spec import InputSpec
from tests.engines.onnx_files import spec_of, value


@pytest.fixture(scope="module")
def yolox(shared: Path) -> onnx.ModelProto:
    model = prepare(spec_of(shared / "models" / "detect" / "yolox_nano.onnx"), (256, 256))
    set_batch(model, "any")
    return model


@pytest.fixture(scope="module")
def photos(shared: Path) -> Batch:
    """16 to calibrate on and 8 to look at, 256 x 256."""
    paths = sorted((shared / "data" / "coco").rglob("*.jpg"))[:24]
    pictures = [cv2.imread(str(path)) for path in paths]
    assert len(pictures) == 24
    return np.stack([np.asarray(cv2.resize(each, (256, 256)), np.uint8) for each in pictures if each is not None])


@pytest.fixture(scope="module")
def int8(yolox: onnx.ModelProto, photos: Batch) -> onnx.ModelProto:
    return to_int8(yolox, InputSpec(colour="bgr"), [photos[:7], photos[7:16]])


def test_calibrated_yolox_scores_photos_nearly_the_same(
    yolox: onnx.ModelProto, int8: onnx.ModelProto, photos: Batch
) -> None:
    onnx.checker.check_model(int8)
    planes = photos[16:].transpose(0, 3, 1, 2).astype(np.float32)
    before, after = _scores(yolox, planes), _scores(int8, planes)
    seen = before > 0.3
    assert seen.sum() > 20
    drift = np.abs(after - before)[seen]
    assert 0.001 < drift.mean() < 0.06


def _scores(model: onnx.ModelProto, planes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    settings = ort.SessionOptions()
    settings.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    rows = np.asarray(session.run(None, {session.get_inputs()[0].name: planes})[0], np.float32)
    return rows[..., 4] * np.asarray(rows[..., 5:].max(-1), np.float32)


def test_it_is_the_recipe_that_tensorrt_takes(int8: onnx.ModelProto) -> None:
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in int8.graph.initializer}
    pairs = [node for node in int8.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(pairs) > 200
    zeros = [stored[node.input[2]] for node in pairs]
    assert {str(zero.dtype) for zero in zeros} == {"int8"}
    assert not any(zero.any() for zero in zeros)
    of_weights = [node for node in pairs if node.op_type == "DequantizeLinear" and node.input[0] in stored]
    assert all(stored[node.input[1]].size == len(stored[node.input[0]]) for node in of_weights)
    readers = {name: node for node in int8.graph.node for name in node.input}
    quantised = [readers[node.output[0]] for node in of_weights]
    assert {node.op_type for node in quantised} == {"Conv"}
    assert all(node.input[2] in stored and stored[node.input[2]].dtype == np.float32 for node in quantised)
    assert all(attribute.i == 1 for node in quantised for attribute in node.attribute if attribute.name == "group")
    assert [each.domain for each in int8.opset_import] == [""]


def test_the_same_pictures_give_the_same_bytes_however_they_are_batched(
    yolox: onnx.ModelProto, int8: onnx.ModelProto, photos: Batch
) -> None:
    again = to_int8(yolox, InputSpec(colour="bgr"), iter([photos[:16]]))
    assert again.SerializeToString() == int8.SerializeToString()


# ---- a small model, whose ranges can be computed by hand


def small(channels: tuple[int, ...] = (3, 4, 4, 4), group: int = 1) -> onnx.ModelProto:
    """Convolutions of 1 x 1 one after the other; the nodes have no names."""
    names = ["x", *(f"y{number}" for number in range(1, len(channels)))]
    nodes, tensors = [], []
    for number, (before, after) in enumerate(itertools.pairwise(channels)):
        weights = np.random.default_rng(number).normal(size=(after, before // group, 1, 1)).astype(np.float32)
        tensors.append(numpy_helper.from_array(weights, f"w{number}"))
        nodes.append(helper.make_node("Conv", [names[number], f"w{number}"], [names[number + 1]], group=group))
    output = value(names[-1], (1, channels[-1], 8, 6))
    graph = helper.make_graph(nodes, "small", [value("x", (1, 3, 8, 6))], [output], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def noise(count: int, *size: int) -> Batch:
    return np.random.default_rng(3).integers(0, 256, (count, *(size or (8, 6)), 3), np.uint8)


def test_pictures_are_normalised_as_the_model_wants_them() -> None:
    spec = InputSpec(colour="rgb", mean=(100, 50, 20), std=(10, 20, 40))
    frames = noise(FEWEST_PICTURES)
    model = small()
    result = to_int8(model, spec, [frames])
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in result.graph.initializer}
    (scale,) = [stored[node.input[1]] for node in result.graph.node if node.op_type == "QuantizeLinear"]
    weights = [numpy_helper.to_array(tensor)[:, :, 0, 0] for tensor in model.graph.initializer]
    pixels = (frames[..., ::-1] - np.array(spec.mean)) / np.array(spec.std)
    third = pixels @ weights[0].T @ weights[1].T
    lowest, highest = third.min(axis=(1, 2, 3)).mean(), third.max(axis=(1, 2, 3)).mean()
    np.testing.assert_allclose(scale, max(-lowest, highest) / 127.5, rtol=0.01)


@pytest.mark.parametrize("count", [0, FEWEST_PICTURES - 1])
def test_too_few_pictures_are_refused(count: int) -> None:
    with pytest.raises(EngineBuildError, match=f"at least {FEWEST_PICTURES} pictures .*, not {count}"):
        to_int8(small(), InputSpec(), [noise(count)])


def test_pictures_that_show_nothing_do_not_count() -> None:
    dark = np.zeros((20, 8, 6, 3), np.uint8)
    dark[:, :2] = 114  # bars
    dark[:, 2:] += noise(20, 6, 6) % 10
    with pytest.raises(EngineBuildError, match=r"at least 16 pictures .* that show something: of 20, 20 are of one"):
        to_int8(small(), InputSpec(), [dark])
    with pytest.raises(EngineBuildError, match="of 35, 20 are of one colour"):
        to_int8(small(), InputSpec(), [dark, noise(15)])
    to_int8(small(), InputSpec(), [dark, noise(16)])


@pytest.mark.parametrize("frames", [noise(20, 4, 6), noise(20).astype(np.float32), noise(1)[0]], ids=lambda f: f.shape)
def test_pictures_of_another_size_or_type_are_refused(frames: Any) -> None:
    with pytest.raises(EngineBuildError, match="calibrated on uint8 N x 8 x 6 x 3 pictures, not"):
        to_int8(small(), InputSpec(), [frames])


@pytest.mark.parametrize("model", [small((3, 4, 4)), small((3, 3, 3, 3), group=3)], ids=["two", "depthwise"])
def test_a_model_that_has_nothing_to_gain_is_refused(model: onnx.ModelProto) -> None:
    with pytest.raises(EngineBuildError, match="nothing to gain"):
        to_int8(model, InputSpec(), [noise(20)])


def test_a_model_that_cannot_run_is_refused_in_words() -> None:
    model = small()
    model.graph.node[0].input[1] = "w1"
    with pytest.raises(EngineBuildError, match="onnxruntime cannot quantise the model: "):
        to_int8(model, InputSpec(), [noise(20)])


def test_no_file_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    to_int8(small(), InputSpec(), [noise(20)])
    with pytest.raises(EngineBuildError):
        to_int8(small(), InputSpec(), [noise(2)])
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_by_a_later_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folders = {name: tmp_path / f"{SCRATCH}{name}" for name in ("forgotten", "of another process")}
    for folder in folders.values():
        folder.mkdir()
        (folder / "int8.onnx").touch()
    os.utime(folders["forgotten"], (0, 0))
    to_int8(small(), InputSpec(), [noise(20)])
    assert list(tmp_path.iterdir()) == [folders["of another process"]]


def test_an_older_file_is_brought_to_the_opset_that_has_scales_per_channel() -> None:
    model = small()
    model.opset_import[0].version = 11
    result = to_int8(model, InputSpec(), [noise(20)])
    assert result.opset_import[0].version >= 13
    assert model.opset_import[0].version == 11
    assert any(node.op_type == "QuantizeLinear" for node in result.graph.node)
    assert TensorProto.INT8 in {tensor.data_type for tensor in result.graph.initializer}
