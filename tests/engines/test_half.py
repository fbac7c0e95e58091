"""A model in fp16 loads, keeps its inputs and outputs, has half the weights, and says nearly the same."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.graph import dimensions, picture_input
from engines.half import to_half
from engines.prepare import prepare
from engines.spec import ModelSpec
from engines.zoo import Zoo
from tests.engines.exported import style_network, u_net
from tests.engines.onnx_files import value

FLOAT = TensorProto.FLOAT


def run(model: onnx.ModelProto, batch: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    """Run in ONNX Runtime, which checks that all types fit together."""
    settings = ort.SessionOptions()
    settings.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {session.get_inputs()[0].name: batch}), strict=True))


@pytest.fixture(scope="module")
def specs(shared: Path, face_models: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelSpec]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("FRAMELOOM_MIRROR", face_models["FRAMELOOM_MIRROR"])
        zoo = Zoo.load()
        found = {name: zoo.spec(name) for name in ("yolox-nano", "centerface", "dlib-resnet", "mobilefacenet", "yunet")}
    exported = [make(tmp_path_factory.mktemp("exported")) for make in (style_network, u_net)]
    return {**found, **{spec.name: spec for spec in exported}}


@pytest.mark.parametrize(
    ("name", "drift"),
    [
        ("yolox-nano", 0.06),
        ("centerface", 0.02),
        ("dlib-resnet", 0.003),
        ("mobilefacenet", 0.008),
        ("yunet", 0.006),
        ("style", 0.02),
        ("u-net", 0.005),
    ],
)
def test_real_networks_say_nearly_the_same_in_fp16(
    name: str, drift: float, specs: dict[str, ModelSpec], shared: Path
) -> None:
    spec = specs[name]
    model = prepare(spec, (256, 448) if name == "centerface" else None)
    half = to_half(model)
    onnx.checker.check_model(half)
    assert weights_of(half) < 0.55 * weights_of(model)
    height, width = dimensions(picture_input(model))[2:]
    image = cv2.imread(str(shared / "data" / "images" / "zidane.jpg"))
    assert image is not None
    picture = cv2.resize(image, (width or 0, height or 0))[None]
    pixels = picture[..., ::-1] if spec.input.colour == "rgb" else picture
    planes = ((pixels - np.array(spec.input.mean)) / np.array(spec.input.std)).transpose(0, 3, 1, 2).astype(np.float32)
    before, after = run(model, planes), run(half, planes)
    assert list(after) == list(before)
    for output, values in before.items():
        assert after[output].dtype == np.float32
        error = np.abs(after[output] - values).max()
        assert 0 < error < drift * max(1, np.abs(values).max())


def weights_of(model: onnx.ModelProto) -> int:
    """Bytes of all constants, wherever they are."""
    constants = [node.attribute[0].t for node in model.graph.node if node.op_type == "Constant"]
    return sum(numpy_helper.to_array(tensor).nbytes for tensor in [*model.graph.initializer, *constants])


def made(nodes: list[onnx.NodeProto], tensors: dict[str, Any], inputs: tuple[str, ...] = ()) -> onnx.ModelProto:
    """A model from x, 1 x 3 x 8 x 6, to y; tensors in `inputs` are listed there, too, as old files do."""
    initializers = [numpy_helper.from_array(np.asarray(array), name) for name, array in tensors.items()]
    listed = [value(tensor.name, tensor.dims, tensor.data_type) for tensor in initializers if tensor.name in inputs]
    picture = value("x", (1, 3, 8, 6))
    graph = helper.make_graph(nodes, "made", [picture, *listed], [value("y", (None,) * 4)], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    return model


X = np.random.default_rng(0).normal(size=(1, 3, 8, 6)).astype(np.float32)
KERNEL = np.random.default_rng(1).normal(size=(3, 3, 1, 1)).astype(np.float32)


def conv(before: str, after: str) -> onnx.NodeProto:
    return helper.make_node("Conv", [before, "w"], [after])


def test_weights_beyond_fp16_are_not_clipped_but_their_node_stays_in_fp32(caplog: pytest.LogCaptureFixture) -> None:
    up, down = np.float32(1e6), np.float32(1e-6)
    multiply = [
        helper.make_node("Mul", ["x", "up"], ["a"]),
        helper.make_node("Mul", ["a", "down"], ["b"]),
    ]
    model = made([*multiply, conv("b", "y")], {"up": up, "down": down, "w": KERNEL})
    with caplog.at_level(logging.INFO, "engines.half"):
        half = to_half(model)
    assert "kept in fp32" in caplog.text
    assert "Mul#0" in caplog.text
    assert "Mul#1" not in caplog.text
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in half.graph.initializer}
    assert stored["up"].dtype == np.float32
    assert stored["up"] == up
    assert stored["w"].dtype == np.float16


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    """The type that each operator computes in: ONNX Runtime on a CPU runs fp16 as fp32, so values do not show it."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    kinds = {each.name: each.type.tensor_type.elem_type for each in [*inferred.value_info, *inferred.output]}
    return {node.op_type: kinds[node.output[0]] for node in inferred.node if node.op_type != "Cast"}


