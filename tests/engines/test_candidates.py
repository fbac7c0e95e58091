"""The best rows of a detector's output are the ones that numpy would choose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.batch import set_batch
from engines.candidates import CANDIDATES, MOST, ROWS, add_candidates
from engines.engine import Candidates
from engines.errors import ModelError
from engines.graph import dimensions
from engines.prepare import prepare
from tests.engines.onnx_files import spec_of, value


def model_with(rows: int = 48, columns: int = 9, opset: int = 13, outputs: int = 1, rank: int = 3) -> onnx.ModelProto:
    """A model that makes rows of its pixels."""
    shape = {2: [0, -1], 3: [0, rows, -1]}[rank]
    names = [f"y{number}" for number in range(outputs)]
    nodes = [helper.make_node("Reshape", ["x", "shape"], [name]) for name in names]
    declared = [value(name, ("n", *[None] * (rank - 1))) for name in names]
    tensor = numpy_helper.from_array(np.array(shape, np.int64), "shape")
    graph = helper.make_graph(nodes, "rows", [value("x", ("n", 3, 16, rows * columns // 48))], declared, [tensor])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def run(model: onnx.ModelProto, batch: Any) -> dict[str, Any]:
    onnx.checker.check_model(model)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {session.get_inputs()[0].name: batch}), strict=True))


@pytest.mark.parametrize("opset", [11, 13, 17, 18, 21])
@pytest.mark.parametrize("objectness", [None, 4, 0])
@pytest.mark.parametrize("count", [1, 10, 1000])
def test_they_are_the_rows_that_numpy_ranks_highest(opset: int, objectness: int | None, count: int) -> None:
    model = model_with(opset=opset)
    add_candidates(model, Candidates(classes=5, objectness=objectness, count=count))
    batch = np.random.default_rng(0).uniform(size=(3, 3, 16, 9)).astype(np.float32)
    outputs = run(model, batch)
    rows = batch.reshape(3, 48, 9)
    rank = rows[..., 5:].max(-1) * (1 if objectness is None else rows[..., objectness])
    k = min(count, 48)
    best = np.argsort(-rank, axis=1, kind="stable")[:, :k]
    assert list(outputs) == ["y0", CANDIDATES, ROWS]
    np.testing.assert_array_equal(outputs["y0"], rows)
    np.testing.assert_array_equal(outputs[ROWS], best)
    np.testing.assert_array_equal(outputs[CANDIDATES], np.take_along_axis(rows, best[..., None], 1))


def test_yolox_gives_its_best_rows_beside_all_of_them(shared: Path) -> None:
    model = prepare(spec_of(shared / "models" / "detect" / "yolox_nano.onnx"), (160, 192))
    set_batch(model, "any")
    add_candidates(model, Candidates(classes=5, objectness=4, count=100))
    assert [dimensions(output) for output in model.graph.output[1:]] == [[None, 100, 85], [None, 100]]
    batch = np.random.default_rng(0).integers(0, 256, (2, 3, 160, 192)).astype(np.float32)
    outputs = run(model, batch)
    every = outputs["output"]
    rank = every[..., 4] * every[..., 5:].max(-1)
    for i in range(2):
        assert rank[i, outputs[ROWS][i]].min() >= np.sort(rank[i])[-100]
        np.testing.assert_array_equal(outputs[CANDIDATES][i], every[i, outputs[ROWS][i]])


@pytest.mark.parametrize(
    ("model", "candidates", "words"),
    [
        (model_with(outputs=2), Candidates(5), "from one output, N x rows x columns; outputs seen: y0"),
        (model_with(rank=2), Candidates(5), "from one output"),
        (model_with(), Candidates(9), "cannot begin at column 9: the output has 9 columns"),
        (model_with(), Candidates(-1), "cannot begin at column -1"),
        (model_with(), Candidates(5, objectness=9), "no column 9 for objectness"),
        (model_with(), Candidates(5, count=0), "at least one"),
        (model_with(rows=4800), Candidates(5, count=MOST + 1), f"at most {MOST} candidates, not {MOST + 1}"),
        (model_with(opset=10), Candidates(5), "opset 11 or newer, this one has 10"),
    ],
    ids=["two outputs", "two axes", "class", "negative", "objectness", "none", "too many", "old"],
)
def test_other_models_and_columns_are_refused(model: onnx.ModelProto, candidates: Candidates, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        add_candidates(model, candidates)


def test_more_than_tensorrt_ranks_may_be_asked_for_where_there_are_fewer_rows() -> None:
    model = model_with(rows=48)
    add_candidates(model, Candidates(5, count=MOST + 1))
    assert dimensions(model.graph.output[1]) == [None, 48, 9]
    assert model.graph.output[2].type.tensor_type.elem_type == TensorProto.INT64
