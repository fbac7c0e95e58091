"""The network that TensorRT is given says what the file says, from bytes, in each precision and for any batch."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto

from engines.candidates import CANDIDATES, ROWS
from engines.engine import Batch, Candidates
from engines.errors import EngineBuildError
from engines.graph import dimensions
from engines.prepare import PICTURES
from engines.spec import ModelSpec
from engines.tensorrt.network import network_of
from engines.tensorrt.recipe import PlanPrecision, Recipe
from engines.trust.reference import PlainFile
from tests.engines.exported import style_network, u_net
from tests.engines.onnx_files import identity, spec_of


def run(model: onnx.ModelProto, batch: Batch) -> dict[str, Any]:
    onnx.checker.check_model(model)
    settings = ort.SessionOptions()
    settings.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {PICTURES: batch}), strict=True))


@pytest.fixture
def yunet(shared: Path) -> ModelSpec:
    return spec_of(shared / "models" / "face" / "yunet_s_320_320.onnx")


@pytest.fixture
def yolox(shared: Path) -> ModelSpec:
    return spec_of(shared / "models" / "detect" / "yolox_nano.onnx")


def noise(count: int, *size: int) -> Batch:
    return np.random.default_rng(0).integers(0, 256, (count, *size, 3), np.uint8)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("fp16", 0.02)])
@pytest.mark.parametrize("batch", [1, 4])
def test_it_says_what_the_file_says(
    precision: PlanPrecision, tolerance: float, batch: int, yunet: ModelSpec, tmp_path: Path
) -> None:
    for spec, size in ((yunet, (320, 320)), (u_net(tmp_path), (64, 96))):
        pictures = noise(batch, *size)
        ours = run(network_of(spec, Recipe(precision, batch=batch)), pictures)
        theirs = PlainFile(spec).infer(pictures)
        assert list(ours) == list(theirs)
        for name, values in theirs.items():
            assert ours[name].dtype == np.float32
            np.testing.assert_allclose(ours[name], values, rtol=0, atol=tolerance * max(1, np.abs(values).max()))


@pytest.mark.parametrize(("batch", "declared"), [(1, 1), (2, None), (16, None)])
def test_its_input_is_bytes_and_open_only_where_more_than_one_is_asked_for(
    batch: int, declared: int | None, yunet: ModelSpec, tmp_path: Path
) -> None:
    for spec in (yunet, spec_of(identity(tmp_path, ("n", 3, 320, 320)))):
        (value,) = network_of(spec, Recipe("fp32", batch=batch)).graph.input
        assert value.name == PICTURES
        assert value.type.tensor_type.elem_type == TensorProto.UINT8
        assert dimensions(value) == [declared, 320, 320, 3]


def test_bytes_are_cast_before_anything_else(yunet: ModelSpec) -> None:
    readers = [node for node in network_of(yunet, Recipe("fp16")).graph.node if PICTURES in node.input]
    assert [node.op_type for node in readers] == ["Cast"]


def test_a_model_that_takes_only_one_picture_is_built_for_one_and_that_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spec = style_network(tmp_path)
    with caplog.at_level(logging.INFO, "engines.tensorrt.network"):
        network = network_of(spec, Recipe("fp32", batch=8))
    assert dimensions(network.graph.input[0]) == [1, 64, 96, 3]
    assert "style is built for one picture at a time: the model only takes 1 pictures at once" in caplog.text


def test_candidates_come_after_the_files_own_outputs(yolox: ModelSpec) -> None:
    recipe = Recipe("fp16", (160, 160), batch=2, candidates=Candidates(classes=5, objectness=4, count=20))
    outputs = run(network_of(yolox, recipe), noise(2, 160, 160))
    assert list(outputs) == ["output", CANDIDATES, ROWS]
    picked = np.take_along_axis(outputs["output"], outputs[ROWS][..., None], 1)
    np.testing.assert_array_equal(outputs[CANDIDATES], picked)
    assert outputs[CANDIDATES].dtype == np.float32


def test_candidates_that_cannot_be_had_are_left_out_and_that_is_logged(
    yunet: ModelSpec, yolox: ModelSpec, caplog: pytest.LogCaptureFixture
) -> None:
    for spec, candidates, why in (
        (yunet, Candidates(5), "from one output"),
        (yolox, Candidates(85), "85 columns"),
    ):
        caplog.clear()
        with caplog.at_level(logging.INFO, "engines.tensorrt.network"):
            network = network_of(spec, Recipe("fp32", candidates=candidates))
        assert network.SerializeToString() == network_of(spec, Recipe("fp32")).SerializeToString()
        (line,) = caplog.messages
        assert line.startswith(f"all outputs of {spec.name} are copied back from the GPU: ")
        assert why in line


def test_int8_without_pictures_is_refused(yolox: ModelSpec) -> None:
    with pytest.raises(EngineBuildError, match="int8 for yolox_nano needs pictures"):
        network_of(yolox, Recipe("int8"))


def test_the_same_recipe_makes_the_same_bytes(yunet: ModelSpec) -> None:
    recipe = Recipe("fp16", batch=4)
    assert network_of(yunet, recipe).SerializeToString() == network_of(yunet, recipe).SerializeToString()