def test_sums_of_squares_which_may_overflow_are_made_in_fp32() -> None:
    nodes = [conv("x", "a"), helper.make_node("Mul", ["a", "far"], ["b"])]
    nodes += [helper.make_node("ReduceL2", ["b"], ["c"], axes=[1, 2, 3]), helper.make_node("Div", ["b", "c"], ["d"])]
    nodes += [helper.make_node("InstanceNormalization", ["d", "one", "one"], ["e"])]
    model = made([*nodes, conv("e", "y")], {"w": KERNEL, "far": np.float32(300), "one": np.ones(3, np.float32)})
    half = to_half(model)
    half_types = {"Conv": TensorProto.FLOAT16, "Mul": TensorProto.FLOAT16, "Div": TensorProto.FLOAT16}
    assert types_of(half) == {**half_types, "ReduceL2": FLOAT, "InstanceNormalization": FLOAT}
    before, after = run(model, X)["y"], run(half, X)["y"]
    np.testing.assert_allclose(after, before, rtol=0, atol=0.01 * np.abs(before).max())


def test_what_follows_the_last_weights_is_computed_in_fp32() -> None:
    """A detector's pixels: 700 + 0.1 is 700 in fp16."""
    nodes = [helper.make_node("Relu", ["x"], ["r"]), conv("r", "a"), helper.make_node("Mul", ["a", "small"], ["b"])]
    nodes += [helper.make_node("Add", ["b", "far"], ["y"])]
    half = to_half(made(nodes, {"w": KERNEL, "small": np.float32(0.01), "far": np.float32(700)}))
    assert types_of(half) == {"Relu": TensorProto.FLOAT16, "Conv": TensorProto.FLOAT16, "Mul": FLOAT, "Add": FLOAT}
    stored = {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    assert stored == {"w": TensorProto.FLOAT16, "small": FLOAT, "far": FLOAT}


def test_weights_that_old_files_list_as_inputs_are_converted() -> None:
    half = to_half(made([conv("x", "y")], {"w": KERNEL}, inputs=("w",)))
    assert [each.name for each in half.graph.input] == ["x"]
    assert [tensor.data_type for tensor in half.graph.initializer] == [TensorProto.FLOAT16]


def test_resize_keeps_its_scales_whoever_else_reads_them() -> None:
    nodes = [
        helper.make_node("Constant", [], ["two"], value=numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32))),
        helper.make_node("Constant", [], ["slope"], value_float=0.5),
        helper.make_node("Mul", ["x", "slope"], ["s"]),
        helper.make_node("Resize", ["s", "none", "two"], ["a"]),
        helper.make_node("Resize", ["a", "none", "none", "size"], ["b"]),
        helper.make_node("Mul", ["b", "two_again"], ["c"]),
        conv("c", "y"),
    ]
    tensors = {
        "none": np.array([], np.float32),
        "size": np.array([1, 3, 4, 4]),
        "w": KERNEL,
        "two_again": np.float32(2),
    }
    model = made(nodes, tensors)
    half = to_half(model)
    onnx.checker.check_model(half, full_check=True)
    before, after = run(model, X)["y"], run(half, X)["y"]
    np.testing.assert_allclose(after, before, rtol=0, atol=0.01 * np.abs(before).max())


def test_a_tensor_that_several_fp32_nodes_read_is_cast_once_and_not_back_and_forth() -> None:
    nodes = [
        conv("x", "a"),
        helper.make_node("Max", ["a", "a0"], ["b"]),
        helper.make_node("Min", ["a", "b"], ["c"]),
    ]
    model = made([*nodes, conv("c", "y")], {"w": KERNEL, "a0": np.float32(0)})
    half = to_half(model)
    onnx.checker.check_model(half)  # each name is made once, in the order of computation
    casts = [node.input[0] for node in half.graph.node if node.op_type == "Cast"]
    assert len(casts) == len(set(casts))
    maximum = next(node for node in half.graph.node if node.op_type == "Max")
    minimum = next(node for node in half.graph.node if node.op_type == "Min")
    assert maximum.output[0] in minimum.input
    before, after = run(model, X)["y"], run(half, X)["y"]
    np.testing.assert_allclose(after, before, rtol=0, atol=0.01 * np.abs(before).max())


def test_the_model_that_is_converted_stays_as_it_is() -> None:
    model = made([conv("x", "y")], {"w": KERNEL}, inputs=("w",))
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    to_half(model)
    assert model == copy
