"""The steps on the ONNX graph leave what the model computes as it is, or leave the graph as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from engines import graph
from engines.errors import ModelError
from engines.focus import fuse_focus
from engines.prepare import prepare, take_uint8_pictures
from engines.spec import InputSpec
from tests.engines.onnx_files import FOUR, focus, identity, spec_of, value


def run(model: onnx.ModelProto, batch: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    settings = ort.SessionOptions()
    settings.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    outputs: list[npt.NDArray[Any]] = session.run(None, {session.get_inputs()[0].name: batch})
    return outputs


def pixels(*shape: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(1).integers(0, 256, shape).astype(np.float32)


# ---- fuse_focus


@pytest.fixture(scope="module")
def yolox(shared: Path) -> Path:
    return shared / "models" / "detect" / "yolox_nano.onnx"


def test_fused_yolox_says_the_same_on_real_pictures(yolox: Path, shared: Path) -> None:
    plain, fused = graph.load(yolox), graph.load(yolox)
    assert fuse_focus(fused)
    for name in ("bus.jpg", "zidane.jpg"):
        image = cv2.imread(str(shared / "data" / "images" / name))
        assert image is not None
        batch = cv2.resize(image, (416, 416)).transpose(2, 0, 1)[None].astype(np.float32)
        (before,), (after,) = run(plain, batch), run(fused, batch)
        assert np.abs(before - after).max() < 1e-4 * np.abs(before).max()
        np.testing.assert_allclose(after[..., 4:], before[..., 4:], atol=1e-4)


def test_fusing_yolox_removes_all_slices_and_leaves_a_valid_graph(yolox: Path) -> None:
    fused = graph.load(yolox)
    fuse_focus(fused)
    onnx.checker.check_model(fused)
    kinds = [node.op_type for node in fused.graph.node]
    assert "Slice" not in kinds
    assert kinds[0] == "Conv"
    assert not fuse_focus(fused)


@pytest.mark.parametrize(
    ("options", "fuses"),
    [
        ({}, True),
        ({"phases": FOUR[::-1]}, True),
        ({"phases": ((0, 1), (1, 1), (0, 0), (1, 0))}, True),
        ({"old": True}, True),
        ({"axes": (3, 2)}, True),
        ({"phases": ((0, 0), (0, 0), (0, 1), (1, 1))}, False),
        ({"phases": FOUR[:3]}, False),
        ({"extra": True}, False),
        ({"step": 4}, False),
        ({"axes": (2, 2)}, False),
        ({"axes": (3, 3)}, False),
        ({"axes": (1, 2)}, False),
        ({"join": 2}, False),
        ({"join": 0}, False),
        ({"kernel": 5}, False),
        ({"kernel": 1}, False),
        ({"attributes": {}}, False),
        ({"attributes": {"pads": [0, 0, 0, 0]}}, False),
        ({"attributes": {"pads": [1, 1, 1, 1], "strides": [2, 2]}}, False),
        ({"attributes": {"pads": [1, 1, 1, 1], "dilations": [2, 2]}}, False),
        ({"attributes": {"auto_pad": "SAME_UPPER"}}, False),
    ],
    ids=str,
)
def test_only_a_true_focus_is_fused_and_the_answer_never_changes(
    options: dict[str, Any], fuses: bool, tmp_path: Path
) -> None:
    path = focus(tmp_path, **options)
    plain, model = graph.load(path), graph.load(path)
    assert fuse_focus(model) == fuses
    onnx.checker.check_model(model)
    (before,), (after,) = run(plain, pixels(1, 3, 16, 24)), run(model, pixels(1, 3, 16, 24))
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-2)
    if not fuses:
        assert model == plain


def test_what_a_branch_of_an_if_reads_is_not_removed(tmp_path: Path) -> None:
    model = graph.load(focus(tmp_path))
    names = {output.name for output in model.graph.output}
    inner = helper.make_graph([helper.make_node("Relu", ["part0"], ["r"])], "then", [], [value("r", (None,) * 4)])
    other = helper.make_graph([helper.make_node("Neg", ["part0"], ["n"])], "else", [], [value("n", (None,) * 4)])
    model.graph.initializer.append(helper.make_tensor("yes", TensorProto.BOOL, [], [True]))
    model.graph.node.append(helper.make_node("If", ["yes"], ["z"], then_branch=inner, else_branch=other))
    model.graph.output.append(value("z", (None,) * 4))
    batch = pixels(1, 3, 16, 24)
    before = run(model, batch)
    assert fuse_focus(model)
    assert {output.name for output in model.graph.output} == {*names, "z"}
    np.testing.assert_array_equal(run(model, batch)[1], before[1])


# ---- input


def test_another_size_gives_the_same_network_for_that_size(yolox: Path) -> None:
    model = prepare(spec_of(yolox), (320, 416))
    (output,) = run(model, pixels(1, 3, 320, 416))
    assert output.shape == (1, sum(320 // stride * (416 // stride) for stride in (8, 16, 32)), 85)


def test_an_open_size_must_be_said(tmp_path: Path) -> None:
    path = identity(tmp_path, ("n", 3, "h", "w"))
    with pytest.raises(ModelError, match="leaves its input size open"):
        prepare(spec_of(path), None)
    assert graph.dimensions(prepare(spec_of(path), (64, 32)).graph.input[0]) == [None, 3, 64, 32]
    assert graph.dimensions(prepare(spec_of(path, height=32, width=96), None).graph.input[0])[2:] == [32, 96]


@pytest.mark.parametrize(
    "input_spec",
    [
        InputSpec(colour="bgr"),
        InputSpec(colour="rgb"),
        InputSpec(colour="rgb", mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)),
        InputSpec(colour="bgr", std=(255, 255, 255)),
    ],
)
@pytest.mark.parametrize("cast_first", [False, True])
def test_nodes_for_uint8_pictures_do_what_numpy_does(cast_first: bool, input_spec: InputSpec, tmp_path: Path) -> None:
    model = graph.load(identity(tmp_path, ("n", 3, 8, 6)))
    take_uint8_pictures(model, input_spec, cast_first=cast_first)
    onnx.checker.check_model(model)
    batch = pixels(2, 8, 6, 3).astype(np.uint8)
    expected = (batch if input_spec.colour == "bgr" else batch[..., ::-1]).astype(float)
    expected = ((expected - input_spec.mean) / input_spec.std).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(run(model, batch)[0], expected, rtol=1e-5, atol=1e-5)
    assert model.graph.node[0].op_type == ("Cast" if cast_first else "Transpose")


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((1, 128), r"takes no N x 3 x height x width picture; inputs seen: x \[1, 128\]"),
        ((1, 1, 8, 8), "takes no N x 3"),
        ((4, 3, 8, 8), "only takes 4 pictures at once"),
    ],
)
def test_a_model_that_takes_no_single_pictures_is_refused(shape: tuple[int, ...], words: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=words):
        prepare(spec_of(identity(tmp_path, shape)), None)
