"""The recipe for CPUs: what it makes, and that layers can be chosen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from engines.engine import EngineOptions, open_engine
from engines.errors import EngineBuildError
from engines.int8.cpu import Calibrated
from engines.int8.kept import opened
from engines.int8.pictures import normalised
from engines.prepare import prepare
from engines.spec import InputSpec
from tests.engines.int8.squares import pictures, squares_detector
from tests.engines.test_quantise import small

LAYERS = ("second", "head8", "head16", "head32")
"""What may be int8 for OpenVINO; ONNX Runtime has the first one, too."""


def calibrated(folder: Path, backend: str = "openvino") -> Calibrated:
    spec = squares_detector(folder)
    return Calibrated(prepare(spec, None), spec.input, [pictures(20)], backend)


def quantised(model: onnx.ModelProto) -> set[str]:
    """The convolutions whose weights are in 8 bits."""
    made_by = {name: node.op_type for node in model.graph.node for name in node.output}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    return {node.name for node in convolutions if made_by.get(node.input[1]) == "DequantizeLinear"}


def test_activations_are_unsigned_and_weights_signed_with_a_scale_per_channel(tmp_path: Path) -> None:
    model = calibrated(tmp_path).in_int8(LAYERS)
    onnx.checker.check_model(model)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    activations = [stored[node.input[2]].dtype for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert set(activations) == {np.dtype(np.uint8)}
    weights = [
        node
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and stored.get(node.input[0]) is not None
    ]
    of_layers = [node for node in weights if stored[node.input[0]].ndim == 4]
    assert {stored[node.input[0]].dtype for node in of_layers} == {np.dtype(np.int8)}
    assert all(stored[node.input[1]].size == len(stored[node.input[0]]) for node in of_layers)


@pytest.mark.parametrize("chosen", [(), ("second",), ("second", "head8"), LAYERS], ids=len)
def test_exactly_the_chosen_layers_are_in_int8(tmp_path: Path, chosen: tuple[str, ...]) -> None:
    made = calibrated(tmp_path)
    assert sorted(made.layers) == sorted(LAYERS)
    assert quantised(made.in_int8(chosen)) == set(chosen)


def test_openvino_which_may_spoil_it_never_gets_the_layer_that_reads_the_picture_in_int8(tmp_path: Path) -> None:
    layers = {backend: set(calibrated(tmp_path, backend).layers) for backend in ("openvino", "onnxruntime")}
    assert layers == {"openvino": set(LAYERS), "onnxruntime": {"first", *LAYERS}}


def test_outputs_are_in_8_bits_only_for_onnxruntime(tmp_path: Path) -> None:
    pairs = {}
    for backend in ("openvino", "onnxruntime"):
        model = calibrated(tmp_path, backend).in_int8(LAYERS)
        pairs[backend] = {node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    assert "o8" not in pairs["openvino"]
    assert "o8" in pairs["onnxruntime"]


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_each_backend_runs_it_near_the_float_answers(tmp_path: Path, backend: str) -> None:
    spec = squares_detector(tmp_path)
    made = Calibrated(prepare(spec, None), spec.input, [pictures(20)], backend)
    engine = opened(spec, backend, EngineOptions(), made.in_int8(LAYERS))
    plain = open_engine(spec, EngineOptions("onnxruntime", "fp32"))
    try:
        assert engine.describe().precision == "int8"
        ours, theirs = (each.infer(pictures(3, 7))["output"] for each in (engine, plain))
    finally:
        engine.close()
        plain.close()
    sure = np.abs(theirs[..., 4] - 0.5) > 0.4
    np.testing.assert_array_equal(ours[..., 4][sure] > 0.5, theirs[..., 4][sure] > 0.5)
    assert not np.array_equal(ours, theirs)


def test_the_same_pictures_have_one_digest_and_give_the_same_network(tmp_path: Path) -> None:
    spec = squares_detector(tmp_path)
    plain, frames = prepare(spec, None), pictures(20)
    together, apart = (
        Calibrated(plain, spec.input, batches, "openvino") for batches in ([frames], [frames[:7], frames[7:]])
    )
    assert together.pictures_sha256 == apart.pictures_sha256
    assert (together.pictures, apart.pictures) == (20, 20)
    assert together.in_int8(LAYERS).SerializeToString() == apart.in_int8(LAYERS).SerializeToString()


def test_black_pictures_are_refused(tmp_path: Path) -> None:
    spec = squares_detector(tmp_path)
    with pytest.raises(EngineBuildError, match="that show something: of 20, 20 are of one colour"):
        Calibrated(prepare(spec, None), spec.input, [np.zeros((20, 64, 64, 3), np.uint8)], "openvino")


def test_a_model_of_depthwise_convolutions_has_nothing_to_gain() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (20, 8, 6, 3), np.uint8)
    with pytest.raises(EngineBuildError, match="no convolutions but depthwise and first ones"):
        Calibrated(small((3, 3, 3), group=3), InputSpec(), [frames], "openvino")


def test_without_layers_it_is_the_float_model(tmp_path: Path) -> None:
    spec = squares_detector(tmp_path)
    plane = {"x": normalised(pictures(1)[0], spec.input)}
    both = [
        ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, plane)[0]
        for model in (calibrated(tmp_path).in_int8(()), prepare(spec, None))
    ]
    np.testing.assert_allclose(both[0], both[1], atol=1e-6)
